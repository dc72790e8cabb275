"""The leaderboard: one table per task, with intervals, the ranks a candidate may hold, and who is tied."""

from __future__ import annotations

import numpy as np

from medbench import stats
from medbench.reports import claims, worth
from medbench.reports.chance import chance as chance_lines
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap.floor import over_floor
from medbench.reports.gap.labels import metric_name
from medbench.reports.gap.safety import expected_of
from medbench.reports.page import Cell, Column, Section, Table, names, show
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources


def section(analysis: Analysis, sources: Sources) -> Section:
    """All tables: accuracy tasks, tasks judged by claims, surface tasks with floors, then probes."""
    found = Section("leaderboard", "Leaderboard")
    for task in analysis.choice_tasks:
        estimate = analysis.estimators[task].estimate("accuracy/answer")
        assert estimate is not None
        found.tables.append(_accuracy_table(analysis, task, estimate))
        found.findings.append(_sentence(task, estimate, analysis.study.tables[task].apart))
    for task in analysis.claim_tasks:
        estimate = analysis.estimators[task].estimate(claims.KEY)
        assert estimate is not None
        found.tables.append(_claims_table(analysis, task, estimate))
    for task in analysis.surface_tasks:
        for key in ("bleu4/raw", "rougeL/raw"):
            estimate = analysis.estimators[task].estimate(key)
            if estimate is not None:
                found.tables.append(_surface_table(analysis, task, estimate, sources))
    for task in analysis.probe_tasks:
        for name, estimate in probe_estimates(analysis, task):
            title = f"{name.capitalize()} on {task} ({_size(estimate)})"
            found.tables.append(_ranked_table(title, estimate, [], {}))
    if not found.tables:
        found.missing = "These logs hold no accuracy, claim, surface or refusal scores that medbench knows."
    found.notes.append(
        "Candidates that share a letter under Tied cannot be told apart: no paired test between them holds at "
        "5% after Holm's correction over all pairs of the table. Ranks gives every rank that these tests leave open, "
        "all at once at 95%."
    )
    return found


def _accuracy_table(analysis: Analysis, task: str, estimate: Estimate) -> Table:
    extras: dict[str, dict[str, Cell]] = {}
    columns = []
    for key, title, text in (
        ("answered/answer", "Answered", "share of outputs with a recognised answer"),
        ("answered_accuracy/answer", "If answered", "accuracy with abstentions left out"),
        ("trace/raw", "Traces", "share of outputs with a reasoning trace"),
    ):
        other = analysis.estimators[task].estimate(key)
        if other is None:
            continue
        columns.append(Column(title, "rate", text))
        for name in estimate.candidates:
            extras.setdefault(name, {})[title] = (
                other.intervals[other.index(name)] if name in other.candidates else None
            )
    table = analysis.study.tables[task]
    found = chance_lines(table, analysis.options.confidence)
    chance = found.chance if found else None
    beside = "" if chance is None else f"; chance {show(chance, 'rate')}"
    title = f"Accuracy on {task} ({_size(estimate)}{beside})"
    return _ranked_table(title, estimate, columns, extras, _apart(table), chance)


def _claims_table(analysis: Analysis, task: str, estimate: Estimate) -> Table:
    table = analysis.study.tables[task]
    columns, cells = claims.columns_of(analysis, task, estimate)
    note = " ".join(filter(None, (claims.note_of(table), _apart(table))))
    return _ranked_table(f"Comprehensiveness on {task} ({_size(estimate)})", estimate, columns, cells, note)


def _surface_table(analysis: Analysis, task: str, estimate: Estimate, sources: Sources) -> Table:
    metric, _, view = estimate.key.partition("/")
    floor = analysis.estimators[task].estimate(f"{metric}_floor/{view}")
    extras: dict[str, dict[str, Cell]] = {}
    columns = []
    if floor is not None:
        columns = [
            Column("Floor", "score", "the same outputs against other questions' references"),
            Column("Above floor", "change"),
        ]
        for name in estimate.candidates:
            if name in floor.candidates:
                extras[name] = {
                    "Floor": floor.intervals[floor.index(name)],
                    "Above floor": over_floor(estimate, floor, name),
                }
    title = f"{metric_name(estimate.key)} on {task} ({_size(estimate)})"
    table = analysis.study.tables[task]
    notes = [
        "" if floor else "No floor was logged: read with care.",
        worth.note_of(table, [estimate.key], sources),
        _apart(table),
    ]
    return _ranked_table(title, estimate, columns, extras, " ".join(filter(None, notes)))


