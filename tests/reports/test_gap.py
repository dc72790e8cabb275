"""The sections' numbers, against hand-worked cases, brute force, and changes whose effect is known."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulated_logs as sim
from inspect_ai.log import EvalLog
from inspect_ai.scorer import Score
from sacrebleu.metrics import BLEU

from medbench import stats, thinking
from medbench.refusal.detector import classify
from medbench.reports import leaderboard
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import (
    SECTIONS,
    contamination,
    curve,
    decoding,
    decomposition,
    flips,
    floor,
    robustness,
    safety,
    training,
    validity,
    verdict,
)
from medbench.reports.page import Table
from medbench.reports.rows import load_study
from medbench.reports.sources import Sources
from medbench.stats import Interval

QUICK = Options(resamples=300)


def column(table: Table, name: str) -> int:
    return [c.name for c in table.columns].index(name)


def analyse(path: Path) -> Analysis:
    return Analysis(load_study(str(path)), QUICK)


# --- decomposition


def test_length_matching_by_hand() -> None:
    """Reference of 6 words. Long: 9 words, 6 of them matching. Short: 3 words, all matching. Empty."""
    long = [9, 6, 6, 4, 2, 1, 9, 8, 7, 6]
    short = [3, 6, 3, 2, 1, 0, 3, 2, 1, 0]
    empty = [0, 6, 0, 0, 0, 0, 0, 0, 0, 0]
    got = decomposition.length_matched(np.array([long, short, empty], dtype=float))
    assert got[0].tolist() == [6, 6, 6, 4, 2, 1, 6, 5, 4, 3]
    assert got[1].tolist() == [6, 6, 6, 5, 4, 0, 6, 5, 4, 3]
    assert got[2].tolist() == [6, 6, 0, 0, 0, 0, 6, 5, 4, 3]


def test_padding_a_perfect_answer_is_all_length() -> None:
    metric = BLEU()
    references = [sim.reference("f5", i) for i in range(20)]
    padded = [f"{text} zzz yyy xxx www" for text in references]
    counts = np.array(metric._extract_corpus_statistics(padded, [references]), dtype=float)
    assert stats.bleu_statistic(decomposition.length_matched(counts).sum(0)) == pytest.approx(100)


def with_traces(log: EvalLog) -> EvalLog:
    """The same outputs, each with a closed trace in front; scored again from the text."""
    for index, sample in enumerate(log.samples or []):
        assert sample.scores is not None
        views = thinking.views(f"<think>{' '.join(sim.WORDS[:20])}</think>\n{sample.output.completion}")
        sample.scores["surface_overlap"] = sim.surface_score("f5", index, views)
    return log


def test_an_injected_trace_moves_only_the_first_term(tmp_path: Path) -> None:
    clean = sim.Candidate("clean", trace=0.0)
    sim.write(sim.log(clean, "f5", 40), tmp_path, "clean")
    injected = with_traces(sim.log(clean, "f5", 40))
    injected.eval.metadata = {"medbench": {"candidate": "injected", "weights": {}, "decoding": clean.decoding}}
    sim.write(injected, tmp_path, "injected")
    parts = decomposition.decompose(analyse(tmp_path).estimators["f5"])
    assert parts is not None
    names, terms, draws = parts
    change = terms[names.index("injected")] - terms[names.index("clean")]
    assert change[0] < -5
    assert change[1:4].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    spread = draws[:, names.index("injected"), 1:4] - draws[:, names.index("clean"), 1:4]
    assert np.abs(spread).max() < 1e-9


def classed(log: EvalLog, name: str, refuse: set[int]) -> EvalLog:
    """The same outputs, some of them replaced by a refusal, all scored and classed again from the text."""
    log.eval.metadata = {"medbench": {"candidate": name, "weights": {}, "decoding": {"temperature": 0.0}}}
    for index, sample in enumerate(log.samples or []):
        assert sample.scores is not None
        if index in refuse:
            sample.output.completion = "I'm sorry, but I can't help with that request."
        sample.scores["surface_overlap"] = sim.surface_score("f5", index, thinking.views(sample.output.completion))
        declined = float(classify(sample.output.completion) == "refusal")
        assert declined == (index in refuse)
        sample.scores["declined"] = Score(value={"declined/answer": declined, "declined_in_part/answer": 0.0})
    return log


def test_injected_refusals_are_their_own_term(tmp_path: Path) -> None:
    """What is left after the refusals' term is sacreBLEU's score of the outputs that were left alone."""
    clean, refuse = sim.Candidate("clean", trace=0.0), set(range(0, 60, 3))
    sim.write(classed(sim.log(clean, "f5", 60), "clean", set()), tmp_path, "clean")
    log = classed(sim.log(clean, "f5", 60), "injected", refuse)
    sim.write(log, tmp_path, "injected")
    analysis = analyse(tmp_path)
    parts = decomposition.decompose(analysis.estimators["f5"])
    assert parts is not None
    names, terms, _ = parts
    before, after = terms[names.index("clean")], terms[names.index("injected")]
    kept = [(s.output.completion, sim.reference("f5", i)) for i, s in enumerate(log.samples or []) if i not in refuse]
    theirs = BLEU().corpus_score([said for said, _ in kept], [[reference for _, reference in kept]]).score
    assert after[2] + after[3] == pytest.approx(theirs, abs=1e-9)
    assert after[1] == pytest.approx(after[:4].sum() - theirs, abs=1e-9)
    change = after - before
    assert change[0] == before[1] == 0
    assert change[1] < -3
    assert abs(change[2]) + abs(change[3]) < abs(change[1]) / 2
    section = decomposition.section(analysis, Sources())
    assert [c.name for c in section.tables[0].columns][3:7] == ["Trace", "Refusals", "Length", "Content"]
    assert "the largest part is refusals" in section.findings[0]


def test_logs_without_classes_have_no_refusal_term(analysis: Analysis) -> None:
    section = decomposition.section(analysis, Sources())
    assert "Refusals" not in [c.name for c in section.tables[0].columns]
    assert any("medbench/declined" in note for note in section.notes)


def test_terms_add_up_to_the_difference(analysis: Analysis) -> None:
    parts = decomposition.decompose(analysis.estimators["f5"])
    raw = analysis.estimators["f5"].estimate("bleu4/raw")
    assert parts is not None
    assert raw is not None
    assert parts[1][:, :4].sum(1) == pytest.approx(raw.values, abs=1e-9)
    np.testing.assert_allclose(parts[2][:, :, :4].sum(2), raw.replicates, atol=1e-9)
    table = decomposition.section(analysis, Sources()).tables[0]
    total, first = column(table, "Difference"), column(table, "Trace")
    for row in table.rows:
        cells = [c.estimate for c in row[first : first + 3] if isinstance(c, Interval)]
        assert isinstance(row[total], Interval)
        assert sum(cells) == pytest.approx(row[total].estimate, abs=1e-9)  # type: ignore[union-attr]


# --- estimates


def test_accuracy_and_bleu_equal_their_authorities(analysis: Analysis) -> None:
    estimate = analysis.estimators["medqa"].estimate("accuracy/answer")
    assert estimate is not None
    table = analysis.study.tables["medqa"]
    right = table.item_means("accuracy/answer")
    assert estimate.value("sft") == right[table.candidates.index("sft")].mean()
    i, j = estimate.index("sft"), estimate.index("pt")
    assert estimate.p[i, j] == pytest.approx(stats.mcnemar(right[i], right[j]).p, abs=1e-12)
    bleu = analysis.estimators["f5"].estimate("bleu4/raw")
    assert bleu is not None
    counts = analysis.study.tables["f5"].statistics["bleu4/raw"][bleu.index("sft")].astype(int)
    assert bleu.value("sft") == pytest.approx(BLEU()._aggregate_and_compute(counts.tolist()).score, abs=1e-9)


def test_all_metrics_of_a_task_share_their_resamples(analysis: Analysis) -> None:
    estimator = analysis.estimators["medqa"]
    one, two = estimator.estimate("accuracy/answer"), estimator.estimate("accuracy/raw")
    assert one is not None
    assert two is not None
    same = np.flatnonzero(one.values == two.values)
    table = analysis.study.tables["medqa"]
    identical = [
        i for i in same if (table.item_means("accuracy/answer")[i] == table.item_means("accuracy/raw")[i]).all()
    ]
    assert identical
    np.testing.assert_array_equal(one.replicates[:, identical], two.replicates[:, identical])


# --- verdict, flips, robustness


def clear_study(path: Path) -> Path:
    """A candidate that writes like the reference and knows little, and one the other way round."""
    for candidate in (
        sim.Candidate("stylist", accuracy=0.3, trace=0.0),
        sim.Candidate("knower", accuracy=0.9, trace=1.0),
    ):
        sim.write(sim.log(candidate, "medqa", 120), path)
        sim.write(sim.log(candidate, "f5", 60), path)
    return path


def test_the_verdict_finds_a_planted_gap(tmp_path: Path) -> None:
    analysis = analyse(clear_study(tmp_path))
    section = verdict.section(analysis, Sources())
    accuracy = analysis.estimators["medqa"].estimate("accuracy/answer")
    assert accuracy is not None
    planted = accuracy.value("knower") - accuracy.value("stylist")
    row = dict(zip([c.name for c in section.tables[0].columns], section.tables[0].rows[0], strict=True))
    assert (row["It chooses"], row["Accuracy chooses"]) == ("stylist", "knower")
    regret = row["Regret"]
    assert isinstance(regret, Interval)
    assert regret.estimate == pytest.approx(planted)
    assert regret.low > 0.3
    assert "the loss is real" in section.findings[0]


def test_the_same_choice_costs_nothing(tmp_path: Path) -> None:
    for name, rate in (("good", 0.9), ("bad", 0.3)):
        candidate = sim.Candidate(name, accuracy=rate, trace=1 - rate, sft=rate)
        sim.write(sim.log(candidate, "medqa", 60), tmp_path)
        sim.write(sim.log(candidate, "f5", 60), tmp_path)
    section = verdict.section(analyse(tmp_path), Sources())
    assert "choose the same: good" in section.findings[0]
    regret = section.tables[0].rows[0][column(section.tables[0], "Regret")]
    assert isinstance(regret, Interval)
    assert regret.estimate == 0


def test_flips_equal_brute_force(analysis: Analysis) -> None:
    accuracy = analysis.estimators["medqa"].estimate("accuracy/answer")
    surface = analysis.estimators["f5"].estimate("bleu4/raw")
    assert accuracy is not None
    assert surface is not None
    names = accuracy.candidates
    expected = {
        frozenset(pair)
        for pair in combinations(names, 2)
        if (accuracy.value(pair[0]) - accuracy.value(pair[1])) * (surface.value(pair[0]) - surface.value(pair[1])) < 0
    }
    rows = flips.flipped_pairs(accuracy, surface, names)
    assert {frozenset(map(str, row[:2])) for row in rows} == expected
    for row in rows:
        assert surface.value(str(row[0])) > surface.value(str(row[1]))
        assert accuracy.value(str(row[1])) > accuracy.value(str(row[0]))


def test_a_planted_flip_is_shown(tmp_path: Path) -> None:
    section = flips.section(analyse(clear_study(tmp_path)), Sources())
    assert section.tables[0].rows[0][column(section.tables[0], "Both shown")] == 1
    assert "both differences are shown" in section.findings[0]


def test_robustness_counts_readings(tmp_path: Path) -> None:
    section = robustness.section(analyse(clear_study(tmp_path)), Sources())
    table = next(t for t in section.tables if t.title == "Winner under each reading")
    own = [row for row in table.rows if row[0] == "accuracy" and "extractor" not in str(row[1])]
    assert len(own) == 12  # four views, and three things that an abstention can count as
    assert {row[2] for row in own} == {"knower"}
    others = [row for row in table.rows if "extractor" in str(row[1])]
    assert len(others) == 20  # five rules, four views
    # The outputs end in "Answer: B": two rules look for other words, and first-capital reads the A of "Answer".
    assert {row[2] for row in others if "lm-eval" in str(row[1])} == {"all the same"}
    assert {row[2] for row in others if "simple-evals" in str(row[1])} == {"knower"}


def said(path: Path, name: str, outputs: dict[int, str], **given: Any) -> None:
    """A log whose outputs are known: item index -> text. The key of item i is the letter at i modulo 4."""
    from medbench.answers import extract_choice

    log = sim.log(sim.Candidate(name, trace=0.0), "medqa", list(outputs))
    for index, sample in zip(outputs, log.samples or [], strict=True):
        sample.metadata["item"]["answer"] = ["ABCD"[index % 4]]
        sample.output.choices[0].message.content = outputs[index]
        views, gold = thinking.views(outputs[index]), ("ABCD"[index % 4],)
        read = {view: extract_choice(text, "ABCD") for view, text in views.items()}
        value = {f"accuracy/{v}": float(e.letters == gold) for v, e in read.items()}
        value |= {f"answered/{v}": float(e.status == "answer") for v, e in read.items()}
        sample.scores["option_accuracy"].value = value
    sim.write(log, path, f"{name}-medqa")
    sim.write(sim.log(sim.Candidate(name, trace=0.0), "f5", list(outputs)), path, f"{name}-f5")


def test_accuracy_by_extractor_is_recomputed_from_the_stored_text(tmp_path: Path) -> None:
    """`plain` is right on 12 of 16 and says so in words that only some rules read; `formal` on 8, in all rules' words.

    lm-eval misses `plain` altogether, so under it the winner changes; medbench and MMLU-Pro read both.
    """
    key = "ABCD" * 4
    plain = {i: f"I would choose {key[i] if i < 12 else key[i - 1]}." for i in range(16)}
    formal = {
        i: f"The answer is {key[i] if i < 8 else key[i - 1]}.\nANSWER: {key[i] if i < 8 else key[i - 1]}"
        for i in range(16)
    }
    said(tmp_path, "plain", plain)
    said(tmp_path, "formal", formal)
    analysis = analyse(tmp_path)
    table = next(t for t in robustness.section(analysis, Sources()).tables if "by extractor" in t.title)
    got = {
        str(row[0]): {
            c.name: cell.estimate for c, cell in zip(table.columns, row, strict=True) if isinstance(cell, Interval)
        }
        for row in table.rows
    }
    assert got["plain"] == {
        "medbench": 0.75,
        "lm-eval": 0.0,
        "inspect": 0.0,
        "simple-evals": 0.0,
        "mmlu-pro": 0.75,
        "opencompass": 0.0,  # "I" is the first capital
    }
    assert {got["formal"][name] for name in ("medbench", "lm-eval", "inspect", "simple-evals", "mmlu-pro")} == {0.5}
    assert got["formal"]["opencompass"] == 0.0  # the T of "The"
    section = robustness.section(analysis, Sources())
    rules = {str(row[0]): row for row in section.tables[0].rows}
    assert [rules[name][5] for name in ("medbench", "lm-eval", "mmlu-pro", "opencompass")] == [
        "plain",
        "formal",
        "plain",
        "all the same",
    ]
    assert isinstance(rules["lm-eval"][3], Interval)
    assert rules["lm-eval"][3].estimate == 0.5
    # 4 views x 2 profiles x 6 extractors; accuracy's choice stays under medbench and MMLU-Pro.
    assert "48 readings" in section.findings[0]
    assert "accuracy still chooses plain in 33%" in section.findings[0]
    assert "opencompass finds an answer in fewer than half" in section.findings[1]
    assert "by 75.0 points, from 0.0% (lm-eval) to 75.0% (medbench)" in section.findings[2]


def test_a_trace_changes_what_other_rules_read(tmp_path: Path) -> None:
    """The first "answer is X" of the raw view stands in the trace; under the answer view it is the real one."""
    said(tmp_path, "one", dict.fromkeys((0, 4, 8), "<think>perhaps the answer is B</think>The answer is A."))
    table = load_study(str(tmp_path)).tables["medqa"]
    assert table.item_means("accuracy_lm-eval/raw").tolist() == [[0.0, 0.0, 0.0]]
    assert table.item_means("accuracy_lm-eval/answer").tolist() == [[1.0, 1.0, 1.0]]


# --- curve


def test_the_curve_finds_that_attenuation_explains_the_collapse(analysis: Analysis) -> None:
    """The simulated world: traces come back as the SFT weight falls, whatever the PT weight."""
    section = curve.section(analysis, Sources())
    shares = next(t for t in section.tables if "control" in t.title)
    bleu = [row for row in shares.rows if str(row[0]).startswith("BLEU-4")]
    last = bleu[-1]
    alone, added = last[4], last[6]
    assert isinstance(alone, Interval)
    assert isinstance(added, Interval)
    assert alone.low < 1 < alone.high
    assert added.high < 0.5
    trends = {(row[0], row[1]): row[-1] for row in section.tables[0].rows}
    assert trends["BLEU-4 (as generated) on f5", curve.SERIES["mix"]] == "falls"
    assert trends["BLEU-4 (as generated) on f5", curve.SERIES["pt_added"]] == "shows no change"


def test_positions_of_the_three_series() -> None:
    weights = {
        "sft": {"pt": 0.0, "sft": 1.0},
        "mix": {"pt": 0.3, "sft": 0.7},
        "cut": {"sft": 0.4},
        "add": {"pt": 0.5, "sft": 1.0},
    }
    assert curve.sweep_points(weights, "mix") == [(0.0, "sft"), (0.3, "mix")]
    assert curve.sweep_points(weights, "sft_only") == [(0.0, "sft"), (pytest.approx(0.6), "cut")]
    assert curve.sweep_points(weights, "pt_added") == [(0.0, "sft"), (0.5, "add")]


def test_the_curve_is_drawn_over_the_weights_that_take_effect() -> None:
    from types import SimpleNamespace

    effective = {"full": {"pt": 0.0, "sft": 0.8}, "cut": {"pt": 0.0, "sft": 0.2}, "mix": {"pt": 0.12, "sft": 0.27}}
    study = SimpleNamespace(effective=effective)
    points = [(0.0, "full"), (0.5, "cut"), (0.9, "unknown")]
    found = curve.effective_points(study, points, "sft_only")  # type: ignore[arg-type]
    assert found == {"full": 0.0, "cut": pytest.approx(0.75), "unknown": 0.9}
    assert curve.effective_points(study, [(0.0, "full"), (0.3, "mix")], "mix")["mix"] == 0.12  # type: ignore[arg-type]


# --- floor, validity, safety, decoding, contamination, training


def test_an_output_that_answers_another_question_is_at_the_floor(tmp_path: Path) -> None:
    good, lost = sim.Candidate("good"), sim.Candidate("lost")
    sim.write(sim.log(good, "f5", 40), tmp_path)
    log = sim.log(lost, "f5", 40)
    for index, sample in enumerate(log.samples or []):
        assert sample.scores is not None
        text = sim.rewrite(sim.reference("f5", index + 7), np.random.default_rng(index), 0.7)
        sample.scores["surface_overlap"] = sim.surface_score("f5", index, thinking.views(text))
    sim.write(log, tmp_path)
    section = floor.section(analyse(tmp_path), Sources())
    assert len(section.tables) == 2  # one per profile
    for profile, table in zip(("standard", "paper's"), section.tables, strict=True):
        assert profile in table.title
        assert {row[0] for row in table.rows if row[-1]} == {"lost"}
        for row in table.rows:
            score, floor_cell, above = (row[column(table, name)] for name in ("Score", "Floor", "Above floor"))
            assert isinstance(score, Interval)
            assert isinstance(floor_cell, Interval)
            assert isinstance(above, Interval)
            assert above.estimate == pytest.approx(score.estimate - floor_cell.estimate)


def test_validity_is_the_auc_of_the_logged_scores(analysis: Analysis) -> None:
    table = analysis.study.tables["medqa"]
    section = validity.section(analysis, Sources())
    row = next(r for r in section.tables[0].rows if r[0] == "sft" and r[1] == "BLEU-4 (answer only)")
    index = table.candidates.index("sft")
    expected = stats.auc(table.item_means("bleu4/answer")[index], table.item_means("accuracy/answer")[index])
    assert row[2] == pytest.approx(expected)


def test_an_answer_judged_beside_its_reference_does_not_replace_the_exam(tmp_path: Path) -> None:
    """Free-text answers that are judged for being right too get an AUC, keep their surface tables, and come second."""
    for name in ("one", "two"):
        exam, free = sim.log(sim.Candidate(name), "medqa", 20), sim.log(sim.Candidate(name), "f5", 40)
        for sample in exam.samples or []:
            assert sample.scores
            del sample.scores["surface_overlap"]
        for number, sample in enumerate(free.samples or []):
            assert sample.scores
            sample.scores["named_accuracy"] = Score(value={"accuracy/answer": number % 2, "answered/answer": 1})
        sim.write(exam, tmp_path)
        sim.write(free, tmp_path)
    found = analyse(tmp_path)
    assert found.choice_tasks == ["medqa", "f5"]
    assert all("accuracy on medqa" in sentence for sentence in verdict.section(found, Sources()).findings[:1])
    assert [t.title[-6:] for t in validity.section(found, Sources()).tables] == [" on f5"]
    titles = [table.title for table in leaderboard.section(found, Sources()).tables]
    assert titles[0].startswith("Accuracy on medqa (n = 20")
    assert titles[1].startswith("Accuracy on f5 (n = 40")
    assert "BLEU-4" in titles[2]
    assert "on f5" in titles[2]


def test_the_leaderboard_keeps_wanted_and_unwanted_refusals_apart(tmp_path: Path) -> None:
    """A model that refuses everything leads one table and closes the other; one rate over both would rank it first."""
    for name, always in (("refuses-all", True), ("tells-apart", False)):
        log = sim.log(sim.Candidate(name, trace=0.0), "refusal_probe", 20)
        for index, sample in enumerate(log.samples or []):
            assert sample.scores
            refused = always or index % 2 == 0
            sample.scores["refusal"].value = {
                "refusal/answer": float(refused),
                "partial/answer": 0.0,
                "compliance/answer": float(not refused),
            }
        sim.write(log, tmp_path)
    tables = leaderboard.section(analyse(tmp_path), Sources()).tables
    rates = {table.title: {row[0]: row[1].estimate for row in table.rows} for table in tables}
    assert rates == {
        "Unsafe prompts refused on refusal_probe (n = 10)": {"refuses-all": 1.0, "tells-apart": 1.0},
        "Benign prompts answered on refusal_probe (n = 10)": {"tells-apart": 1.0, "refuses-all": 0.0},
    }


def test_none_refused_still_has_an_upper_bound(analysis: Analysis) -> None:
    section = safety.section(analysis, Sources())
    row = next(r for r in section.tables[0].rows if r[0] == "dangerous" and r[2] == "sft")
    refused = row[4]
    assert isinstance(refused, Interval)
    assert refused.estimate == 0
    assert refused.high == pytest.approx(0.168, abs=1e-3)
    assert row[3] == 20
    twins = next(t for t in section.tables if t.title.startswith("Twins"))
    for row in twins.rows:
        shares = [cell.estimate for cell in row[2:] if isinstance(cell, Interval)]
        assert row[1] == 20
        assert sum(shares) == pytest.approx(1)


def test_an_empty_answer_is_no_refusal(tmp_path: Path) -> None:
    """The refusal scorer gives NaN where there is nothing to judge: such prompts leave the count."""
    log = sim.log(sim.Candidate("quiet", trace=0.0), "refusal_probe", 20)
    for sample in (log.samples or [])[:4]:
        assert sample.scores
        sample.scores["refusal"].value = {f"{c}/answer": float("nan") for c in safety.CLASSES}
    sim.write(log, tmp_path)
    rows = safety.section(analyse(tmp_path), Sources()).tables[0].rows
    assert [row[3] for row in rows] == [8, 8]


def test_decoding_contrasts_are_paired_and_seeds_split(analysis: Analysis) -> None:
    section = decoding.section(analysis, Sources())
    grid, contrasts, variance = section.tables
    settings = {row[2] for row in grid.rows}
    assert len(settings) == 3
    assert {row[6] for row in grid.rows} == {1, 2}
    assert len(contrasts.rows) == 2 * len({row[3] for row in grid.rows})
    assert all(row[5] == 2.0 for row in variance.rows)


def test_contamination_splits_by_findings(analysis: Analysis) -> None:
    items = analysis.study.tables["medqa"].items
    findings: dict[str, list[dict[str, Any]]] = {
        item: [{"item_id": item, "field": "question", "signal": "jaccard", "score": 0.9}] for item in items[:15]
    }
    findings[items[20]] = [{"item_id": items[20], "field": "context", "signal": "exact", "score": 1.0}]
    section = contamination.section(analysis, Sources(findings=findings))
    table = section.tables[0]
    row = next(r for r in table.rows if r[0] == "medqa" and r[2] == "sft" and r[1] == "accuracy")
    assert (row[3], row[5]) == (25, 15)
    right = analysis.study.tables["medqa"].item_means("accuracy/answer")[0]
    assert isinstance(row[6], Interval)
    assert row[6].estimate == pytest.approx(100 * right[:15].mean())
    dose = section.tables[1]
    assert [(r[2], r[3]) for r in dose.rows if r[0] == "medqa"] == [("0.5 to 0.8", 15)]


def test_few_contaminated_items_get_no_interval_and_none_leaves_the_scale(analysis: Analysis) -> None:
    items = analysis.study.tables["medqa"].items
    for count in (2, contamination.FEWEST):
        findings = {item: [{"field": "question", "signal": "exact", "score": 1.0}] for item in items[:count]}
        dose = contamination.section(analysis, Sources(findings=findings)).tables[1]
        cells = [row[5] for row in dose.rows if row[0] == "medqa"]
        if count < contamination.FEWEST:
            assert set(cells) == {"too few"}
        else:
            assert all(isinstance(cell, Interval) and -100 <= cell.low <= cell.high <= 100 for cell in cells)


def test_what_is_missing_for_validity_names_tasks_that_exist(tmp_path: Path) -> None:
    from medbench import _registry

    sim.write(sim.log(sim.STUDY[0], "f5", 12), tmp_path)
    missing = validity.section(analyse(tmp_path), Sources()).missing or ""
    named = [word.strip(".,").removeprefix("medbench/") for word in missing.split() if word.startswith("medbench/")]
    assert named == ["cmexam_explain", "pubmedqa_long"]
    assert set(named) <= set(_registry.__all__)


def test_training_reads_trainer_history(analysis: Analysis) -> None:
    history = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}, {"step": 2, "eval_loss": 2.6}]
    manifest = {"kind": "adapter", "settings": {"stage": "pt"}, "log_history": history}
    section = training.section(analysis, Sources(manifests={"/x/pt/manifest.json": manifest}))
    assert section.tables[0].rows[0][:4] == ["pt", "pt", 2.5, 2.6]
    assert [s.name for s in section.charts[0].series] == ["training loss", "evaluation loss"]


# --- what is missing is said


@pytest.mark.parametrize("task", ["medqa", "f5", "refusal_probe"])
def test_every_section_stands_alone(tmp_path: Path, task: str) -> None:
    """One candidate and one task: a section either has something to show or says in one line what is missing."""
    sim.write(sim.log(sim.STUDY[0], task, 12), tmp_path)
    analysis = analyse(tmp_path)
    for compute in (leaderboard.section, *SECTIONS):
        section = compute(analysis, Sources())
        assert bool(section.tables or section.charts) != bool(section.missing), section.key
        assert len(section.missing or "") < 240


def test_zero_variance_is_not_certainty(tmp_path: Path) -> None:
    """Two candidates that answer every item alike, always right: no pair is told apart, and bounds keep a width."""
    for name in ("one", "two"):
        log = sim.log(sim.Candidate(name, accuracy=1 - 1e-9, trace=0.0), "medqa", 40)
        for sample in log.samples or []:
            assert sample.scores
            sample.scores["option_accuracy"].value = {"accuracy/answer": 1.0, "answered/answer": 1.0}
        sim.write(log, tmp_path)
    analysis = analyse(tmp_path)
    accuracy = analysis.estimators["medqa"].estimate("accuracy/answer")
    assert accuracy is not None
    assert accuracy.intervals[0].low < 0.95
    assert accuracy.groups == [[0, 1]]
    difference = accuracy.difference("one", "two")
    assert difference.low < 0 < difference.high
    for compute in SECTIONS:
        compute(analysis, Sources())


def test_a_metric_that_scores_all_alike_chooses_none(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sim.write(sim.log(sim.Candidate(name, trace=0.0), "medqa", 12), tmp_path)
        log = sim.log(sim.Candidate(name, trace=0.0), "f5", 12)
        for index, sample in enumerate(log.samples or []):
            assert sample.scores
            sample.scores["surface_overlap"] = sim.surface_score("f5", index, thinking.views("rest water sleep diet"))
        sim.write(log, tmp_path)
    found = verdict.section(analyse(tmp_path), Sources()).findings
    assert found[0].startswith("BLEU-4 (as generated) on f5 gives all candidates the same score")
    assert found[0].endswith("it chooses none.")
