"""Estimates of one task's table: intervals, common bootstrap replicates, corrected comparisons, ranks and groups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medbench import stats
from medbench.reports.rows import Study, TaskTable
from medbench.score_units import is_rate


@dataclass(frozen=True)
class Options:
    """How the report computes; kept in it, because a number that depends on a seed must record it.

    Attributes:
        resamples: bootstrap resamples, and trials of randomisation tests.
        alpha: familywise level of tests after Holm's correction.
        margin: the largest difference of accuracy, 0-1, that does not matter to the user; None where none was named.
    """

    resamples: int = 2000
    seed: int = 20260
    confidence: float = 0.95
    alpha: float = 0.05
    margin: float | None = None


@dataclass(frozen=True)
class Tie:
    """Whether a metric chooses one candidate.

    Attributes:
        kind: ``none`` (one is shown to be best), ``exact`` (several have the highest value), ``statistical`` (others
            cannot be told from the best), or ``untestable`` (there are too few items or contexts for any test to tell).
        best: the candidates with the highest value.
        tied: the others not shown to differ from them.
    """

    kind: str
    best: tuple[str, ...]
    tied: tuple[str, ...]


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
        item_values: shape (c, n), item means; None for scores that are no mean over items.
        counts, statistic: per-item statistics, shape (n, c, k), and the score that their sums make.
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
    counts: np.ndarray
    statistic: stats.Statistic

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

    def tie(self, among: Sequence[str] | None = None) -> Tie:
        """Whether the metric chooses one of some candidates (all of them by default).

        Told apart is what the letters of the leaderboard tell apart: Holm over all pairs of the table.
        """
        names = list(among if among is not None else self.candidates)
        values = np.array([self.value(name) for name in names])
        best = tuple(n for n, v in zip(names, values, strict=True) if v >= values.max() - 1e-9)
        others = [n for n in names if n not in best]
        alike = self.tied_with(best[0])
        tied = tuple(n for n in others if n in alike)
        if not self.testable and len(names) > 1:
            return Tie("untestable", best, tied)
        return Tie("exact" if len(best) > 1 else "statistical" if tied else "none", best, tied)

    @property
    def least_p(self) -> float:
        """The smallest corrected p-value that this many independent items or contexts allow."""
        pairs = len(self.candidates) * (len(self.candidates) - 1) // 2
        return min(1.0, stats.least_p(self.groups_of_items) * max(1, pairs))

    @property
    def testable(self) -> bool:
        """Whether any pair could be shown to differ; where not, shared letters and open ranks say nothing."""
        return self.least_p < self.options.alpha

    def difference(self, first: str, second: str, confidence: float | None = None) -> stats.Comparison:
        """Second minus first with an uncorrected interval and p-value; the interval holds 0 where the test does."""
        i, j = self.index(first), self.index(second)
        level = confidence or self.options.confidence
        if self.item_values is not None and self.unit == "rate":
            return stats.paired_rates(self.item_values[i], self.item_values[j], self.clusters, level)
        observed = float(self.values[j] - self.values[i])
        bounds = stats.bootstrap_interval(
            observed, self.replicates[:, j] - self.replicates[:, i], self.groups_of_items, level
        )
        p, low, high = float(self.p[i, j]), bounds.low, bounds.high
        if p >= 1 - level:
            low, high = min(low, 0.0), max(high, 0.0)
        return stats.Comparison(observed, low, high, p)

    def detectable(self, first: str, second: str) -> float:
        """The smallest true difference of the pair that this many items show at 80% power, and never less than 0.

        For rates the spread is that of `paired_rates`, which does not vanish where no item flips.
        """
        i, j = self.index(first), self.index(second)
        if self.item_values is not None and self.unit == "rate":
            sums, weight = stats.unit_sums(self.item_values[j] - self.item_values[i], self.clusters)
            low, high = stats.padded_interval(sums, weight, 1.0, 0.95, normal=True)
            return stats.detectable_from_se((high - low) / 2 / 1.959964)
        return stats.detectable_from_se(float(np.std(self.replicates[:, j] - self.replicates[:, i])))

    def interval_of(self, values: np.ndarray, observed: float) -> stats.Interval:
        """The interval of a difference or ratio of replicates on this table's resamples."""
        return stats.bootstrap_interval(observed, values, self.groups_of_items, self.options.confidence)

    def slope(self, indices: Sequence[int], positions: Sequence[float], confidence: float) -> stats.Comparison:
        """The tested least-squares slope over some candidates at ascending positions."""
        weights = stats.slope_weights(positions)
        chosen = list(indices)
        rng = np.random.default_rng(self.options.seed)
        p = stats.reversal_p(
            self.statistic, self.counts[:, chosen], weights, self.options.resamples, rng, self.clusters
        )
        observed = float(self.values[chosen] @ weights)
        if self.item_values is not None and self.unit == "rate":
            sums, weight = stats.unit_sums(weights @ self.item_values[chosen], self.clusters)
            reach = float(np.abs(weights).sum() / 2)
            low, high = stats.padded_interval(sums, weight, reach, confidence, normal=False)
        else:
            bounds = stats.bootstrap_interval(
                observed, self.replicates[:, chosen] @ weights, self.groups_of_items, confidence
            )
            low, high = bounds.low, bounds.high
        return stats.Comparison(observed, min(low, observed), max(high, observed), p)

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
        return self._mean(key, self.table.item_means(accuracy) + 1 - self.table.item_means(answered), accuracy)

    def _mean(self, key: str, values: np.ndarray, counted: str | None = None) -> Estimate | None:
        """A mean over items; `counted` is the metric whose outputs stand behind it, where that is another."""
        present = np.isfinite(values).any(axis=1)
        values = values[present]
        shared = np.isfinite(values).all(axis=0)
        if not shared.any():
            return None
        values = values[:, shared]
        clusters = None if self.table.clusters is None else self.table.clusters[shared]
        unit = "rate" if is_rate(key.split("/")[0]) else "score"
        counts = np.stack([values.T, np.ones_like(values.T)], axis=2)
        draws = self._replicates(counts, shared, stats.mean_statistic)
        confidence, groups = self.options.confidence, len(row_labels(clusters, values.shape[1]))
        if unit == "rate":
            runs = self.table.runs_per_item(counted or key)[present][:, shared]
            intervals = [stats.rate(row, clusters, count, confidence) for row, count in zip(values, runs, strict=True)]
            p = stats.sign_flip_matrix(values, clusters)
        else:
            intervals = [
                stats.bootstrap_interval(float(v.mean()), draws[:, c], groups, confidence, top=100.0)
                for c, v in enumerate(values)
            ]
            p = _pairwise_means_p(values, clusters)
        names = self._names(present)
        n = values.shape[1]
        return Estimate(
            key, unit, names, n, intervals, draws, p, values, clusters, self.options, counts, stats.mean_statistic
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
            stats.bootstrap_interval(float(score), draws[:, c], groups, self.options.confidence, top=100.0)
            for c, score in enumerate(scores)
        ]
        p = stats.randomisation_matrix(
            stats.bleu_statistic, counts, self.options.resamples, self.rng(), self.table.clusters, tail=True
        )
        names = self._names(present)
        return self._of_counts(key, "score", names, intervals, draws, p, counts, stats.bleu_statistic)

    def _ratio(self, key: str, numerator: str, denominator: str) -> Estimate | None:
        if not (self.table.has(numerator) and self.table.has(denominator)):
            return None
        above, below = self.table.item_means(numerator), self.table.item_means(denominator)
        present = np.isfinite(above).all(axis=1) & np.isfinite(below).all(axis=1) & (np.nansum(below, axis=1) > 0)
        if not present.any():
            return None
        pairs = np.stack([above[present].T, below[present].T], axis=2)
        draws = self._replicates(pairs, np.ones(len(pairs), dtype=bool), stats.ratio_statistic)
        names, runs = self._names(present), self.table.runs_per_item(denominator)[present]
        intervals = [
            stats.ratio_rate(a, b, self.table.clusters, r, self.options.confidence)
            for a, b, r in zip(above[present], below[present], runs, strict=True)
        ]
        p = stats.randomisation_matrix(
            stats.ratio_statistic, pairs, self.options.resamples, self.rng(), self.table.clusters, tail=True
        )
        return self._of_counts(key, "rate", names, intervals, draws, p, pairs, stats.ratio_statistic)

    def _of_counts(
        self,
        key: str,
        unit: str,
        names: list[str],
        intervals: list[stats.Interval],
        draws: np.ndarray,
        p: np.ndarray,
        counts: np.ndarray,
        statistic: stats.Statistic,
    ) -> Estimate:
        """An estimate that is no mean over items."""
        n, clusters = len(counts), self.table.clusters
        return Estimate(key, unit, names, n, intervals, draws, p, None, clusters, self.options, counts, statistic)

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


def row_labels(clusters: np.ndarray | None, n: int) -> Sequence[object]:
    """The distinct clusters; every item on its own where there are none."""
    return range(n) if clusters is None else np.unique(clusters).tolist()


def _pairwise_means_p(values: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    count = len(values)
    p = np.ones((count, count))
    for i in range(count):
        for j in range(i + 1, count):
            found = stats.paired_difference(values[i], values[j], clusters).p
            p[i, j] = p[j, i] = found
    return p
