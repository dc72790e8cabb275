"""Measured faults of earlier reports, each as a small study whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import report_worlds as worlds
import simulated_logs as sim

from medbench import stats
from medbench.reports import leaderboard, opening
from medbench.reports.chance import Chance, Line, chance
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import SECTIONS, contamination, curve, floor, safety, validity, verdict
from medbench.reports.gap import chance as chance_section
from medbench.reports.logs import Run
from medbench.reports.rows import arrange, load_study
from medbench.reports.sources import Sources
from medbench.stats import Interval

QUICK = Options(resamples=300)


def study(runs: list[Run]) -> Analysis:
    return Analysis(arrange("simulated", runs), QUICK)


def exam(name: str, right: np.ndarray, score: np.ndarray | None = None, pt: float = 0.0) -> Run:
    """One candidate's answers, shape (items, runs)."""
    values = {"accuracy/answer": right, "answered/answer": np.ones_like(right)}
    world = worlds.World(*right.shape, False, 0.5)
    return worlds.run("exam", name, world, values | ({} if score is None else {"bleu4/answer": score}), pt)


def free(name: str, items: int, seed: int, pt: float = 0.0) -> Run:
    return worlds.run("free", name, worlds.World(items, 1, False, 0.5), {}, pt, seed)


def probe(name: str, refused: np.ndarray) -> Run:
    values = {"refusal/answer": refused, "partial/answer": 0 * refused, "compliance/answer": 1 - refused}
    return worlds.run("probe", name, worlds.World(*refused.shape, False, 0.5), values, 0.0)


# --- repeated samples


def test_safety_counts_every_output_and_outvotes_none() -> None:
    """Two of five runs refuse on 6 of 8 prompts: 30% of outputs, though no prompt's majority refuses."""
    refused = np.zeros((8, 5))
    refused[:6, :2] = 1
    row = safety.section(study([probe("one", refused)]), Sources()).tables[0].rows[0]
    assert isinstance(row[4], Interval)
    assert row[4].estimate == pytest.approx(0.30)
    assert row[4].low < 0.3 < row[4].high


def test_validity_takes_items_that_are_half_right() -> None:
    """A score that knows nothing: the AUC over all outputs is near 0.5, and all of them are counted."""
    rng = np.random.default_rng(3)
    right = (rng.random((200, 3)) < 0.5).astype(float)
    table = validity.section(study([exam("one", right, rng.normal(size=(200, 3)))]), Sources()).tables[0]
    assert table.rows[0][4] == 600
    area = table.rows[0][2]
    assert isinstance(area, Interval)
    assert area.low < 0.5 < area.high


def test_one_fractional_item_leaves_other_candidates_alone() -> None:
    half = np.ones((40, 2))
    half[0, 0] = 0
    estimate = (
        study([exam("always", np.ones((40, 2))), exam("nearly", half)]).estimators["exam"].estimate("accuracy/answer")
    )
    assert estimate is not None
    always, nearly = estimate.intervals
    assert 0.9 < always.low < 0.96
    assert always.high == 1
    assert 0.88 < nearly.low < nearly.estimate < nearly.high <= 1


def test_half_right_everywhere_is_not_certain() -> None:
    estimate = study([exam("half", np.tile([1.0, 0.0], (40, 1)))]).estimators["exam"].estimate("accuracy/answer")
    assert estimate is not None
    assert estimate.intervals[0].low < 0.45
    assert estimate.intervals[0].high > 0.55


# --- small n


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_no_loss_is_real_on_a_handful_of_items(n: int) -> None:
    runs = [exam("a", np.zeros((n, 1))), exam("b", np.ones((n, 1))), free("a", n, 2), free("b", n, 3)]
    analysis = study(runs)
    said = " ".join(verdict.section(analysis, Sources()).findings)
    assert "is real" not in said
    choice = verdict.decide(analysis)
    assert choice is not None
    assert not choice.regret.real
    assert choice.regret.loss.low == 0


def test_three_items_make_no_trend() -> None:
    rates = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=float)
    runs = [exam(f"m{k}", rates[k][:, None], pt=k / 2) for k in range(3)]
    table = curve.section(study(runs), Sources()).tables[0]
    assert {row[-1] for row in table.rows} == {"shows no change"}


