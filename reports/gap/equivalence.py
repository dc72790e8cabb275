"""1c. Is a candidate as good as another, give or take a margin? Equivalence and non-inferiority."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.page import Cell, Column, Section, Table, show
from medbench.reports.sources import Sources

# All pairs up to so many candidates; beyond, each against the most accurate.
_ALL_PAIRS_UP_TO = 8


def section(analysis: Analysis, sources: Sources) -> Section:
    """Paired differences of accuracy against the margin that the user named."""
    found = Section("equivalence", "As good as")
    margin = analysis.options.margin
    if margin is None:
        found.missing = (
            "No margin was named. `medbench report --margin 2` says which candidates are as good as which, give or "
            "take 2 points of accuracy."
        )
        return found
    for task in analysis.choice_tasks:
        estimate = analysis.estimators[task].estimate("accuracy/answer")
        if estimate is None or len(estimate.candidates) < 2:
            continue
        rows: list[list[Cell]] = []
        for first, second in _pairs(estimate):
            judged = equivalence(estimate, first, second, margin)
            bounds = stats.Interval(judged.change.difference, judged.low, judged.high)
            rows.append([first, second, bounds, judged.change.p, judged.verdict])
        found.tables.append(_table(task, margin, rows))
        found.findings.append(_sentence(task, margin, rows, estimate.n))
    if not found.tables:
        found.missing = "Needs an accuracy task with two candidates."
        return found
    found.notes.append(
        "Equivalent: both bounds lie within the margin, so the difference is shown to be too small to matter (two "
        "one-sided tests). Not worse: the lower bound does. Open: neither that nor a difference is shown, which is not "
        "the same as being equal. All bounds of a table hold at once (Bonferroni)."
    )
    return found


def equivalence(estimate: Estimate, first: str, second: str, margin: float) -> stats.Equivalence:
    """Second against first, as one of all the pairs that the report judges: their verdicts hold at once.

    Args:
        margin: 0-1.
    """
    alpha = estimate.options.alpha / len(_pairs(estimate))
    change = estimate.difference(first, second, 1 - alpha)
    found = stats.equivalence(change, estimate.difference(first, second, 1 - 2 * alpha), margin, alpha)
    p = estimate.p_adjusted[estimate.index(first), estimate.index(second)]
    if found.verdict in ("better", "worse") and not p < estimate.options.alpha:
        # A pair that shares a letter in the leaderboard is not called better or worse here.
        return replace(found, verdict="not worse" if found.low > -margin else "open")
    return found


def _pairs(estimate: Estimate) -> list[tuple[str, str]]:
    if len(estimate.candidates) <= _ALL_PAIRS_UP_TO:
        return list(combinations(estimate.candidates, 2))
    return [(estimate.best, name) for name in estimate.candidates if name != estimate.best]


def _table(task: str, margin: float, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Accuracy on {task} with a margin of {100 * margin:g} points",
        [
            Column("First"),
            Column("Second"),
            Column("Second minus first", "points", "with the bounds of the two one-sided tests, all rows at once"),
            Column("p", "p", "of a difference, uncorrected"),
            Column("Second is", help="equivalent, not worse, better, worse, or open"),
        ],
        rows,
    )


def _sentence(task: str, margin: float, rows: list[list[Cell]], n: int) -> str:
    if len(rows) == 1:
        first, second, _, _, verdict = rows[0]
        said = {
            "equivalent": f"{second} is as good as {first}: they differ by less than {100 * margin:g} points",
            "not worse": f"{second} is not worse than {first} by {100 * margin:g} points or more",
            "better": f"{second} is better than {first}",
            "worse": f"{second} is worse than {first}",
            "open": f"whether {second} is as good as {first}, give or take {100 * margin:g} points, is open",
        }[str(verdict)]
        return f"On {task}, {said} (n = {n:,}; {show(rows[0][2], 'points')})."
    counts = Counter(str(row[4]) for row in rows)
    parts = [f"{count} {verdict}" for verdict, count in counts.most_common()]
    return f"On {task}, of {len(rows)} pairs with a margin of {100 * margin:g} points: {', '.join(parts)}."
