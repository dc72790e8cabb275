"""Sections that go beyond the gap: as good as, item by item, subjects, confidence, runs, across benchmarks, plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import report_worlds as worlds
import simulated_logs as sim
from click.testing import CliRunner

from medbench.cli import cli
from medbench.errors import MedbenchError
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import across, consistency, equivalence, pairs, probability, subjects
from medbench.reports.logs import Run
from medbench.reports.plan import plan
from medbench.reports.rows import arrange
from medbench.reports.sources import Sources
from medbench.stats import Interval


def study(runs: list[Run], margin: float | None = None) -> Analysis:
    return Analysis(arrange("simulated", runs), Options(resamples=300, margin=margin))


def exam(name: str, right: np.ndarray, task: str = "exam", **more: np.ndarray) -> Run:
    values = {"accuracy/answer": right, "answered/answer": np.ones_like(right), **more}
    return worlds.run(task, name, worlds.World(*right.shape, False, 0.5), values, 0.0)


def tossed(n: int, rate: float, seed: int, runs: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, runs)) < rate).astype(float)


def test_a_merge_that_changed_nothing_is_as_good() -> None:
    right = tossed(1000, 0.7, 1)
    analysis = study([exam("base", right), exam("merge", right), exam("worse", right * tossed(1000, 0.8, 2))], 0.02)
    section = equivalence.section(analysis, Sources())
    verdicts = {(row[0], row[1]): row[4] for row in section.tables[0].rows}
    assert verdicts == {("base", "merge"): "equivalent", ("base", "worse"): "worse", ("merge", "worse"): "worse"}
    assert "1 equivalent" in section.findings[0]


def test_few_items_leave_equivalence_open_and_no_margin_is_said() -> None:
    right = tossed(20, 0.7, 1)
    section = equivalence.section(study([exam("a", right), exam("b", right)], 0.02), Sources())
    assert "is open" in section.findings[0]
    assert "--margin" in (equivalence.section(study([exam("a", right), exam("b", right)]), Sources()).missing or "")


def test_gains_and_losses_by_hand() -> None:
    first, second = np.array([1, 1, 0, 0, 1.0]), np.array([1, 0, 1, 1, 1.0])
    section = pairs.section(study([exam("a", first[:, None]), exam("b", second[:, None])]), Sources())
    row = section.tables[0].rows[0]
    assert row[:5] == ["a", "b", 2.0, 1.0, 1.0]
    assert isinstance(row[5], Interval)
    assert row[5].estimate == 0.6
    assert row[5].low < 0.2
    assert row[6] == 1.0


def test_no_losses_are_zero() -> None:
    first, second = np.array([0, 0, 0, 1.0]), np.array([1, 1, 1, 1.0])
    section = pairs.section(study([exam("a", first[:, None]), exam("b", second[:, None])]), Sources())
    assert "b gains 3 items and loses 0 (" in section.findings[0]


def test_difficulty_counts_items() -> None:
    right = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0.0]])
    section = pairs.section(study([exam(f"m{k}", x[:, None]) for k, x in enumerate(right)]), Sources())
    counts = {row[0]: row[1] for row in section.tables[1].rows}
    assert (counts["all"], counts["none"], counts["up to three quarters"]) == (1, 2, 1)


def test_a_weak_subject_is_named() -> None:
    right = np.r_[tossed(80, 0.95, 1), tossed(80, 0.3, 2)]
    run = exam("one", right)
    for k in range(160):
        run.items[f"item{k}"]["subject"] = {"department": "cardiology" if k < 80 else "dermatology"}
    section = subjects.section(study([run]), Sources())
    assert [row[:3] for row in section.tables[0].rows] == [["cardiology", "one", 80], ["dermatology", "one", 80]]
    assert "one is weaker in dermatology" in section.findings[0]
    bounds = section.tables[0].rows[0][3]
    assert isinstance(bounds, Interval)


def test_equal_subjects_are_not_told_apart() -> None:
    run = exam("one", tossed(100, 0.6, 3))
    for k in range(100):
        run.items[f"item{k}"]["subject"] = {"topic": f"t{k % 5}"}
    assert "no candidate is shown to be weaker" in subjects.section(study([run]), Sources()).findings[0]


def test_confidence_that_knows_and_confidence_that_does_not() -> None:
    rng = np.random.default_rng(4)
    sure = rng.uniform(0.3, 1, (400, 1))
    knows, blind = exam("knows", (rng.random((400, 1)) < sure).astype(float)), exam("blind", tossed(400, 0.4, 5))
    for run in (knows, blind):
        run.letters = ["A"] * len(run.ids)
        run.probabilities = [{"A": float(p), "B": float(1 - p)} for p in np.maximum(sure, 1 - sure).ravel()]
    section = probability.section(study([knows, blind]), Sources())
    rows = {row[0]: row for row in section.tables[0].rows}
    assert isinstance(rows["blind"][2], Interval)
    assert rows["blind"][2].low > 0.2
    assert isinstance(rows["knows"][5], Interval)
    assert rows["knows"][5].low > 0.5
    assert len(section.charts) == 2
    assert "surer than it is right" in " ".join(section.findings)


def test_of_many_candidates_the_most_accurate_are_drawn_and_the_title_says_so() -> None:
    runs = [exam(f"m{k}", tossed(40, 0.3 + k / 20, k)) for k in range(9)]
    for run in runs:
        run.letters = ["A"] * len(run.ids)
        run.probabilities = [{"A": float(p), "B": float(1 - p)} for p in np.linspace(0.5, 1, len(run.ids))]
    section = probability.section(study(runs), Sources())
    assert len(section.tables[0].rows) == 9
    assert [len(chart.series) for chart in section.charts] == [6, 5]  # one is the line of perfect calibration
    assert all(chart.title.endswith("(the 5 most accurate of 9)") for chart in section.charts)
    assert "m8" in {line.name for line in section.charts[1].series}


def test_runs_that_agree_and_runs_that_toss() -> None:
    steady, tosses = np.repeat(tossed(60, 0.5, 1), 4, axis=1), tossed(60, 0.5, 2, runs=4)
    section = consistency.section(study([exam("steady", steady), exam("tosses", tosses)]), Sources())
    rows = {row[0]: row for row in section.tables[0].rows}
    assert rows["steady"][3].estimate == 1  # type: ignore[union-attr]
    assert rows["steady"][3].low < 1  # type: ignore[union-attr]
    assert rows["steady"][6].estimate == pytest.approx(rows["steady"][5].estimate)  # type: ignore[union-attr]
    assert rows["tosses"][6].estimate > 0.85  # type: ignore[union-attr]
    assert rows["tosses"][7].estimate < 0.2  # type: ignore[union-attr]
    assert "--epochs" in (consistency.section(study([exam("once", steady[:, :1])]), Sources()).missing or "")


def test_across_benchmarks_says_that_it_averages() -> None:
    runs = []
    for number, task in enumerate(("exam", "second", "third")):
        base = tossed(400, 0.5, number)
        runs += [exam("a", base, task), exam("b", np.maximum(base, tossed(400, 0.3, 9 + number)), task)]
    section = across.section(study(runs), Sources())
    row = section.tables[0].rows[0]
    assert row[2] == 3
    assert isinstance(row[3], Interval)
    assert 0.08 < row[3].low < row[3].high < 0.25
    assert "averages differences in percentage points" in section.notes[-1]
    assert "b is more accurate than a" in section.findings[0]
    assert across.section(study(runs[:2]), Sources()).missing


def test_plan_from_guesses_and_from_a_pilot(tmp_path: Path) -> None:
    guessed = CliRunner().invoke(cli, ["plan", "--rates", "0.6638,0.6929"])
    assert "4,041 items x 1 run " in guessed.output
    for name, rate in (("base", 0.5), ("merge", 0.6)):
        sim.write(sim.log(sim.Candidate(name, accuracy=rate, trace=0.0), "medqa", 40), tmp_path)
    found = CliRunner().invoke(cli, ["plan", str(tmp_path), "--difference", "5", "--margin", "3"])
    assert found.exit_code == 0, found.output
    assert "Pilot: medqa, 40 items" in found.output
    assert "To show 5.0 points" in found.output
    assert "give or take 3 points" in found.output
    with pytest.raises(MedbenchError, match="two accuracies"):
        plan.main(["--rates", "0.6"], standalone_mode=False)
    with pytest.raises(MedbenchError, match="nobody"):
        plan.main([str(tmp_path), "--first", "nobody"], standalone_mode=False)


def test_equal_candidates_score_as_much_across_benchmarks() -> None:
    runs = [exam(name, tossed(60, 0.5, 1), task) for name in "ab" for task in ("exam", "second")]
    (said,) = across.section(study(runs), Sources()).findings
    assert "b scores as much as a on average" in said
    assert "0.0 points" not in said.partition("(")[0]
