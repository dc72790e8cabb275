"""How well a score follows what people say: rank correlation, order of pairs, and the kappa of its best threshold.

Everything is computed from ranks and from how often each cluster counts, one row of `weights` per resample of a
bootstrap over clusters: weights of 1 give the figures themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench.compiling import kernel
from medbench.errors import MedbenchError

_NEAR = 1e-12


@dataclass(frozen=True)
class Association:
    """Figures of one score, one entry per row of weights; NaN where a figure is not defined.

    Attributes:
        spearman: Spearman's rho with mid-ranks.
        kendall: Kendall's tau-b.
        auc: of all pairs that people tell apart, the share in which the better one scores higher, ties half: the area
            under the ROC curve for two labels, Harrell's c-index for ratings.
    """

    spearman: np.ndarray
    kendall: np.ndarray
    auc: np.ndarray


def association(scores: np.ndarray, truth: np.ndarray, clusters: np.ndarray, weights: np.ndarray) -> Association:
    """Rank association of scores with what people say.

    Args:
        scores, truth: shape (n,), finite.
        clusters: shape (n,), integers from 0.
        weights: shape (resamples, clusters), how often each cluster counts; copies of a row are ties.
    """
    x, y = _ranked(scores), _ranked(truth, _NEAR)
    if not x.shape == y.shape == np.shape(clusters):
        raise MedbenchError(f"one truth and cluster per score: got {x.shape}, {y.shape} and {np.shape(clusters)}.")
    figures = np.full((len(weights), 3), np.nan)
    if len(x):
        order = np.argsort(x, kind="stable")
        figures = _rank_figures(x[order], y[order], np.asarray(clusters, np.int64)[order], _floats(weights))
    return Association(figures[:, 0], figures[:, 1], figures[:, 2])


def _floats(weights: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weights, dtype=float)


def _ranked(values: np.ndarray, near: float = 0.0) -> np.ndarray:
    """Dense ranks from 0; neighbours that differ by no more than `near` times the largest value are equal.

    What people say is often a mean, and sums in another order differ in their last digits (`_NEAR`). Scores are taken
    as their library gives them: whoever hands the same floats to scipy finds the same figures.
    """
    x = np.asarray(values, dtype=float)
    if not len(x):
        return np.zeros(0, np.int64)
    order = np.argsort(x, kind="stable")
    ranks = np.empty(len(x), np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(np.diff(x[order]) > near * max(1.0, float(np.abs(x).max())))])
    return ranks


@kernel
def _rank_figures(x: np.ndarray, y: np.ndarray, cluster: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman, tau-b and c-index of each row of weights, in n log n; rows are sorted by x.

    They are taken in blocks of equal x; a Fenwick tree holds the weights of what came before, by y.
    """
    n, levels, lots = len(x), y.max() + 1, x.max() + 1
    found = np.full((len(weights), 3), np.nan)
    for draw in range(len(weights)):
        w = weights[draw][cluster]
        in_x, in_y = np.zeros(lots), np.zeros(levels)
        for i in range(n):
            in_x[x[i]] += w[i]
            in_y[y[i]] += w[i]
        total = in_x.sum()
        apart_x = (total * total - (in_x * in_x).sum()) / 2
        apart_y = (total * total - (in_y * in_y).sum()) / 2
        if apart_y <= 0:
            continue
        tree, seen = np.zeros(levels + 1), 0.0
        ordered, reversed_ = 0.0, 0.0
        start = 0
        while start < n:
            stop = start
            while stop < n and x[stop] == x[start]:
                stop += 1
            for i in range(start, stop):
                below, upto = 0.0, 0.0
                j = y[i]
                while j > 0:
                    below += tree[j]
                    j -= j & -j
                j = y[i] + 1
                while j > 0:
                    upto += tree[j]
                    j -= j & -j
                ordered += w[i] * below
                reversed_ += w[i] * (seen - upto)
            for i in range(start, stop):
                seen += w[i]
                j = y[i] + 1
                while j <= levels:
                    tree[j] += w[i]
                    j += j & -j
            start = stop
        found[draw, 2] = (ordered + 0.5 * (apart_y - ordered - reversed_)) / apart_y
        if apart_x <= 0:
            continue
        found[draw, 1] = (ordered - reversed_) / np.sqrt(apart_x * apart_y)
        middle_x = np.cumsum(in_x) - in_x / 2 - total / 2
        middle_y = np.cumsum(in_y) - in_y / 2 - total / 2
        both, alone_x, alone_y = 0.0, 0.0, 0.0
        for i in range(n):
            a, b = middle_x[x[i]], middle_y[y[i]]
            both += w[i] * a * b
            alone_x += w[i] * a * a
            alone_y += w[i] * b * b
        found[draw, 0] = both / np.sqrt(alone_x * alone_y)
    return found


