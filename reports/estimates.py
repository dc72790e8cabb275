"""Estimates of one task's table: intervals, common bootstrap replicates, corrected comparisons, ranks and groups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medbench import stats
from medbench.reports.rows import Study, TaskTable

# Up to this many items a rate gets the exact binomial interval, which covers at every n; above it Wilson's, which is
# shorter and no less right there.
_EXACT_BELOW = 100


@dataclass(frozen=True)
class Options:
    """How the report computes; kept in it, because a number that depends on a seed must record it.

    Attributes:
        resamples: bootstrap resamples, and trials of randomisation tests.
        alpha: familywise level of tests after Holm's correction.
    """

    resamples: int = 2000
    seed: int = 20260
    confidence: float = 0.95
    alpha: float = 0.05


@dataclass
class Estimate:
    """One metric under one view for every candidate of a task that has it, on common items.

    Attributes:
        unit: ``rate`` (0-1) or ``score`` (0-100).
        candidates: those that have the metric; all arrays follow their order.
        n: items.
        values, intervals: shape (c,).
        replicates: shape (resamples, c), on resamples common to all metrics of the task.
        p: shape (c, c), uncorrected; `p_adjusted` after Holm over all pairs.
    """

    key: str
    unit: str
    candidates: list[str]
    n: int
    intervals: list[stats.Interval]
    replicates: np.ndarray
    p: np.ndarray
    item_values: np.ndarray | None
    clusters: np.ndarray | None
    options: Options

    @property
    def values(self) -> np.ndarray:
        """Point estimates, shape (c,)."""
        return np.array([interval.estimate for interval in self.intervals])

    def value(self, candidate: str) -> float:
        """The point estimate of one candidate."""
        return self.intervals[self.index(candidate)].estimate

    def index(self, candidate: str) -> int:
        """Where a candidate stands in the arrays."""
        return self.candidates.index(candidate)

    @cached_property
    def p_adjusted(self) -> np.ndarray:
        """Holm-corrected p-values of all pairs, symmetric, 1 on the diagonal."""
        count = len(self.candidates)
        rows, columns = np.triu_indices(count, 1)
        adjusted = np.ones((count, count))
        adjusted[rows, columns] = adjusted[columns, rows] = stats.holm(self.p[rows, columns])
        return adjusted

    @cached_property
    def groups(self) -> list[list[int]]:
        """Largest sets of candidates that cannot be told apart, best first."""
        return stats.indistinguishable_groups(self.values, self.p_adjusted, self.options.alpha)

    @cached_property
    def ranks(self) -> list[tuple[int, int]]:
        """The ranks that each candidate may hold."""
        return stats.rank_intervals(self.values, self.p_adjusted, self.options.alpha)

    @property
    def best(self) -> str:
        """The candidate with the highest value; the first of equals."""
        return self.candidates[int(np.argmax(self.values))]

    def tied_with(self, candidate: str) -> list[str]:
        """Other candidates not shown to differ from this one."""
        i = self.index(candidate)
        return [
            name for j, name in enumerate(self.candidates) if j != i and not self.p_adjusted[i, j] < self.options.alpha
        ]

    def difference(self, first: str, second: str) -> stats.Comparison:
        """Second minus first with an uncorrected interval and p-value."""
        i, j = self.index(first), self.index(second)
        if self.item_values is not None and self.unit == "rate":
            return stats.paired_difference(
                self.item_values[i], self.item_values[j], self.clusters, self.options.confidence
            )
        observed = float(self.values[j] - self.values[i])
        draws = self.replicates[:, j] - self.replicates[:, i]
        bounds = stats.percentile_interval(observed, draws, self.groups_of_items, self.options.confidence)
        return stats.Comparison(observed, bounds.low, bounds.high, float(self.p[i, j]))

    def detectable(self, first: str, second: str) -> float:
        """The smallest true difference of the pair that this many items show at 80% power."""
        i, j = self.index(first), self.index(second)
        return stats.detectable_from_se(float(np.std(self.replicates[:, j] - self.replicates[:, i])))

    def interval_of(self, values: np.ndarray, observed: float) -> stats.Interval:
        """The interval of any function of replicates on this table's resamples."""
        return stats.percentile_interval(observed, values, self.groups_of_items, self.options.confidence)

    @property
    def groups_of_items(self) -> int:
        """Clusters of items; as many as items where none share a context."""
        return self.n if self.clusters is None else len(np.unique(self.clusters))


