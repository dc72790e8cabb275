"""The notebook's functions on simulated logs, and a report that is replaced as a whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medbench
from medbench.errors import MedbenchError
from medbench.reports import write as writing
from medbench.reports.estimates import Options
from medbench.reports.logs import find_logs

pytestmark = pytest.mark.slow  # reports and logs of whole studies


def test_names_are_there_and_load_nothing_heavy() -> None:
    code = (
        "import sys, medbench; assert 'torch' not in sys.modules and 'inspect_ai' not in sys.modules;"
        "medbench.split('<think>a</think>b'); medbench.extract_choice('Answer: B', 'ABCD');"
        "assert 'torch' not in sys.modules and 'inspect_ai' not in sys.modules;"
        "assert set(medbench.__all__) <= set(dir(medbench))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert medbench.__all__ == sorted(medbench._HOMES)
    for name in medbench.__all__:
        assert getattr(medbench, name).__doc__
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = medbench.nonesuch


def test_reading_by_the_front_door() -> None:
    assert medbench.split("<think>a</think>b").answer == "b"
    assert medbench.extract_choice("Answer: B", "ABCD").letters == ("B",)
    assert medbench.extract_decision("Yes, it does.").letters == ("yes",)
    assert medbench.classify_refusal("I cannot help with that.") == "refusal"
    assert medbench.score_surface(["a cat sat"], ["a cat sat"]).corpus["rouge1"] == pytest.approx(100)


def test_rows_are_a_data_frame(study_logs: Path) -> None:
    rows = medbench.load_rows(study_logs)
    assert {"candidate", "task", "sample_id", "metric", "view", "value"} <= set(rows.columns)
    right = rows[(rows.task == "medqa") & (rows.metric == "accuracy") & (rows.view == "answer")]
    assert right.value.isin([0.0, 1.0]).all()
    board = medbench.leaderboard(study_logs, resamples=100)
    one = board[(board.task == "medqa") & (board.candidate == "sft")].iloc[0]
    assert one.score == pytest.approx(right[right.candidate == "sft"].value.mean())
    assert one.low < one.score < one.high


def test_leaderboard_puts_the_best_of_each_metric_first(study_logs: Path) -> None:
    board = medbench.leaderboard(study_logs, resamples=100)
    for _, group in board.groupby(["task", "metric"], sort=False):
        assert group.score.is_monotonic_decreasing
    assert np.isfinite(board[board.metric == "bleu4/raw"].floor).all()
    assert board[board.metric == "accuracy/answer"].chance.between(0, 1).all()


def test_two_candidates_by_name_and_by_place(study_logs: Path, tmp_path: Path) -> None:
    by_name = medbench.compare("sft", "pt", logs=study_logs, resamples=100)
    row = by_name[by_name.metric == "accuracy/answer"].iloc[0]
    assert row.difference == pytest.approx(row.b - row.a)
    assert row.low <= row.difference <= row.high
    places = {}
    for name in ("sft", "pt"):
        places[name] = tmp_path / name
        places[name].mkdir()
        for file in find_logs(str(study_logs)):
            path = Path(file.removeprefix("file://"))
            if medbench.load_rows(path).candidate.iloc[0] == name:
                shutil.copy(path, places[name])
    by_place = medbench.compare(places["sft"], places["pt"], resamples=100)
    pd.testing.assert_frame_equal(
        by_place[by_place.metric == "accuracy/answer"], by_name[by_name.metric == "accuracy/answer"]
    )
    again = medbench.compare(places["sft"], tmp_path / "pt", resamples=100)
    assert again.attrs["a"] == "sft"


def test_what_cannot_be_compared_is_said(study_logs: Path) -> None:
    with pytest.raises(MedbenchError, match="holds 10 candidates"):
        medbench.compare(study_logs, study_logs)
    with pytest.raises(MedbenchError, match=r"candidate.*sfd.*sft"):
        medbench.compare("sfd", "pt", logs=study_logs)
    with pytest.raises(MedbenchError, match="compared with itself"):
        medbench.compare("pt", "pt", logs=study_logs)
    with pytest.raises(MedbenchError, match="no eval logs"):
        medbench.load_rows("/nowhere/logs")


def test_a_report_that_is_interrupted_leaves_the_old_one(
    study_logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step is interrupted, the files are of one run; the next run removes what is left."""
    out, built = tmp_path / "report", writing.build(str(study_logs), options=Options(resamples=100))
    monkeypatch.setattr(writing, "build", lambda *given, **named: built)  # only what is written is interrupted
    medbench.report(study_logs, out, resamples=100, title="first")
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for step in ("write_atomic", "write_parquet", "write_manifest", "replace_directory"):
        with monkeypatch.context() as patched:

            def stop(*_: object, **__: object) -> None:
                raise KeyboardInterrupt

            patched.setattr(writing, step, stop)
            with pytest.raises(KeyboardInterrupt):
                medbench.report(study_logs, out, resamples=100, title="second")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before, step
    found = medbench.report(study_logs, out, resamples=100, title="second")
    assert "<title>second" in (out / "report.html").read_text("utf-8")
    assert json.loads((out / "report.json").read_text("utf-8"))["headline"] == found.headline
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_report_has_no_place_on_a_file(study_logs: Path, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")
    with pytest.raises(MedbenchError, match="is a file"):
        medbench.report(study_logs, tmp_path / "report")
