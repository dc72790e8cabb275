"""Metrics against people, by groups: estimates, their confidence intervals, and where a replication would land."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from medbench.errors import MedbenchError
from medbench.meta.columns import Judged, few
from medbench.meta.people import Panel, People
from medbench.stats.association import association, best_threshold, held_out_kappa, picked_share, preferred_pairs
from medbench.stats.proportions import clopper_pearson
from medbench.stats.raters import LEVELS, MOST_VALUES, alpha_of, coincidences, confusions, kappa_of, scale_of
from medbench.stats.resampling import Resamples, bootstrap_interval

# Both estimates of a comparison of two studies of one size are uncertain.
_REPLICATION = float(np.sqrt(2))
# Held out in turn as long as rows x groups stays below this; then twenty folds of groups.
_EACH_GROUP = 2_000_000
_FOLDS = 20
_MOST_PAIRS_OF_RATERS = 45
_FEW_GROUPS = 20
_CONSTANT = "the metric is constant"
FIGURES = ("spearman", "kendall", "auc", "pairs", "kappa")


@dataclass(frozen=True)
class Settings:
    """Attributes:
    resamples: bootstrap resamples of the groups; seed: of everything random; confidence: of every interval.
    """

    resamples: int = 1000
    seed: int = 20240
    confidence: float = 0.95


@dataclass(frozen=True)
class _Drawn:
    """The rows that count, in groups that are resampled: `weights[0]` is the data itself, the rest are resamples."""

    rows: np.ndarray
    groups: np.ndarray
    within: np.ndarray
    within_group: np.ndarray
    weights: np.ndarray
    folds: np.ndarray
    settings: Settings

    @property
    def count(self) -> int:
        return self.weights.shape[1]


def evaluate(
    judged: Judged, people: People, columns: Mapping[str, np.ndarray], settings: Settings
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Figures of each column of scores against what people say.

    Args:
        columns: name -> shape (n,), NaN where a row has no score.

    Returns:
        Name -> figures; facts about the groups; and notes.

    Raises:
        MedbenchError: no row has a judgement.
    """
    drawn = _draw(judged, people, settings)
    figures = {name: _figures(np.asarray(values, dtype=float), people, drawn) for name, values in columns.items()}
    sizes = np.bincount(drawn.groups)
    facts = {
        "count": drawn.count,
        "of_one_row": int(np.sum(sizes == 1)),
        "largest": int(sizes.max()),
        "held_out": "each group in turn" if len(np.unique(drawn.folds)) == drawn.count else f"{_FOLDS} folds of groups",
    }
    return figures, facts, _notes(people.value[drawn.rows], facts, figures)


def _draw(judged: Judged, people: People, settings: Settings) -> _Drawn:
    rows = np.flatnonzero(np.isfinite(people.value))
    if not len(rows):
        raise MedbenchError(f"{judged.rows[0].file}: no row has a judgement that can be used. {_why(judged)}")
    groups = np.unique(judged.groups[rows], return_inverse=True)[1]
    count = int(groups.max()) + 1
    raters = np.zeros(len(rows), np.int64)
    if judged.raters is not None:
        raters = np.unique(np.array(judged.raters)[rows], return_inverse=True)[1]
    # Two outputs are compared by the same person, where the file says who rated.
    _, first, index = np.unique(groups * (raters.max() + 1) + raters, return_index=True, return_inverse=True)
    rng = np.random.default_rng(settings.seed)
    weights = Resamples(count, settings.resamples, rng).drawn
    folds = np.arange(count)
    if len(rows) * count > _EACH_GROUP:
        folds = rng.permutation(count) % _FOLDS
    weights = np.concatenate([np.ones((1, count)), weights])
    return _Drawn(rows, groups, index, groups[first], weights, folds, settings)


def _why(judged: Judged) -> str:
    return "; ".join(judged.left_out.listed())