def test_three_concordant_pairs_are_not_a_hundred_percent() -> None:
    right = np.array([[1.0, 0.0]] * 3)
    table = validity.section(study([exam("one", right, right), exam("two", right, right)]), Sources()).tables[0]
    pooled = table.rows[-1]
    assert isinstance(pooled[5], Interval)
    assert pooled[5].estimate == 1
    assert pooled[5].low < 0.5


def test_one_leaked_item_is_not_tested() -> None:
    right = np.r_[np.ones(1), np.zeros(39)][:, None]
    findings = {"item0": [{"item_id": "item0", "field": "question", "signal": "copy", "score": 1.0}]}
    section = contamination.section(study([exam("one", right)]), Sources(findings=findings))
    row = section.tables[0].rows[0]
    assert np.isnan(row[8])  # type: ignore[arg-type]
    assert isinstance(row[7], Interval)
    assert row[7].low < row[7].high
    assert not any("is shown;" in sentence for sentence in section.findings)


# --- ties


def test_an_exact_tie_is_in_the_title() -> None:
    right = np.zeros((12, 1))
    right[0] = 1
    runs = [exam(f"m{k}", np.roll(right, k)) for k in range(7)]
    runs += [free(f"m{k}", 12, 2 * k + 10) for k in range(7)]
    analysis = study(runs)
    choice = verdict.decide(analysis)
    assert choice is not None
    assert choice.accuracy_tie.kind == "exact"
    assert verdict.title(choice) == "Accuracy does not choose: all 7 candidates score the same"
    assert "exactly 8.3% correctly" in verdict.section(analysis, Sources()).findings[0]


def test_a_statistical_tie_is_in_the_title() -> None:
    rng = np.random.default_rng(1)
    runs = [exam(f"m{k}", (rng.random((60, 1)) < 0.6).astype(float)) for k in range(3)]
    runs += [free(f"m{k}", 60, k) for k in range(3)]
    choice = verdict.decide(study(runs))
    assert choice is not None
    assert choice.accuracy_tie.kind == "statistical"
    assert "accuracy does not choose among 3 candidates" in verdict.title(choice)


def test_too_few_items_to_test() -> None:
    estimate = (
        study([exam("a", np.zeros((4, 1))), exam("b", np.ones((4, 1)))]).estimators["exam"].estimate("accuracy/answer")
    )
    assert estimate is not None
    assert not estimate.testable
    assert estimate.tie().kind == "untestable"
    assert estimate.least_p == pytest.approx(2 / 16)


def test_rank_letters_say_too_few_to_test() -> None:
    """100% and 0% on four items: no shared letter, which would say that they were compared."""
    section = leaderboard.section(study([exam("a", np.zeros((4, 1))), exam("b", np.ones((4, 1)))]), Sources())
    assert {row[3] for row in section.tables[0].rows} == {"too few to test"}
    assert "too few questions to test" in section.findings[0]


def test_corrected_rates_know_their_groups() -> None:
    """Twenty prompts in four groups that are refused together: the correction is no surer than the plain rate."""
    refused = np.repeat([1.0, 1, 0, 0], 5)[:, None]
    alone, grouped = probe("one", refused), probe("one", refused)
    for k in range(20):
        grouped.items[f"item{k}"]["cluster"] = f"group{k // 5}"
    wide = [safety.section(study([run]), Sources()).tables[0].rows[0][5] for run in (alone, grouped)]
    spans = [cell.high - cell.low for cell in wide if isinstance(cell, Interval)]
    assert spans[1] > 1.5 * spans[0]


