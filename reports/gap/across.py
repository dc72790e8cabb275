"""8. Over all benchmarks at once: better by how much, and how far the benchmarks are apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.page import Cell, Column, Section, Table, p_text, show, span
from medbench.reports.sources import Sources

_MOST_CANDIDATES = 8


def section(analysis: Analysis, sources: Sources) -> Section:
    """A random-effects estimate of every pair's difference in accuracy over the tasks that both ran."""
    found = Section("across", "Across benchmarks")
    estimates = [e for t in analysis.choice_tasks if (e := analysis.estimators[t].estimate("accuracy/answer"))]
    candidates = [c for c in analysis.study.candidates if sum(c in e.candidates for e in estimates) > 1]
    rows = _rows(estimates, candidates[:_MOST_CANDIDATES])
    if not rows:
        found.missing = "Needs two candidates that ran two accuracy tasks or more."
        return found
    adjusted = stats.holm([float(row[4]) for row in rows])  # type: ignore[arg-type]
    rows = [[*row[:5], float(p), *row[5:]] for row, p in zip(rows, adjusted, strict=True)]
    found.tables.append(_table(rows))
    found.findings += _sentences(rows)
    if len(candidates) > _MOST_CANDIDATES:
        found.notes.append(f"The first {_MOST_CANDIDATES} of {len(candidates)} candidates are compared here.")
    found.notes.append(
        "This averages differences in percentage points over benchmarks that ask different things; a point on one is "
        "not a point on another. Random effects (Paule and Mandel; Hartung and Knapp): each benchmark's own difference "
        "is taken as drawn from a spread of such differences. Two or three benchmarks say little of that spread, and "
        "the interval is wide for that reason. Benchmarks that share items or sources count as one more than they are."
    )
    return found


def _rows(estimates: list[Estimate], candidates: list[str]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for first, second in combinations(candidates, 2):
        both = [e for e in estimates if first in e.candidates and second in e.candidates]
        if len(both) < 2:
            continue
        changes = [_change(e, first, second) for e in both]
        pooled = stats.random_effects([c for c, _ in changes], [s for _, s in changes])
        ahead = sum(c > 0 for c, _ in changes)
        # No difference of two rates is beyond 100 points, whatever few benchmarks leave open.
        mean = stats.Interval(*np.clip(pooled.mean[:3], -1.0, 1.0).tolist())
        another = stats.Interval(*np.clip(pooled.next, -1.0, 1.0).tolist())
        spread = stats.Interval(*np.minimum(pooled.spread, 1.0).tolist())
        rows.append([first, second, pooled.k, mean, pooled.mean.p, f"{ahead} of {pooled.k}", spread, another])
    return rows


def _change(estimate: Estimate, first: str, second: str) -> tuple[float, float]:
    """The paired difference and a standard error that does not vanish where no item flips."""
    assert estimate.item_values is not None
    i, j = estimate.index(first), estimate.index(second)
    sums, weight = stats.unit_sums(estimate.item_values[j] - estimate.item_values[i], estimate.clusters)
    low, high = stats.padded_interval(sums, weight, 1.0, 0.95, normal=True)
    return float(estimate.values[j] - estimate.values[i]), (high - low) / 2 / 1.959964


def _table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Second minus first in accuracy, over benchmarks (an average of percentage points)",
        [
            Column("First"),
            Column("Second"),
            Column("Benchmarks", "count"),
            Column("Mean difference", "points", "random effects over benchmarks"),
            Column("p", "p"),
            Column("p (Holm)", "p", "corrected over all pairs"),
            Column("Second ahead in"),
            Column("Spread", "points", "standard deviation of the true differences between benchmarks"),
            Column("On another benchmark", "points", "where its difference is to be expected; needs three"),
        ],
        rows,
    )


def _sentences(rows: list[list[Cell]]) -> list[str]:
    row = min(rows, key=lambda r: float(r[5]))  # type: ignore[arg-type]
    mean, p = row[3], row[5]
    assert isinstance(mean, stats.Interval)
    assert isinstance(p, float)
    shown = bool(np.isfinite(p) and p < 0.05)
    by = show(abs(mean.estimate), "points").lstrip("+")
    more = f"scores {by} points {'more' if mean.estimate > 0 else 'less'} than {row[0]}"
    if by == "0.0":
        more = f"scores as much as {row[0]}"
    if shown:
        more = f"is {'more' if mean.estimate > 0 else 'less'} accurate than {row[0]} by {by} points"
    text = (
        f"over {row[2]} benchmarks, {row[1]} {more} on average (95% interval of the difference "
        f"{span(mean, 'points')}; {p_text(p)} after Holm's correction); it is ahead in {row[6]}."
    )
    return [f"O{text[1:]}" if shown else f"No difference across benchmarks is shown. The clearest: {text}"]
