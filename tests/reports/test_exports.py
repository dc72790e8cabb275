"""Exports: the leaderboard's numbers, in files that their own tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulated_logs as sim
import yaml
from claim_world import ANSWERS, ITEMS, written
from click.testing import CliRunner, Result
from controlled_logs import log as controlled
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from jsonschema import Draft7Validator

import medbench
from medbench.cli import cli
from medbench.errors import MedbenchError
from medbench.predictions.importing import import_predictions

pytestmark = pytest.mark.slow  # reports and logs of whole studies

DATA = Path(__file__).parent / "data"
RUNS = Path(__file__).parents[1] / "predictions" / "data"


def export(logs: Path, out: Path, form: str, *more: str) -> Result:
    arguments = ["export", str(logs), "--format", form, "--out", str(out), "--resamples", "200", *more]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def board(study_logs: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(task, metric) -> the leaderboard's row of the candidate ``sft``."""
    frame = medbench.leaderboard(study_logs, resamples=200)
    return {(row["task"], row["metric"]): row for _, row in frame[frame.candidate == "sft"].iterrows()}


def valid(record: dict[str, Any]) -> list[str]:
    """What the schema that the package every-eval-ever 0.3.0 ships (MIT, beside it) refuses in a record."""
    schema = json.loads((DATA / "every_eval_ever-0.3.0.schema.json").read_text("utf-8"))
    assert schema["version"] == record["schema_version"] == "0.3.0"
    return [f"{list(one.absolute_path)}: {one.message}" for one in Draft7Validator(schema).iter_errors(record)]


