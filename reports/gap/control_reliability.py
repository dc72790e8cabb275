"""1d, third part: right under all askings of an item, and answered the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench import stats
from medbench.benchmark.controls.reliability import answered_the_same, right_under_all
from medbench.reports.estimates import Options
from medbench.reports.gap.control_pairs import KEY, Paired, interval_in, keeps_answer, number_in
from medbench.reports.page import Cell, Column, Table, show, span
from medbench.reports.rows import TaskTable


def reliability_rows(pairs: Sequence[Paired], options: Options) -> list[list[Cell]]:
    """Over the controls that a model can pass, on the items that all of them have; per setting."""
    rows: list[list[Cell]] = []
    by_plain: dict[int, list[Paired]] = {}
    for paired in pairs:
        if keeps_answer(paired):
            by_plain.setdefault(id(paired.control.plain), []).append(paired)
    for members in by_plain.values():
        plain = members[0].control.plain
        tables = [plain, *[paired.control.table for paired in members]]
        shared = [name for name in plain.candidates if all(name in table.candidates for table in tables)]
        items = [item for item in plain.items if all(item in set(table.items) for table in tables[1:])]
        if not (shared and items):
            continue
        for name in shared:
            rows.append(_reliability_row(name, tables, items, options))
    return rows


def _reliability_row(name: str, tables: list[TaskTable], items: list[str], options: Options) -> list[Cell]:
    right: list[np.ndarray] = []
    letters: list[np.ndarray] = []
    for table in tables:
        column = {item: at for at, item in enumerate(table.items)}
        at = [column[item] for item in items]
        row = table.candidates.index(name)
        right += list(table.values[KEY][row, at].T)
        letters += list(table.letters[row, at].T)
    judged = np.stack(right)
    every = right_under_all(judged)
    same = answered_the_same(np.stack(letters).T.tolist())
    first = tables[0]
    contexts = None
    if first.clusters is not None:
        known = dict(zip(first.items, first.clusters, strict=True))
        contexts = np.array([known[item] for item in items])
    plain = first.item_means(KEY)[first.candidates.index(name)][[first.items.index(item) for item in items]]
    return [
        name,
        int(np.isfinite(judged).any(axis=1).sum()),
        len(items),
        _rate(plain, contexts, options),
        _rate(every, contexts, options),
        _rate(same, contexts, options),
    ]


def _rate(values: np.ndarray, contexts: np.ndarray | None, options: Options) -> Cell:
    known = np.isfinite(values)
    if not known.any():
        return None
    labels = None if contexts is None else contexts[known]
    return stats.rate(values[known], labels, confidence=options.confidence)


def reliability_table(task: str, rows: list[list[Cell]]) -> Table:
    """The rows as a table."""
    return Table(
        f"Right under all, and answered the same, on {task}",
        [
            Column("Candidate"),
            Column("Askings", "count", "the task as it is, and every control and order that leaves the answer there"),
            Column("Items", "count", "that all of them have"),
            Column("As it is", "rate"),
            Column("Right under all", "rate", "robust accuracy; ReMedQA's ReAcc", bar=True, key=True),
            Column("Answered the same", "rate", "consistency, right or wrong; ReMedQA's ReCon"),
        ],
        rows,
        "An asking without an answer is wrong for the first and passed over for the second, as in ReMedQA's code.",
    )


def reliability_sentence(task: str, rows: list[list[Cell]]) -> str:
    """Of the candidate that is right under all most often."""
    best = max(rows, key=lambda row: interval_in(row[4]).estimate if row[4] is not None else -1.0)
    every, plain, same = interval_in(best[4]), interval_in(best[3]), best[5]
    most = "" if len(rows) == 1 else "the most of all, "
    text = (
        f"Over {best[1]} askings of {number_in(best[2]):,.0f} items of {task}, {best[0]} is right under all in "
        f"{show(every.estimate, 'rate')} ({most}{span(every, 'rate')}), of {show(plain.estimate, 'rate')} as it is"
    )
    return (
        f"{text}; it answers {show(interval_in(same).estimate, 'rate')} the same." if same is not None else f"{text}."
    )
