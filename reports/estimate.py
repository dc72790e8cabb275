"""One metric of one task for every candidate: intervals, corrected comparisons, ranks and ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medbench import stats


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
        p: shape (c, c), uncorrected; `p_adjusted` after Holm over all pairs.
        item_values: shape (c, n), item means; None for scores that are no mean over items.
        counts, statistic: per-item statistics, shape (n, c, k), and the score that their sums make.
        draws: gives `replicates`; computed when first asked for, which rates seldom are.
    """

    key: str
    unit: str
    candidates: list[str]
    n: int
    intervals: list[stats.Interval]
    p: np.ndarray
    item_values: np.ndarray | None
    clusters: np.ndarray | None
    options: Options
    counts: np.ndarray
    statistic: stats.Statistic
    draws: Callable[[], np.ndarray]

    @property
    def replicates(self) -> np.ndarray:
        """The score on every resample, shape (resamples, c); the resamples are common to all metrics of the task."""
        return self.draws()

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

        For rates the spread is that of `stats.padded_interval`, which does not vanish where no item flips.
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
