"""Existing predictions: every format becomes a log like a live one, and whatever does not fit is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from inspect_ai.log import EvalLog, read_eval_log
from inspect_cli import inspect_command

from medbench.errors import MedbenchError
from medbench.predictions import user_turn
from medbench.predictions.command import import_command
from medbench.predictions.importing import import_predictions
from medbench.sources.items import Item

OPTIONS = {"A": "Heparin", "B": "Aspirin", "C": "Warfarin", "D": "Alteplase"}
QUESTIONS = ["Which drug is first?", "Which drug is last?", "Which drug is best?"]
CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def medqa_rows() -> list[dict[str, Any]]:
    return [{"question": question, "options": OPTIONS, "answer_idx": "B"} for question in QUESTIONS]


def medqa_id(question: str) -> str:
    return Item(question=question, language="en", options=tuple(OPTIONS.values())).id


def imported(file: str, tmp_path: Path, **settings: Any) -> EvalLog:
    given = {"form": None, "task": "medqa", "model": "qwen", "log_dir": str(tmp_path / "logs"), **settings}
    log = import_predictions(file, **given)
    assert log.status == "success"
    return read_eval_log(log.location)


def by_id(log: EvalLog, scorer: str, key: str) -> dict[str, float]:
    return {str(s.id): (s.scores or {})[scorer].as_dict()[key] for s in log.samples or []}  # type: ignore[misc]


def llamafactory_file(tmp_path: Path, predictions: list[str], label: str = "B") -> str:
    rows = [
        {"prompt": CHATML.format(question), "predict": prediction, "label": label}
        for question, prediction in zip(QUESTIONS, predictions, strict=True)
    ]
    return written(tmp_path / "generated_predictions.jsonl", rows)


def test_llamafactory_against_the_benchmarks_own_items(tmp_path: Path) -> None:
    source = written(tmp_path / "medqa.jsonl", medqa_rows()[::-1])  # another order: matched by question
    file = llamafactory_file(tmp_path, ["Answer: B", "<think>C?</think>\n\nThe answer is B.", "It is not B."])
    log = imported(file, tmp_path, source=source)
    assert by_id(log, "option_accuracy", "accuracy/answer") == {
        medqa_id(QUESTIONS[0]): 1.0,
        medqa_id(QUESTIONS[1]): 1.0,
        medqa_id(QUESTIONS[2]): 0.0,
    }
    assert log.eval.task == "medbench/medqa"
    assert log.eval.model == "none/qwen"
    assert log.eval.metadata is not None
    assert log.eval.metadata["medbench"] == {"candidate": "qwen"}
    assert log.eval.metadata["import"]["format"] == "llamafactory"
    assert log.stats.model_usage == {}
    (sample,) = [s for s in log.samples or [] if s.id == medqa_id(QUESTIONS[1])]
    assert sample.input == CHATML.format(QUESTIONS[1])
    assert sample.output.completion == "<think>C?</think>\n\nThe answer is B."
    assert not sample.model_usage


def test_an_imported_log_can_be_scored_again(tmp_path: Path) -> None:
    source = written(tmp_path / "medqa.jsonl", medqa_rows())
    log = imported(llamafactory_file(tmp_path, ["Answer: B", "C", "B"]), tmp_path, source=source)
    before = by_id(log, "option_accuracy", "accuracy/raw")
    assert inspect_command("score", "--action", "overwrite", "--overwrite", log.location) == 0
    again = read_eval_log(log.location)
    assert by_id(again, "option_accuracy", "accuracy/raw") == before
    assert again.results
    assert {found.scorer for found in again.results.scores} == {"option_accuracy", "trace_statistics"}


def test_llamafactory_free_text_without_a_source(tmp_path: Path) -> None:
    rows = [
        {"prompt": CHATML.format(f"Question {n}?"), "predict": f"Rest, day {n}.", "label": f"Take rest, day {n}."}
        for n in range(4)
    ]  # fmt: skip
    log = imported(written(tmp_path / "generated_predictions.jsonl", rows), tmp_path, task="f5")
    overlap = by_id(log, "surface_overlap", "rouge1/answer")
    expected = {Item(question=f"Question {n}?", language="en", reference=f"Take rest, day {n}.").id for n in range(4)}
    assert set(overlap) == expected
    assert all(value > 40 for value in overlap.values())
    assert by_id(log, "trace_statistics", "trace/raw") == dict.fromkeys(expected, 0.0)


def lm_eval_row(n: int, response: Any, **fields: Any) -> dict[str, Any]:
    doc = medqa_rows()[n]
    arguments = {"gen_args_0": {"arg_0": f"Q: {doc['question']}", "arg_1": {"until": []}}}
    return {"doc_id": n, "doc": doc, "target": "B", "arguments": arguments, "resps": [[response]], **fields}


def test_lm_eval_rows_hold_their_items_and_repeat_per_filter(tmp_path: Path) -> None:
    rows = [lm_eval_row(n, "Answer: B", filter=name) for n in range(3) for name in ("strict", "flexible")]
    log = imported(written(tmp_path / "samples.jsonl", rows), tmp_path)
    assert by_id(log, "option_accuracy", "accuracy/answer") == {medqa_id(question): 1.0 for question in QUESTIONS}
    assert {s.input for s in log.samples or []} == {f"Q: {question}" for question in QUESTIONS}
    assert all(s.metadata["item"]["source"].startswith("samples.jsonl, line") for s in log.samples or [])


def test_csv_by_item_id(tmp_path: Path) -> None:
    source = written(tmp_path / "medqa.jsonl", medqa_rows())
    path = tmp_path / "predictions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prediction"])
        writer.writerows([[medqa_id(question), "b"] for question in QUESTIONS])
    log = imported(str(path), tmp_path, source=source)
    assert set(by_id(log, "option_accuracy", "accuracy/answer").values()) == {1.0}


def test_plain_outputs_have_trace_statistics_alone(tmp_path: Path) -> None:
    rows = [{"model": "r1", "prompt": f"Q{n}", "output": text} for n, text in enumerate(["a</think>b", "cut off"])]
    file = written(tmp_path / "outputs.jsonl", rows)
    log = imported(file, tmp_path, task=None, model=None)
    assert log.eval.model == "none/r1"
    assert sorted(by_id(log, "trace_statistics", "trace/raw").values()) == [0.0, 1.0]
    told = imported(file, tmp_path, task=None, model=None, prefilled=True)
    assert sorted(by_id(told, "trace_statistics", "trace_unterminated/raw").values()) == [0.0, 1.0]


def test_a_prompt_that_ends_in_an_opening_tag_is_noticed(tmp_path: Path) -> None:
    rows = [{"model": "r1", "prompt": "Q<｜Assistant｜><think>\n", "output": "cut off"}]
    log = imported(written(tmp_path / "outputs.jsonl", rows), tmp_path, task=None)
    assert list(by_id(log, "trace_statistics", "trace_unterminated/raw").values()) == [1.0]


def refusal(file: str, tmp_path: Path, **settings: Any) -> str:
    with pytest.raises(MedbenchError) as caught:
        imported(file, tmp_path, **settings)
    assert not list((tmp_path / "logs").glob("*")) if (tmp_path / "logs").exists() else True
    return str(caught.value)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    source = written(tmp_path / "medqa.jsonl", medqa_rows())
    good = llamafactory_file(tmp_path, ["B", "B", "B"])
    assert "Did you mean medqa" in refusal(good, tmp_path, task="medqaa")
    assert "--source" in refusal(good, tmp_path)
    assert "--model" in refusal(good, tmp_path, model=None, source=source)
    one = written(tmp_path / "one.jsonl", medqa_rows()[:1])
    assert "holds no item's question" in refusal(good, tmp_path, source=one)
    short = written(tmp_path / "short.jsonl", [json.loads(line) for line in Path(good).read_text().splitlines()[:2]])
    assert "answers 2 of 3 items" in refusal(short, tmp_path, source=source)
    other_key = llamafactory_file(tmp_path, ["B", "B", "B"], label="C")
    assert "says C, but the item's key is B" in refusal(other_key, tmp_path, source=source)
    assert "unknown format" in refusal(written(tmp_path / "odd.jsonl", [{"text": "B"}]), tmp_path)
    crooked = tmp_path / "crooked.csv"
    crooked.write_text("prediction,reference\na,b,c\n")
    assert "line 2: expected 2 columns" in refusal(str(crooked), tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Q", "label": "B"}, "field 'predict': missing"),
        ({"prompt": "Q", "predict": 3, "label": "B"}, "field 'predict': expected text, found int"),
        ({"doc": "x", "resps": [["B"]]}, "field 'doc': expected the item as an object"),
        ({"doc": {}, "resps": [[[-1.2, False]], [[-0.3, True]]]}, "log-likelihoods"),
        ({"doc": {}, "resps": [["B", "C"]]}, "2 responses to one prompt"),
    ],
)
def test_a_row_that_misses_something(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    form = "lm-eval" if "doc" in row else "llamafactory"
    problem = refusal(written(tmp_path / "rows.jsonl", [row]), tmp_path, form=form)
    assert "rows.jsonl, line 1" in problem
    assert message in problem


def test_skipping_lists_items_without_prediction(tmp_path: Path) -> None:
    source = written(tmp_path / "medqa.jsonl", medqa_rows())
    rows = [
        {"prompt": QUESTIONS[0], "predict": "B", "label": "B"},
        {"prompt": "something else", "predict": "B", "label": "B"},
    ]
    file = written(tmp_path / "generated_predictions.jsonl", rows)
    log = imported(file, tmp_path, source=source, on_bad_row="skip")
    left_out = log.eval.metadata["import"]["left_out"]  # type: ignore[index]
    assert len(log.samples or []) == 1
    assert len(left_out) == 3
    assert "line 2" in left_out[0]
    assert medqa_id(QUESTIONS[1]) in left_out[1]


@pytest.mark.parametrize(
    "prompt",
    [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "system\nBe brief.\nuser\nWhy?\nassistant\n",
        "[INST] Why? [/INST]",
        "<｜User｜>Why?<｜Assistant｜><think>\n",
        " Why? ",
    ],
)
def test_user_turn(prompt: str) -> None:
    assert user_turn(prompt) == "Why?"


def test_the_command_prints_scores_with_intervals(tmp_path: Path) -> None:
    file = written(tmp_path / "samples.jsonl", [lm_eval_row(n, "Answer: B") for n in range(3)])
    arguments = [file, "--task", "medqa", "--model", "m", "--log-dir", str(tmp_path / "logs")]
    result = CliRunner().invoke(import_command, arguments, catch_exceptions=False, env={"COLUMNS": "120"})
    assert result.exit_code == 0
    # The exact lower limit for n of n is 0.025 ** (1 / n), as in the report.
    assert "0.292 to 1.000" in result.output
    assert "absent 3" in result.output
    (log,) = (tmp_path / "logs").glob("*.eval")
    assert str(log) in result.output
    assert "empty outputs" not in result.output


def test_the_command_names_empty_outputs(tmp_path: Path) -> None:
    file = llamafactory_file(tmp_path, ["Answer: B", " \n", "Answer: A"])
    source = written(tmp_path / "medqa.jsonl", medqa_rows())
    arguments = [file, "--task", "medqa", "--source", source, "--model", "m", "--log-dir", str(tmp_path / "logs")]
    result = CliRunner().invoke(import_command, arguments, catch_exceptions=False, env={"COLUMNS": "120"})
    assert "note: empty outputs: 1, for medqa.jsonl, line 2\n" in result.output


def test_real_generations(tmp_path: Path, shared_data: Path) -> None:
    file = shared_data / "generations" / "DeepSeek-R1-Distill-Qwen-7B.jsonl"
    log = imported(str(file), tmp_path, task=None, model=None, prefilled=True)
    assert sum(by_id(log, "trace_statistics", "trace/raw").values()) == 200
    assert sum(by_id(log, "trace_statistics", "trace_unterminated/raw").values()) == 37


def test_a_models_name_is_text_not_markup(tmp_path: Path) -> None:
    file = written(tmp_path / "samples.jsonl", [lm_eval_row(n, "Answer: B") for n in range(3)])
    given = [str(file), "--task", "medqa", "--model", "my[/model]", "--log-dir", str(tmp_path / "logs")]
    result = CliRunner().invoke(import_command, given)
    assert result.exit_code == 0, result.output
    (log,) = (tmp_path / "logs").glob("*.eval")
    assert read_eval_log(str(log)).eval.model == "none/my[/model]"