def preferred_pairs(scores: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Pairs within a group of which people prefer one, and what the score does with them.

    Args:
        scores, truth: shape (n,).
        groups: shape (n,), integers from 0: only rows of one group are compared.

    Returns:
        shape (groups, 3): pairs that people tell apart; those in which the preferred one scores higher; those in which
        both score the same.
    """
    x, y, index = _ranked(scores), _ranked(truth, _NEAR), np.asarray(groups)
    found = np.zeros((int(index.max()) + 1 if len(index) else 0, 3))
    order = np.argsort(index, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(index[order])) + 1):
        for part in range(0, len(rows), 1000):  # bounds memory where a group is large
            here = rows[part : part + 1000]
            gap = x[here][:, None] - x[rows][None, :]
            better = y[here][:, None] > y[rows][None, :]
            found[index[rows[0]]] += better.sum(), np.sum(better & (gap > 0)), np.sum(better & (gap == 0))
    return found


def picked_share(pairs: np.ndarray) -> np.ndarray:
    """The share of preferred ones that the score picks, ties half; from summed `preferred_pairs`, (..., 3) to (...)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs[..., 0] > 0, (pairs[..., 1] + pairs[..., 2] / 2) / pairs[..., 0], np.nan)


def held_out_kappa(
    scores: np.ndarray, positive: np.ndarray, clusters: np.ndarray, folds: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Cohen's kappa of "scores at least t" with the label, t being the best one of the other folds.

    Args:
        scores: shape (n,); positive: shape (n,), bool; clusters: shape (n,), integers from 0.
        folds: shape (clusters,), labels: what is held out together.
        weights: shape (resamples, clusters), how often each cluster counts.

    For each fold t is the observed score that gives the highest kappa on all other folds (the lowest such t, and none
    called positive where no t gives a kappa above 0); the calls of all folds together make one table. Shape
    (resamples,), NaN where a label is missing or there is only one fold.
    """
    if not len(scores):
        return np.full(len(weights), np.nan)
    index = np.unique(np.asarray(folds)[clusters], return_inverse=True)[1]
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 2))
    y, cluster = np.asarray(positive).astype(np.bool_)[order], np.asarray(clusters, np.int64)[order]
    return _held_out(_ranked(scores)[order], y, cluster, starts, _floats(weights))


def best_threshold(scores: np.ndarray, positive: np.ndarray) -> float:
    """The observed score t for which "at least t" has the highest kappa with the label; NaN where none is above 0."""
    x, y = _ranked(scores), np.asarray(positive).astype(bool)
    levels = int(x.max()) + 1
    cut = _best_cut(np.bincount(x[y], minlength=levels) * 1.0, np.bincount(x[~y], minlength=levels) * 1.0)
    return float("nan") if cut == levels else float(np.asarray(scores, dtype=float)[x >= cut].min())


@kernel
def _best_cut(positives: np.ndarray, negatives: np.ndarray) -> int:
    """The rank t whose "rank >= t" has the highest kappa, from the weights of both labels at each rank.

    The lowest one of equals; the number of ranks where none is above 0. Calling everything positive has kappa 0, and
    so has every t that splits nothing off.
    """
    hit, false = positives.sum(), negatives.sum()
    of_positives, of_negatives = hit, false
    total = hit + false
    best, cut = 1e-12, len(positives)
    for rank in range(len(positives) - 1):
        here = positives[rank] + negatives[rank]
        if here <= 0:
            continue
        hit -= positives[rank]
        false -= negatives[rank]
        called = hit + false
        chance = (called * of_positives + (total - called) * of_negatives) / total
        kappa = (hit + of_negatives - false - chance) / (total - chance) if total - chance > 1e-12 else 0.0
        if kappa > best + 1e-12:
            best, cut = kappa, rank + 1
    while cut < len(positives) - 1 and positives[cut] + negatives[cut] <= 0:
        cut += 1
    return cut


@kernel
def _held_out(x: np.ndarray, y: np.ndarray, cluster: np.ndarray, starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    found, levels = np.full(len(weights), np.nan), x.max() + 1
    for draw in range(len(weights)):
        w = weights[draw][cluster]
        by_rank, table, folds = np.zeros((2, levels)), np.zeros((2, 2)), 0
        for i in range(len(x)):
            by_rank[int(y[i]), x[i]] += w[i]
        total = by_rank.sum()
        for fold in range(len(starts) - 1):
            inside = w[starts[fold] : starts[fold + 1]].sum()
            if inside <= 0 or total - inside <= 0:
                continue
            folds += 1
            for i in range(starts[fold], starts[fold + 1]):
                by_rank[int(y[i]), x[i]] -= w[i]
            cut = _best_cut(by_rank[1], by_rank[0])
            for i in range(starts[fold], starts[fold + 1]):
                by_rank[int(y[i]), x[i]] += w[i]
                table[int(y[i]), int(x[i] >= cut)] += w[i]
        if folds < 2:
            continue
        positives, called = table[1].sum(), table[:, 1].sum()
        chance = (positives * called + (total - positives) * (total - called)) / total
        if positives > 0 and positives < total and total - chance > 1e-12:
            found[draw] = (table[0, 0] + table[1, 1] - chance) / (total - chance)
    return found
