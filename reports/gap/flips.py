"""6. Pairs of candidates that a surface metric and accuracy put in opposite order."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap.labels import common_candidates, metric_name
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, show
from medbench.reports.sources import Sources

KEYS = ("bleu4/raw", "rougeL/raw", "bleu4/answer", "rougeL/answer", "bleu4_llamafactory/raw")
# A page of pairs is enough to read; the JSON holds the counts of all.
_MOST_PAIRS = 200


def section(analysis: Analysis, sources: Sources) -> Section:
    """Rank agreement of each surface metric with accuracy, and the pairs in which they disagree."""
    found = Section("flips", "Rank flips")
    if not analysis.choice_tasks or not analysis.surface_tasks:
        found.missing = "Needs an accuracy task and a task with reference texts for the same candidates."
        return found
    agreement: list[list[Cell]] = []
    pairs: list[list[Cell]] = []
    for accuracy_task in analysis.choice_tasks:
        accuracy = analysis.estimators[accuracy_task].estimate("accuracy/answer")
        assert accuracy is not None
        for surface_task in analysis.surface_tasks:
            for key in KEYS:
                surface = analysis.estimators[surface_task].estimate(key)
                if surface is None:
                    continue
                shared = common_candidates(analysis, accuracy, surface)
                if len(shared) < 2:
                    continue
                flips = flipped_pairs(accuracy, surface, shared)
                agreement.append(_agreement_row(accuracy, accuracy_task, surface, surface_task, shared, flips))
                on = f"{metric_name(key)} on {surface_task}"
                if key in ("bleu4/raw", "rougeL/raw"):
                    pairs += [[*row[:2], metric_name(key), surface_task, accuracy_task, *row[2:]] for row in flips]
                first = accuracy_task == analysis.choice_tasks[0] and surface_task == analysis.surface_tasks[0]
                if first and key == "bleu4/raw":
                    found.charts.append(_chart(accuracy, accuracy_task, surface, surface_task, shared))
                    found.findings.append(_sentence(on, agreement[-1], flips, len(shared)))
    if not agreement:
        found.missing = "No two candidates share an accuracy task and a task with reference texts."
        return found
    found.tables.append(_agreement_table(agreement))
    if pairs:
        left = len(pairs) - _MOST_PAIRS
        note = f"{left} more pairs are in the JSON's counts only." if left > 0 else ""
        found.tables.append(_pair_table(pairs[:_MOST_PAIRS], note))
    found.notes.append(
        "A flip is shown where both differences hold after Holm's correction over all pairs of the metric. Kendall's "
        "tau (tau-a, a tied pair counts 0) is over candidates: with few of them even 1 is weak evidence. Its bounds "
        "let every pair that is not shown on both sides stand either way."
    )
    return found


def flipped_pairs(accuracy: Estimate, surface: Estimate, shared: list[str]) -> list[list[Cell]]:
    """Rows of the pairs put in opposite order: better by surface, better by accuracy, both differences and p-values."""
    rows: list[list[Cell]] = []
    alpha = accuracy.options.alpha
    for one, two in combinations(shared, 2):
        by_surface = surface.value(two) - surface.value(one)
        by_accuracy = accuracy.value(two) - accuracy.value(one)
        if by_surface * by_accuracy >= 0:
            continue
        liked, better = (two, one) if by_surface > 0 else (one, two)
        p_surface = float(surface.p_adjusted[surface.index(one), surface.index(two)])
        p_accuracy = float(accuracy.p_adjusted[accuracy.index(one), accuracy.index(two)])
        shown = {
            (True, True): "both shown",
            (True, False): "surface only",
            (False, True): "accuracy only",
            (False, False): "neither",
        }[(p_surface < alpha, p_accuracy < alpha)]
        rows.append(
            [
                liked,
                better,
                stats.Interval(*surface.difference(better, liked)[:3]),
                p_surface,
                stats.Interval(*accuracy.difference(liked, better)[:3]),
                p_accuracy,
                shown,
            ]
        )
    order = {"both shown": 0, "accuracy only": 1, "surface only": 2, "neither": 3}
    return sorted(rows, key=lambda row: (order[str(row[-1])], row[3] if isinstance(row[3], float) else 1.0))


def _agreement_row(
    accuracy: Estimate,
    accuracy_task: str,
    surface: Estimate,
    surface_task: str,
    shared: list[str],
    flips: list[list[Cell]],
) -> list[Cell]:
    one, two = [accuracy.index(name) for name in shared], [surface.index(name) for name in shared]
    alpha = accuracy.options.alpha
    apart = (accuracy.p_adjusted[np.ix_(one, one)] < alpha) & (surface.p_adjusted[np.ix_(two, two)] < alpha)
    order = stats.order_agreement(accuracy.values[one], surface.values[two], apart)
    shown = sum(row[-1] == "both shown" for row in flips)
    return [
        metric_name(surface.key),
        surface_task,
        accuracy_task,
        len(shared),
        order.tau,
        order.p,
        order.same + order.opposite + order.tied,
        order.tied,
        len(flips),
        shown,
    ]


def _agreement_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Agreement of candidate orders",
        [
            Column("Surface metric"),
            Column("on"),
            Column("Accuracy on"),
            Column("Candidates", "count"),
            Column(
                "Kendall's tau",
                "number",
                "share of pairs in the same order minus share in opposite order; bounds: what tests leave open",
            ),
            Column("p if exact", "p", "of tau over candidates, as if their scores held no chance"),
            Column("Pairs", "count"),
            Column("Tied", "count", "the same score on one side: neither order"),
            Column("In opposite order", "count"),
            Column("Both shown", "count", "both differences hold after Holm's correction"),
        ],
        rows,
    )


def _pair_table(rows: list[list[Cell]], note: str) -> Table:
    return Table(
        "Pairs in opposite order",
        [
            Column("Surface prefers"),
            Column("Accuracy prefers"),
            Column("Surface metric"),
            Column("on"),
            Column("Accuracy on"),
            Column("Surface difference", "change"),
            Column("p (Holm)", "p"),
            Column("Accuracy difference", "points"),
            Column("p (Holm)", "p"),
            Column("Shown"),
        ],
        rows,
        note,
    )


def _chart(accuracy: Estimate, accuracy_task: str, surface: Estimate, surface_task: str, shared: list[str]) -> Chart:
    series = []
    for name in shared:
        x, y = surface.intervals[surface.index(name)], accuracy.intervals[accuracy.index(name)]
        series.append(Series(name, [x.estimate, x.low, x.high], [100 * y.estimate], [100 * y.low], [100 * y.high]))
    return Chart(
        "scatter",
        f"Accuracy on {accuracy_task} against {metric_name(surface.key)} on {surface_task}",
        metric_name(surface.key),
        "accuracy, %",
        series,
        "One cross per candidate, with 95% intervals both ways. Where the metrics agree, crosses climb to the right.",
    )


def _sentence(surface: str, row: list[Cell], flips: list[list[Cell]], count: int) -> str:
    tau, shown, ties = row[4], row[9], row[7]
    assert isinstance(tau, stats.Interval)
    text = (
        f"{surface} and accuracy on {row[2]} put {row[8]} of {row[6]} pairs of {count} candidates in opposite order "
        f"(Kendall's tau {show(tau.estimate, 'number')})"
    )
    if ties:
        text += f"; {ties} {'is' if ties == 1 else 'are'} tied on one side and in neither order"
    if shown:
        return (
            f"{text}; in {shown} of them both differences are shown, the clearest being {flips[0][0]}, which the "
            f"surface metric prefers, against {flips[0][1]}, which is more accurate."
        )
    return f"{text}; in none of them are both differences shown after correction." if flips else f"{text}."
