"""7b2. Several runs of one item: does a candidate say the same again, and what do k runs reach?"""

from __future__ import annotations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Column, Section, Table, show, span
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources


def section(analysis: Analysis, sources: Sources) -> Section:
    """Agreement of runs, and unbiased pass@k, per accuracy task that ran several times."""
    found = Section("consistency", "Consistency over runs")
    for task in analysis.choice_tasks:
        table = analysis.study.tables[task]
        rows = _rows(table, analysis.options.confidence)
        if rows:
            found.tables.append(_table(task, rows))
            found.findings += [_sentence(task, row) for row in rows[:3]]
    if not found.tables:
        found.missing = "Each item ran once. `--epochs 5` with a temperature above 0, or several seeds, adds runs."
        return found
    found.notes.append(
        "k is the number of runs that every item has. Pass@k: at least one of k runs is right (Chen et al. 2021, "
        "unbiased); all of k: every one is. With a temperature of 0 runs differ by rounding alone."
    )
    return found


def _rows(table: TaskTable, confidence: float) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    values = table.values["accuracy/answer"]
    for row, candidate in enumerate(table.candidates):
        known = np.isfinite(values[row])
        runs = known.sum(axis=1)
        here = np.flatnonzero(runs > 1)
        if not len(here):
            continue
        clusters = None if table.clusters is None else table.clusters[here]
        answers = [list(table.letters[row, i][known[i]]) for i in here]
        if not any(a is not None for given in answers for a in given):
            answers = [list(values[row, i][known[i]]) for i in here]  # no letters were logged: right or wrong
        one, pairs = stats.same_answer(answers)
        k = int(runs[here].min())
        right = np.where(known[here], values[row, here], 0.0).sum(axis=1)
        cells = [one, pairs, right / runs[here]]
        whole = bool(np.isin(values[row][known], (0.0, 1.0)).all())
        if whole:
            cells += [stats.pass_at_k(right, runs[here], k), stats.all_of_k(right, runs[here], k)]
        shown: list[Cell] = [stats.rate(np.clip(x, 0, 1), clusters, 1, confidence) for x in cells]
        rows.append([candidate, len(here), k, *shown, *([] if whole else [None, None])])
    return rows


def _table(task: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Runs of one item on {task}",
        [
            Column("Candidate"),
            Column("Items", "count", "with two runs or more"),
            Column("k", "count", "runs that every item has"),
            Column("One answer", "rate", "items on which all runs state the same"),
            Column("Two runs agree", "rate", "chance that two runs of an item state the same"),
            Column("Accuracy", "rate", "of one run"),
            Column("Pass@k", "rate", "at least one of k runs is right"),
            Column("All of k", "rate", "every one of k runs is right"),
        ],
        rows,
    )


def _sentence(task: str, row: list[Cell]) -> str:
    one, accuracy = row[3], row[5]
    assert isinstance(one, stats.Interval)
    assert isinstance(accuracy, stats.Interval)
    text = (
        f"On {task}, {row[0]} gives one and the same answer in all runs of {show(one.estimate, 'rate')} of items "
        f"(95% interval {span(one, 'rate')})"
    )
    best, every = row[6], row[7]
    if isinstance(best, stats.Interval) and isinstance(every, stats.Interval):
        text += (
            f"; one run is right in {show(accuracy.estimate, 'rate')}, at least one of {row[2]} in "
            f"{show(best.estimate, 'rate')}, all {row[2]} in {show(every.estimate, 'rate')}"
        )
    return f"{text}."
