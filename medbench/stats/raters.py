"""How far people agree who judged the same things: Krippendorff's alpha, Cohen's kappa of each pair, by clusters.

Ratings are an array of shape (things, raters), NaN where a rater said nothing. All figures are functions of counts that
add up over things, so that a bootstrap over clusters sums counts and never reads a rating again.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from medbench.errors import MedbenchError, unknown

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")
# Labels and rating scales have a handful of values; the counts kept here grow with their square.
MOST_VALUES = 51


def scale_of(ratings: np.ndarray) -> np.ndarray:
    """The distinct values of ratings, ascending.

    Raises:
        MedbenchError: more than `MOST_VALUES`: a measurement, not a scale.
    """
    values = np.unique(ratings[np.isfinite(ratings)])
    if len(values) > MOST_VALUES:
        raise MedbenchError(f"{len(values)} different ratings: agreement is counted on scales of up to {MOST_VALUES}.")
    return values


def coincidences(ratings: np.ndarray) -> np.ndarray:
    """Krippendorff's (2011) coincidences of each thing, shape (things, values, values), values as in `scale_of`.

    A thing with m ratings adds 1 / (m - 1) for each ordered pair of them; one with a single rating adds nothing.
    """
    codes, values = np.asarray(ratings, dtype=float), scale_of(ratings)
    counts = (codes[:, :, None] == values).sum(axis=1).astype(float)
    raters = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    diagonal = np.arange(len(values))
    pairs[:, diagonal, diagonal] -= counts
    return pairs / np.where(raters > 1, raters - 1, np.inf)[:, None, None]


def alpha_of(summed: np.ndarray, values: np.ndarray, level: Level = "nominal") -> np.ndarray:
    """Krippendorff's alpha from summed coincidences, shape (..., values, values) to (...).

    NaN where there is no pair of ratings, or only one value.
    """
    if level not in LEVELS:
        raise unknown("level of measurement", level, LEVELS)
    marginal = summed.sum(axis=-1)
    total = marginal.sum(axis=-1)
    apart = _distance(marginal, values, level)
    observed = (summed * apart).sum(axis=(-2, -1))
    expected = (marginal[..., :, None] * marginal[..., None, :] * apart).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 1e-12, 1 - (total - 1) * observed / expected, np.nan)


def _distance(marginal: np.ndarray, values: np.ndarray, level: Level) -> np.ndarray:
    """Squared distance of two values; that of ordinal ones depends on how often those between them occur."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return (values[:, None] - values[None, :]) ** 2
    middle = np.cumsum(marginal, axis=-1) - marginal / 2
    return (middle[..., :, None] - middle[..., None, :]) ** 2


def krippendorff_alpha(ratings: np.ndarray, level: Level = "nominal") -> float:
    """Krippendorff's alpha: 1 is agreement, 0 what chance gives, below 0 is worse than chance.

    Args:
        ratings: shape (things, raters), NaN where a rater did not judge; labels as numbers of any kind.
        level: what differences between ratings mean.
    """
    values = scale_of(ratings)
    return float(alpha_of(coincidences(ratings).sum(axis=0), values, level)) if len(values) else float("nan")


def confusions(first: np.ndarray, second: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which two values two raters gave, shape (things, values, values); all 0 where one of them gave none."""
    return ((first[:, None] == values)[:, :, None] & (second[:, None] == values)[:, None, :]).astype(float)


def kappa_of(table: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Cohen's kappa from counts, shape (..., values, values) to (...); `weights` are the costs of disagreements.

    None: every disagreement costs the same. NaN where chance agreement is complete, or nothing was counted.
    """
    cost = 1.0 - np.eye(table.shape[-1]) if weights is None else weights
    total = table.sum(axis=(-2, -1))
    expected = (table.sum(axis=-1)[..., :, None] * table.sum(axis=-2)[..., None, :] * cost).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 1e-12, 1 - total * (table * cost).sum(axis=(-2, -1)) / expected, np.nan)