class Estimator:
    """Estimates of one table, each computed once."""

    def __init__(self, table: TaskTable, options: Options) -> None:
        self.table, self.options = table, options
        self._known: dict[str, Estimate | None] = {}
        digest = hashlib.sha256(f"{table.task}/{table.setting_name}".encode()).digest()
        self._seed = [options.seed, *digest[:8]]

    def rng(self) -> np.random.Generator:
        """A generator in its first state: every metric of the table is resampled on the same items."""
        return np.random.default_rng(self._seed)

    def estimate(self, key: str) -> Estimate | None:
        """The estimate of ``<metric>/<view>``; None where no candidate has it.

        ``bleu4/...`` and its floor are corpus scores wherever per-item statistics were kept; ``answered_accuracy/...``
        is accuracy among answered items, ``accuracy_best/...`` that with every abstention right;
        everything else is a mean over items.
        """
        if key not in self._known:
            self._known[key] = self._estimate(key)
        return self._known[key]

    def among(self, key: str, items: np.ndarray) -> Estimate | None:
        """The mean of a metric over some of the table's items.

        Args:
            key: ``<metric>/<view>``.
            items: shape (n,), True for the items that count.

        Returns:
            None where no candidate has the metric on any of them.
        """
        if not self.table.has(key):
            return None
        return self._mean(key, np.where(items, self.table.item_means(key), np.nan))

    def _estimate(self, key: str) -> Estimate | None:
        metric, _, view = key.partition("/")
        if metric == "answered_accuracy":
            return self._ratio(key, f"accuracy/{view}", f"answered/{view}")
        if metric == "accuracy_best":
            return self._best_case(key, f"accuracy/{view}", f"answered/{view}")
        if key in self.table.statistics and np.isfinite(self.table.statistics[key]).all(axis=(1, 2)).any():
            return self._bleu(key)
        if not self.table.has(key):
            return None
        return self._mean(key, self.table.item_means(key))

    def _best_case(self, key: str, accuracy: str, answered: str) -> Estimate | None:
        if not (self.table.has(accuracy) and self.table.has(answered)):
            return None
        return self._mean(key, self.table.item_means(accuracy) + 1 - self.table.item_means(answered))

    def _mean(self, key: str, values: np.ndarray) -> Estimate | None:
        present = np.isfinite(values).any(axis=1)
        values = values[present]
        shared = np.isfinite(values).all(axis=0)
        if not shared.any():
            return None
        values = values[:, shared]
        clusters = None if self.table.clusters is None else self.table.clusters[shared]
        unit = "rate" if is_rate(key.split("/")[0]) else "score"
        single = bool(np.isin(values, (0.0, 1.0)).all())
        confidence = self.options.confidence
        draws = self._replicates(np.stack([values.T, np.ones_like(values.T)], axis=2), shared, stats.mean_statistic)
        if unit == "rate":
            intervals = [_rate_interval(row, single, clusters, confidence) for row in values]
        else:
            groups = len(row_labels(clusters, values.shape[1]))
            intervals = [
                stats.percentile_interval(float(v.mean()), draws[:, c], groups, confidence)
                for c, v in enumerate(values)
            ]
        exact = single and clusters is None
        p = stats.mcnemar_matrix(values) if exact else _pairwise_means_p(values, clusters)
        return Estimate(
            key, unit, self._names(present), values.shape[1], intervals, draws, p, values, clusters, self.options
        )

    def _bleu(self, key: str) -> Estimate:
        counts = self.table.statistics[key]
        present = np.isfinite(counts).all(axis=(1, 2))
        counts = counts[present].transpose(1, 0, 2)
        everything = np.ones(len(counts), dtype=bool)
        draws = self._replicates(counts, everything, stats.bleu_statistic)
        scores = stats.bleu_statistic(counts.sum(0))
        groups = len(row_labels(self.table.clusters, len(counts)))
        intervals = [
            stats.percentile_interval(float(score), draws[:, c], groups, self.options.confidence)
            for c, score in enumerate(scores)
        ]
        p = stats.randomisation_matrix(
            stats.bleu_statistic, counts, self.options.resamples, self.rng(), self.table.clusters, tail=True
        )
        names = self._names(present)
        return Estimate(key, "score", names, len(counts), intervals, draws, p, None, self.table.clusters, self.options)

    def _ratio(self, key: str, numerator: str, denominator: str) -> Estimate | None:
        if not (self.table.has(numerator) and self.table.has(denominator)):
            return None
        above, below = self.table.item_means(numerator), self.table.item_means(denominator)
        present = np.isfinite(above).all(axis=1) & np.isfinite(below).all(axis=1) & (np.nansum(below, axis=1) > 0)
        if not present.any():
            return None
        pairs = np.stack([above[present].T, below[present].T], axis=2)
        draws = self._replicates(pairs, np.ones(len(pairs), dtype=bool), stats.ratio_statistic)
        rates = stats.ratio_statistic(pairs.sum(0))
        names, groups = self._names(present), len(row_labels(self.table.clusters, len(pairs)))
        confidence = self.options.confidence
        intervals = [stats.percentile_interval(float(r), draws[:, c], groups, confidence) for c, r in enumerate(rates)]
        p = stats.randomisation_matrix(
            stats.ratio_statistic, pairs, self.options.resamples, self.rng(), self.table.clusters, tail=True
        )
        return Estimate(key, "rate", names, len(pairs), intervals, draws, p, None, self.table.clusters, self.options)

    def bleu_sums(self, key: str) -> tuple[list[str], np.ndarray, np.ndarray] | None:
        """Candidates, their summed BLEU statistics (c, 10) and resampled sums (resamples, c, 10)."""
        if key not in self.table.statistics:
            return None
        counts = self.table.statistics[key]
        present = np.isfinite(counts).all(axis=(1, 2))
        if not present.any():
            return None
        return self.resampled_sums(counts[present].transpose(1, 0, 2), self._names(present))

    def resampled_sums(self, counts: np.ndarray, names: list[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Sums of per-item statistics, shape (n, c, k), over the items and over the table's resamples."""
        draws = stats.bootstrap_sums(counts, self.options.resamples, self.rng(), self.table.clusters)
        return names, counts.sum(0), draws

    def _replicates(self, counts: np.ndarray, shared: np.ndarray, statistic: stats.Statistic) -> np.ndarray:
        # Items that lack the metric stay in with weight 0: the resamples are those of the task's other metrics.
        full = np.zeros((len(shared), *counts.shape[1:]))
        full[shared] = counts
        sums = stats.bootstrap_sums(full, self.options.resamples, self.rng(), self.table.clusters)
        return statistic(sums)

    def _names(self, present: np.ndarray) -> list[str]:
        return [name for name, here in zip(self.table.candidates, present, strict=True) if here]


class Analysis:
    """A study with its estimators: what the sections compute from."""

    def __init__(self, study: Study, options: Options) -> None:
        self.study, self.options = study, options
        self.estimators = {task: Estimator(table, options) for task, table in study.tables.items()}

    def tasks_with(self, key: str) -> list[str]:
        """Tasks that hold a metric, those with most candidates and then most items first."""
        found = [task for task, table in self.study.tables.items() if table.has(key)]
        size = {task: (len(self.study.tables[task].candidates), len(self.study.tables[task].items)) for task in found}
        return sorted(found, key=lambda task: (-size[task][0], -size[task][1], task))

    @property
    def choice_tasks(self) -> list[str]:
        """Tasks scored for accuracy; those with a reference text as well, where it may be a by-product, last."""
        found = self.tasks_with("accuracy/answer")
        return sorted(found, key=lambda task: self.study.tables[task].has("bleu4/raw"))

    @property
    def surface_tasks(self) -> list[str]:
        """Tasks scored against reference texts; free-text tasks before multiple-choice ones with explanations."""
        choice = set(self.choice_tasks)
        return sorted(self.tasks_with("bleu4/raw"), key=lambda task: task in choice)

    @property
    def probe_tasks(self) -> list[str]:
        """Tasks scored for refusals."""
        return self.tasks_with("refusal/answer")


RATES = {
    "accuracy",
    "accuracy_answered",
    "accuracy_best",
    "answered",
    "answered_accuracy",
    "trace",
    "trace_unterminated",
    "trace_share",
    "refusal",
    "partial",
    "compliance",
    "support",
}


def is_rate(metric: str) -> bool:
    """Whether a metric lies in 0-1 (the others are 0-100 scores or have no bounds)."""
    return metric in RATES or metric.startswith(("accuracy_", "answered_"))


def row_labels(clusters: np.ndarray | None, n: int) -> Sequence[object]:
    """The distinct clusters; every item on its own where there are none."""
    return range(n) if clusters is None else np.unique(clusters).tolist()


def _rate_interval(row: np.ndarray, binary: bool, clusters: np.ndarray | None, confidence: float) -> stats.Interval:
    if not binary:
        return stats.clustered_mean(row, clusters, confidence)
    if clusters is None and len(row) <= _EXACT_BELOW:
        return stats.clopper_pearson(int(row.sum()), len(row), confidence)
    return stats.clustered_proportion(row, clusters, confidence)


def _pairwise_means_p(values: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    count = len(values)
    p = np.ones((count, count))
    for i in range(count):
        for j in range(i + 1, count):
            found = stats.paired_difference(values[i], values[j], clusters).p
            p[i, j] = p[j, i] = found
    return p
