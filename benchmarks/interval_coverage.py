"""Do nominal 95% intervals cover 95%, and do tests at 5% raise 5% false alarms? Simulated at the sizes used.

    python benchmarks/interval_coverage.py                     # all simulations, 4,000 trials each
    python benchmarks/interval_coverage.py --trials 500 bleu   # those whose name contains "bleu"

Each simulation draws data sets from a population whose true value is known. "coverage" is the share of intervals that
hold it, "alarms" the share of tests that reject a true null hypothesis at 5%. The Monte Carlo error at 4,000 trials is
0.7 points (two standard errors). Methods that are exact or hold jointly for several candidates are conservative by
construction and marked "at least".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
import numpy as np
from scipy.special import ndtri

from medbench import stats

Trial = Callable[[np.random.Generator], bool]


@dataclass(frozen=True)
class Simulation:
    """One row of the table: `trial` returns whether the interval covered, or whether the test raised an alarm."""

    name: str
    kind: str
    trial: Trial

    def accepts(self, rate: float, slack: float) -> bool:
        """Whether a measured rate meets the project's bar, give or take `slack` for Monte Carlo error."""
        if self.kind == "alarms":
            return rate < 0.055 + slack
        return 0.935 - slack <= rate and (self.kind == "coverage at least" or rate <= 0.965 + slack)


def covers(interval: stats.Interval | stats.Comparison, truth: float) -> bool:
    return bool(interval[1] <= truth <= interval[2])


def wilson(n: int, p: float) -> Trial:
    return lambda rng: covers(stats.wilson(rng.binomial(n, p), n), p)


def exact(n: int, p: float) -> Trial:
    return lambda rng: covers(stats.clopper_pearson(int(rng.binomial(n, p)), n), p)


def clustered(groups: int, size: int, p: float, correlation: float) -> Trial:
    """Beta-binomial clusters, e.g. several questions on one passage."""
    a, b = p * (1 - correlation) / correlation, (1 - p) * (1 - correlation) / correlation
    labels = np.repeat(np.arange(groups), size)

    def trial(rng: np.random.Generator) -> bool:
        right = rng.random(groups * size) < rng.beta(a, b, groups)[labels]
        return covers(stats.rate(right, labels), p)

    return trial


def clustered_unpaired(groups: int, size: int, flagged: float) -> Trial:
    """Items of a cluster are flagged together (a leaked passage) and share an effect; the flag makes no difference."""
    labels = np.repeat(np.arange(groups), size)

    def trial(rng: np.random.Generator) -> bool:
        flag = (rng.permutation(groups) < flagged * groups)[labels]
        y = rng.normal(size=groups)[labels] + rng.normal(size=len(labels))
        sides = (labels[~flag], labels[flag])
        return covers(stats.unpaired_mean_difference(y[~flag], y[flag], clusters=sides), 0.0)

    return trial


def paired_proportions(n: int, lost: float, gained: float) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        u = rng.random(n)
        first, second = (u < lost) | (u > 0.6), ((u >= lost) & (u < lost + gained)) | (u > 0.6)
        return covers(stats.paired_rates(first, second), gained - lost)

    return trial


def unpaired(n: int, p: float, q: float) -> Trial:
    return lambda rng: covers(stats.unpaired_difference(rng.binomial(n, p) / n, n, rng.binomial(n, q) / n, n), q - p)


def mcnemar_alarm(n: int, discordant: float) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        u = rng.random(n)
        return stats.mcnemar(u < discordant / 2, (u >= discordant / 2) & (u < discordant)).p < 0.05

    return trial


def clustered_alarm(groups: int, size: int) -> Trial:
    labels = np.repeat(np.arange(groups), size)

    def trial(rng: np.random.Generator) -> bool:
        shared = rng.normal(0, 1, groups)[labels]
        return stats.paired_difference(shared * 0, shared + rng.normal(0, 1, len(labels)), labels).p < 0.05

    return trial


def population(rng: np.random.Generator, items: int = 20_000) -> np.ndarray:
    """BLEU statistics of two systems, shape (items, 2, 10), for items of very different length and quality.

    Each item occurs with the systems in both orders: over the whole population they have one and the same BLEU.
    """
    reference = rng.lognormal(4.2, 0.6, items).astype(int) + 8
    quality = rng.beta(2, 3, items)
    rows = []
    for _ in range(2):
        length = np.maximum(4, (reference * rng.lognormal(0, 0.35, items)).astype(int))
        q = np.clip(quality + rng.normal(0, 0.12, items), 0.02, 0.95)
        totals = np.stack([length - k for k in range(4)], axis=1)
        matches = [rng.binomial(np.minimum(totals[:, k], reference), q ** (1 + 0.8 * k)) for k in range(4)]
        correct = np.minimum.accumulate(np.stack(matches, axis=1), axis=1)
        rows.append(np.concatenate([length[:, None], reference[:, None], correct, totals], axis=1))
    pair = np.stack(rows, axis=1).astype(float)
    return np.concatenate([pair, pair[:, ::-1]])


