"""Coverage and width of rates corrected by a few human labels (`medbench.stats.ppi_rate`), in simulation.

    python benchmarks/ppi.py                 # the table of docs/claims.md; about 10 minutes on one core
    python benchmarks/ppi.py --draws 500     # a look

Every draw is a study: labels of some items at a rate, a judge's score of these and of 1,000 more, with the AUC asked
for (binormal: the score is normal, and shifted where the label is yes). The judge is graded (its score is the
probability of yes) or hard (yes or no, cut halfway, as a claim judge's verdict is). In the clustered world four labels
belong to one question, and labels and judge's errors agree within it (beta-binomial rates; a random shift of the
question's scores).

Printed per number of labels and AUC, over the rates: coverage of the 95% interval (mean, least, most; the same of the
labels alone, and of the published normal PPI++ interval), and width over that of the labels alone (mean, widest cell,
widest draw).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import expit, ndtri

from medbench import stats

LABELS = (20, 50, 200)
RATES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
AUCS = (0.6, 0.7, 0.8, 0.9, 0.95)
JUDGES = ("graded", "hard")
UNLABELLED = 1000
PER_QUESTION = 4
ICC = 0.2  # of labels within a question


@dataclass(frozen=True)
class Cell:
    """One setting of the simulation."""

    labels: int
    rate: float
    auc: float
    judge: str
    clustered: bool


@dataclass(frozen=True)
class Outcome:
    """What the draws of a cell gave: shares of intervals that held the rate, and widths over the labels alone's."""

    covered: float
    labels_covered: float
    normal_covered: float
    width: float
    widest_draw: float


def cells(clustered: bool) -> Iterator[Cell]:
    """The whole grid."""
    for labels, rate, auc, judge in product(LABELS, RATES, AUCS, JUDGES):
        yield Cell(labels, rate, auc, judge, clustered)


def draw(cell: Cell, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Labels, the judge's verdicts, and questions of `count` items."""
    shift = np.sqrt(2) * ndtri(cell.auc)
    questions = None
    rate: np.ndarray | float = cell.rate
    noise = rng.normal(size=count)
    if cell.clustered:
        questions = np.arange(count) // PER_QUESTION
        groups = int(questions[-1]) + 1
        strength = (1 - ICC) / ICC
        rate = rng.beta(cell.rate * strength, (1 - cell.rate) * strength, groups)[questions]
        noise = np.sqrt(ICC) * rng.normal(size=groups)[questions] + np.sqrt(1 - ICC) * noise
    labels = (rng.random(count) < rate).astype(float)
    scores = noise + shift * labels
    if cell.judge == "hard":
        return labels, (scores > shift / 2).astype(float), questions
    return labels, expit(shift * (scores - shift / 2) + np.log(cell.rate / (1 - cell.rate))), questions


def run(cell: Cell, draws: int, rng: np.random.Generator) -> Outcome:
    """All draws of one cell."""
    held, widths = np.zeros((draws, 3)), np.zeros((draws, 2))
    for number in range(draws):
        y, f, here = draw(cell, cell.labels, rng)
        _, u, there = draw(cell, UNLABELLED, rng)
        if here is not None and there is not None:
            there = there + int(here[-1]) + 1
        found = stats.ppi_rate(y, f, u, clusters=here, unlabelled_clusters=there)
        alone, normal = found.labels_alone, stats.ppi_plus_plus(y, f, u)
        for column, interval in enumerate((found, alone, normal)):
            held[number, column] = interval.low <= cell.rate <= interval.high
        widths[number] = found.high - found.low, alone.high - alone.low
    mean = held.mean(axis=0).tolist()
    return Outcome(*mean, float(widths[:, 0].mean() / widths[:, 1].mean()), float((widths[:, 0] / widths[:, 1]).max()))


def show(results: dict[Cell, Outcome], clustered: bool) -> None:
    """One row per number of labels and AUC, and what lies outside 93-97."""
    world = f"{PER_QUESTION} labels a question" if clustered else "independent items"
    print(
        f"\n{world}\n\n| labels | AUC | covered: mean (least to most) | labels alone | published PPI++ | width "
        "| widest |"
    )
    print("|---|---|---|---|---|---|---|")
    for labels, auc in product(LABELS, AUCS):
        here = [o for c, o in results.items() if (c.labels, c.auc, c.clustered) == (labels, auc, clustered)]
        columns = [
            f"{100 * np.mean(x):.1f} ({100 * min(x):.1f} to {100 * max(x):.1f})"
            for x in ([o.covered for o in here], [o.labels_covered for o in here], [o.normal_covered for o in here])
        ]
        width = [o.width for o in here]
        print(
            f"| {labels} | {auc} | {' | '.join(columns)} | {np.mean(width):.2f} (at most {max(width):.2f}) "
            f"| {max(o.widest_draw for o in here):.3f} |"
        )
    print()
    for labels in LABELS:
        here = [(c, o) for c, o in results.items() if (c.labels, c.clustered) == (labels, clustered)]
        outside = [f"{c.rate:g}/{c.auc:g}/{c.judge} {100 * o.covered:.1f} (labels alone {100 * o.labels_covered:.1f})"
                   for c, o in here if not 0.93 <= o.covered <= 0.97]  # fmt: skip
        print(f"{labels} labels: {len(here) - len(outside)} of {len(here)} cells within 93-97; outside "
              f"(rate/AUC/judge): {', '.join(outside) or 'none'}")  # fmt: skip


def main() -> None:
    """Print both worlds' tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000, help="studies per cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", choices=["independent", "clustered", "both"], default="both")
    asked = parser.parse_args()
    print(f"draws {asked.draws} a cell, seed {asked.seed}, {UNLABELLED} unlabelled, rates {RATES[0]}-{RATES[-1]}")
    for clustered in (False, True):
        if asked.world in ("both", "clustered" if clustered else "independent"):
            rng = np.random.default_rng([asked.seed, clustered])
            show({cell: run(cell, asked.draws, rng) for cell in cells(clustered)}, clustered)


if __name__ == "__main__":
    main()
