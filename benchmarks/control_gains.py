"""Is "fewer are gained under the control" claimed too often? Coverage and claims of the difference of two differences.

    python benchmarks/control_gains.py [--trials 1000]

Two candidates answer n items as they are and under a control; an item's difficulty is shared by all four (correlation
0.4). The report halves each item's difference of differences, so that it is a difference of rates, and doubles what
`stats.paired_rates` says of it (`reports/gap/control_gains.py`).
"""

from __future__ import annotations

import click
import numpy as np
from scipy.special import ndtri

from medbench import stats

SIZES = (20, 50, 200)
# Rates of the first and the second candidate as it is, and of both under the control.
RATES = (
    (0.5, 0.7, 0.4, 0.6),
    (0.25, 0.9, 0.25, 0.9),
    (0.6, 0.6, 0.3, 0.3),
    (0.9, 0.95, 0.85, 0.9),
    (0.5, 0.8, 0.6, 0.6),
)
SHARED = 0.4


def draw(n: int, rates: tuple[float, ...], rng: np.random.Generator) -> list[np.ndarray]:
    """Right (1) or wrong (0) at each rate on the same n items."""
    item = rng.normal(size=n)
    return [
        (np.sqrt(SHARED) * item + np.sqrt(1 - SHARED) * rng.normal(size=n) < ndtri(rate)).astype(float)
        for rate in rates
    ]


@click.command()
@click.option("--trials", default=1000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(trials: int, seed: int) -> None:
    """Print, per size and rates, how often the interval holds the truth and how often a difference is claimed."""
    rng = np.random.default_rng(seed)
    for n in SIZES:
        for rates in RATES:
            truth = (rates[1] - rates[0]) - (rates[3] - rates[2])
            held = claimed = 0
            for _ in range(trials):
                first, second, first_under, second_under = draw(n, rates, rng)
                half = stats.paired_rates((second_under - first_under) / 2, (second - first) / 2)
                held += 2 * half.low - 1e-9 <= truth <= 2 * half.high + 1e-9
                claimed += half.p < 0.05
            click.echo(
                f"n = {n:3}, {rates}: gone {truth:+.2f}, covered {held / trials:.1%}, claimed {claimed / trials:.1%}"
            )


if __name__ == "__main__":
    main()
