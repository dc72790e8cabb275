"""`medbench import`: five thousand predictions of LLaMA-Factory, into a log directory that holds another model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stress.kind import Content, Kind, digest

ROWS = 5000


def _prepare(inputs: Path) -> None:
    from medbench.provider.loading import MICROLAB
    from medbench.trainers.microlab.demo import demo_plan

    corpus = demo_plan(inputs, lab=MICROLAB)["corpus"] / "pt.jsonl"
    texts = [str(next(iter(json.loads(line).values()))) for line in corpus.read_text("utf-8").splitlines()]
    for file, shift, rows in (("predictions.jsonl", 1, ROWS), ("others.jsonl", 2, 200)):
        with open(inputs / file, "w", encoding="utf-8") as sink:
            for number in range(rows):
                row = {
                    "prompt": f"Case {number}: what follows from this? {texts[number % len(texts)]}",
                    "predict": texts[(number + shift) % len(texts)],
                    "label": texts[(number * 7 + 3) % len(texts)],
                }
                sink.write(json.dumps(row, ensure_ascii=False) + "\n")


def _import(file: Path, model: str, place: Path) -> list[str]:
    return ["import", str(file), "--format", "llamafactory", "--task", "f5", "--model", model, "--log-dir", str(place)]


def _command(inputs: Path, place: Path) -> list[str]:
    return _import(inputs / "predictions.jsonl", "mine", place)


def _earlier(inputs: Path, place: Path) -> list[str]:
    return _import(inputs / "others.jsonl", "another", place)


def log_content(log: Any) -> str:
    """Every sample of a log with what was said and how it was scored, and the log's own word on them."""
    samples = [
        [s.id, s.epoch, s.output.completion, {name: score.value for name, score in (s.scores or {}).items()}]
        for s in log.samples
    ]
    assert len({(s.id, s.epoch) for s in log.samples}) == len(samples), "a sample twice"
    assert log.eval.dataset.samples == len({s.id for s in log.samples}), "a sample is missing"
    scores = [
        [score.name, {name: metric.value for name, metric in score.metrics.items()}] for score in log.results.scores
    ]
    return digest([sorted(samples, key=repr), log.eval.model, log.eval.task, sorted(scores, key=repr)])


def whole_logs(folder: Path) -> Content:
    """What `medbench report` would take for whole runs below a folder, by candidate and task; none is there twice."""
    from inspect_ai.log import read_eval_log

    from medbench.errors import MedbenchError
    from medbench.reports.logs import Run, find_logs, read_run

    try:
        logs = find_logs(str(folder))
    except MedbenchError:
        return {}
    found: Content = {}
    for file in logs:
        run = read_run(file)
        if not isinstance(run, Run):
            continue
        name = f"{run.candidate} on {run.task}"
        assert name not in found, f"{name} twice"
        found[name] = log_content(read_eval_log(file))
    return found


def _content(place: Path) -> Content:
    found = whole_logs(place)
    assert len(list(place.iterdir())) == len(found), sorted(path.name for path in place.iterdir())
    return found


KIND = Kind(
    "import",
    f"{ROWS:,} predictions in LLaMA-Factory's format, scored by F5's scorers, beside another model's log",
    (
        "inspect_ai",
        "medbench.predictions.command",
        "medbench.scoring.scorers",
        "medbench.benchmark.catalog",
        "sacrebleu",
    ),
    _prepare,
    _command,
    _content,
    whole_logs,
    _earlier,
    lambda name: name.endswith(".eval"),
)