def test_twins_count_every_run() -> None:
    """Refused in half of the runs, the twin answered in all: half tells apart, half answers both."""
    runs = probe("one", np.tile([[1.0, 0.0], [0.0, 0.0]], (10, 1)))
    for k in range(20):
        runs.items[f"item{k}"] |= {"pair": k // 2, "expected": ("refusal", "compliance")[k % 2]}
    twins = next(t for t in safety.section(study([runs]), Sources()).tables if t.title.startswith("Twins"))
    assert [cell.estimate for cell in twins.rows[0][2:]] == pytest.approx([0.5, 0, 0.5, 0])  # type: ignore[union-attr]


def test_a_weak_change_has_no_share() -> None:
    """Nothing changes along the mix: what the control explains of it cannot be estimated, and that is said."""
    rng = np.random.default_rng(8)
    runs = [exam(f"m{k}", (rng.random((60, 1)) < 0.5).astype(float), pt=k / 2) for k in range(3)]
    cut = exam("cut", (rng.random((60, 1)) < 0.5).astype(float))
    cut.weights = {"pt": 0.0, "sft": 0.5}
    section = curve.section(study([*runs, cut]), Sources())
    shares = next(t for t in section.tables if "control" in t.title)
    assert any("cannot be estimated" in str(c) or str(c).startswith("not ") for row in shares.rows for c in row)


# --- chance


def stating(letters: str, directory: Path) -> Analysis:
    """A candidate that states these letters, one an item, where the keys are A, B, C and D in turn."""
    log = sim.log(sim.Candidate("stuck", trace=0.0), "medqa", len(letters))
    for index, sample in enumerate(log.samples or []):
        letter, key = letters[index], "ABCD"[index % 4]
        assert sample.scores
        sample.metadata["item"]["answer"] = [key]
        score = sample.scores["option_accuracy"]
        score.value = {"accuracy/answer": float(letter == key), "answered/answer": 1.0}
        score.metadata = {"gold": [key], "extraction": {"answer": {"status": "answer", "letters": [letter]}}}
    sim.write(log, directory)
    return Analysis(load_study(str(directory)), QUICK)


def test_a_habit_is_not_seen_in_a_few_answers(tmp_path: Path) -> None:
    """Of those who guess each time, a fifth state one letter in three of four answers, and none in thirty of forty."""
    for letters, warned in (("AAAB", False), (10 * "AAAB", True), (10 * "ABAC", False)):
        lines = chance(stating(letters, tmp_path / letters).study.tables["medqa"])
        assert lines is not None
        assert lines.lines["stuck"].one_letter is warned, letters


def test_a_model_that_says_a_to_everything_is_warned_of(tmp_path: Path) -> None:
    analysis = stating(60 * "A", tmp_path)
    lines = chance(analysis.study.tables["medqa"])
    assert lines is not None
    assert (lines.chance, lines.majority) == (0.25, 0.25)
    line = lines.lines["stuck"]
    assert (line.letter, line.letter_share.estimate, line.standing, line.one_letter) == ("A", 1.0, "at", True)
    assert 0.9 < line.letter_share.low < 1
    section = chance_section.section(analysis, Sources())
    assert "states A in 100% of its answers" in section.findings[0]
    assert "cannot be told from guessing (25%)" in section.findings[1]


# --- what a change along the mix may be said to come from


def sweep(rates: list[float], cut: float, n: int = 400) -> Analysis:
    """A mix at these accuracies and the control at half the SFT weight, all on the same latent items."""
    latent = (np.random.default_rng(9).permutation(n)[:, None] + 0.5) / n
    runs = [exam(f"m{k}", (latent < rate).astype(float), pt=k / (len(rates) - 1)) for k, rate in enumerate(rates)]
    control = exam("cut", (latent < cut).astype(float))
    control.weights = {"pt": 0.0, "sft": 0.5}
    return study([*runs, control])


def test_no_share_is_named_of_a_change_that_goes_both_ways() -> None:
    said = " ".join(curve.section(sweep([0.8, 0.4, 0.7], 0.3), Sources()).findings)
    assert "it is not monotone" in said
    assert "no share of its change is put down to weakening SFT" in said
    assert "explains" not in said


def test_a_share_of_a_clear_change_is_named_and_more_than_all_in_words() -> None:
    said = " ".join(curve.section(sweep([0.9, 0.6, 0.2], 0.75), Sources()).findings)
    assert "makes 50% of the mix's change in accuracy on exam" in said
    said = " ".join(curve.section(sweep([0.9, 0.6, 0.2], 0.3), Sources()).findings)
    assert "moves accuracy on exam further than the mix does: by 200% of it" in said


def test_a_rate_that_does_not_flip_still_has_an_interval_of_its_change() -> None:
    """Five of five right everywhere: the bootstrap has nothing to say, the report's one paired interval has."""
    table = curve.section(sweep([1.0, 1.0, 1.0], 1.0, n=5), Sources()).tables[1]
    cell = table.rows[0][2]
    assert isinstance(cell, Interval)
    assert cell.low < -20
    assert cell.high > 20


# --- nothing is estimated without saying how well

# Facts of the items and counts of what happened, not estimates of what would.
FACTS = {"Chance", "x", "Gained", "Lost", "Net", "Runs", "SE, same items", "Training loss", "Evaluation loss"}


def test_no_estimate_stands_bare(study_logs: Path) -> None:
    analysis = Analysis(load_study(str(study_logs)), Options(resamples=100, margin=0.02))
    items = analysis.study.tables["medqa"].items
    findings = {i: [{"item_id": i, "field": "question", "signal": "copy", "score": 1.0}] for i in items[:12]}
    for compute in (leaderboard.section, *SECTIONS):
        for table in compute(analysis, Sources(findings=findings)).tables:
            for index, column in enumerate(table.columns):
                if column.unit in ("text", "count", "p") or column.name in FACTS or column.name.startswith("Always"):
                    continue
                bare = [row[index] for row in table.rows if isinstance(row[index], float | int)]
                assert not bare, (table.title, column.name, bare[:3])


def test_a_warning_is_of_the_candidate_that_it_names() -> None:
    """Also where one candidate's name begins another's."""
    some = stats.Interval(0.3, 0.2, 0.4)
    lines = {"pt=0,sft=0.25": Line(some, "A", some, "at", True), "pt=0,sft=0": Line(some, "B", some, "above", False)}
    found = Chance(0.25, 0.25, "A", lines)
    assert found.warnings_of("pt=0,sft=0") == found.habit("pt=0,sft=0") == []
    assert found.warnings_of("pt=0,sft=0.25") == found.warnings
    assert [sentence.split(" states ")[0] for sentence in found.habit("pt=0,sft=0.25")] == ["pt=0,sft=0.25"]


def test_one_habit_of_many_candidates_is_said_once() -> None:
    some, often = stats.Interval(0.3, 0.2, 0.4), stats.Interval(0.9, 0.8, 1.0)
    found = Chance(0.25, 0.25, "A", {f"m{k}": Line(some, "AB"[k % 2], often, "at", True) for k in range(9)})
    habit, guessing = found.warnings
    assert habit.startswith("m0 (A in 90%), m1 (B in 90%), ")
    assert "and 3 more state one letter" in habit
    assert guessing == "m0, m1, m2, m3, m4, m5 and 3 more cannot be told from guessing (25%)."


def test_candidates_at_the_floor_are_named_together() -> None:
    said = floor._sentences(
        study([exam("a", np.ones((5, 1)))]),
        "exam",
        {"BLEU-4 (as generated)": ["a", "b", "c"], "ROUGE-L (as generated)": ["a", "b", "d"]},
        2,
    )
    assert said == [
        "On exam, a and b cannot be told from their floor under any of 2 readings.",
        "On exam, c cannot be told from its floor under BLEU-4 (as generated).",
        "Of 2 readings (metric, view and profile), c and d lie at the floor under some: "
        "the tables' warnings name them.",
    ]


def test_equal_candidates_are_not_said_to_be_ahead() -> None:
    right = (np.arange(60)[:, None] % 3 == 0).astype(float)
    found = opening.open_with(study([exam("a", right), exam("b", np.roll(right, 1))]))
    assert not any("ahead" in sentence for sentence in found.sure)
    assert any("a and b answer as many right" in sentence for sentence in found.sure)


def test_below_guessing_is_not_called_guessing() -> None:
    runs = [exam(name, (np.arange(200)[:, None] % 50 == k).astype(float)) for k, name in enumerate("ab")]
    for run in runs:
        for item in run.items:
            run.items[item] |= {"gold": ("A",), "options": 2}
    assert any("gets lies above that" in sentence for sentence in opening.open_with(study(runs)).sure)
