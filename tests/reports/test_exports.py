"""Exports: the leaderboard's numbers, in files that their own tools read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

import medbench
from medbench.cli import cli
from medbench.errors import MedbenchError
from medbench.predictions.importing import import_predictions


def export(logs: Path, out: Path, form: str, *more: str) -> Result:
    arguments = ["export", str(logs), "--format", form, "--out", str(out), "--resamples", "200", *more]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def board(study_logs: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(task, metric) -> the leaderboard's row of the candidate ``sft``."""
    frame = medbench.leaderboard(study_logs, resamples=200)
    return {(row["task"], row["metric"]): row for _, row in frame[frame.candidate == "sft"].iterrows()}


def test_every_eval_ever(study_logs: Path, board: dict[tuple[str, str], dict[str, Any]], tmp_path: Path) -> None:
    """The required fields and types of `eval.schema.json` 0.2.2."""
    out = tmp_path / "sft.json"
    export(study_logs, out, "every-eval-ever", "--candidate", "sft", "--organization", "a lab")
    record = json.loads(out.read_text("utf-8"))
    top = {"schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info", "eval_library"}
    assert record.keys() == top | {"evaluation_timestamp", "evaluation_results"}
    assert record["schema_version"] == "0.2.2"
    assert re.fullmatch(r"\d+", record["retrieved_timestamp"])
    assert re.fullmatch(r"\d+", record["evaluation_timestamp"])
    assert record["source_metadata"]["source_type"] == "evaluation_run"
    assert record["source_metadata"]["source_organization_name"] == "a lab"
    assert record["source_metadata"]["evaluator_relationship"] == "other"
    assert record["eval_library"].keys() >= {"name", "version"}
    assert record["model_info"]["name"] == record["model_info"]["id"] == "sft"
    assert len(record["evaluation_results"]) == len(board)
    ids = [one["evaluation_result_id"] for one in record["evaluation_results"]]
    assert len(set(ids)) == len(ids)
    for one, ((task, metric), row) in zip(record["evaluation_results"], board.items(), strict=True):
        assert one["evaluation_name"] == f"medbench.{task}"
        config, details = one["metric_config"], one["score_details"]
        assert config["score_type"] == "continuous"
        assert config["min_score"] <= details["score"] <= config["max_score"]
        assert config["lower_is_better"] is False
        assert details["score"] == row["score"]
        assert details["uncertainty"]["num_samples"] == row["n"]
        assert details["uncertainty"]["standard_error"]["value"] >= 0
        interval = details["uncertainty"]["confidence_interval"]
        assert (interval["lower"], interval["upper"]) == (row["low"], row["high"])
        assert all(isinstance(value, str) for value in details["details"].values())
        assert details["details"]["task_version"]
        assert ("floor" in details["details"]) == metric.startswith(("bleu", "rouge"))
        assert ("chance" in details["details"]) == (metric == "accuracy/answer")
        assert all(isinstance(value, str) for value in one["generation_config"]["additional_details"].values())
        assert one["source_data"]["source_type"] in ("hf_dataset", "other")
        assert one["source_data"]["source_type"] != "hf_dataset" or one["source_data"]["hf_repo"]


def test_exporting_again_gives_the_same_record(study_logs: Path, tmp_path: Path) -> None:
    records = []
    for name in ("a.json", "b.json"):
        export(study_logs, tmp_path / name, "every-eval-ever", "--candidate", "sft")
        records.append(json.loads((tmp_path / name).read_text("utf-8")))
        del records[-1]["retrieved_timestamp"]
    assert records[0] == records[1]


