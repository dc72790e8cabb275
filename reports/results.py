"""The headline numbers of a study, one for each task, metric and candidate, with all that a number needs beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medbench import stats
from medbench.reports.chance import chance as chance_lines
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap.labels import SURFACE
from medbench.reports.leaderboard import probe_estimates
from medbench.reports.logs import Run


@dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
        version: the task's; scores of two versions do not compare.
        metric: ``<metric>/<view>``, or what a probe asks.
        unit: ``rate`` (0-1) or ``score`` (0-100).
        interval: the score with its 95% bounds.
        error: standard error, from the bootstrap over items or the contexts that they share.
        n: items behind it.
        chance: accuracy of guessing, NaN where the metric is no accuracy.
        floor: the same outputs against other items' references, NaN where the metric is no surface score.
        ranks: the ranks that the tests leave open, lowest and highest.
        tied: letters shared with candidates that are not told apart; None where there are too few items to test.
        run: the first log behind it.
    """

    task: str
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
    def beside(self) -> str:
        """Chance or floor in words, empty where there is neither."""
        if not math.isnan(self.chance):
            return f"chance {self.chance:.3f}"
        return "" if math.isnan(self.floor) else f"floor {self.floor:.2f}"


def results(analysis: Analysis) -> list[Result]:
    """All headline numbers, by task and metric, the best candidate first."""
    found = []
    for task, metric, estimate in headlines(analysis):
        table = analysis.study.tables[task]
        lines = chance_lines(table, analysis.options.confidence) if metric == "accuracy/answer" else None
        floor = analysis.estimators[task].estimate(metric.replace("/", "_floor/"))
        count = len(estimate.candidates)
        marks = stats.letters(estimate.groups, count) if estimate.testable or count == 1 else [None] * count
        errors = estimate.replicates.std(axis=0, ddof=1)
        for i in sorted(range(count), key=lambda i: -estimate.values[i]):
            name = estimate.candidates[i]
            found.append(
                Result(
                    task=task,
                    version=table.version,
                    metric=metric,
                    candidate=name,
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
            )
    return found


def headlines(analysis: Analysis) -> Iterator[tuple[str, str, Estimate]]:
    """(task, metric, estimate) of accuracies, surface scores as generated, and what probes ask."""
    for task in analysis.choice_tasks:
        estimate = analysis.estimators[task].estimate("accuracy/answer")
        if estimate is not None:
            yield task, "accuracy/answer", estimate
    for task in analysis.surface_tasks:
        for metric in SURFACE:
            estimate = analysis.estimators[task].estimate(f"{metric}/raw")
            if estimate is not None:
                yield task, f"{metric}/raw", estimate
    for task in analysis.probe_tasks:
        for name, estimate in probe_estimates(analysis, task):
            yield task, name, estimate
