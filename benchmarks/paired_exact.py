"""Paired differences of rates: exact coverage and false "as good as", by adding up every possible outcome.

    python benchmarks/paired_exact.py                  # 5 to 500 items
    python benchmarks/paired_exact.py --size 20 --size 50

Each of n items is gained, lost, or the same for both models; for single answers the counts of gained and lost are all
that an interval reads. So its coverage at a true pair of shares is a sum of multinomial probabilities, without any
Monte Carlo error. Printed per size: the lowest and mean 95% coverage over true shares of 0 to .7 (as the report gives
the interval: it holds 0 where McNemar's exact test shows nothing, and ends there where it does), the highest
probability that a candidate whose true loss is just the margin passes for "not worse" (nominal 5%), and the mean width.
Beside the report's interval stand Bonett and Price's (2012), which it used before, and Tango's score interval (1998).
"""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np
from scipy.special import gammaln, ndtri, xlogy

from medbench import stats

SHARES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.27, 0.3, 0.4, 0.5, 0.6, 0.7)
# Outcomes that are less likely than this under every true pair of shares are left out.
NEGLIGIBLE = 1e-7

Bounds = tuple[np.ndarray, np.ndarray]
Method = Callable[[np.ndarray, np.ndarray, int, float], Bounds]


def report(gained: np.ndarray, lost: np.ndarray, n: int, confidence: float) -> Bounds:
    """What `stats.paired_rates` gives before it looks at the test, per outcome."""
    each = [stats.clopper_pearson(count, n, confidence) for count in range(n + 1)]
    found = [stats.gains_less_losses(each[int(up)], each[int(down)]) for up, down in zip(gained, lost, strict=True)]
    low, high = np.array(found).T
    return low, high


def bonett_price(gained: np.ndarray, lost: np.ndarray, n: int, confidence: float) -> Bounds:
    """Wald's interval after adding one gained and one lost item."""
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = ndtri((1 + confidence) / 2) * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return up - down - half, up - down + half


def tango(gained: np.ndarray, lost: np.ndarray, n: int, confidence: float) -> Bounds:
    """The differences that the score test does not reject, found by halving."""
    quantile = ndtri((1 + confidence) / 2)

    def score(change: np.ndarray) -> np.ndarray:
        b = -gained - lost + (2 * n - gained + lost) * change
        c = -lost * change * (1 - change)
        down = (np.sqrt(np.maximum(b * b - 8 * n * c, 0)) - b) / (4 * n)
        return (gained - lost - n * change) / np.sqrt(np.maximum(n * (2 * down + change * (1 - change)), 1e-12))

    def crossing(low: np.ndarray, high: np.ndarray, target: float) -> np.ndarray:
        for _ in range(50):
            middle = (low + high) / 2
            above = score(middle) > target
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2

    change = (gained - lost) / n
    return crossing(-np.ones_like(change), change, quantile), crossing(change, np.ones_like(change), -quantile)


METHODS: dict[str, Method] = {"medbench": report, "Bonett and Price": bonett_price, "Tango": tango}


def outcomes(n: int) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float, np.ndarray]]]:
    """Counts gained and lost, and per true pair of shares the probability of each outcome."""
    gained, lost = (x.ravel() for x in np.meshgrid(np.arange(n + 1.0), np.arange(n + 1.0)))
    gained, lost = gained[gained + lost <= n], lost[gained + lost <= n]
    same = n - gained - lost
    ways = gammaln(n + 1) - gammaln(gained + 1) - gammaln(lost + 1) - gammaln(same + 1)
    truths = [(up, down) for up in SHARES for down in SHARES if up + down <= 1]
    chances = [np.exp(ways + xlogy(gained, u) + xlogy(lost, d) + xlogy(same, 1 - u - d)) for u, d in truths]
    kept = np.max(chances, axis=0) > NEGLIGIBLE
    return gained[kept], lost[kept], [(u, d, chance[kept]) for (u, d), chance in zip(truths, chances, strict=True)]


def measure(n: int) -> dict[str, str]:
    """Method -> its line of the table at n items."""
    gained, lost, truths = outcomes(n)
    flips = [np.r_[np.ones(int(up)), -np.ones(int(down))] for up, down in zip(gained, lost, strict=True)]
    open_ = np.array([stats.sign_flip_p(flip) for flip in flips]) >= 0.05
    lines = {}
    for name, method in METHODS.items():
        low, high = method(gained, lost, n, 0.95)
        more = gained > lost
        from_ = np.where(open_, np.minimum(low, 0), np.where(more, np.maximum(low, 0), low))
        to = np.where(open_, np.maximum(high, 0), np.where(more, high, np.minimum(high, 0)))
        narrow = method(gained, lost, n, 0.90)[0]
        coverage, alarms, widths = [], [], []
        for up, down, chance in truths:
            true = up - down
            coverage.append(float(chance[(from_ <= true + 1e-9) & (to >= true - 1e-9)].sum()))
            alarms.append(float(chance[narrow > true + 1e-9].sum()) if true < 0 else 0.0)
            widths.append(float(chance @ (high - low)))
        lowest, worst = int(np.argmin(coverage)), int(np.argmax(alarms))
        lines[name] = (
            f"coverage {np.mean(coverage):6.1%}, lowest {coverage[lowest]:6.1%} (gained {truths[lowest][0]:g}, lost "
            f"{truths[lowest][1]:g}); alarm at the margin at most {alarms[worst]:5.1%} (gained {truths[worst][0]:g}, "
            f"lost {truths[worst][1]:g}); width {100 * np.mean(widths):5.1f} points"
        )
    return lines


@click.command()
@click.option("--size", multiple=True, type=int, default=(5, 10, 20, 50, 200, 500), help="Items. Repeatable.")
def main(size: tuple[int, ...]) -> None:
    """Print the table."""
    for n in size:
        for name, line in measure(n).items():
            click.echo(f"n = {n:3}  {name:17} {line}")


if __name__ == "__main__":
    main()