def _figures(values: np.ndarray, people: People, drawn: _Drawn) -> dict[str, Any]:
    scores = values[drawn.rows]
    known = np.isfinite(scores)
    rows, groups, x = drawn.rows[known], drawn.groups[known], scores[known]
    truth, positive = people.value[rows], people.positive[rows]
    n = len(np.unique(groups))
    ranks = association(x, truth, groups, drawn.weights)
    pairs = np.zeros((drawn.count, 3))
    of_raters = preferred_pairs(x, truth, drawn.within[known])
    np.add.at(pairs, drawn.within_group[: len(of_raters)], of_raters)
    sums = drawn.weights @ pairs
    kappa = held_out_kappa(x, positive, groups, drawn.folds, drawn.weights)
    constant = _CONSTANT if len(x) and np.ptp(x) == 0 else ""
    alike = "people judge every output alike" if len(x) and np.ptp(truth) == 0 else ""
    one_kind = "no output is positive, or all are" if len(x) and positive.all() | ~positive.any() else ""
    found: dict[str, Any] = {
        "n": len(x),
        "spearman": figure(ranks.spearman, n, drawn.settings, bottom=-1.0, why=alike or constant),
        "kendall": figure(ranks.kendall, n, drawn.settings, bottom=-1.0, why=alike or constant),
        "auc": figure(ranks.auc, n, drawn.settings, why=alike),
        "pairs": figure(
            picked_share(sums), int(np.sum(pairs[:, 0] > 0)), drawn.settings, why="no two outputs of a group differ"
        ),
        "kappa": figure(kappa, n, drawn.settings, bottom=-1.0, why=one_kind or "one group: nothing to hold out"),
    }
    found["pairs"] |= {
        "count": int(pairs[:, 0].sum()),
        "tied": int(pairs[:, 2].sum()),
        "groups": int(np.sum(pairs[:, 0] > 0)),
    }
    threshold = best_threshold(x, positive) if len(x) else float("nan")
    found["kappa"]["threshold"] = threshold if np.isfinite(threshold) else None
    return found


def figure(
    values: np.ndarray, clusters: int, settings: Settings, *, bottom: float = 0.0, why: str = ""
) -> dict[str, Any]:
    """One number with its two intervals.

    Args:
        values: shape (1 + resamples,): the figure itself, then of each resample; NaN where undefined.
        clusters: how many were resampled; bottom: the least value; why: said where the figure is undefined.

    Returns:
        `estimate`, `interval` (where the truth lies) and `replication_interval` (where the estimate of another
        study with as many groups lands), or None for them, `why` then.
    """
    estimate, replicates = float(values[0]), values[1:]
    if not np.isfinite(estimate):
        return {"estimate": None, "interval": None, "replication_interval": None, "why": why or "undefined"}
    found: dict[str, Any] = {"estimate": estimate}
    for name, widen in (("interval", 1.0), ("replication_interval", _REPLICATION)):
        bounds = bootstrap_interval(
            estimate, replicates, clusters, settings.confidence, 1.0, bottom=bottom, widen=widen, delta=True
        )
        if not np.isfinite(bounds.low) and bottom == 0 and estimate in (0.0, 1.0) and clusters > 1:
            # All groups agree: what is left is how few they are.
            bounds = clopper_pearson(estimate * clusters / widen**2, clusters / widen**2, settings.confidence)
        found[name] = [bounds.low, bounds.high] if np.isfinite(bounds.low) else None
    if found["interval"] is None:
        found["why"] = "one group: how far it varies is unknown" if clusters < 2 else "it does not vary over resamples"
    undefined = float(np.mean(~np.isfinite(replicates)))
    if undefined > 0.01:
        found["undefined_resamples"] = undefined
    return found


def _notes(value: np.ndarray, facts: dict[str, Any], figures: Mapping[str, Any]) -> list[str]:
    notes = []
    count = facts["count"]
    if count == 1:
        notes.append("all rows are one group: there are no intervals, and nothing can be held out")
    elif count < _FEW_GROUPS:
        notes.append(f"only {count} groups: intervals are rough, and may be too narrow")
    if facts["of_one_row"]:
        notes.append(f"{facts['of_one_row']} of {count} groups hold one row, which has no other to be preferred to")
    if np.ptp(value) == 0:
        notes.append("people judge every output alike: nothing can be compared with them")
    constant = [name for name, found in figures.items() if found["spearman"].get("why") == _CONSTANT]
    if constant:
        notes.append(f"the same for every output, so that all its pairs are ties: {few(constant)}")
    for name, found in figures.items():
        if found["n"] < len(value):
            notes.append(f"{name}: {len(value) - found['n']} of {len(value)} rows without a score are left out for it")
    return notes


