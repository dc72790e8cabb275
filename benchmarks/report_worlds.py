"""Does the report say what is true? Its own sections, over worlds whose truth is known.

    python benchmarks/report_worlds.py                 # four worlds, 1,000 times each (minutes)
    python benchmarks/report_worlds.py --trials 50

Each world is drawn anew: candidates whose true accuracies are given and whose answers to one item hang together, a
surface score that a right answer raises by one standard deviation (a true AUC of 0.76), BLEU statistics of two systems
that are equal over their population, and a fifth of the items flagged by an audit, on which accuracy may be higher. The
runs go through the report's own tables and sections; counted is how often an interval holds the truth and how often a
difference that does not exist is called one. The Monte Carlo error of 1,000 trials is 1.4 points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click
import interval_coverage as known
import numpy as np
from scipy.special import ndtri

from medbench import stats
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import contamination, validity, verdict
from medbench.reports.logs import Run
from medbench.reports.page import Table
from medbench.reports.rows import arrange
from medbench.reports.sources import Sources

AREA = 0.7602499  # Phi(1 / sqrt 2)


@dataclass(frozen=True)
class World:
    """True accuracies on clean items, and what an item's presence in the corpus adds to them."""

    items: int
    rates: tuple[float, ...]
    leaked: float = 0.0


WORLDS = (
    World(300, (0.66, 0.66)),
    World(300, (0.66, 0.69)),
    World(1273, (0.66, 0.69)),
    World(300, (0.66, 0.66, 0.60, 0.55), 0.15),
)


def run(task: str, candidate: str, ids: list[str], values: dict[str, np.ndarray], counts: np.ndarray | None) -> Run:
    views = ("raw", "untagged", "answer")
    return Run(
        file=f"{task}-{candidate}.eval",
        task=task,
        version="1",
        candidate=candidate,
        weights={},
        series="",
        setting={},
        seed=None,
        created="2026-01-01",
        status="success",
        provenance={},
        native_ids=list(ids),
        ids=list(ids),
        epochs=[1] * len(ids),
        values=values,
        statistics={} if counts is None else {f"bleu4/{view}": counts for view in views},
        trace_status=[""] * len(ids),
        items={i: {} for i in ids},
    )


def draw(world: World, rng: np.random.Generator) -> tuple[list[Run], list[str]]:
    """The runs of one world, and the ids of its leaked items."""
    n, count = world.items, len(world.rates)
    ids = [f"item{k}" for k in range(n)]
    leaked = np.arange(n) < n // 5
    latent = np.sqrt(0.5) * (rng.normal(size=(n, 1)) + rng.normal(size=(n, count)))
    right = (latent < ndtri(np.array(world.rates) + world.leaked * leaked[:, None])).astype(float)
    texts = known.POPULATION[rng.integers(len(known.POPULATION), size=n)]
    runs = []
    for index in range(count):
        score = 30 + 10 * (rng.normal(size=n) + right[:, index])
        exam = {"accuracy/answer": right[:, index], "answered/answer": np.ones(n), "bleu4/answer": score}
        runs.append(run("exam", f"model{index}", ids, exam, None))
        runs.append(run("free", f"model{index}", ids, {"bleu4/raw": np.full(n, 30.0)}, texts[:, index % 2]))
    return runs, [i for i, hit in zip(ids, leaked, strict=True) if hit]


def cell(table: Table, name: str, **where: str) -> object:
    """The cell of the one row in which the named columns have these values."""
    columns = [column.name for column in table.columns]
    rows = [dict(zip(columns, row, strict=True)) for row in table.rows]
    (found,) = (row for row in rows if all(row[key] == value for key, value in where.items()))
    return found[name]


def observe(world: World, rng: np.random.Generator, options: Options) -> dict[str, bool]:
    """What one drawn world's report gets right (``holds``) and what it claims (``shown``)."""
    runs, leaked = draw(world, rng)
    analysis = Analysis(arrange("simulated", runs), options)
    accuracy = analysis.estimators["exam"].estimate("accuracy/answer")
    surface = analysis.estimators["free"].estimate("bleu4/raw")
    assert accuracy is not None
    assert surface is not None
    choice = verdict.chosen_regret(analysis, accuracy, surface)
    assert choice is not None
    truth = np.array(world.rates) + world.leaked * len(leaked) / world.items
    lost = float(truth.max() - truth[int(choice[0].removeprefix("model"))])
    pair = accuracy.difference("model0", "model1")
    bleu = surface.difference("model0", "model1")
    areas = validity.section(analysis, Sources()).tables[0]
    findings = {i: [{"item_id": i, "field": "question", "signal": "copy", "score": 1.0}] for i in leaked}
    contrast = contamination.section(analysis, Sources(findings=findings)).tables[0]
    change = cell(contrast, "Difference", Candidate="model0", Metric="accuracy")
    corrected = [row[9] for row in contrast.rows if row[1] == "accuracy" and isinstance(row[9], float)]
    return {
        "regret holds": known.covers(choice[2], lost),
        "loss shown where there is none": lost == 0 and choice[2].low > 0,
        "accuracy difference holds": known.covers(pair, float(truth[1] - truth[0])),
        "accuracy difference shown": pair.p < 0.05,
        "BLEU difference holds": known.covers(bleu, 0.0),
        "BLEU difference shown": bleu.p < 0.05,
        "AUC holds": _holds(cell(areas, "AUC", Candidate="model0"), AREA),
        "pooled AUC holds": _holds(cell(areas, "AUC", Candidate=validity.POOLED), AREA),
        "leak's effect holds": _holds(change, 100 * world.leaked),
        "any leak's effect shown (Holm)": min(corrected) < 0.05,
    }


def _holds(interval: object, truth: float) -> bool:
    assert isinstance(interval, stats.Interval)
    return known.covers(interval, truth)


def measure(world: World, trials: int, seed: list[int]) -> dict[str, float]:
    """Shares of trials, by what was observed."""
    rng, options = np.random.default_rng(seed), Options(resamples=400)
    seen: Counter[str] = Counter()
    for _ in range(trials):
        seen.update({name: int(value) for name, value in observe(world, rng, options).items()})
    return {name: count / trials for name, count in seen.items()}


def describe(worlds: Sequence[World]) -> list[str]:
    return [f"n={w.items}, {'/'.join(f'{100 * r:.0f}' for r in w.rates)}, leak +{100 * w.leaked:.0f}" for w in worlds]


@click.command()
@click.option("--trials", default=1000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(trials: int, seed: int) -> None:
    """Print one column per world."""
    results = [measure(world, trials, [seed, number]) for number, world in enumerate(WORLDS)]
    for number, text in enumerate(describe(WORLDS), 1):
        click.echo(f"world {number}: {text}")
    click.echo(f"{'':34}" + "".join(f"{number:>8}" for number in range(1, len(WORLDS) + 1)))
    for name in results[0]:
        click.echo(f"{name:34}" + "".join(f"{result[name]:8.1%}" for result in results))


if __name__ == "__main__":
    main()
