"""One draw of everything that the report gives an interval, a test or a verdict to; `report_worlds.py grid` runs them.

A family names the cells of its grid and draws one study per call: which intervals held the truth, and what was claimed
where there was nothing to claim (names that begin with "alarm"). None stands for "says nothing in this draw".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import interval_coverage as known
import numpy as np
from scipy.special import betaincinv, ndtr
from worlds import World

from medbench import stats
from medbench.refusal.calibration import rogan_gladen

SIZES = (5, 10, 20, 50, 200)
RUNS = (1, 3, 5)
RATES = (0.02, 0.1, 0.5, 0.9, 0.98)
AGREE = (0.1, 0.6)
SIMULTANEOUS = 4  # subjects of one candidate, settings of one sweep
RESAMPLES = 400

Draw = dict[str, bool | None]


@dataclass(frozen=True)
class Family:
    """What is drawn where: `cells` are the arguments of `observe`, each with a world first; `cost` divides trials."""

    cells: Callable[[], Iterator[tuple[Any, ...]]]
    observe: Callable[..., Draw]
    cost: int = 1


def whole_grid() -> Iterator[tuple[World]]:
    """Every size, number of runs, correlation and rate, with contexts and without."""
    for items, runs, contexts, rate, agree in product(SIZES, RUNS, (False, True), RATES, AGREE):
        if runs > 1 or agree == AGREE[0]:
            yield (World(items, runs, contexts, rate, agree),)


def with_each(*values: Any) -> Callable[[], Iterator[tuple[Any, ...]]]:
    """Every size, number of runs and kind of contexts, with each of some values."""

    def cells() -> Iterator[tuple[Any, ...]]:
        for items, runs, contexts, value in product(SIZES, RUNS, (False, True), values):
            yield World(items, runs, contexts, 0.7), value

    return cells


def rates(world: World, rng: np.random.Generator) -> Draw:
    """Rates, paired differences, regret, verdicts of equivalence; what is claimed of three equal candidates."""
    right, labels = world.outputs(rng, 3), world.labels
    means = right.mean(axis=2)
    pair = stats.paired_rates(means[0], means[1], labels)
    choice = stats.regret(means, 0, labels)
    # A candidate that is right wherever the first is, and on three in ten of its other outputs.
    better, gain = np.maximum(right[0], rng.random(right[0].shape) < 0.3).mean(axis=1), 0.3 * (1 - world.rate)
    change = stats.paired_rates(means[0], better, labels)
    # Back from the better one, the loss is exactly the margin: neither verdict would be true.
    lost = stats.Comparison(-change.difference, -change.high, -change.low, change.p)
    narrow = stats.paired_rates(better, means[0], labels, 0.90)
    verdict = stats.equivalence(lost, narrow, gain).verdict
    half = np.arange(world.items) < max(1, world.items // 3)
    sides = None if labels is None else (labels[~half], labels[half])
    apart = stats.rate_difference(means[0, ~half], means[0, half], clusters=sides, runs=(world.runs, world.runs))
    return {
        "rate": known.covers(stats.rate(means[0], labels, world.runs), world.rate),
        "paired difference": known.covers(pair, 0.0),
        "paired difference, not 0": known.covers(change, gain),
        "regret": known.covers(choice.loss, 0.0),
        "unpaired difference": known.covers(apart, 0.0),
        "alarm: a difference is shown": pair.p < 0.05,
        "alarm: the loss is real": choice.real,
        "alarm: as good as, at the margin": verdict in ("equivalent", "not worse"),
    }


def further(world: World, rng: np.random.Generator) -> Draw:
    """Rates corrected for a detector's errors, subjects at once, runs that agree, flips."""
    right, labels = world.outputs(rng, SIMULTANEOUS), world.labels
    level = 1 - 0.05 / SIMULTANEOUS
    bounds = [stats.rate(row.mean(axis=1), labels, world.runs, level) for row in right]
    # A detector that finds 90% of refusals and passes 92% of the rest, known from 200 and 250 labelled texts.
    seen = np.where(right[0] > 0, rng.random(right[0].shape) < 0.9, rng.random(right[0].shape) > 0.92)
    given = stats.units(seen.mean(axis=1), labels, world.runs)
    size = stats.effective_size(given)
    card = ((rng.binomial(200, 0.9), 200), (rng.binomial(250, 0.92), 250))
    flips = stats.rate(np.abs(right[0].mean(axis=1) - right[1].mean(axis=1)), labels)
    found: Draw = {
        "corrected refusals": known.covers(rogan_gladen(given.mean * size, size, *card), world.rate),
        "subjects, all at once": all(known.covers(b, world.rate) for b in bounds),
        "share of items flipped": known.covers(flips, _truths(world)["flips"]),
    }
    if world.runs > 1:
        hits, runs = right[0].sum(axis=1), np.full(world.items, world.runs)
        cells = {
            "one": stats.same_answer(right[0].tolist())[0],
            "any": stats.pass_at_k(hits, runs, world.runs),
            "all": stats.all_of_k(hits, runs, world.runs),
        }
        for name, values in cells.items():
            found[f"runs: {name}"] = known.covers(stats.rate(values, labels), _truths(world)[name])
    return found


