"""Does the report say what is true? Its intervals, tests and sentences over worlds whose truth is known.

    python benchmarks/report_worlds.py                 # everything
    python benchmarks/report_worlds.py grid            # intervals over the whole grid of sizes
    python benchmarks/report_worlds.py reports         # whole reports, read as a person reads them
    python benchmarks/report_worlds.py --trials 100

Grid: 5, 10, 20, 50 and 200 items, each run 1, 3 or 5 times, alone or in contexts (of 2 items up to 10, of 5 beyond),
true rates .02 to .98. Items differ in difficulty, runs of an item hang together (intraclass correlation .1 or .6),
items of a context too (.2). Printed per size: the least and the mean coverage over its
cells, and the share of claims where there is nothing to claim.

Reports: candidates of one true accuracy and a surface score that knows nothing of being right, drawn anew; the runs go
through the report's own tables and sections, and every sentence that claims something is counted as a false alarm.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import product

import click
import interval_coverage as known
import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import contamination, curve, flips, safety, validity, verdict
from medbench.reports.logs import Run
from medbench.reports.rows import arrange
from medbench.reports.sources import Sources

SIZES = (5, 10, 20, 50, 200)
RUNS = (1, 3, 5)
RATES = (0.02, 0.1, 0.5, 0.9, 0.98)
AGREE = (0.1, 0.6)
CONTEXT = 0.2


@dataclass(frozen=True)
class World:
    """`items` run `runs` times each, in contexts or not, at one true `rate`."""

    items: int
    runs: int
    contexts: bool
    rate: float
    agree: float = 0.6

    @property
    def labels(self) -> np.ndarray | None:
        """The context of each item, None where each stands alone."""
        if not self.contexts:
            return None
        return np.arange(self.items) // (2 if self.items <= 10 else 5)

    def difficulty(self, rng: np.random.Generator) -> np.ndarray:
        """Each item's own chance of a right answer; their mean over the population is `rate`."""
        p = np.full(self.items, self.rate)
        if self.labels is not None:
            p = _beta(np.full(self.labels.max() + 1, self.rate), CONTEXT, rng)[self.labels]
        return _beta(p, self.agree, rng) if self.runs > 1 else p

    def outputs(self, rng: np.random.Generator, candidates: int) -> np.ndarray:
        """Right (1) or wrong (0), shape (candidates, items, runs): half of each difficulty is shared by all."""
        shared = self.difficulty(rng)
        own = np.stack([self.difficulty(rng) for _ in range(candidates)])
        p = np.where(rng.random((candidates, self.items)) < 0.5, shared, own)
        return (rng.random((candidates, self.items, self.runs)) < p[:, :, None]).astype(float)


def _beta(mean: np.ndarray, correlation: float, rng: np.random.Generator) -> np.ndarray:
    m, scale = np.clip(mean, 1e-6, 1 - 1e-6), (1 - correlation) / correlation
    return rng.beta(m * scale, (1 - m) * scale)


