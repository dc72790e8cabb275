"""Reading logs: what is compared, and what is said about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simulated_logs as sim
from inspect_ai.analysis import samples_df
from inspect_ai.log import EvalSample
from inspect_ai.scorer import Score

from medbench.errors import MedbenchError
from medbench.reports.estimates import Analysis, Options
from medbench.reports.logs import find_logs
from medbench.reports.parquet import write_parquet
from medbench.reports.rows import load_study

A, B = sim.STUDY[0], sim.STUDY[3]


def kinds(study: object) -> list[str]:
    return sorted(notice.kind for notice in study.notices)  # type: ignore[attr-defined]


def test_a_study_is_read_whole(analysis: Analysis) -> None:
    study = analysis.study
    assert set(study.tables) == {"medqa", "f5", "refusal_probe"}
    assert study.notices == []
    assert len(study.candidates) == len(sim.STUDY)
    assert study.candidates[0] == "sft"
    table = study.tables["f5"]
    assert table.setting == {"temperature": 0.6, "top_p": 0.8}
    assert [t.setting["temperature"] for t in study.variants["f5"]] == [0.2, 0.95]
    assert table.values["bleu4/raw"].shape == (10, 40, 1)
    assert study.variants["f5"][0].values["bleu4/raw"].shape == (1, 40, 2)


def test_values_equal_inspects_own_reader(study_logs: Path, analysis: Analysis) -> None:
    file = next(f for f in find_logs(str(study_logs)) if "medqa_pt_" in f)
    frame = samples_df(file, quiet=True, parallel=False)
    table = analysis.study.tables["medqa"]
    ours = dict(zip(table.items, table.values["accuracy/answer"][table.candidates.index("pt"), :, 0], strict=True))
    scores = frame.set_index("id")["score_option_accuracy"]
    assert len(scores) == len(ours)
    for identity, score in scores.items():
        value = score if isinstance(score, dict) else json.loads(score)
        assert value["accuracy/answer"] == ours[identity]


def test_json_logs_read_like_eval_logs(tmp_path: Path) -> None:
    log = sim.log(A, "f5", 8)
    sim.write(log, tmp_path / "eval")
    sim.write(log, tmp_path / "json", suffix="json")
    one, two = (load_study(str(tmp_path / kind)).runs[0] for kind in ("eval", "json"))
    assert sorted(one.ids) == sorted(two.ids)
    assert one.values.keys() == two.values.keys()
    first, second = np.argsort(one.ids), np.argsort(two.ids)
    for key, values in one.values.items():
        np.testing.assert_array_equal(values[first], two.values[key][second])
    np.testing.assert_array_equal(one.statistics["bleu4/raw"][first], two.statistics["bleu4/raw"][second])


def test_parquet_holds_every_value(tmp_path: Path, analysis: Analysis) -> None:
    runs = analysis.study.runs[:2]
    rows = write_parquet(runs, tmp_path / "rows.parquet")
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    assert len(frame) == rows == sum(len(run.ids) * len(run.values) for run in runs)
    run = runs[0]
    here = frame[(frame["candidate"] == run.candidate) & (frame["task"] == run.task)]
    for key, values in run.values.items():
        metric, view = key.split("/")
        column = here[(here["metric"] == metric) & (here["view"] == view)].set_index("sample_id")["value"]
        np.testing.assert_array_equal(column.loc[run.ids].to_numpy(), values)
    if run.reasons:
        assert here["reason"].dropna().isin(["no_option", "empty"]).all()


def test_missing_items_leave_for_everyone_and_are_said(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", 30), tmp_path)
    sim.write(sim.log(B, "medqa", range(3, 30)), tmp_path)
    study = load_study(str(tmp_path))
    assert len(study.tables["medqa"].items) == 27
    assert kinds(study) == ["items"]
    assert "3 of 30 items" in study.notices[0].text


def test_a_candidate_with_few_items_is_named_not_averaged(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", 30), tmp_path)
    sim.write(sim.log(B, "medqa", 30), tmp_path)
    sim.write(sim.log(sim.STUDY[1], "medqa", 4), tmp_path)
    study = load_study(str(tmp_path))
    assert study.tables["medqa"].candidates == ["sft", "pt"]
    assert len(study.tables["medqa"].items) == 30
    assert "mix-0.3 lacks 26" in study.notices[0].text


def test_no_common_items(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", range(20)), tmp_path)
    sim.write(sim.log(B, "medqa", range(20, 40)), tmp_path)
    study = load_study(str(tmp_path))
    assert "items" in kinds(study)
    assert len(study.tables["medqa"].candidates) == 1 or study.tables["medqa"].items == []


def test_mixed_versions_are_not_mixed(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", 10, version=1), tmp_path)
    sim.write(sim.log(A, "medqa", 10, version=2), tmp_path)
    sim.write(sim.log(B, "medqa", 10, version=2), tmp_path)
    study = load_study(str(tmp_path))
    assert study.tables["medqa"].version == "2"
    assert kinds(study) == ["version"]


def test_a_rerun_counts_once_and_the_newest(tmp_path: Path) -> None:
    old = sim.log(A, "medqa", 10, created="2026-05-01T10:00:00+00:00")
    new = sim.log(A, "medqa", 10, created="2026-05-02T10:00:00+00:00")
    for sample in new.samples or []:
        assert sample.scores
        sample.scores["option_accuracy"].value["accuracy/answer"] = 1.0  # type: ignore[index,call-overload]
    sim.write(old, tmp_path, "one")
    sim.write(new, tmp_path, "two")
    study = load_study(str(tmp_path))
    assert study.tables["medqa"].values["accuracy/answer"].shape == (1, 10, 1)
    assert study.tables["medqa"].item_means("accuracy/answer").mean() == 1.0
    assert kinds(study) == ["rerun"]


@pytest.mark.parametrize(("status", "word"), [("error", "failed"), ("cancelled", "cancelled"), ("started", "finished")])
def test_incomplete_logs_are_left_out(tmp_path: Path, status: str, word: str) -> None:
    sim.write(sim.log(A, "medqa", 10), tmp_path)
    sim.write(sim.log(B, "medqa", 10, status=status), tmp_path)
    study = load_study(str(tmp_path))
    assert study.candidates == ["sft"]
    assert word in study.notices[0].text


def test_logs_cut_short_are_left_out(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", 10), tmp_path)
    whole = sim.write(sim.log(B, "medqa", 10), tmp_path).read_bytes()
    for index, size in enumerate((0, 10, len(whole) // 2, len(whole) - 30)):
        (tmp_path / f"cut{index}.eval").write_bytes(whole[:size])
    file = sim.write(sim.log(B, "medqa", 10), tmp_path, "pt", suffix="json")
    file.write_text(file.read_text()[: file.stat().st_size // 2])
    study = load_study(str(tmp_path))
    assert sum("cut" in notice.text for notice in study.notices) >= 4
    assert [run.candidate for run in study.runs].count("sft") == 1


def test_samples_with_errors_are_missing_not_wrong(tmp_path: Path) -> None:
    log = sim.log(A, "medqa", 10)
    broken = log.samples[0] if log.samples else None
    assert broken is not None
    broken.scores = {}
    sim.write(log, tmp_path)
    sim.write(sim.log(B, "medqa", 10), tmp_path)
    study = load_study(str(tmp_path))
    assert len(study.tables["medqa"].items) == 9
    assert "unscored" in kinds(study)


def test_a_metric_missing_in_some_logs_is_said(tmp_path: Path) -> None:
    log = sim.log(A, "medqa", 10)
    for sample in log.samples or []:
        assert sample.scores
        del sample.scores["surface_overlap"]
    sim.write(log, tmp_path)
    sim.write(sim.log(B, "medqa", 10), tmp_path)
    study = load_study(str(tmp_path))
    assert any(
        n.kind == "metric"
        and n.text.startswith("medqa: bleu4, bleu4_llamafactory, rouge1")
        and "are missing for sft" in n.text
        for n in study.notices
    )


def test_logs_of_other_scorers_count_as_accuracy(tmp_path: Path) -> None:
    samples = [
        EvalSample(id=i, epoch=1, input="q", target="A", scores={"choice": Score(value="C" if i % 2 else "I")})
        for i in range(10)
    ]
    sim.write(sim.log(A, "foreign", 10, samples=samples, medbench=False), tmp_path)
    study = load_study(str(tmp_path))
    assert study.candidates == ["medbench/sft"]
    assert study.tables["foreign"].item_means("accuracy/answer").sum() == 5


def test_adapters_on_one_base_are_different_candidates(tmp_path: Path) -> None:
    for pt in (0.3, 0.5):
        log = sim.log(A, "medqa", 6, medbench=False)
        log.eval.model_args = {"adapters": f"pt=/a/pt:{pt},sft=/a/sft:{1 - pt}"}
        sim.write(log, tmp_path, f"pt{pt}")
    study = load_study(str(tmp_path))
    assert study.candidates == ["medbench/sft (pt 0.3, sft 0.7)", "medbench/sft (pt 0.5, sft 0.5)"]
    assert study.weights[study.candidates[0]] == {"pt": 0.3, "sft": 0.7}
    assert study.notices == []


def test_epochs_are_replicates_of_their_item(tmp_path: Path) -> None:
    samples = [sim.sample("medqa", i, A, epoch) for i in range(6) for epoch in (1, 2, 3)]
    sim.write(sim.log(A, "medqa", 6, samples=samples), tmp_path)
    table = load_study(str(tmp_path)).tables["medqa"]
    assert table.values["accuracy/answer"].shape == (1, 6, 3)
    assert np.isfinite(table.values["accuracy/answer"]).all()


def test_nothing_to_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match="no eval logs"):
        load_study(str(tmp_path))
    (tmp_path / "x.eval").write_bytes(b"junk")
    with pytest.raises(MedbenchError, match="none of 1 logs can be used"):
        load_study(str(tmp_path))


def test_scores_that_are_not_numbers_are_said(tmp_path: Path) -> None:
    """Ten of thirty accuracies of one candidate are NaN: those items leave the comparison, and the page says so."""
    for candidate in (A, B):
        log = sim.log(candidate, "medqa", 30)
        for index, sample in enumerate(log.samples or []):
            if candidate is B and index < 10:
                assert sample.scores
                value = sample.scores["option_accuracy"].value
                sample.scores["option_accuracy"].value = dict.fromkeys(value, float("nan"))  # type: ignore[arg-type]
        sim.write(log, tmp_path)
    study = load_study(str(tmp_path))
    text = next(n.text for n in study.notices if n.kind == "values")
    assert text.startswith("medqa: accuracy has no value on 10 of 30 items for pt;")
    estimate = Analysis(study, Options(resamples=200)).estimators["medqa"].estimate("accuracy/answer")
    assert estimate is not None
    assert estimate.n == 20


def test_candidates_without_a_common_item_are_said(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", range(10)), tmp_path)
    sim.write(sim.log(B, "medqa", range(50, 60)), tmp_path)
    study = load_study(str(tmp_path))
    assert [n.kind for n in study.notices] == ["items"]
    assert "2 candidates share no item" in study.notices[0].text


def test_scores_of_which_no_table_is_made_are_said(tmp_path: Path) -> None:
    log = sim.log(A, "medqa", 5)
    for sample in log.samples or []:
        sample.scores = {"f1": Score(value=0.5)}
    sim.write(log, tmp_path)
    assert "scored for f1 only" in load_study(str(tmp_path)).notices[0].text