POPULATION = population(np.random.default_rng(20261))


def bleu_sample(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows = POPULATION[rng.integers(len(POPULATION), size=n)]
    return rows[:, 0], rows[:, 1]


def bleu(n: int, resamples: int = 600) -> Trial:
    truth = float(stats.bleu_statistic(POPULATION[:, 0].sum(0)))

    def trial(rng: np.random.Generator) -> bool:
        rows, _ = bleu_sample(n, rng)
        draws = stats.bleu_statistic(stats.bootstrap_sums(rows, resamples, rng))
        return covers(stats.bootstrap_interval(float(stats.bleu_statistic(rows.sum(0))), draws, n, top=100), truth)

    return trial


def rouge(n: int, resamples: int = 600) -> Trial:
    """A mean of skewed per-item scores, like ROUGE-2."""

    def trial(rng: np.random.Generator) -> bool:
        x = rng.beta(0.7, 4, n)
        draws = stats.mean_statistic(stats.bootstrap_sums(np.stack([x, np.ones(n)], axis=1), resamples, rng))
        return covers(stats.bootstrap_interval(float(x.mean()), draws, n, top=1), 0.7 / 4.7)

    return trial


def bleu_difference(n: int, resamples: int = 600) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        return covers(stats.paired_bootstrap(stats.bleu_statistic, *bleu_sample(n, rng), resamples, rng), 0.0)

    return trial


def bleu_bootstrap_alarm(n: int, resamples: int = 600) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        return stats.paired_bootstrap(stats.bleu_statistic, *bleu_sample(n, rng), resamples, rng).p < 0.05

    return trial


def bleu_randomisation_alarm(n: int, trials: int = 600) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        return stats.approximate_randomisation(stats.bleu_statistic, *bleu_sample(n, rng), trials, rng) < 0.05

    return trial


def auc(n: int, share: float) -> Trial:
    """Normal scores one standard deviation apart: the true area is Phi(1 / sqrt 2) = 0.7602."""

    def trial(rng: np.random.Generator) -> bool:
        labels = rng.random(n) < share
        return covers(stats.auc(rng.normal(size=n) + labels, labels), 0.7602499)

    return trial


def kappa(n: int) -> Trial:
    """Two labellers who each see the truth with probability 0.8 and otherwise toss a fair coin: kappa = 0.64."""

    def trial(rng: np.random.Generator) -> bool:
        truth = rng.integers(2, size=n)
        seen = [np.where(rng.random(n) < 0.8, truth, rng.integers(2, size=n)).tolist() for _ in range(2)]
        return covers(stats.cohen_kappa(*seen), 0.64)

    return trial


def seeds(items: int, runs: int) -> Trial:
    def trial(rng: np.random.Generator) -> bool:
        right = rng.random((items, runs)) < rng.beta(2, 1, items)[:, None]
        return covers(stats.variance_split(right.astype(float)).mean, 2 / 3)

    return trial


def correlated_candidates(rng: np.random.Generator, n: int, rates: np.ndarray) -> np.ndarray:
    """Right (1) or wrong (0), shape (n, candidates): half of each answer comes from the item's difficulty."""
    latent = np.sqrt(0.5) * (rng.normal(size=(n, 1)) + rng.normal(size=(n, len(rates))))
    return (latent < ndtri(rates)).astype(float)


def regret(n: int, rates: list[float], chosen: int) -> Trial:
    truth = np.array(rates)

    def trial(rng: np.random.Generator) -> bool:
        right = correlated_candidates(rng, n, truth)
        return covers(stats.regret(right.T, chosen).loss, float(truth.max() - truth[chosen]))

    return trial


def ranks(n: int, rates: list[float]) -> Trial:
    """All candidates' rank intervals hold at once; equal candidates may take any of their common ranks."""
    truth, count = np.array(rates), len(rates)
    best = [(int(1 + (truth > t).sum()), int((truth >= t).sum())) for t in truth]

    def trial(rng: np.random.Generator) -> bool:
        right = correlated_candidates(rng, n, truth)
        first, second = np.triu_indices(count, 1)
        tests = [stats.mcnemar(right[:, i], right[:, j]).p for i, j in zip(first, second, strict=True)]
        p = np.ones((count, count))
        p[first, second] = p[second, first] = stats.holm(tests)
        found = stats.rank_intervals(right.mean(0), p)
        return all(low <= least and most <= high for (low, high), (least, most) in zip(found, best, strict=True))

    return trial


def flat_sweep_alarm(n: int, settings: int) -> Trial:
    """A trend or a step is claimed along a sweep in which nothing changes."""

    def trial(rng: np.random.Generator) -> bool:
        right = correlated_candidates(rng, n, np.full(settings, 0.66))
        steps = [stats.paired_rates(right[:, k], right[:, k + 1]) for k in range(settings - 1)]
        counts, weights = np.stack([right, np.ones_like(right)], axis=2), stats.slope_weights(range(settings))
        p = stats.reversal_p(stats.mean_statistic, counts, weights, 999, rng)
        slope = stats.Comparison(float(right.mean(0) @ weights), np.nan, np.nan, p)
        return stats.monotonicity(steps, slope).verdict != "flat"

    return trial


def simulations() -> Iterator[Simulation]:
    """Every interval and test at the sizes that the report meets: probes of 20, PubMedQA's 500, MedQA's 1,273."""
    for n in (20, 100, 500, 1273):
        for p in (0.2, 0.66):
            yield Simulation(f"wilson n={n} p={p}", "coverage", wilson(n, p))
    yield Simulation("clopper-pearson n=20 p=0.1", "coverage at least", exact(20, 0.1))
    yield Simulation("clopper-pearson n=450 p=0.66", "coverage at least", exact(450, 0.66))
    for groups, size in ((30, 4), (100, 5), (250, 5)):
        yield Simulation(f"clustered rate {groups}x{size}", "coverage at least", clustered(groups, size, 0.66, 0.2))
    for groups in (50, 250):
        name = f"clustered unpaired difference {groups}x4"
        yield Simulation(name, "coverage at least", clustered_unpaired(groups, 4, 0.2))
    for n in (100, 500, 1273):
        yield Simulation(f"paired difference n={n}", "coverage", paired_proportions(n, 0.08, 0.11))
        yield Simulation(f"unpaired difference n={n}", "coverage", unpaired(n, 0.66, 0.69))
        yield Simulation(f"mcnemar n={n}", "alarms", mcnemar_alarm(n, 0.19))
    for groups in (20, 100):
        yield Simulation(f"clustered paired difference {groups}x5", "alarms", clustered_alarm(groups, 5))
    for n in (5, 20, 50, 100, 200, 500, 1273):
        # The t of few items is generous.
        kind = "coverage" if n >= 50 else "coverage at least"
        yield Simulation(f"bleu n={n}", kind, bleu(n))
        yield Simulation(f"rouge mean n={n}", "coverage at least", rouge(n))
        yield Simulation(f"bleu difference n={n}", kind, bleu_difference(n))
        yield Simulation(f"bleu paired bootstrap n={n}", "alarms", bleu_bootstrap_alarm(n))
        yield Simulation(f"bleu randomisation n={n}", "alarms", bleu_randomisation_alarm(n))
    for n in (100, 500, 1273):
        yield Simulation(f"auc n={n}", "coverage at least", auc(n, 0.66))
    yield Simulation("kappa n=450", "coverage", kappa(450))
    yield Simulation("seeds 200x5", "coverage", seeds(200, 5))
    for n in (1, 3, 10, 20, 40):
        yield Simulation(f"regret n={n}", "coverage at least", regret(n, [0.66, 0.69, 0.60, 0.55], 0))
    yield Simulation("regret n=500", "coverage at least", regret(500, [0.66, 0.69, 0.60, 0.55], 0))
    yield Simulation("regret of the best n=500", "coverage at least", regret(500, [0.69, 0.69, 0.60, 0.55], 0))
    yield Simulation("rank intervals n=500", "coverage at least", ranks(500, [0.7, 0.7, 0.66, 0.6, 0.6]))
    for n in (3, 10, 20, 500, 1273):
        yield Simulation(f"flat sweep n={n}", "alarms", flat_sweep_alarm(n, 6))


def measure(simulation: Simulation, trials: int, seed: int = 1) -> float:
    """Share of trials that covered or alarmed."""
    rng = np.random.default_rng([seed, *simulation.name.encode()])
    return float(np.mean([simulation.trial(rng) for _ in range(trials)]))


@click.command()
@click.argument("words", nargs=-1)
@click.option("--trials", default=4000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(words: tuple[str, ...], trials: int, seed: int) -> None:
    """Print the measured rate of each simulation, and exit 1 if one misses the bar."""
    missed = 0
    slack = 2 * np.sqrt(0.05 * 0.95 / trials)
    for simulation in simulations():
        if words and not any(word in simulation.name for word in words):
            continue
        started = time.perf_counter()
        rate = measure(simulation, trials, seed)
        good = simulation.accepts(rate, slack)
        missed += not good
        mark = "ok" if simulation.accepts(rate, 0) else "ok within Monte Carlo error" if good else "MISSED"
        seconds = time.perf_counter() - started
        click.echo(f"{simulation.name:40} {simulation.kind:18} {rate:7.2%}  {mark}  ({seconds:.0f} s)")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
