"""Logs under cue controls: never pooled with the plain benchmark, paired with it item by item, and what may be said."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import simulated_logs as sim
from controlled_logs import log
from inspect_ai.log import EvalLog

from medbench import stats
from medbench.reports.command import report
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import controls
from medbench.reports.logs import read_run
from medbench.reports.page import Section
from medbench.reports.rows import Study, load_study
from medbench.reports.sources import Sources

pytestmark = pytest.mark.slow  # reports and logs of whole studies

PT, SFT, BASE = sim.Candidate("pt", 1.0, 0.0), sim.Candidate("sft", 0.0, 1.0), sim.Candidate("base", 0.0, 0.0)
N = 200


def draw(rate: float, seed: int, n: int = N) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < rate).astype(float)


def study(tmp_path: Path, *logs: EvalLog) -> Study:
    for one in logs:
        sim.write(one, tmp_path, f"log{len(list(tmp_path.iterdir()))}")
    return load_study(str(tmp_path))


def section(found: Study) -> Section:
    return controls.section(Analysis(found, Options(resamples=200)), Sources())


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """PT knows more than SFT, and what it gains it gains without the question, too; base guesses."""
    logs = []
    for candidate, plain, alone, nota in ((PT, 0.8, 0.6, 0.5), (SFT, 0.5, 0.25, 0.45), (BASE, 0.25, 0.25, 0.25)):
        seed = ord(candidate.name[0])
        logs += [
            log(candidate, draw(plain, seed)),
            log(candidate, draw(alone, seed + 1), "options_only"),
            log(
                candidate,
                np.where(np.arange(N) < 10, np.nan, draw(nota, seed + 2)),
                "none_of_these",
                left_out={"two options": 10},
            ),
        ]
    return study(tmp_path_factory.mktemp("three"), *logs)


def test_controls_are_neither_ranked_nor_pooled_with_the_plain_benchmark(three: Study) -> None:
    assert list(three.tables) == ["medqa"]
    assert three.variants["medqa"] == []
    assert sorted(three.tables["medqa"].candidates) == ["base", "pt", "sft"]
    assert three.tables["medqa"].values["accuracy/answer"].shape[2] == 1
    assert [one.control for one in three.controls["medqa"]] == ["none_of_these", "options_only"]
    assert len(three.runs) == 9
    assert not [notice for notice in three.notices if notice.kind in ("rerun", "settings", "items")]


def test_every_figure_is_the_paired_one(three: Study) -> None:
    table = section(three).tables[0]
    assert len(table.rows) == 6
    plain, alone = draw(0.8, ord("p")), draw(0.6, ord("p") + 1)
    row = next(r for r in table.rows if r[:2] == ["pt", "options_only"])
    change = stats.paired_rates(plain, alone)
    assert row[2] == N
    assert row[5] == stats.Interval(*change[:3])
    assert row[3].estimate == pytest.approx(plain.mean())  # type: ignore[union-attr]
    assert row[7] == "above guessing"
    nota = next(r for r in table.rows if r[:2] == ["pt", "none_of_these"])
    assert nota[2] == N - 10
    assert nota[3].estimate == pytest.approx(plain[10:].mean())  # type: ignore[union-attr]
    assert [r[6] for r in table.rows] == pytest.approx(
        stats.holm([controls_p(three, str(r[0]), str(r[1])) for r in table.rows]).tolist()
    )


def controls_p(found: Study, candidate: str, control: str) -> float:
    one = next(c for c in found.controls["medqa"] if c.control == control)
    at = [one.plain.items.index(item) for item in one.table.items]
    row, under = one.plain.candidates.index(candidate), one.table.candidates.index(candidate)
    before = one.plain.item_means("accuracy/answer")[row][at]
    return stats.paired_rates(before, one.table.item_means("accuracy/answer")[under]).p


def test_the_gain_without_the_question_is_said(three: Study) -> None:
    found = section(three)
    said = " ".join(found.findings)
    assert re.search(r"Shown the options alone, pt \(.*\) answers medqa better than guessing \(25\.0%\)", said)
    gained = r"Of the [\d.]+ points that pt gains over sft on medqa, (all \()?[\d.]+\)? are also gained "
    assert re.search(gained + "without the question", said)
    assert "loses" in said
    assert any("10 items cannot have it" in note and "two options (10)" in note for note in found.notes)
    gains = found.tables[1]
    row = next(r for r in gains.rows if r[:3] == ["pt", "sft", "options_only"])
    gone = row[5]
    p, s = (draw(0.8, ord("p")), draw(0.6, ord("p") + 1)), (draw(0.5, ord("s")), draw(0.25, ord("s") + 1))
    assert gone.estimate == pytest.approx((p[0] - s[0] - (p[1] - s[1])).mean())  # type: ignore[union-attr]


def test_reliability_is_over_controls_that_leave_the_answer(three: Study) -> None:
    table = section(three).tables[2]
    row = next(r for r in table.rows if r[0] == "pt")
    plain, nota = draw(0.8, ord("p"))[10:], draw(0.5, ord("p") + 2)[10:]
    assert row[1:3] == [2, N - 10]
    assert row[4].estimate == pytest.approx((plain * nota).mean())  # type: ignore[union-attr]
    assert row[5].estimate == pytest.approx((plain == nota).mean())  # type: ignore[union-attr]


def test_nothing_is_claimed_where_nothing_differs(tmp_path: Path) -> None:
    """Two candidates of one skill, who lose nothing under a control: no gain, no loss, nobody caught."""
    logs = []
    for candidate, seed in ((PT, 1), (SFT, 2)):
        logs += [
            log(candidate, draw(0.6, seed)),
            log(candidate, draw(0.6, seed), "reorder"),
            log(candidate, draw(0.25, seed + 9), "options_only"),
        ]
    said = " ".join(section(study(tmp_path, *logs)).findings)
    assert "None of the candidates is shown to answer medqa without the question" in said
    assert "no candidate is shown to lose accuracy" in said
    assert "there is no gain to divide" in said
    assert "Of the" not in said


def test_one_candidate_is_enough(tmp_path: Path) -> None:
    found = section(
        study(
            tmp_path, log(PT, draw(0.7, 1)), log(PT, draw(0.3, 5), "options_only"), log(PT, draw(0.4, 6), "no_labels")
        )
    )
    assert [len(table.rows) for table in found.tables] == [2, 1]
    assert "pt is not shown to answer medqa without the question" in found.findings[0]
    assert "Asked without letters, pt loses" in found.findings[1]


def test_a_control_without_its_plain_run_stands_by_itself(tmp_path: Path) -> None:
    found = study(tmp_path, log(PT, draw(0.7, 1), "options_only"))
    assert list(found.tables) == ["medqa under options_only"]
    assert found.controls == {}
    assert [n.kind for n in found.notices] == ["control"]
    assert section(found).missing is not None


def test_a_control_under_another_setting_is_not_compared(tmp_path: Path) -> None:
    other = log(PT, draw(0.3, 2), "options_only")
    assert other.eval.task_args_passed is not None
    other.eval.task_args_passed["mode"] = "logprob"
    found = study(tmp_path, log(PT, draw(0.7, 1)), other)
    assert found.controls == {}
    assert "cannot be compared" in found.notices[-1].text


def test_answers_to_moved_options_are_taken_back_to_the_letters_of_the_original(tmp_path: Path) -> None:
    moved = log(PT, draw(1.0, 1, 4), "reorder")
    assert moved.samples
    for sample in moved.samples:
        sample.metadata["control"] = {"order": 1, "letters": "DCBA"}
        for view in sim.VIEWS:
            score = (sample.scores or {})["option_accuracy"]
            score.metadata["extraction"][view]["letters"] = ["A"]  # type: ignore[index]
    run = read_run(str(sim.write(moved, tmp_path, "moved")))
    assert run.letters == ["D"] * 4  # type: ignore[union-attr]
    assert run.control == "reorder"  # type: ignore[union-attr]


def test_the_whole_report_shows_the_section(three: Study, tmp_path: Path) -> None:
    from click.testing import CliRunner

    result = CliRunner().invoke(report, [three.location, "--out", str(tmp_path / "report"), "--resamples", "100"])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "Cue controls" in page
    assert "also gained without the question" in page
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "report" / "rows.parquet")
    assert set(rows["control"].to_pylist()) == {"", "options_only", "none_of_these"}


def test_differences_of_differences_are_not_claimed_too_often() -> None:
    """Two candidates that lose equally much under a control, whatever their skill: at most 5 in 100 claims."""
    rng, claims, trials = np.random.default_rng(3), 0, 400
    for _ in range(trials):
        skill = rng.random((2, 120)) < np.array([[0.7], [0.5]])
        under = skill & (rng.random((2, 120)) < 0.8)
        # the same expected loss for both: give the better one back what it loses more
        back = rng.random(120) < 0.04
        under[0] |= skill[0] & back
        gone = (skill[1].astype(float) - skill[0] - under[1] + under[0]) / 2
        expected = (0.5 - 0.7 - 0.5 * 0.8 + 0.7 * (0.8 + 0.2 * 0.04)) / 2
        centred = stats.paired_rates(np.zeros(120), gone)
        claims += not (centred.low <= expected <= centred.high)
    assert claims / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
