"""1. Which candidate each metric would choose, and the accuracy lost by choosing with a surface metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap.labels import common_candidates, metric_name, tied
from medbench.reports.page import Cell, Column, Section, Table, names, p_text, show
from medbench.reports.sources import Sources

CHOOSERS = ("bleu4/raw", "bleu4/answer", "rougeL/raw", "rougeL/answer", "bleu4_llamafactory/raw")


def section(analysis: Analysis, sources: Sources) -> Section:
    """The verdict: one table per accuracy task, one row per surface metric that could have been used instead."""
    found = Section("verdict", "Verdict")
    if len(analysis.study.candidates) < 2:
        found.missing = "There is one candidate only, so there is nothing to choose. Add logs of another model."
        return found
    apart = [task for task, table in analysis.study.tables.items() if not table.items]
    if apart and (not analysis.choice_tasks or not analysis.surface_tasks):
        found.missing = (
            f"The candidates share no item of {names(apart)}: nothing can be compared. Run them on the same items "
            "(the same source, --limit and --sample-id) and report again."
        )
        return found
    if not analysis.choice_tasks or not analysis.surface_tasks:
        lacking = (
            "accuracy (e.g. medbench/medqa)" if not analysis.choice_tasks else "reference texts (e.g. medbench/f5)"
        )
        found.missing = f"No task scored with {lacking} in these logs. Run one for every candidate and report again."
        return found
    for accuracy_task in analysis.choice_tasks:
        accuracy = analysis.estimators[accuracy_task].estimate("accuracy/answer")
        assert accuracy is not None
        rows: list[list[Cell]] = []
        several = len(analysis.surface_tasks) > 1
        for surface_task in analysis.surface_tasks:
            for key in CHOOSERS:
                surface = analysis.estimators[surface_task].estimate(key)
                if surface is not None:
                    row = _row(analysis, accuracy, surface)
                    if row is not None:
                        rows.append([row[0], surface_task, *row[1:]] if several else row)
        if rows:
            found.tables.append(_table(accuracy_task, accuracy, analysis.surface_tasks, rows))
    found.findings = _findings(analysis)
    if not found.tables:
        found.missing = "No two candidates share an accuracy task and a free-text task; run both for each candidate."
    found.notes.append(
        "Regret is the accuracy of the best candidate minus that of the chosen one; its interval allows for not "
        "knowing "
        "which is best (multiple comparisons with the best). An abstention counts as wrong."
    )
    return found


def chosen_regret(analysis: Analysis, accuracy: Estimate, surface: Estimate) -> tuple[str, str, stats.Interval] | None:
    """Whom the surface metric and accuracy choose among their common candidates, and the regret of the former (0-1)."""
    shared = common_candidates(analysis, accuracy, surface)
    if len(shared) < 2:
        return None
    by_surface = max(shared, key=lambda name: surface.value(name))
    columns = [accuracy.index(name) for name in shared]
    values = accuracy.values[columns]
    loss = stats.regret(values, accuracy.replicates[:, columns], shared.index(by_surface), analysis.options.confidence)
    # Equal accuracy is no disagreement.
    by_accuracy = by_surface if loss.estimate == 0 else shared[int(np.argmax(values))]
    return by_surface, by_accuracy, loss


def tells_none_apart(surface: Estimate, shared: Sequence[str]) -> bool:
    """Whether a metric gives all of these candidates the same score."""
    values = [surface.value(name) for name in shared]
    return max(values) - min(values) < 1e-9


def _row(analysis: Analysis, accuracy: Estimate, surface: Estimate) -> list[Cell] | None:
    choice = chosen_regret(analysis, accuracy, surface)
    if choice is None or tells_none_apart(surface, common_candidates(analysis, accuracy, surface)):
        return None
    by_surface, by_accuracy, loss = choice
    return [
        metric_name(surface.key),
        by_surface,
        surface.intervals[surface.index(by_surface)],
        accuracy.intervals[accuracy.index(by_surface)],
        by_accuracy,
        loss,
        float(accuracy.difference(by_surface, by_accuracy).p),
    ]


def _table(task: str, accuracy: Estimate, surface_tasks: Sequence[str], rows: list[list[Cell]]) -> Table:
    where = f" on {surface_tasks[0]}" if len(surface_tasks) == 1 else ""
    return Table(
        f"What choosing by a surface metric{where} costs in accuracy on {task} (n = {accuracy.n:,})",
        [
            Column("Metric", help="the surface metric used to choose, and the view of the output it reads"),
            *([Column("Scored on")] if len(surface_tasks) > 1 else []),
            Column("It chooses"),
            Column("Its score", "score", "score of the chosen candidate, 0-100"),
            Column("Accuracy of that choice", "rate"),
            Column("Accuracy chooses"),
            Column("Regret", "points", "accuracy lost, in percentage points, with simultaneous 95% bounds"),
            Column("p", "p", "paired test of the two chosen candidates, uncorrected"),
        ],
        rows,
    )


def _findings(analysis: Analysis) -> list[str]:
    """What BLEU-4 and ROUGE-L as generated cost on the main pair of tasks, then BLEU-4 on the other accuracy tasks."""
    surface_task = analysis.surface_tasks[0]
    said: list[str] = []
    seen: set[str] = set()
    for accuracy_task in analysis.choice_tasks:
        main = accuracy_task == analysis.choice_tasks[0]
        accuracy = analysis.estimators[accuracy_task].estimate("accuracy/answer")
        for key in ("bleu4/raw", "rougeL/raw") if main else ("bleu4/raw",):
            surface = analysis.estimators[surface_task].estimate(key)
            choice = chosen_regret(analysis, accuracy, surface) if accuracy and surface else None
            if choice is None or accuracy is None:
                continue
            name = metric_name(key)
            assert surface is not None
            if tells_none_apart(surface, common_candidates(analysis, accuracy, surface)):
                score = show(float(surface.values[0]), "score")
                said.append(f"{name} on {surface_task} gives all candidates the same score, {score}: it chooses none.")
                continue
            if main and choice[0] in seen:
                said.append(f"{name} chooses {choice[0]} too, at the same cost.")
            else:
                said.append(_sentence(accuracy, accuracy_task, f"{name} on {surface_task}", *choice))
            seen.add(choice[0])
    return said


def _sentence(
    accuracy: Estimate, accuracy_task: str, chooser: str, by_surface: str, by_accuracy: str, loss: stats.Interval
) -> str:
    if by_surface == by_accuracy:
        return f"{chooser} and accuracy on {accuracy_task} choose the same: {by_surface}{tied(accuracy, by_surface)}."
    real = loss.low > 0
    cost = (
        f"{chooser} chooses {by_surface}; accuracy on {accuracy_task} chooses {by_accuracy}"
        f"{tied(accuracy, by_accuracy, but=by_surface if real else None)}. The surface metric's choice costs "
        f"{points(loss.estimate)} points of accuracy (95% interval {points(loss.low)} to {points(loss.high)})"
    )
    if real:
        cost += ": the two choose differently, and the loss is real."
        if by_surface in accuracy.tied_with(by_accuracy):
            count = len(accuracy.candidates)
            cost += (
                f" The interval compares each candidate with the best; correcting for all {count * (count - 1) // 2} "
                "pairs of the leaderboard, a wider question, does not part these two."
            )
        return cost
    p, least = accuracy.difference(by_surface, by_accuracy).p, accuracy.detectable(by_surface, by_accuracy)
    return (
        f"{cost}. {accuracy.n:,} items cannot tell that from no loss (paired {p_text(p)}): these two would have "
        f"to differ by {points(least)} points to be told apart with 80% power."
    )


def points(rate: float) -> str:
    """A rate difference as unsigned percentage points."""
    return f"{100 * rate:.1f}"