@cache
def _truths(world: World) -> dict[str, float]:
    """What a hundred thousand items of a world's kind do."""
    many = World(100_000, world.runs, world.contexts, world.rate, world.agree)
    right = many.outputs(np.random.default_rng(0), 2)
    hits = right[0].sum(axis=1)
    every, none = float(np.mean(hits == world.runs)), float(np.mean(hits == 0))
    flips = float(np.abs(right[0].mean(axis=1) - right[1].mean(axis=1)).mean())
    return {"one": every + none, "any": 1 - none, "all": every, "flips": flips}


def confidence(world: World, over: float, rng: np.random.Generator) -> Draw:
    """Calibration of a model that is surer than it is right by `over`; truths are those of the drawn confidences."""
    sure = np.repeat(rng.uniform(0.3, 0.99, world.items)[:, None], world.runs, axis=1)
    p = np.clip(sure - over, 0.005, 0.995)
    right = world.answers(p[None, :, 0], rng)[0]
    labels = np.arange(world.items) if world.labels is None else world.labels
    which = np.repeat(labels[:, None], world.runs, axis=1).ravel()
    alone = world.runs == 1 and world.labels is None
    c, y, p = sure.ravel(), right.ravel(), p.ravel()
    judged = stats.calibration(c, y, None if alone else which)
    order = np.argsort(c, kind="stable")
    parts = [part for part in np.array_split(order, max(1, min(10, len(c) // 10))) if len(part) > 1]
    error = np.sqrt(sum(len(k) * (c[k] - p[k]).mean() ** 2 for k in parts) / sum(map(len, parts)))
    kept = c >= np.sort(c)[::-1][int(np.ceil(len(c) / 2)) - 1]
    return {
        "calibration error": known.covers(judged.ece, float(error)),
        "Brier score": known.covers(judged.brier, float(np.mean((c - p) ** 2 + p * (1 - p)))),
        "overconfident by": known.covers(judged.over, float(np.mean(c - p))),
        "wrong in surest half": known.covers(
            stats.risk_at(c, y, 0.5, None if alone else which), float(np.mean(1 - p[kept]))
        ),
    }


def shares(world: World, change: float, rng: np.random.Generator) -> Draw:
    """The share of a change that a control explains: half of it in truth, or anything where nothing changes."""
    right = world.answers(np.array([0.7, 0.7 - change, 0.7 - change / 2]), rng).mean(axis=2)
    counts = np.stack([right.T, np.ones_like(right.T)], axis=2)
    draws = stats.mean_statistic(stats.bootstrap_sums(counts, RESAMPLES, rng, world.labels))
    means = right.mean(axis=1)
    units = world.items if world.labels is None else int(world.labels.max()) + 1
    found = stats.fieller(
        float(means[2] - means[0]),
        float(means[1] - means[0]),
        np.cov(draws[:, 2] - draws[:, 0], draws[:, 1] - draws[:, 0]),
        units,
    )
    stated = found.kind == "bounded" and not found.weak
    if change == 0:
        return {"alarm: a share of no change is stated": stated}
    inside = found.low <= 0.5 <= found.high
    holds = found.kind == "all" or (inside if found.kind == "bounded" else not inside)
    return {"share explained (Fieller)": holds, "share explained, where stated": holds if stated else None}


def surface(world: World, worse: float, rng: np.random.Generator) -> Draw:
    """Corpus BLEU, its difference to a system that is worse on some outputs, and means of skewed scores."""
    rows, both = _bleu_draw(world, worse, rng)
    sums = stats.bootstrap_sums(rows, RESAMPLES, rng, world.labels)
    scores, draws = stats.bleu_statistic(rows.sum(0)), stats.bleu_statistic(sums)
    units = world.items if world.labels is None else int(world.labels.max()) + 1
    one = stats.bootstrap_interval(float(scores[0]), draws[:, 0], units, top=100)
    gap = stats.bootstrap_interval(float(scores[1] - scores[0]), draws[:, 1] - draws[:, 0], units)
    p = stats.approximate_randomisation(stats.bleu_statistic, rows[:, 0], rows[:, 1], RESAMPLES - 1, rng, world.labels)
    # Where the test shows nothing the report stretches the interval to 0.
    low, high = (min(gap.low, 0.0), max(gap.high, 0.0)) if p >= 0.05 else (gap.low, gap.high)
    skewed = 100 * _skewed(world, rng)
    found: Draw = {
        "BLEU": known.covers(one, both[0]),
        "BLEU difference": bool(low <= both[1] - both[0] <= high),
        "mean of per-item scores": known.covers(stats.bounded_mean(skewed, 100, world.labels), 100 * 0.7 / 4.7),
    }
    return found if worse else found | {"alarm: BLEU differs": p < 0.05}


def _bleu_draw(world: World, worse: float, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, float]]:
    """Per-item BLEU statistics of two systems, summed over runs, shape (n, 2, 10), and their true scores."""
    population = known.POPULATION
    # Outputs that hang together are drawn from the same place of the population, which is sorted by quality.
    at = (_ranks(world.noise(rng)[0]) * len(population)).astype(int)
    rows = population[_by_quality()[at]]
    spoilt = rng.random(rows.shape[:2]) < worse
    # The pair of a row is exchangeable, and the second system loses most matches of some outputs.
    rows[..., 1, 2:6] *= np.where(spoilt, 0.25, 1.0)[..., None]
    whole = population.sum(0)
    second = whole[1].copy()
    second[2:6] *= 1 - 0.75 * worse
    return rows.sum(axis=1), (float(stats.bleu_statistic(whole[0])), float(stats.bleu_statistic(second)))


def _ranks(noise: np.ndarray) -> np.ndarray:
    return np.minimum(ndtr(noise), 1 - 1e-9)


@cache
def _by_quality() -> np.ndarray:
    population = known.POPULATION
    return np.argsort(population[:, :, 2].sum(1) / population[:, :, 0].sum(1), kind="stable")


def _skewed(world: World, rng: np.random.Generator) -> np.ndarray:
    """Item means of scores like ROUGE-2, Beta(0.7, 4), shape (n,)."""
    return np.asarray(betaincinv(0.7, 4.0, _ranks(world.noise(rng)[0]))).mean(axis=1)


def slopes(world: World, change: float, rng: np.random.Generator) -> Draw:
    """The simultaneous bounds of a trend over four settings, and whether a trend is claimed of none."""
    right = world.answers(0.7 - change * np.arange(SIMULTANEOUS) / (SIMULTANEOUS - 1), rng).mean(axis=2)
    weights = stats.slope_weights(np.linspace(0, 1, SIMULTANEOUS))
    sums, weight = stats.unit_sums(weights @ right, world.labels)
    low, high = stats.padded_interval(sums, weight, float(np.abs(weights).sum() / 2), 1 - 0.05 / 4, normal=False)
    found: Draw = {"slope along a sweep": low <= -change <= high}
    if not change:
        counts = np.stack([right.T, np.ones_like(right.T)], axis=2)
        p = stats.reversal_p(stats.mean_statistic, counts, weights, RESAMPLES - 1, rng, world.labels)
        steps = [stats.paired_rates(right[k], right[k + 1], world.labels) for k in range(SIMULTANEOUS - 1)]
        trend = stats.monotonicity(steps, stats.Comparison(float(weights @ right.mean(axis=1)), low, high, p))
        found["alarm: a trend along the sweep"] = trend.verdict != "flat"
    return found


def areas(world: World, apart: float, rng: np.random.Generator) -> Draw:
    """AUC of a score whose means for right and wrong outputs lie `apart` standard deviations apart."""
    right = world.outputs(rng, 1)[0] if world.contexts or world.runs > 1 else rng.random((world.items, 1)) < world.rate
    score = world.noise(rng)[0] + apart * right
    labels = np.arange(world.items) if world.labels is None else world.labels
    which = np.repeat(labels[:, None], world.runs, axis=1).ravel()
    area = stats.auc(score.ravel(), np.asarray(right).ravel(), which)
    if not np.isfinite(area.low):
        return {"AUC": None}
    found: Draw = {"AUC": known.covers(area, float(ndtr(apart / np.sqrt(2))))}
    return found if apart else found | {"alarm: a score tells right from wrong": area.low > 0.5 or area.high < 0.5}


def benchmarks() -> Iterator[tuple[World, int, float, float]]:
    """World, how many such benchmarks, the true mean difference and its spread."""
    for items, count, mean, spread in product((50, 200), (2, 3, 5, 10), (0.0, 0.05), (0.0, 0.05)):
        yield World(items, 1, False, 0.6), count, mean, spread


def across(world: World, count: int, mean: float, spread: float, rng: np.random.Generator) -> Draw:
    """A random-effects mean over benchmarks, its spread, and where another benchmark is expected."""
    true = rng.normal(mean, spread, count + 1)
    effects, errors = [], []
    for change in true[:count]:
        first, second = world.answers(np.array([0.6, 0.6 + change]), rng).mean(axis=2)
        low, high = stats.padded_interval(second - first, np.ones(world.items), 1.0, 0.95, normal=True)
        effects.append(float((second - first).mean()))
        errors.append((high - low) / 2 / 1.959964)
    pooled = stats.random_effects(effects, errors)
    found: Draw = {
        "mean over benchmarks": known.covers(pooled.mean, mean),
        "spread between benchmarks": known.covers(pooled.spread, spread),
        "next benchmark": None if count < 3 else known.covers(pooled.next, float(true[-1])),
    }
    return found if mean else found | {"alarm: better across benchmarks": pooled.mean.p < 0.05}


FAMILIES = {
    "rates": Family(whole_grid, rates),
    "further": Family(whole_grid, further),
    "confidence": Family(with_each(-0.1, 0.0, 0.2), confidence),
    "shares": Family(with_each(0.0, 0.1, 0.4), shares),
    "surface": Family(with_each(0.0, 0.3), surface, cost=2),
    "slopes": Family(with_each(0.0, 0.3), slopes),
    "areas": Family(with_each(0.0, 1.0), areas),
    "across": Family(benchmarks, across),
}
