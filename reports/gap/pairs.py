"""6b. Item by item: what each candidate gains and loses against another, and which items are hard for all."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.page import Cell, Column, Section, Table, names, p_text
from medbench.reports.sources import Sources

_MOST_PAIRS = 200
# Candidates needed before an item that all miss says something of the item.
_FEWEST_FOR_DIFFICULTY = 3


def section(analysis: Analysis, sources: Sources) -> Section:
    """Flips of every pair, and how many candidates answer each item."""
    found = Section("pairs", "Item by item")
    for task in analysis.choice_tasks:
        estimate = analysis.estimators[task].estimate("accuracy/answer")
        if estimate is None or estimate.item_values is None or len(estimate.candidates) < 2:
            continue
        rows = _flips(estimate)
        found.tables.append(_pair_table(task, rows[:_MOST_PAIRS], len(rows)))
        found.findings.append(_sentence(task, rows))
        if len(estimate.candidates) >= _FEWEST_FOR_DIFFICULTY:
            found.tables.append(_difficulty(task, estimate, analysis.study.tables[task].items))
    if not found.tables:
        found.missing = "Needs an accuracy task with two candidates."
        return found
    found.notes.append(
        "Gained and lost count items; with several runs per item they are sums of what its share of right runs rose or "
        "fell by. The test asks whether gains and losses are as many (exact McNemar; with runs or contexts the exact "
        "randomisation test of the same question). Two models of one accuracy can still flip many items."
    )
    return found


def _flips(estimate: Estimate) -> list[list[Cell]]:
    values = estimate.item_values
    assert values is not None
    rows: list[list[Cell]] = []
    for i, j in combinations(range(len(values)), 2):
        gap = values[j] - values[i]
        gained, lost = float(gap[gap > 0].sum()), float(np.abs(gap[gap < 0]).sum())  # never -0
        flipped = stats.rate(np.abs(gap), estimate.clusters, confidence=estimate.options.confidence)
        adjusted = float(estimate.p_adjusted[i, j])
        first, second = estimate.candidates[i], estimate.candidates[j]
        rows.append([first, second, gained, lost, gained - lost, flipped, estimate.p[i, j], adjusted])
    return sorted(rows, key=lambda row: float(row[6]))  # type: ignore[arg-type]


def _pair_table(task: str, rows: list[list[Cell]], total: int) -> Table:
    return Table(
        f"Items that the second gains and loses against the first on {task}",
        [
            Column("First"),
            Column("Second"),
            Column("Gained", "number", "items right in the second only"),
            Column("Lost", "number", "items right in the first only"),
            Column("Net", "change"),
            Column("Flipped", "rate", "share of all items on which the two differ"),
            Column("p", "p", "exact"),
            Column("p (Holm)", "p", "corrected over all pairs"),
        ],
        rows,
        "" if total <= len(rows) else f"{total - len(rows)} more pairs were tested; these have the smallest p.",
    )


def _difficulty(task: str, estimate: Estimate, items: list[str]) -> Table:
    assert estimate.item_values is not None
    means = estimate.item_values.mean(axis=0)
    bounds = ((-0.01, 0.0), (0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1 - 1e-9), (1 - 1e-9, 1.0))
    labels = ("none", "up to a quarter", "up to half", "up to three quarters", "more, but not all", "all")
    rows: list[list[Cell]] = []
    for (low, high), label in zip(bounds, labels, strict=True):
        here = np.flatnonzero((means > low) & (means <= high))
        some = names([items[i] for i in here[:3]], 3) if len(items) == len(means) and len(here) else ""
        inside = ((means > low) & (means <= high)).astype(float)
        share = stats.rate(inside, estimate.clusters, confidence=estimate.options.confidence)
        rows.append([label, len(here), share, some])
    return Table(
        f"How many of {len(estimate.candidates)} candidates answer an item of {task}",
        [
            Column("Right in"),
            Column("Items", "count"),
            Column("Share", "rate", "of such items"),
            Column("For example", help="sample ids, as in the logs"),
        ],
        rows,
        "Only items that some answer and some do not can tell candidates apart.",
    )


def _sentence(task: str, rows: list[list[Cell]]) -> str:
    row = rows[0]
    shown = sum(float(r[7]) < 0.05 for r in rows)  # type: ignore[arg-type]
    clearest = (
        f"against {row[0]}, {row[1]} gains {_count(row[2])} items and loses {_count(row[3])} "
        f"({p_text(float(row[7]))} after Holm's correction)"  # type: ignore[arg-type]
    )
    if not shown:
        return (
            f"On {task} gains and losses are not shown to differ in any of {len(rows)} pairs; the clearest: {clearest}."
        )
    return f"On {task} gains and losses differ in {shown} of {len(rows)} pairs; the clearest: {clearest}."


def _count(items: Cell) -> str:
    """A number of items; over several runs shares of an item count."""
    value = float(items)  # type: ignore[arg-type]
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
