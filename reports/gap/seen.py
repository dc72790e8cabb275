"""7d. What the model itself gives away: per-item scores of `medbench contamination`, joined by sample id."""

from __future__ import annotations

from typing import Any

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Column, Section, Table, names, p_text, show, span
from medbench.reports.sources import Sources
from medbench.sources.items import asked_id

# Per-item scores, higher for what looks more like seen text; the name is what the table says.
SCORES = {
    "min_k": "Min-K%++",
    "options_z": "published order of options",
    "order_z": "published order of items",
    "codec": "CoDeC",
    "completion": "verbatim second half",
}
SHARE = 0.25  # of a task's items, those whose score is highest: they are compared with the rest
FEWEST = 8  # items on either side; fewer say nothing
HARMLESS_FIELDS = {"context"}  # of an audit's findings; see `contamination`


def section(analysis: Analysis, sources: Sources) -> Section:
    """Accuracy on the items that look most like seen text against the rest, and the scores beside corpus findings."""
    found = Section("seen", "Leaks seen from the model")
    if not sources.seen:
        found.missing = (
            "No model was tested. Run `medbench contamination --model M --task T --out DIR` and pass "
            "--contamination DIR."
        )
        return found
    rows: list[list[Cell]] = []
    beside: list[list[Cell]] = []
    for summary, items in sources.seen:
        found.findings.append(_summary_sentence(summary))
        joined = 0
        for task, table in analysis.study.tables.items():
            known = np.array([item in items for item in table.items])
            if not known.any():
                continue
            joined += int(known.sum())
            for key, name in SCORES.items():
                scores = np.array([_score(items.get(item), key) for item in table.items])
                rows += _accuracy_rows(analysis, task, str(summary["model"]), name, scores)
                beside += _corpus_rows(sources, task, str(summary["model"]), name, table.items, scores)
        if not joined:
            found.findings.append(
                f"None of the items that {summary['model']} was tested on is in these logs: they join by sample id."
            )
    if rows:
        p_values = [float(row[-1]) if isinstance(row[-1], float) else np.nan for row in rows]
        rows = [[*row, float(p)] for row, p in zip(rows, stats.holm(p_values), strict=True)]
        found.findings.append(_accuracy_sentence(rows))
        found.tables.append(_accuracy_table(rows))
    if beside:
        found.tables.append(_corpus_table(beside))
    found.notes.append(
        "A test shows that the model has read the set in this form. It cannot show when or how often, or that answers "
        "were learned by it; and it cannot show that nothing was read: items that were rewritten, translated, put in "
        "another order or read once leave little trace. A single item's score is weak evidence. Items with a high one "
        "are also easier, shorter and more usual, so that a difference in accuracy need not come from a leak."
    )
    return found


def _score(row: dict[str, Any] | None, key: str) -> float:
    value = None if row is None else row.get(key)
    return float("nan") if value is None else float(value)


def _accuracy_rows(analysis: Analysis, task: str, model: str, name: str, scores: np.ndarray) -> list[list[Cell]]:
    table = analysis.study.tables[task]
    if not table.has("accuracy/answer"):
        return []
    high = highest(scores)
    rows: list[list[Cell]] = []
    for row, (candidate, values) in enumerate(zip(table.candidates, table.item_means("accuracy/answer"), strict=True)):
        known = np.isfinite(values) & np.isfinite(scores)
        top, rest = values[known & high], values[known & ~high]
        if min(len(top), len(rest)) < FEWEST:
            continue
        sides = None
        if table.clusters is not None:
            sides = (table.clusters[known & ~high], table.clusters[known & high])
        runs = table.runs_per_item("accuracy/answer")[row]
        counts, level = (runs[known & ~high], runs[known & high]), analysis.options.confidence
        change = stats.rate_difference(rest, top, clusters=sides, runs=counts, confidence=level)
        contexts = None if table.clusters is None else table.clusters[known]
        p = stats.label_p(values[known], high[known], np.random.default_rng(analysis.options.seed), contexts)
        if p >= analysis.options.alpha:
            change = stats.Interval(change.estimate, min(change.low, 0.0), max(change.high, 0.0))
        own = (None, None) if sides is None else sides
        others, there = (
            stats.rate(x, labels, count, level) for x, labels, count in zip((rest, top), own, counts, strict=True)
        )
        there, others, change = _percent(there), _percent(others), _percent(change)
        rows.append([task, model, name, candidate, len(top), there, len(rest), others, change, p])
    return rows