def observe_rates(world: World, rng: np.random.Generator) -> dict[str, bool]:
    """One draw's intervals, and what is claimed of three equal candidates."""
    right, labels = world.outputs(rng, 3), world.labels
    means = right.mean(axis=2)
    pair = stats.paired_rates(means[0], means[1], labels)
    choice = stats.regret(means, 0, labels)
    # A candidate that is right wherever the first is, and on three in ten of its other outputs.
    better, gain = np.maximum(right[0], rng.random(right[0].shape) < 0.3).mean(axis=1), 0.3 * (1 - world.rate)
    real = np.stack([means[0], better])
    half = np.arange(world.items) < max(1, world.items // 3)
    sides = None if labels is None else (labels[~half], labels[half])
    apart = stats.rate_difference(means[0, ~half], means[0, half], clusters=sides, runs=(world.runs, world.runs))
    return {
        "rate": known.covers(stats.rate(means[0], labels, world.runs), world.rate),
        "paired difference": known.covers(pair, 0.0),
        "paired difference, not 0": known.covers(stats.paired_rates(*real, labels), gain),
        "regret": known.covers(choice.loss, 0.0),
        "regret, not 0": known.covers(stats.regret(real, 0, labels).loss, gain),
        "unpaired difference": known.covers(apart, 0.0),
        "alarm: a difference is shown": pair.p < 0.05,
        "alarm: the loss is real": choice.real,
    }


def grid(
    trials: int,
    seed: int,
    sizes: tuple[int, ...] = SIZES,
    rates: tuple[float, ...] = RATES,
    agrees: tuple[float, ...] = AGREE,
) -> int:
    """Print coverage per size; returns how many cells miss."""
    missed = 0
    for items in sizes:
        cells: dict[str, list[tuple[float, World]]] = defaultdict(list)
        for runs, contexts, rate, agree in product(RUNS, (False, True), rates, agrees):
            if runs == 1 and agree != agrees[0]:
                continue
            world = World(items, runs, contexts, rate, agree)
            rng = np.random.default_rng([seed, items, runs, contexts, int(1000 * rate), int(10 * agree)])
            seen: Counter[str] = Counter()
            for _ in range(trials):
                seen.update({name: int(value) for name, value in observe_rates(world, rng).items()})
            for name, count in seen.items():
                cells[name].append((count / trials, world))
        click.echo(f"n = {items}")
        for name, found in cells.items():
            alarm = name.startswith("alarm")
            worst = (max if alarm else min)(found, key=lambda cell: cell[0])
            mean = float(np.mean([value for value, _ in found]))
            slack = 3 * np.sqrt(0.05 * 0.95 / trials)
            bad = worst[0] > 0.055 + slack if alarm else worst[0] < 0.93 - slack
            missed += bad
            click.echo(
                f"  {name:32} mean {mean:6.1%}  worst {worst[0]:6.1%}  ({worst[1].runs} runs, "
                f"{'contexts' if worst[1].contexts else 'no contexts'}, rate {worst[1].rate:g}, "
                f"agree {worst[1].agree:g}){'  MISSED' if bad else ''}"
            )
        sys.stdout.flush()
    return missed


def run(task: str, candidate: str, world: World, values: dict[str, np.ndarray], pt: float, seed: int = 0) -> Run:
    """A run of a world's items; values have shape (items, runs)."""
    ids = [f"item{k}" for k in range(world.items) for _ in range(world.runs)]
    labels = world.labels
    flat = {key: np.asarray(x, dtype=float).reshape(-1) for key, x in values.items()}
    counts = {}
    if task == "free":
        rows = known.POPULATION[np.random.default_rng(seed).integers(len(known.POPULATION), size=len(ids))]
        counts = {f"bleu4/{view}": rows[:, seed % 2] for view in ("raw", "untagged", "answer")}
        flat["bleu4/raw"] = np.full(len(ids), 30.0)
    return Run(
        file=f"{task}-{candidate}.eval",
        task=task,
        version="1",
        candidate=candidate,
        weights={"pt": pt, "sft": 1 - pt},
        series="mix",
        setting={},
        seed=None,
        created="2026-01-01",
        status="success",
        provenance={},
        native_ids=list(ids),
        ids=ids,
        epochs=[1 + k % world.runs for k in range(len(ids))],
        values=flat,
        statistics=counts,
        trace_status=[""] * len(ids),
        items={
            f"item{k}": {"category": "all", "expected": "refusal", "pair": k // 2}
            | ({} if labels is None else {"cluster": f"context{labels[k]}"})
            for k in range(world.items)
        },
    )


def observe_report(world: World, rng: np.random.Generator, options: Options) -> dict[str, bool]:
    """One drawn study of four equal candidates along a sweep; what its sections claim."""
    right, refused = world.outputs(rng, 4), world.outputs(rng, 4)
    runs = []
    for k in range(4):
        score = 30 + 10 * rng.normal(size=right[k].shape)
        exam = {"accuracy/answer": right[k], "answered/answer": np.ones_like(right[k]), "bleu4/answer": score}
        probe = {"refusal/answer": refused[k], "partial/answer": 0 * refused[k], "compliance/answer": 1 - refused[k]}
        name, pt = f"model{k}", k / 3
        runs += [run("exam", name, world, exam, pt), run("free", name, world, {}, pt, int(rng.integers(1 << 30)))]
        runs.append(run("probe", name, world, probe, pt))
    analysis = Analysis(arrange("simulated", runs), options)
    accuracy = analysis.estimators["exam"].estimate("accuracy/answer")
    assert accuracy is not None
    pairs = np.triu_indices(4, 1)
    leaked = [f"item{k}" for k in range(max(1, world.items // 5))]
    findings = {i: [{"item_id": i, "field": "question", "signal": "copy", "score": 1.0}] for i in leaked}
    contrast = contamination.section(analysis, Sources(findings=findings))
    corrected = [r[9] for t in contrast.tables[:1] for r in t.rows if r[1] == "accuracy" and isinstance(r[9], float)]
    trends = curve.section(analysis, Sources()).tables[0].rows
    area = next(r[2] for t in validity.section(analysis, Sources()).tables for r in t.rows if r[0] == "model0")
    refusals = safety.section(analysis, Sources()).tables[0].rows
    assert isinstance(area, stats.Interval)
    verdict_said = " ".join(verdict.section(analysis, Sources()).findings)
    flip = flips.section(analysis, Sources()).tables[0].rows[0]
    return {
        "alarm: 'the loss is real'": "the loss is real" in verdict_said,
        "alarm: any two told apart (Holm)": bool((accuracy.p_adjusted[pairs] < 0.05).any()),
        "alarm: accuracy trend along the sweep": any(
            r[-1] != "shows no change" and str(r[0]).startswith("accuracy") for r in trends
        ),
        "alarm: BLEU trend along the sweep": any(
            r[-1] != "shows no change" and str(r[0]).startswith("BLEU") for r in trends
        ),
        "alarm: a leak's effect (Holm)": any(p < 0.05 for p in corrected),
        "alarm: BLEU tells right from wrong": bool(area.low > 0.5 or area.high < 0.5),
        "alarm: a rank flip is shown": bool(flip[9]),
        "AUC": not np.isfinite(area.low) or area.low <= 0.5 <= area.high,
        "refusal rate": known.covers(refusals[0][4], world.rate),  # type: ignore[arg-type]
        "Kendall's tau (truth 0)": flip[4].low <= 0 <= flip[4].high,  # type: ignore[union-attr]
    }


def reports(trials: int, seed: int) -> int:
    """Print what whole reports claim where there is nothing to claim; returns how many cells miss."""
    missed = 0
    for number, world in enumerate(
        (
            World(3, 1, False, 0.5),
            World(5, 3, False, 0.5),
            World(10, 1, False, 0.66),
            World(20, 1, False, 0.1),
            World(20, 5, True, 0.66),
            World(50, 3, False, 0.9),
            World(200, 1, True, 0.66),
        )
    ):
        rng, options = np.random.default_rng([seed, number]), Options(resamples=400)
        seen: Counter[str] = Counter()
        for _ in range(trials):
            seen.update({name: int(value) for name, value in observe_report(world, rng, options).items()})
        click.echo(
            f"n = {world.items}, {world.runs} runs, {'contexts' if world.contexts else 'no contexts'}, "
            f"rate {world.rate:g}"
        )
        slack = 3 * np.sqrt(0.05 * 0.95 / trials)
        for name, count in seen.items():
            share = count / trials
            bad = share > 0.055 + slack if name.startswith("alarm") else share < 0.93 - slack
            missed += bad
            click.echo(f"  {name:40} {share:6.1%}{'  MISSED' if bad else ''}")
        sys.stdout.flush()
    return missed


@click.command()
@click.argument("part", type=click.Choice(["all", "grid", "reports"]), default="all")
@click.option("--trials", default=1000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--size", multiple=True, type=int, help="Only these sizes of the grid. Repeatable.")
@click.option("--rate", multiple=True, type=float, help="Only these true rates of the grid. Repeatable.")
@click.option("--agree", multiple=True, type=float, help="Only these correlations of runs. Repeatable.")
def main(
    part: str, trials: int, seed: int, size: tuple[int, ...], rate: tuple[float, ...], agree: tuple[float, ...]
) -> None:
    """Print the tables, and exit 1 where a cell misses by more than Monte Carlo error (three standard errors)."""
    missed = 0
    if part in ("all", "grid"):
        missed += grid(trials, seed, size or SIZES, rate or RATES, agree or AGREE)
    if part in ("all", "reports"):
        missed += reports(trials, seed)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
