"""5b. Accuracy by subject: department, disease group, specialty, step, whatever the data set sorts its items by."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Column, Section, Table, show, span
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources

# Subjects with fewer items are joined: their intervals would say nothing, and widen all others'.
_FEWEST = 10
REST = "all smaller ones"


def section(analysis: Analysis, sources: Sources) -> Section:
    """One table per accuracy task and way of sorting, with intervals that hold at once."""
    found = Section("subjects", "By subject")
    for task in analysis.choice_tasks:
        table = analysis.study.tables[task]
        for label, members in sorted(_kinds(table).items()):
            rows = _rows(table, members, analysis.options.confidence)
            found.tables.append(_table(task, label, rows))
            found.findings += _sentences(task, label, rows, table.candidates)
    if not found.tables:
        found.missing = (
            "No accuracy task in these logs names subjects of at least ten items; medbench/mmlu_med, cmexam, medmcqa "
            "and medqa do."
        )
        return found
    found.notes.append(
        f"Intervals of one candidate hold for all its subjects at once (Bonferroni). Subjects of fewer than {_FEWEST} "
        "items are joined. Where two intervals do not overlap, the subjects differ for that candidate; that one is "
        "harder may lie in the items, not in the subject."
    )
    return found


def _kinds(table: TaskTable) -> dict[str, dict[str, np.ndarray]]:
    """Label (e.g. ``department``) -> value -> columns of its items; only labels with two values or more."""
    columns: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, item in enumerate(table.items):
        for label, value in (table.facts.get(item, {}).get("subject") or {}).items():
            columns[label][str(value)].append(index)
    found = {}
    for label, values in columns.items():
        large = {value: np.array(at) for value, at in values.items() if len(at) >= _FEWEST}
        small = [i for at in values.values() if len(at) < _FEWEST for i in at]
        if len(large) + (len(small) >= _FEWEST) > 1:
            found[label] = large | ({REST: np.array(sorted(small))} if len(small) >= _FEWEST else {})
    return found


def _rows(table: TaskTable, members: dict[str, np.ndarray], confidence: float) -> list[list[Cell]]:
    means, runs = table.item_means("accuracy/answer"), table.runs_per_item("accuracy/answer")
    level = 1 - (1 - confidence) / len(members)
    rows: list[list[Cell]] = []
    for value, at in sorted(members.items(), key=lambda found: (found[0] == REST, -len(found[1]), found[0])):
        for row, candidate in enumerate(table.candidates):
            here = at[np.isfinite(means[row, at])]
            clusters = None if table.clusters is None else table.clusters[here]
            rows.append([value, candidate, len(here), stats.rate(means[row, here], clusters, runs[row, here], level)])
    return rows


def _table(task: str, label: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Accuracy on {task} by {label.replace('_', ' ')}",
        [
            Column(label.replace("_", " ").capitalize()),
            Column("Candidate"),
            Column("Items", "count"),
            Column("Accuracy", "rate", "bounds hold at once for all subjects of a candidate", bar=True),
        ],
        rows,
    )


def _sentences(task: str, label: str, rows: list[list[Cell]], candidates: list[str]) -> list[str]:
    """Per candidate the strongest and the weakest subject, where their intervals stand apart."""
    said = []
    for candidate in candidates:
        own = [(str(r[0]), r[3]) for r in rows if r[1] == candidate and isinstance(r[3], stats.Interval)]
        known = [(value, bounds) for value, bounds in own if np.isfinite(bounds.estimate)]
        if len(known) < 2:
            continue
        low, high = min(known, key=lambda v: v[1].high), max(known, key=lambda v: v[1].low)
        if low[1].high < high[1].low:
            said.append(
                f"On {task}, {candidate} is weaker in {low[0]} ({show(low[1].estimate, 'rate')}, "
                f"{span(low[1], 'rate')}) than in {high[0]} ({show(high[1].estimate, 'rate')}, "
                f"{span(high[1], 'rate')})."
            )
    return said or [f"On {task} no candidate is shown to be weaker in one {label.replace('_', ' ')} than in another."]