def _percent(rate: stats.Interval) -> stats.Interval:
    return stats.Interval(*(100 * bound for bound in rate))


def highest(scores: np.ndarray) -> np.ndarray:
    """Which scores are among the highest `SHARE`; with ties at the border only those above it, (n,) of bool."""
    known = scores[np.isfinite(scores)]
    if not len(known):
        return np.zeros(len(scores), dtype=bool)
    border = np.quantile(known, 1 - SHARE)
    above = scores >= border
    return above if above.sum() <= 2 * SHARE * len(known) else scores > border


def _corpus_rows(
    sources: Sources, task: str, model: str, name: str, items: list[str], scores: np.ndarray
) -> list[list[Cell]]:
    """How well a score tells items that the audit found in the corpus from the others."""
    if sources.findings is None:
        return []
    leaked = np.array(
        [
            any(row.get("field") not in HARMLESS_FIELDS for row in sources.findings.get(asked_id(item), []))
            for item in items
        ]
    )
    known = np.isfinite(scores)
    yes, no = scores[known & leaked], scores[known & ~leaked]
    if min(len(yes), len(no)) < FEWEST:
        return []
    return [[task, model, name, len(yes), len(no), stats.auc(scores[known], leaked[known])]]


def _accuracy_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Accuracy on the items that look most like seen text",
        [
            Column("Task"),
            Column("Tested model"),
            Column("Score", help="per item, from the tested model; docs/contamination.md"),
            Column("Candidate"),
            Column("Highest quarter", "count"),
            Column("Accuracy there", "score", "percent"),
            Column("Others", "count"),
            Column("Accuracy of others", "score", "percent"),
            Column("Difference", "change", "points"),
            Column("p", "p", "unpaired exact test (Fisher, or the quarter dealt anew)"),
            Column("p (Holm)", "p", "corrected over the rows of this table"),
        ],
        rows,
    )


def _corpus_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "The same scores beside the audit's findings in the corpus",
        [
            Column("Task"),
            Column("Tested model"),
            Column("Score"),
            Column("In the corpus", "count"),
            Column("Not found", "count"),
            Column("AUC", "number", "chance that an item of the corpus scores higher than one not found; .5 is none"),
        ],
        rows,
    )


def _summary_sentence(summary: dict[str, Any]) -> str:
    subject = f"{summary['model']} and {summary['task']} ({summary['items']['items']:,} items)"
    results = {f"{row['test']}/{row['against']}": row for row in summary["results"]}
    shown = [results[name] for name in summary["leak_shown"] if name in results]
    if not shown:
        made = sum(row["p"] is not None for row in summary["results"])
        tests = "the one test does not show" if made == 1 else f"none of {made} tests shows"
        return f"{subject}: {tests} that the model has read the set."
    least = min(shown, key=lambda row: row["p_holm"])
    tests = names([f"{row['test']} against {row['against']}" for row in shown])
    return (
        f"{subject}: {len(shown)} of {len(results)} tests show that the model has read the set ({tests}; the least "
        f"p-value, after Holm's correction: {p_text(least['p_holm'])})."
    )


def _accuracy_sentence(rows: list[list[Cell]]) -> str:
    tested = [(row[10], row) for row in rows if isinstance(row[10], float) and np.isfinite(row[10])]
    p, row = min(tested, key=lambda pair: pair[0]) if tested else (1.0, rows[0])
    change = row[8]
    assert isinstance(change, stats.Interval)
    text = (
        f"{row[3]} on {row[0]} by {row[2]}: {show(change.estimate, 'change')} points on the items that look most like "
        f"seen text (95% interval {span(change, 'change')}; {p_text(p)} after Holm's correction)"
    )
    shown = sum(value < 0.05 for value, _ in tested)
    lead = f"For {shown} of {len(rows)}" if shown else f"For none of {len(rows)}"
    return f"{lead} accuracies a difference from the other items is shown; the clearest is that of {text}."
