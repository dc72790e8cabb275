"""`medbench import`: two thousand outputs for questions in MedQA's format, beside another model's log."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from stress.kind import Content, Kind, digest

ROWS = 2000
_SAID = (
    "The answer is {}.",
    "{}",
    "I would choose option {}, because the others do not fit.",
    "Answer: {}",
    "Unclear.",
)


def _prepare(inputs: Path) -> None:
    letters = "ABCD"
    with open(inputs / "items.jsonl", "w", encoding="utf-8") as sink:
        for number in range(ROWS):
            options = {letter: f"drug {number}-{letter.lower()}" for letter in letters}
            right = letters[number * 7 % 4]
            question = f"Case {number}: a patient of {20 + number % 60} years has sign {number}. Which drug is right?"
            row = {"question": question, "options": options, "answer_idx": right, "answer": options[right]}
            sink.write(json.dumps(row) + "\n")
    questions = [json.loads(line)["question"] for line in (inputs / "items.jsonl").read_text("utf-8").splitlines()]
    for file, step in (("predictions.jsonl", 3), ("others.jsonl", 5)):
        rows = (
            {"question": question, "prediction": _SAID[number % len(_SAID)].format(letters[number * step % 4])}
            for number, question in enumerate(questions)
        )
        (inputs / file).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _import(inputs: Path, file: str, model: str, place: Path) -> list[str]:
    source = ["--task", "medqa", "--source", str(inputs / "items.jsonl")]
    return ["import", str(inputs / file), "--format", "csv", *source, "--model", model, "--log-dir", str(place)]


def _command(inputs: Path, place: Path) -> list[str]:
    return _import(inputs, "predictions.jsonl", "mine", place)


def _earlier(inputs: Path, place: Path) -> list[str]:
    return _import(inputs, "others.jsonl", "another", place)


def log_content(file: str) -> str:
    """Every sample of a log with what was said and how it was scored, and the log's own word on them.

    Read from the zip itself: Inspect's reader takes seconds for a thousand samples, and is what `read_run` used before.
    """
    with zipfile.ZipFile(file.removeprefix("file://")) as archive:
        assert archive.testzip() is None
        # A member that a retry wrote again stands in the list twice, and its name means the last, for Inspect too.
        read = [json.loads(archive.read(name)) for name in archive.NameToInfo if name.startswith("samples/")]
        header = json.loads(archive.read("header.json"))
    samples = [
        [s["id"], s["epoch"], s["output"]["choices"], {name: score["value"] for name, score in s["scores"].items()}]
        for s in read
    ]
    for _, _, choices, _ in samples:
        for choice in choices:
            choice["message"].pop("id", None)
    assert len({(s["id"], s["epoch"]) for s in read}) == len(read), "a sample twice"
    assert header["results"]["total_samples"] == header["results"]["completed_samples"] == len(read), "one is missing"
    scores = [
        [s["name"], {name: one["value"] for name, one in s["metrics"].items()}] for s in header["results"]["scores"]
    ]
    spec = header["eval"]
    return digest([sorted(samples, key=repr), spec["model"], spec["task"], sorted(scores, key=repr)])


def whole_logs(folder: Path) -> Content:
    """What `medbench report` would take for whole runs below a folder, by candidate and task; none is there twice."""
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
        found[name] = log_content(file)
    return found


def _content(place: Path) -> Content:
    found = whole_logs(place)
    assert len(list(place.iterdir())) == len(found), sorted(path.name for path in place.iterdir())
    return found


KIND = Kind(
    "import",
    f"{ROWS:,} outputs for questions in MedQA's format, scored by its scorers, beside another model's log",
    (
        "inspect_ai",
        "medbench.predictions.command",
        "medbench.scoring.accuracy",
        "medbench.scoring.trace",
        "medbench.benchmark.catalog",
    ),
    _prepare,
    _command,
    _content,
    whole_logs,
    _earlier,
    lambda name: name.endswith(".eval"),
)
