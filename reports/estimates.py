"""All estimates of a study: each metric of each table once, on common resamples of the table's items."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache, cached_property

import numpy as np

from medbench import stats
from medbench.reports.estimate import Estimate, Options, Tie
from medbench.reports.rows import Study, TaskTable
from medbench.scoring.units import COUNTS, is_rate

__all__ = ["Analysis", "Estimate", "Estimator", "Options", "Tie"]


class Estimator:
    """Estimates of one table, each computed once."""

    def __init__(self, table: TaskTable, options: Options) -> None:
        self.table, self.options = table, options
        self._known: dict[str, Estimate | None] = {}
        digest = hashlib.sha256(f"{table.task}/{table.setting_name}".encode()).digest()
        self._seed = [options.seed, *digest[:8]]

    def rng(self) -> np.random.Generator:
        """A generator in its first state."""
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
        draws = self._draws(counts, shared, stats.mean_statistic)
        confidence, groups = self.options.confidence, len(row_labels(clusters, values.shape[1]))
        if unit == "rate":
            runs = self.table.runs_per_item(counted or key)[present][:, shared]
            intervals = [stats.rate(row, clusters, count, confidence) for row, count in zip(values, runs, strict=True)]
            p = stats.sign_flip_matrix(values, clusters)
        elif key.split("/")[0] in COUNTS:
            intervals = [stats.count_mean(row, clusters, confidence) for row in values]
            p = _pairwise_means_p(values, clusters)
        else:
            intervals = [
                stats.bootstrap_interval(float(v.mean()), draws()[:, c], groups, confidence, top=100.0)
                for c, v in enumerate(values)
            ]
            p = _pairwise_means_p(values, clusters)
        names = self._names(present)
        n = values.shape[1]
        return Estimate(
            key, unit, names, n, intervals, p, values, clusters, self.options, counts, stats.mean_statistic, draws
        )

    def _bleu(self, key: str) -> Estimate:
        counts = self.table.statistics[key]
        present = np.isfinite(counts).all(axis=(1, 2))
        counts = counts[present].transpose(1, 0, 2)
        everything = np.ones(len(counts), dtype=bool)
        draws = self._draws(counts, everything, stats.bleu_statistic)
        scores = stats.bleu_statistic(counts.sum(0))
        groups = len(row_labels(self.table.clusters, len(counts)))
        intervals = [
            stats.bootstrap_interval(float(score), draws()[:, c], groups, self.options.confidence, top=100.0)
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
        draws = self._draws(pairs, np.ones(len(pairs), dtype=bool), stats.ratio_statistic)
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
        draws: Callable[[], np.ndarray],
        p: np.ndarray,
        counts: np.ndarray,
        statistic: stats.Statistic,
    ) -> Estimate:
        """An estimate that is no mean over items."""
        n, clusters = len(counts), self.table.clusters
        return Estimate(key, unit, names, n, intervals, p, None, clusters, self.options, counts, statistic, draws)

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
        return names, counts.sum(0), self.resamples.sums(counts)

    @cached_property
    def resamples(self) -> stats.Resamples:
        """Of the table's items; drawn once, because every metric is resampled on the same ones."""
        return stats.Resamples(len(self.table.items), self.options.resamples, self.rng(), self.table.clusters)

    def _draws(self, counts: np.ndarray, shared: np.ndarray, statistic: stats.Statistic) -> Callable[[], np.ndarray]:
        @cache
        def draws() -> np.ndarray:
            # Items that lack the metric stay in with weight 0: the resamples are those of the task's other metrics.
            full = np.zeros((len(shared), *counts.shape[1:]))
            full[shared] = counts
            return statistic(self.resamples.sums(full))

        return draws

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
    def claim_tasks(self) -> list[str]:
        """Tasks judged claim by claim."""
        return self.tasks_with("comprehensiveness/answer")

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
