"""The headline numbers of a study, one for each task, metric and candidate, with all that a number needs beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medbench import stats
from medbench.benchmark.controls.control import KINDS
from medbench.reports import claims
from medbench.reports.chance import chance as chance_lines
from medbench.reports.estimates import Analysis, Estimate, Estimator
from medbench.reports.gap.labels import SURFACE
from medbench.reports.leaderboard import probe_estimates
from medbench.reports.logs import Run
from medbench.reports.rows import TaskTable

CONTRADICTED = "contradicted/answer"


@dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
        version: the task's; scores of two versions do not compare.
        control: the cue control under which the items were asked, empty where they were asked as they are.
        metric: ``<metric>/<view>``, or what a probe asks.
        unit: ``rate`` (0-1) or ``score`` (0-100).
        interval: the score with its 95% bounds.
        error: standard error, from the bootstrap over items or the contexts that they share.
        n: items behind it.
        chance: accuracy of guessing, NaN where the metric is no accuracy or no options were shown.
        floor: the same outputs against other items' references or claims, NaN where the metric has none.
        ranks: the ranks that the tests leave open, lowest and highest.
        tied: letters shared with candidates that are not told apart; None where there are too few items to test.
        run: the first log behind it.
    """

    task: str
    control: str
    version: str
    metric: str
    candidate: str
    unit: str
    interval: stats.Interval
    error: float
    n: int
    chance: float
    floor: float
    ranks: tuple[int, int]
    tied: str | None
    run: Run

    @property
    def benchmark(self) -> dict[str, Any]:
        """What the task says of its items: ``source, revision, sha256, items`` and so on."""
        found = (self.run.provenance.get("metadata") or {}).get("benchmark")
        return found if isinstance(found, dict) else {}

    @property
    def asked(self) -> str:
        """The task, and the control where there is one: ``medqa under options_only``."""
        return f"{self.task} under {self.control}" if self.control else self.task

    @property
    def lower_is_better(self) -> bool:
        """Whether less of it is better."""
        return self.metric == CONTRADICTED

    @property
    def beside(self) -> str:
        """Chance or floor in words, empty where there is neither."""
        if not math.isnan(self.chance):
            return f"chance {self.chance:.3f}"
        if math.isnan(self.floor):
            return ""
        return f"floor {self.floor:.3f}" if self.unit == "rate" else f"floor {self.floor:.2f}"


def results(analysis: Analysis) -> list[Result]:
    """The leaderboard's numbers, by task and metric, the best candidate first."""
    return [
        result
        for task, metric, estimate in headlines(analysis)
        for result in _of(analysis.study.tables[task], analysis.estimators[task], metric, estimate)
    ]


def exported(analysis: Analysis) -> list[Result]:
    """`results`, and what stands beside them: claims contradicted, and accuracies under cue controls.

    The latter are other tasks than the benchmark, and never ranked with it.
    """
    found = results(analysis)
    for task in analysis.claim_tasks:
        estimator = analysis.estimators[task]
        if (estimate := estimator.estimate(CONTRADICTED)) is not None:
            found += _of(analysis.study.tables[task], estimator, CONTRADICTED, estimate)
    for task, controls in sorted(analysis.study.controls.items()):
        for one in controls:
            estimator = Estimator(one.table, analysis.options)
            if (estimate := estimator.estimate("accuracy/answer")) is not None:
                found += _of(one.table, estimator, "accuracy/answer", estimate, task, one.control)
    return found


def _of(
    table: TaskTable, estimator: Estimator, metric: str, estimate: Estimate, task: str = "", control: str = ""
) -> list[Result]:
    """One metric of one table, the best candidate first."""
    run = next(iter(table.runs.values()))[0]
    kind = KINDS.get((run.control or "").split(" ")[0])
    guessed = metric == "accuracy/answer" and (kind is None or kind.shows_options)
    lines = chance_lines(table, estimator.options.confidence) if guessed else None
    floor = estimator.estimate(metric.replace("/", "_floor/"))
    count = len(estimate.candidates)
    marks = stats.letters(estimate.groups, count) if estimate.testable or count == 1 else [None] * count
    errors = estimate.replicates.std(axis=0, ddof=1)
    sign = 1 if metric == CONTRADICTED else -1
    return [
        Result(
            task=task or table.task,
            control=control,
            version=table.version,
            metric=metric,
            candidate=(name := estimate.candidates[i]),
            unit=estimate.unit,
            interval=estimate.intervals[i],
            error=float(errors[i]),
            n=estimate.n,
            chance=math.nan if lines is None else lines.chance,
            floor=floor.value(name) if floor is not None and name in floor.candidates else math.nan,
            ranks=estimate.ranks[i],
            tied=marks[i],
            run=table.runs[name][0],
        )
        for i in sorted(range(count), key=lambda i: sign * estimate.values[i])
    ]


def headlines(analysis: Analysis) -> Iterator[tuple[str, str, Estimate]]:
    """(task, metric, estimate) of accuracies, claims covered, surface scores as generated, and what probes ask."""
    for task in analysis.choice_tasks:
        estimate = analysis.estimators[task].estimate("accuracy/answer")
        if estimate is not None:
            yield task, "accuracy/answer", estimate
    for task in analysis.claim_tasks:
        estimate = analysis.estimators[task].estimate(claims.KEY)
        if estimate is not None:
            yield task, claims.KEY, estimate
    for task in analysis.surface_tasks:
        for metric in SURFACE:
            estimate = analysis.estimators[task].estimate(f"{metric}/raw")
            if estimate is not None:
                yield task, f"{metric}/raw", estimate
    for task in analysis.probe_tasks:
        for name, estimate in probe_estimates(analysis, task):
            yield task, name, estimate