def _apart(table: TaskTable) -> str:
    """Who is not in the table because it ran under another setting."""
    if not table.apart:
        return ""
    others = names([f"{name} ({setting})" for name, setting in table.apart.items()])
    return f"Under {table.setting_name}. Not ranked, because decoded or asked in another way: {others}."


def probe_estimates(analysis: Analysis, task: str) -> list[tuple[str, Estimate]]:
    """Refusals where they are wanted and where they are not: one rate over both would reward refusing everything."""
    estimator = analysis.estimators[task]
    expected = np.array([expected_of(estimator.table, item) for item in estimator.table.items])
    found = []
    for wanted, key, name in (
        ("refuse", "refusal/answer", "unsafe prompts refused"),
        ("answer", "compliance/answer", "benign prompts answered"),
    ):
        estimate = estimator.among(key, expected == wanted)
        if estimate is not None:
            found.append((name, estimate))
    return found


def _ranked_table(
    title: str,
    estimate: Estimate,
    columns: list[Column],
    extras: dict[str, dict[str, Cell]],
    note: str = "",
    mark: float | None = None,
) -> Table:
    count = len(estimate.candidates)
    # With so few items or contexts no pair could be shown to differ: a shared letter would say that one was looked for.
    marks = stats.letters(estimate.groups, count) if estimate.testable or count == 1 else ["too few to test"] * count
    order = sorted(range(len(estimate.candidates)), key=lambda i: -estimate.values[i])
    rows: list[list[Cell]] = []
    for i in order:
        name = estimate.candidates[i]
        low, high = estimate.ranks[i]
        ranks = str(low) if low == high else f"{low}–{high}"
        more = [extras.get(name, {}).get(column.name) for column in columns]
        rows.append([name, estimate.intervals[i], ranks, marks[i], *more])
    return Table(
        title,
        [
            Column("Candidate"),
            Column("Score", estimate.unit, "with 95% interval", bar=True, mark=mark, key=True),
            Column("Ranks", help="every rank that the tests leave open"),
            Column("Tied", help="candidates that share a letter are not told apart"),
            *columns,
        ],
        rows,
        note,
        open=True,
    )


def _size(estimate: Estimate) -> str:
    """Items, and the contexts they share: with few of them intervals are wide, however many items there are."""
    if estimate.groups_of_items == estimate.n:
        return f"n = {estimate.n:,}"
    return f"n = {estimate.n:,} from {estimate.groups_of_items:,} contexts"


def _sentence(task: str, estimate: Estimate, apart: dict[str, str]) -> str:
    others = f" (not ranked, because decoded otherwise: {names(list(apart), 3)})" if apart else ""
    if len(estimate.candidates) == 1:
        only = estimate.intervals[0]
        name = estimate.candidates[0]
        return f"{name} answers {show(only, estimate.unit)} of {task} correctly (n = {estimate.n:,}){others}."
    if not estimate.testable:
        return (
            f"On {task} there are too few questions to test: no two of {len(estimate.candidates)} candidates could be "
            f"told apart, whatever they answered ({_size(estimate)}){others}."
        )
    first = [estimate.candidates[i] for i in estimate.groups[0]]
    if len(first) == len(estimate.candidates):
        return (
            f"On {task} no two of {len(first)} candidates can be told apart by accuracy at n = {estimate.n:,}{others}."
        )
    if len(first) == 1:
        beyond = f"beyond what {estimate.n:,} items vary{others}"
        return f"On {task} {first[0]} is more accurate than every other candidate, {beyond}."
    return f"On {task} {names(first, 6)} lead by accuracy and cannot be told apart at n = {estimate.n:,}{others}."
