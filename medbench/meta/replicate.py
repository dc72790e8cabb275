"""Does another file say the same as a card? Each figure against the range in which a replication lands."""

from __future__ import annotations

from typing import Any

import numpy as np

from medbench.meta.evaluate import FIGURES


def landed(earlier: dict[str, Any], later: dict[str, Any]) -> list[tuple[str, str, float, list[float], bool]]:
    """Every figure that both cards have: (metric, figure, the later estimate, the earlier range, inside or not).

    The range is a confidence interval widened for the later file's own size: its groups vary, too.
    """
    factor = float(np.sqrt(1 + earlier["groups"]["count"] / max(1, later["groups"]["count"])))
    found = []
    for name, figures in _all(earlier).items():
        other = _all(later).get(name)
        for figure in FIGURES:
            one, two = figures[figure], other[figure] if other else {"estimate": None}
            if one["estimate"] is None or two["estimate"] is None or one["interval"] is None:
                continue
            bounds = _widened(one, -1.0 if figure in ("spearman", "kendall", "kappa") else 0.0, factor)
            found.append((name, figure, two["estimate"], bounds, bool(bounds[0] <= two["estimate"] <= bounds[1])))
    return found


def _widened(figure: dict[str, Any], bottom: float, factor: float) -> list[float]:
    """The interval with its halves, on the logit scale that it was made on, `factor` times as long."""
    share = np.clip((np.array([figure["estimate"], *figure["interval"]]) - bottom) / (1 - bottom), 1e-9, 1 - 1e-9)
    centre, low, high = np.log(share / (1 - share))
    ends = np.array([centre + factor * (low - centre), centre + factor * (high - centre)])
    return [float(bottom + (1 - bottom) / (1 + np.exp(-end))) for end in ends]


def _all(card: dict[str, Any]) -> dict[str, Any]:
    named = {
        f"{profile} {metric}": figures
        for profile, found in card["profiles"].items()
        for metric, figures in found["metrics"].items()
    }
    return named | card["other"]


def compare(earlier: dict[str, Any], later: dict[str, Any]) -> list[str]:
    """In words: how many figures land where a replication should, and which do not."""
    figures = landed(earlier, later)
    if not figures:
        return [f"against {earlier['name']}: the two have no figure in common."]
    inside = sum(one[4] for one in figures)
    lines = [
        f"against {earlier['name']} ({earlier['groups']['count']} groups): {inside} of {len(figures)} figures land "
        "where 95 of 100 replications of this size do."
    ]
    if earlier["human"]["target"] != later["human"]["target"]:
        lines.append(f"but the two were asked otherwise: {earlier['human']['target']} there.")
    lines += [
        f"outside: {name} {figure} {value:.3f}, expected {bounds[0]:.3f} to {bounds[1]:.3f}"
        for name, figure, value, bounds, ok in figures
        if not ok
    ]
    return lines