def agreement(panel: Panel, settings: Settings) -> dict[str, Any]:
    """How far the people of a panel agree: alpha at every level that fits, kappa of each pair, one against the rest."""
    known = np.isfinite(panel.ratings)
    several = known.sum(axis=1) > 1
    found: dict[str, Any] = {
        "of": panel.of,
        "raters": panel.raters,
        "judged_by_several": int(several.sum()),
        "judged": int(known.any(axis=1).sum()),
    }
    ratings = panel.ratings[several]
    if not several.any():
        return {**found, "why": "no output was judged by two people"}
    if len(np.unique(ratings[np.isfinite(ratings)])) > MOST_VALUES:
        return {**found, "why": f"more than {MOST_VALUES} different ratings"}
    clusters = np.unique(panel.clusters[several], return_inverse=True)[1]
    found["groups"] = count = int(clusters.max()) + 1
    drawn = Resamples(count, settings.resamples, np.random.default_rng(settings.seed)).drawn
    weights = np.concatenate([np.ones((1, count)), drawn])
    values = scale_of(ratings)
    summed = _summed(coincidences(ratings), clusters, weights)
    found["alpha"] = {
        level: figure(alpha_of(summed, values, level), count, settings, bottom=-1.0, why="everybody says the same")
        for level in (LEVELS if not panel.labels else LEVELS[:1])
    }
    found["kappa"], found["one_against_others"] = [], {}
    if len(panel.labels) <= 2:  # more labels have no order
        found["one_against_others"] = _one_against_others(ratings, clusters, weights, settings)
    for a, b in list(combinations(range(len(panel.raters)), 2))[:_MOST_PAIRS_OF_RATERS]:
        counts = confusions(ratings[:, a], ratings[:, b], values)
        if counts.sum() == 0:
            continue
        table = _summed(counts, clusters, weights)
        entry = {
            "raters": [panel.raters[a], panel.raters[b]],
            "n": int(counts.sum()),
            "kappa": figure(kappa_of(table), count, settings, bottom=-1.0, why="both use one label"),
        }
        if not panel.labels and len(values) > 2:
            squares = (values[:, None] - values[None, :]) ** 2
            entry["weighted_kappa"] = figure(kappa_of(table, squares), count, settings, bottom=-1.0)
        found["kappa"].append(entry)
    return found


def _summed(counts: np.ndarray, clusters: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Counts per thing, shape (things, v, v), summed under each row of weights."""
    by_cluster = np.zeros((weights.shape[1], counts[0].size))
    np.add.at(by_cluster, clusters, counts.reshape(len(counts), -1))
    return (weights @ by_cluster).reshape(len(weights), *counts.shape[1:])


def _one_against_others(
    ratings: np.ndarray, clusters: np.ndarray, weights: np.ndarray, settings: Settings
) -> dict[str, Any]:
    """What a metric could reach: each person as the metric, against the mean of the others, averaged over people."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("spearman", "kendall", "auc", "pairs")}
    for rater in range(ratings.shape[1]):
        others = np.delete(ratings, rater, axis=1)
        rows = np.flatnonzero(np.isfinite(ratings[:, rater]) & np.isfinite(others).any(axis=1))
        if not len(rows):
            continue
        own, rest = ratings[rows, rater], np.nanmean(others[rows], axis=1)
        ranks = association(own, rest, clusters[rows], weights)
        pairs = np.zeros((weights.shape[1], 3))
        here = preferred_pairs(own, rest, clusters[rows])
        pairs[: len(here)] = here
        for name, found in (
            ("spearman", ranks.spearman), ("kendall", ranks.kendall), ("auc", ranks.auc),
            ("pairs", picked_share(weights @ pairs)),
        ):  # fmt: skip
            parts[name].append(found)
    count = weights.shape[1]
    return {
        name: figure(np.mean(found, axis=0), count, settings, bottom=-1.0 if name in ("spearman", "kendall") else 0.0)
        for name, found in parts.items()
        if found
    }
