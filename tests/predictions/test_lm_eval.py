"""Files that lm-eval 0.4.13 wrote for six items of our own, answered by SmolLM2-135M-Instruct.

Made by ``lm_eval --model hf --tasks ward_text,ward_letters,ward_gen --log_samples``; the items are in the rows' `doc`,
in the layout of lm-eval's `medqa_4options`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medbench.errors import MedbenchError
from medbench.predictions.command import import_command
from medbench.predictions.importing import import_predictions

DATA = Path(__file__).parent / "data" / "lm_eval"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


def imported(file: Path, log_dir: Path, **more: Any) -> Any:
    given = {"form": None, "task": "medqa", "model": "smollm2", "log_dir": str(log_dir), **more}
    return import_predictions(str(file), **given)


def values(log: Any, scorer: str) -> dict[str, dict[str, float]]:
    return {sample.metadata["item"]["question"]: sample.scores[scorer].value for sample in log.samples}


@pytest.mark.parametrize("name", ["multiple_choice_texts.jsonl", "multiple_choice_letters.jsonl"])
def test_accuracies_are_lm_evals_own(name: str, tmp_path: Path) -> None:
    ours = values(imported(DATA / name, tmp_path), "option_probability")
    theirs = {row["doc"]["sent1"]: row for row in rows(name)}
    assert len(ours) == len(theirs) == 6
    for question, row in theirs.items():
        assert ours[question]["accuracy/answer"] == row["acc"]
        assert ours[question]["accuracy_norm/answer"] == row["acc_norm"]
        assert ours[question]["entropy/answer"] > 0
        assert ours[question]["mass/answer"] != ours[question]["mass/answer"]  # texts have no mass of first tokens


@pytest.mark.parametrize("name", ["multiple_choice_texts.jsonl", "generate_until.jsonl"])
def test_the_command_prints_what_it_judged(name: str, tmp_path: Path) -> None:
    arguments = [str(DATA / name), "--task", "medqa", "--model", "smollm2", "--log-dir", str(tmp_path)]
    done = CliRunner().invoke(import_command, arguments, catch_exceptions=False)
    assert "accuracy" in done.output
    assert ("traces: absent 6" in done.output) == (name == "generate_until.jsonl")  # likelihoods have no text
    assert ("empty outputs: 6" in done.output) == (name == "generate_until.jsonl")


def test_the_two_accuracies_differ_in_the_file(tmp_path: Path) -> None:
    """Else the test above could not tell them apart."""
    found = rows("multiple_choice_texts.jsonl")
    assert [row["acc"] for row in found] != [row["acc_norm"] for row in found]


def test_generated_answers_are_read_once_for_all_filters(tmp_path: Path) -> None:
    log = imported(DATA / "generate_until.jsonl", tmp_path)
    assert len(rows("generate_until.jsonl")) == 12
    assert len(log.samples) == 6
    assert log.eval.metadata["import"]["left_out"] == []


def changed(tmp_path: Path, change: Any) -> Path:
    found = rows("multiple_choice_texts.jsonl")
    change(found)
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found), "utf-8")
    return path


def test_long_options_do_not_underflow(tmp_path: Path) -> None:
    def lower(found: list[dict[str, Any]]) -> None:
        for row in found:
            row["resps"] = [[[str(float(pair[0][0]) - 5000), "False"]] for pair in row["resps"]]

    ours = values(imported(changed(tmp_path, lower), tmp_path / "logs"), "option_probability")
    theirs = {row["doc"]["sent1"]: row["acc"] for row in rows("multiple_choice_texts.jsonl")}
    assert {question: one["accuracy/answer"] for question, one in ours.items()} == theirs


def test_options_that_are_not_the_items_are_refused(tmp_path: Path) -> None:
    def swap(found: list[dict[str, Any]]) -> None:
        first = found[0]["arguments"]
        first["gen_args_0"], first["gen_args_1"] = first["gen_args_1"], first["gen_args_0"]

    with pytest.raises(MedbenchError, match=r"line 1.*vitamin B12.*item's options are"):
        imported(changed(tmp_path, swap), tmp_path / "logs")


def test_text_and_likelihoods_do_not_mix(tmp_path: Path) -> None:
    def mix(found: list[dict[str, Any]]) -> None:
        found[2]["resps"] = [["The answer is A"]]

    with pytest.raises(MedbenchError, match=r"line 3.*holds text.*import them apart"):
        imported(changed(tmp_path, mix), tmp_path / "logs")
    with pytest.raises(MedbenchError, match="mode=generate judges text"):
        imported(DATA / "multiple_choice_texts.jsonl", tmp_path / "logs", task_args={"mode": "generate"})
    with pytest.raises(MedbenchError, match="name the --task"):
        imported(DATA / "multiple_choice_texts.jsonl", tmp_path / "logs", task=None)


def test_a_likelihood_without_its_option_is_named(tmp_path: Path) -> None:
    def cut(found: list[dict[str, Any]]) -> None:
        del found[1]["arguments"]["gen_args_3"]

    with pytest.raises(MedbenchError, match=r"line 2.*one continuation for each of 4"):
        imported(changed(tmp_path, cut), tmp_path / "logs")
