"""1. Which candidate each metric would choose, and the accuracy lost by choosing with a surface metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate, Tie
from medbench.reports.gap.labels import common_candidates, metric_name, metric_short
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
                choice = decide(analysis, accuracy_task, surface_task, key)
                if surface is None or choice is None or tells_none_apart(surface, choice.shared):
                    continue
                row = _row(accuracy, surface, choice)
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


@dataclass(frozen=True)
class Choice:
    """Whom a surface metric and accuracy choose among their common candidates, and what the former costs.

    Attributes:
        surface_task, accuracy_task, metric: what was compared; `metric` is ``<metric>/<view>``.
        by_surface: the candidate the surface metric takes; by_accuracy: the most accurate, the same where none is more
            accurate.
        regret: the cost, 0-1, with its corrected test. Only `regret.real` allows to call it real.
        accuracy_tie, surface_tie: whether each metric chooses at all.
        shared: the candidates compared; n: items of the accuracy task.
    """

    surface_task: str
    accuracy_task: str
    metric: str
    by_surface: str
    by_accuracy: str
    regret: stats.Regret
    accuracy_tie: Tie
    surface_tie: Tie
    shared: tuple[str, ...]
    n: int

    @property
    def accuracy_chooses(self) -> bool:
        """Whether accuracy puts one candidate first by its estimates (it may still not be shown to be best)."""
        return len(self.accuracy_tie.best) == 1


def decide(
    analysis: Analysis, accuracy_task: str | None = None, surface_task: str | None = None, key: str = "bleu4/raw"
) -> Choice | None:
    """The choice of a pair of tasks, by default the main ones; None where they share fewer than two candidates."""
    if not analysis.choice_tasks or not analysis.surface_tasks:
        return None
    accuracy_task, surface_task = accuracy_task or analysis.choice_tasks[0], surface_task or analysis.surface_tasks[0]
    accuracy = analysis.estimators[accuracy_task].estimate("accuracy/answer")
    surface = analysis.estimators[surface_task].estimate(key)
    if accuracy is None or surface is None:
        return None
    shared = common_candidates(analysis, accuracy, surface)
    if len(shared) < 2:
        return None
    by_surface = max(shared, key=lambda name: surface.value(name))
    found = _regret(accuracy, shared, by_surface)
    return Choice(
        surface_task,
        accuracy_task,
        key,
        by_surface,
        shared[found.best],
        found,
        accuracy.tie(shared),
        surface.tie(shared),
        tuple(shared),
        accuracy.n,
    )


def _regret(accuracy: Estimate, shared: Sequence[str], by_surface: str) -> stats.Regret:
    assert accuracy.item_values is not None
    values = accuracy.item_values[[accuracy.index(name) for name in shared]]
    found = stats.regret(values, shared.index(by_surface), accuracy.clusters, accuracy.options.confidence)
    p = float(accuracy.p_adjusted[accuracy.index(by_surface), accuracy.index(shared[found.best])])
    if found.real and not p < accuracy.options.alpha:
        # The letters of the leaderboard, corrected over all pairs, tie the two: one page says one thing.
        loss = stats.Interval(found.loss.estimate, 0.0, found.loss.high)
        return replace(found, loss=loss, p=max(found.p, p), real=False)
    return found


def chosen_regret(analysis: Analysis, accuracy: Estimate, surface: Estimate) -> tuple[str, str, stats.Interval] | None:
    """Whom the surface metric and accuracy choose among their common candidates, and the regret of the former (0-1)."""
    shared = common_candidates(analysis, accuracy, surface)
    if len(shared) < 2:
        return None
    by_surface = max(shared, key=lambda name: surface.value(name))
    found = _regret(accuracy, shared, by_surface)
    return by_surface, shared[found.best], found.loss


def title(choice: Choice) -> str:
    """The verdict in a few words: who chooses whom, and whether accuracy chooses at all."""
    surface, accuracy = metric_short(choice.metric), choice.accuracy_tie
    if choice.surface_tie.kind == "exact" and len(choice.surface_tie.best) == len(choice.shared):
        return f"{surface} tells no candidate from another"
    if accuracy.kind == "untestable":
        return f"Too few items to choose: {choice.n} on {choice.accuracy_task}"
    if accuracy.kind == "exact":
        every = len(accuracy.best) == len(choice.shared)
        return (
            f"Accuracy does not choose: {'all' if every else ''} {len(accuracy.best)} candidates score the same"
        ).replace("  ", " ")
    if accuracy.kind == "statistical" and not choice.regret.real:
        count = len(accuracy.tied) + len(accuracy.best)
        return f"{surface} chooses {choice.by_surface}; accuracy does not choose among {count} candidates"
    if choice.by_surface == choice.by_accuracy:
        return f"{surface} and accuracy choose the same: {choice.by_surface}"
    doubt = "" if choice.regret.real else "; no loss is shown"
    return f"{surface} chooses {choice.by_surface}, accuracy {choice.by_accuracy}{doubt}"


def tells_none_apart(surface: Estimate, shared: Sequence[str]) -> bool:
    """Whether a metric gives all of these candidates the same score."""
    values = [surface.value(name) for name in shared]
    return max(values) - min(values) < 1e-9


def _row(accuracy: Estimate, surface: Estimate, choice: Choice) -> list[Cell]:
    return [
        metric_name(surface.key),
        choice.by_surface,
        choice.regret.loss,
        choice.regret.p,
        "yes" if choice.regret.real else "no",
        accuracy.intervals[accuracy.index(choice.by_surface)],
        choice.by_accuracy if choice.accuracy_chooses else f"no one ({len(choice.accuracy_tie.best)} tie)",
        surface.intervals[surface.index(choice.by_surface)],
    ]


def _table(task: str, accuracy: Estimate, surface_tasks: Sequence[str], rows: list[list[Cell]]) -> Table:
    where = f" on {surface_tasks[0]}" if len(surface_tasks) == 1 else ""
    return Table(
        f"What choosing by a surface metric{where} costs in accuracy on {task} (n = {accuracy.n:,})",
        [
            Column("Metric", help="the surface metric used to choose, and the view of the output it reads"),
            *([Column("Scored on")] if len(surface_tasks) > 1 else []),
            Column("It chooses"),
            # Long names take much room: what the choice costs must not lie beyond the edge.
            Column("Regret", "points", "accuracy lost, in percentage points, with simultaneous 95% bounds", key=True),
            Column("p", "p", "paired test of the two, corrected for not knowing which candidate is best"),
            Column("Loss shown", help="whether the corrected paired test shows that the choice costs accuracy"),
            Column("Accuracy of that choice", "rate"),
            Column("Accuracy chooses"),
            Column("Its score", "score", "score of the chosen candidate, 0-100"),
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
        for key in ("bleu4/raw", "rougeL/raw") if main else ("bleu4/raw",):
            surface = analysis.estimators[surface_task].estimate(key)
            choice = decide(analysis, accuracy_task, surface_task, key)
            if choice is None or surface is None:
                continue
            name = metric_name(key)
            if tells_none_apart(surface, choice.shared):
                score = show(float(surface.values[0]), "score")
                said.append(f"{name} on {surface_task} gives all candidates the same score, {score}: it chooses none.")
                continue
            if main and choice.by_surface in seen:
                said.append(f"{name} chooses {choice.by_surface} too, at the same cost.")
            else:
                said.append(_sentence(analysis, choice, f"{name} on {surface_task}"))
            seen.add(choice.by_surface)
    return said


def _sentence(analysis: Analysis, choice: Choice, chooser: str) -> str:
    task, tie, loss = choice.accuracy_task, choice.accuracy_tie, choice.regret.loss
    accuracy = analysis.estimators[task].estimate("accuracy/answer")
    assert accuracy is not None
    if tie.kind == "untestable":
        return (
            f"{chooser} chooses {choice.by_surface}. Accuracy on {task} cannot choose: with "
            f"{_size(accuracy)} no test could tell any two candidates apart, whatever they answered."
        )
    if choice.by_surface == choice.by_accuracy and len(tie.best) > 1:
        every = "all candidates" if len(tie.best) == len(choice.shared) else names(tie.best, 4)
        return (
            f"{chooser} chooses {choice.by_surface}. Accuracy on {task} does not choose: {every} "
            f"{'answer' if len(tie.best) == len(choice.shared) else 'all answer'} exactly "
            f"{show(accuracy.value(tie.best[0]), 'rate')} correctly."
        )
    if choice.by_surface == choice.by_accuracy:
        if tie.kind == "statistical":
            return (
                f"{chooser} chooses {choice.by_surface}, which also has the highest accuracy on {task}; but accuracy "
                f"does not choose: {names(tie.tied, 4)} cannot be told apart from it at n = {accuracy.n:,}."
            )
        return f"{chooser} and accuracy on {task} choose the same: {choice.by_surface}."
    apart = [name for name in tie.tied if name != choice.by_surface]
    also = f" ({names(apart, 3)} cannot be told apart from it)" if apart else ""
    first = choice.by_accuracy if len(tie.best) == 1 else f"{names(tie.best, 3)} alike"
    cost = (
        f"{chooser} chooses {choice.by_surface}; accuracy on {task} puts {first} first{also}. The surface metric's "
        f"choice costs {points(loss.estimate)} points of accuracy (95% interval {points(loss.low)} to "
        f"{points(loss.high)})"
    )
    if choice.regret.real:
        return f"{cost}: the two choose differently, and the loss is real ({p_text(choice.regret.p)})."
    least = accuracy.detectable(choice.by_surface, choice.by_accuracy)
    return (
        f"{cost}. {accuracy.n:,} items cannot tell that from no loss ({p_text(choice.regret.p)}): these two would have "
        f"to differ by {points(least)} points to be told apart with 80% power."
    )


def _size(accuracy: Estimate) -> str:
    groups = accuracy.groups_of_items
    return f"{accuracy.n:,} items" if groups == accuracy.n else f"{accuracy.n:,} items from {groups:,} contexts"


def points(rate: float) -> str:
    """A rate difference as unsigned percentage points."""
    return f"{100 * rate:.1f}"
