"""Several predictions for one prompt: each counts, as in the mean that LLaMA-Factory prints, and intervals know it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jieba
import numpy as np
import pytest
from click.testing import CliRunner
from inspect_ai.log import EvalLog
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_chinese import Rouge

from medbench.cli import cli
from medbench.predictions.command import contexts_of, import_command, interval_of, score_values
from medbench.predictions.importing import import_predictions
from medbench.sources.items import asked_id, repeat_id

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ASKED = [
    ("What helps against a cold?", "Rest, warm drinks, and time help against most colds."),
    ("感冒怎么办？", "多休息，多喝温水，必要时就医。"),
    ("Is a fever of 38 dangerous?", "A fever of 38 degrees is rarely dangerous in adults."),
]
SAID = [
    ["Rest and warm drinks help.", "Take antibiotics at once.", "Time and rest help against a cold."],
    ["多喝水，注意休息。", "请立即手术。", "多休息，必要时就医，多喝温水。"],
    ["It is rarely dangerous.", "Yes, call an ambulance now.", "38 degrees is rarely dangerous in adults."],
]


def file_of(path: Path, counts: tuple[int, ...]) -> Path:
    """LLaMA-Factory's file with so many rows for each prompt, in rounds as a repeated data set gives them."""
    rows = [
        {"prompt": PROMPT.format(question), "predict": SAID[i][turn], "label": reference}
        for turn in range(max(counts))
        for i, (question, reference) in enumerate(ASKED)
        if turn < counts[i]
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def llamafactory_means(file: Path) -> dict[str, float]:
    """The means of `scripts/eval_bleu_rouge.py` in LLaMA-Factory 0.9.4, written after it."""
    found: dict[str, list[float]] = {"bleu4": [], "rouge1": [], "rouge2": [], "rougeL": []}
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        hypothesis, reference = list(jieba.cut(row["predict"])), list(jieba.cut(row["label"]))
        rouge = Rouge().get_scores(" ".join(hypothesis), " ".join(reference))[0]
        for ours, theirs in (("rouge1", "rouge-1"), ("rouge2", "rouge-2"), ("rougeL", "rouge-l")):
            found[ours].append(round(rouge[theirs]["f"] * 100, 4))
        smooth = SmoothingFunction().method3
        bleu = sentence_bleu([list(row["label"])], list(row["predict"]), smoothing_function=smooth)
        found["bleu4"].append(round(bleu * 100, 4))
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def imported(file: Path, tmp_path: Path, **more: Any) -> EvalLog:
    settings = {"form": None, "task": "f5", "model": "m", "log_dir": str(tmp_path / "logs"), **more}
    return import_predictions(str(file), **settings)


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 3, 3), (1, 3, 1), (2, 3, 1)])
def test_means_are_llamafactorys_means_over_rows(counts: tuple[int, ...], tmp_path: Path) -> None:
    file = file_of(tmp_path / "generated_predictions.jsonl", counts)
    log = imported(file, tmp_path)
    assert len(log.samples or []) == sum(counts)
    values = score_values(log)
    for metric, mean in llamafactory_means(file).items():
        assert float(np.mean(values[f"{metric}_llamafactory/raw"])) == pytest.approx(mean, abs=1e-9), metric


def test_an_even_number_becomes_epochs(tmp_path: Path) -> None:
    log = imported(file_of(tmp_path / "p.jsonl", (2, 2, 2)), tmp_path)
    assert log.eval.config.epochs == 2
    said = {(str(s.id), s.epoch): s.output.completion for s in log.samples or []}
    assert len({key for key, _ in said}) == 3
    assert sorted(text for (_, epoch), text in said.items() if epoch == 2) == sorted(texts[1] for texts in SAID)
    assert contexts_of(log) is None
    assert len(score_values(log)["bleu4/raw"]) == 3


def test_an_uneven_number_becomes_samples_in_their_items_group(tmp_path: Path) -> None:
    log = imported(file_of(tmp_path / "p.jsonl", (1, 3, 1)), tmp_path)
    ids = [str(sample.id) for sample in log.samples or []]
    assert len(set(ids)) == 5
    (repeated,) = {asked_id(one) for one in ids if asked_id(one) != one}
    assert sorted(one for one in ids if asked_id(one) == repeated) == [
        repeated,
        repeat_id(repeated, 2),
        repeat_id(repeated, 3),
    ]
    contexts = contexts_of(log)
    assert contexts is not None
    assert len(set(contexts)) == 3
    assert contexts.count(repeated) == 3
    values = score_values(log)["rouge1_llamafactory/raw"]
    clustered, alone = interval_of("rouge1", values, contexts), interval_of("rouge1", values)
    assert clustered.estimate == alone.estimate
    assert clustered.high - clustered.low != alone.high - alone.low


def test_the_command_says_so(tmp_path: Path) -> None:
    file = file_of(tmp_path / "p.jsonl", (1, 2, 1))
    arguments = [str(file), "--task", "f5", "--model", "m", "--log-dir", str(tmp_path / "logs")]
    result = CliRunner().invoke(import_command, arguments, catch_exceptions=False, env={"COLUMNS": "120"})
    assert "note: prompts with several predictions: 1;" in result.output
    log = imported(file, tmp_path)
    assert (log.eval.metadata or {})["import"]["repeated_prompts"] == 1
    assert not any(math.isnan(value) for value in score_values(log)["bleu4/raw"])


def test_ids_of_repeats_come_back() -> None:
    assert asked_id(repeat_id("0123456789abcdef", 12)) == "0123456789abcdef"
    assert asked_id("0123456789abcdef") == "0123456789abcdef"
    assert asked_id("a~b") == "a~b"
    assert asked_id("~2") == "~2"


def test_a_leaked_item_is_contaminated_in_every_repeat(tmp_path: Path) -> None:
    log = imported(file_of(tmp_path / "p.jsonl", (1, 3, 1)), tmp_path)
    (repeated,) = {asked_id(str(s.id)) for s in log.samples or [] if asked_id(str(s.id)) != str(s.id)}
    finding = {"corpus_file": "c", "record": 0, "item_id": repeated, "field": "question", "signal": "near", "score": 1}
    (tmp_path / "findings.jsonl").write_text(json.dumps(finding) + "\n", "utf-8")
    report = tmp_path / "report"
    arguments = ["report", str(tmp_path / "logs"), "--audit", str(tmp_path / "findings.jsonl"), "--out", str(report)]
    CliRunner().invoke(cli, [*arguments, "--resamples", "100"], catch_exceptions=False)
    sections = json.loads((report / "report.json").read_text("utf-8"))["sections"]
    (found,) = (section["findings"] for section in sections if section["key"] == "contamination")
    assert "3 of 5" in found[0]