def test_lm_eval_results(study_logs: Path, board: dict[tuple[str, str], dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    export(study_logs, out, "lm-eval", "--candidate", "sft")
    document = json.loads(out.read_text("utf-8"))
    assert document.keys() >= {"results", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples"}
    medqa = document["results"]["medqa"]
    row = board["medqa", "accuracy/answer"]
    assert medqa["acc,answer"] == row["score"]
    assert 0 < medqa["acc_stderr,answer"] < (row["high"] - row["low"]) / 2
    assert medqa["sample_len"] == row["n"]
    beside = document["medbench"]["intervals"]["medqa"]["acc,answer"]
    assert (beside["low"], beside["high"], beside["n"]) == (row["low"], row["high"], row["n"])
    assert beside["chance"] == pytest.approx(row["chance"], abs=5e-4)
    numbers = sum(1 for scores in document["results"].values() for key in scores if "_stderr," in key)
    assert numbers == len(board)


def test_lm_eval_table_has_every_candidate(study_logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    said = export(study_logs, out, "lm-eval")
    frame = medbench.leaderboard(study_logs, resamples=200)
    lines = out.read_text("utf-8").splitlines()
    assert len(lines) == 2 + len(frame)
    assert f"{len(frame)} numbers of {frame.candidate.nunique()} candidate(s)" in said.output
    assert {line.count("|") for line in lines} == {14}
    accuracy = [line for line in lines if "|acc|" in line]
    assert all("|chance 0." in line for line in accuracy)
    assert all("|floor " in line for line in lines if "|bleu" in line or "|rouge" in line)


def test_model_card(study_logs: Path, board: dict[tuple[str, str], dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    export(study_logs, out, "model-index", "--candidate", "sft")
    text = out.read_text("utf-8")
    index = yaml.safe_load(text.split("---\n")[1])["model-index"]
    name, results = model_index_to_eval_results(index)
    assert name == "sft"
    assert len(results) == len(board)
    found = {(one.dataset_name, one.metric_type): one for one in results}
    accuracy, row = found["medqa", "accuracy"], board["medqa", "accuracy/answer"]
    assert accuracy.metric_value == pytest.approx(row["score"], abs=1e-6)
    assert accuracy.metric_args["n"] == row["n"]
    assert accuracy.metric_args["low"] == row["low"]
    assert f"(n = {row['n']}, {row['low']:.3f} to {row['high']:.3f}, chance " in str(accuracy.metric_name)
    card = ModelCard.load(out)
    assert len(card.data.eval_results or []) == len(board)
    assert "|medqa|" in card.text
    assert "floor" in card.text


def test_bad_requests_are_named(study_logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    for arguments, said in (
        (("model_index",), "unknown format 'model_index'. Did you mean model-index"),
        (("model-index",), "a file of model-index is about one: --candidate NAME, of base"),
        (("lm-eval", "--candidate", "sftt"), "unknown candidate 'sftt'. Did you mean sft"),
    ):
        with pytest.raises(MedbenchError) as caught:
            export(study_logs, out, *arguments)
        assert said in str(caught.value)
    with pytest.raises(MedbenchError, match="is a folder"):
        export(study_logs, tmp_path, "lm-eval")
    assert not out.exists()


def test_one_item_has_no_interval_and_no_error(tmp_path: Path) -> None:
    row = {"prompt": "What helps?", "predict": "Rest.", "label": "Rest well."}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    logs = tmp_path / "logs"
    import_predictions(str(tmp_path / "rows.jsonl"), form=None, task="f5", model="lab/one|two", log_dir=str(logs))
    for form, name in (
        ("every-eval-ever", "a.json"),
        ("lm-eval", "b.json"),
        ("lm-eval", "b.md"),
        ("model-index", "c.md"),
    ):
        export(logs, tmp_path / name, form)
    record = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert record["evaluation_results"][0]["score_details"]["uncertainty"] == {"num_samples": 1}
    assert json.loads((tmp_path / "b.json").read_text("utf-8"))["results"]["f5"]["bleu4_stderr,raw"] == "N/A"
    assert "|lab/one\\|two|f5|" in (tmp_path / "b.md").read_text("utf-8")
    assert "nan" not in (tmp_path / "b.md").read_text("utf-8") + (tmp_path / "c.md").read_text("utf-8")