def test_every_eval_ever(study_logs: Path, board: dict[tuple[str, str], dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "sft.json"
    settings = ("--candidate", "sft", "--organization", "a lab", "--availability", "open_weights")
    settings += ("--developer", "another lab")
    export(study_logs, out, "every-eval-ever", *settings)
    record = json.loads(out.read_text("utf-8"))
    assert valid(record) == []
    assert record["source_metadata"]["source_organization_name"] == "a lab"
    assert record["model_info"]["name"] == record["model_info"]["id"] == "sft"
    assert record["model_info"]["developer"] == "another lab"
    assert record["model_info"]["additional_details"]["model_availability"] == "open_weights"
    assert len(record["evaluation_results"]) == len(board)
    ids = [one["evaluation_result_id"] for one in record["evaluation_results"]]
    assert len(set(ids)) == len(ids)
    for one, ((task, metric), row) in zip(record["evaluation_results"], board.items(), strict=True):
        assert one["evaluation_name"] == f"medbench.{task}"
        config, details = one["metric_config"], one["score_details"]
        assert config["min_score"] <= details["score"] <= config["max_score"]
        assert config["lower_is_better"] is False
        assert details["score"] == row["score"]
        assert details["uncertainty"]["num_samples"] == row["n"]
        assert details["uncertainty"]["standard_error"]["value"] >= 0
        interval = details["uncertainty"]["confidence_interval"]
        assert (interval["lower"], interval["upper"]) == (row["low"], row["high"])
        assert details["details"]["task_version"]
        assert ("floor" in details["details"]) == metric.startswith(("bleu", "rouge"))
        assert ("chance" in details["details"]) == (metric == "accuracy/answer")


def test_the_schema_refuses_a_record_that_lacks_a_field(study_logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "sft.json"
    export(study_logs, out, "every-eval-ever", "--candidate", "sft")
    record = json.loads(out.read_text("utf-8"))
    del record["model_info"]["additional_details"]["deployment_type"]
    del record["evaluation_results"][0]["metric_config"]["max_score"]
    record["evaluation_results"][1]["source_data"]["source_type"] = "elsewhere"
    assert len(valid(record)) == 3


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


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that HELM and LLaMA-Factory wrote, imported as one candidate: a choice task and a free-text one."""
    logs = tmp_path_factory.mktemp("real") / "logs"
    for file, task in (("helm/scenario_state.json", "medqa"), ("llamafactory/generated_predictions.jsonl", "f5")):
        import_predictions(str(RUNS / file), form=None, task=task, model="ward", log_dir=str(logs))
    return logs


def test_lm_evals_own_table_is_ours(real: Path, tmp_path: Path) -> None:
    """`lm_eval_table.md` is what lm-eval 0.4.13's `make_table` printed of the JSON that this export wrote."""
    out = tmp_path / "table.md"
    export(real, out, "lm-eval", "--candidate", "ward")
    theirs = (DATA / "lm_eval_table.md").read_text("utf-8").splitlines()
    ours = out.read_text("utf-8").splitlines()
    assert [line[: len(theirs[0])] for line in ours] == theirs
    assert [one.strip() for one in ours[0][len(theirs[0]) :].split("|")] == ["95% interval", "n", "Beside", ""]


def test_lm_eval_table_has_every_candidate(study_logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    said = export(study_logs, out, "lm-eval")
    frame = medbench.leaderboard(study_logs, resamples=200)
    lines = out.read_text("utf-8").splitlines()
    assert len(lines) == 2 + len(frame)
    assert f"{len(frame)} numbers of {frame.candidate.nunique()} candidate(s)" in said.output
    assert {line.count("|") for line in lines} == {14}
    accuracy = [line for line in lines if "|acc " in line]
    assert len(accuracy) == frame.candidate.nunique()
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
    assert eval_results_to_model_index(name, results) == index
    assert len(card.data.eval_results or []) == len(board)
    assert "|medqa|" in card.text
    assert "floor" in card.text


def test_claims_and_what_they_contradict(tmp_path: Path) -> None:
    items = written(tmp_path / "items.jsonl", ITEMS)
    good = written(tmp_path / "good.jsonl", [{"question": q, "prediction": a} for q, a in ANSWERS.items()])
    logs = tmp_path / "logs"
    import_predictions(good, form="csv", task="kqa", model="good", log_dir=str(logs), source=items)
    out = tmp_path / "record.json"
    export(logs, out, "every-eval-ever")
    record = json.loads(out.read_text("utf-8"))
    assert valid(record) == []
    found = {one["metric_config"]["metric_kind"]: one for one in record["evaluation_results"]}
    assert found["comprehensiveness"]["score_details"]["score"] == 0.75
    assert found["comprehensiveness"]["score_details"]["details"]["floor"] == "0.000"
    assert found["contradicted"]["metric_config"]["lower_is_better"] is True
    export(logs, tmp_path / "table.md", "lm-eval")
    assert "|contradicted     |↓  |" in (tmp_path / "table.md").read_text("utf-8")


def test_scores_under_a_control_are_tasks_of_their_own(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    for control in (None, "options_only", "no_options"):
        for seed, candidate in enumerate((sim.Candidate("pt", 1.0, 0.0), sim.Candidate("sft", 0.0, 1.0))):
            rights = np.random.default_rng(seed).random(60) < (0.8 if control is None else 0.5)
            sim.write(controlled(candidate, rights.astype(float), control), logs, f"{control}{seed}")
    out = tmp_path / "record.json"
    export(logs, out, "every-eval-ever", "--candidate", "pt")
    record = json.loads(out.read_text("utf-8"))
    assert valid(record) == []
    found = {one["evaluation_name"]: one["score_details"] for one in record["evaluation_results"]}
    assert list(found) == ["medbench.medqa", "medbench.medqa_under_no_options", "medbench.medqa_under_options_only"]
    assert found["medbench.medqa_under_options_only"]["details"]["control"] == "options_only"
    assert "chance" in found["medbench.medqa_under_options_only"]["details"]
    assert "chance" not in found["medbench.medqa_under_no_options"]["details"]  # nothing to guess among was shown
    export(logs, tmp_path / "card.md", "model-index", "--candidate", "pt")
    card = ModelCard.load(tmp_path / "card.md")
    configs = {one.dataset_config for one in card.data.eval_results or []}
    assert configs == {None, "options_only", "no_options"}
    assert len(medbench.leaderboard(logs, resamples=200)) == 2  # the benchmark alone


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
    for name in ("lab/one|two", "plain"):
        import_predictions(str(tmp_path / "rows.jsonl"), form=None, task="f5", model=name, log_dir=str(logs))
    for form, name in (
        ("every-eval-ever", "a.json"),
        ("lm-eval", "b.json"),
        ("lm-eval", "b.md"),
        ("model-index", "c.md"),
    ):
        export(logs, tmp_path / name, form, *(() if name == "b.md" else ("--candidate", "lab/one|two")))
    record = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert record["evaluation_results"][0]["score_details"]["uncertainty"] == {"num_samples": 1}
    assert json.loads((tmp_path / "b.json").read_text("utf-8"))["results"]["f5"]["bleu4_stderr,raw"] == "N/A"
    assert "|lab/one\\|two|f5   |" in (tmp_path / "b.md").read_text("utf-8")
    assert "nan" not in (tmp_path / "b.md").read_text("utf-8") + (tmp_path / "c.md").read_text("utf-8")
