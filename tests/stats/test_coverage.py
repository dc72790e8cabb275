"""A quick pass of the coverage benchmark: wide enough for Monte Carlo error, narrow enough to catch a wrong formula."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import interval_coverage as simulated

QUICK = {
    "wilson n=500 p=0.66",
    "clustered rate 100x5",
    "clustered unpaired difference 50x4",
    "paired difference n=500",
    "mcnemar n=500",
    "clustered paired difference 20x5",
    "bleu n=200",
    "bleu difference n=200",
    "bleu paired bootstrap n=200",
    "bleu randomisation n=200",
    "auc n=500",
    "kappa n=450",
    "seeds 200x5",
    "regret n=10",
    "regret n=500",
    "flat sweep n=3",
    "rank intervals n=500",
    "flat sweep n=500",
}


@pytest.mark.parametrize("simulation", [s for s in simulated.simulations() if s.name in QUICK], ids=lambda s: s.name)
def test_nominal_rates_hold(simulation: simulated.Simulation) -> None:
    # 400 trials: three standard errors of a 5% rate are 3.3 points.
    assert simulation.accepts(simulated.measure(simulation, 400), slack=0.033)


def test_every_quick_simulation_exists() -> None:
    assert {s.name for s in simulated.simulations()} >= QUICK
