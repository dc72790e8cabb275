"""Rates that a judge counted, corrected by a few human labels: prediction-powered inference (PPI++).

The judge has said something of every item, people of a few. Their labels alone are unbiased but few; the judge alone
is precise but of unknown bias. PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453) takes the mean of the
labels and moves it by `lam` times what the judge says of all items less what it says of the labelled ones; `lam` is
the regression of labels on verdicts, so that a judge who tells nothing is not listened to.

`ppi_plus_plus` is the published interval, to the digit. It takes `lam` and the variance for known, and is normal:
with 20 labels and a good judge it covers 85 to 90 in 100 (`benchmarks/ppi.py`). `ppi_rate` is what medbench shows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medbench.errors import MedbenchError
from medbench.stats.proportions import Interval, normal_quantile, wilson
from medbench.stats.rates import Units, effective_size

# Weight, in labels, of the prior guess that the judge tells nothing. Chosen by simulation (benchmarks/ppi.py): with
# less, 20 labels on which a hard judge happens never to err pass for a judge that never errs.
_PRIOR_LABELS = 4.0
# How far the claims of a question are guessed to agree where the labels cannot say (K-QA's physicians' labels: 0.04).
# Narrower than with the 1 of `stats.rate`, and the interval still covers (benchmarks/ppi.py, clustered).
_AGREE = 0.3
# No interval is wider than that of the labels alone by more than this factor.
_WIDEST = 1.05


class Powered(NamedTuple):
    """A rate from a few labels and many verdicts.

    Attributes:
        estimate, low, high: the corrected rate, 0-1 (any unit for `ppi_plus_plus`).
        lam: how far the judge was listened to: 0 not at all, 1 as if it erred by a constant; above 1 where its verdicts
            vary less than the labels.
        labels_alone: the same kind of interval from the labels alone.
        judge_alone: the mean verdict over all items, labelled ones included.
    """

    estimate: float
    low: float
    high: float
    lam: float
    labels_alone: Interval
    judge_alone: float


def ppi_plus_plus(
    labels: ArrayLike,
    judged: ArrayLike,
    unlabelled: ArrayLike,
    *,
    lam: float | None = None,
    confidence: float = 0.95,
) -> Powered:
    """The published PPI++ estimate and normal interval of a mean, as `ppi_py.ppi_mean_ci` computes them.

    Args:
        labels: shape (n,), what people say, any unit.
        judged: shape (n,), what the judge says of the same items, in the same unit.
        unlabelled: shape (N,), what the judge says of items without a label.
        lam: None estimates the best one; 1 is PPI without tuning, 0 the labels alone.

    Raises:
        MedbenchError: no labels, no unlabelled verdicts, lengths that differ, or missing values.
    """
    y, f, u = _checked(labels, judged, unlabelled)
    n, many = len(y), len(u)
    if lam is None:
        covariance = float(np.mean((y - y.mean()) * (f - f.mean())))
        spread = float(np.var(np.concatenate([f, u]), ddof=1))
        lam = float(np.clip(covariance / ((1 + n / many) * spread), 0, 1)) if spread > 0 else 0.0
    z = normal_quantile(confidence)

    def interval(weight: float) -> Interval:
        estimate = float(y.mean() - weight * (f.mean() - u.mean()))
        half = z * float(np.sqrt(np.var(y - weight * f) / n + weight**2 * np.var(u) / many))
        return Interval(estimate, estimate - half, estimate + half)

    return Powered(*interval(lam), lam, interval(0.0), float(np.concatenate([f, u]).mean()))


def ppi_rate(
    labels: ArrayLike,
    judged: ArrayLike,
    unlabelled: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    unlabelled_clusters: ArrayLike | None = None,
    runs: ArrayLike | float = 1,
    confidence: float = 0.95,
) -> Powered:
    """A rate from a few labels and many verdicts, with an interval that holds at 20 labels.

    PPI++ with three changes for few labels. `lam` and the variance it saves are shrunk by what estimating them costs
    (the adjusted R squared, with four labels added on which the judge tells nothing). The interval is Wilson's at the
    effective size that the rest of the variance stands for, so it stays in 0-1 and does not collapse where the judge
    agreed with every label. And it is never more than 5% wider than the labels' own: `lam` is drawn back until then.

    Args:
        labels, judged: shape (n,), 0-1: what people and what the judge say of the labelled items.
        unlabelled: shape (N,), 0-1: what the judge says of the others; may be empty, which leaves the labels alone.
        clusters, unlabelled_clusters: labels of the questions that items share, both or neither; a question may
            have items of both kinds.
        runs: yes-or-no labels behind each labelled item's mean (claims of an answer), one number or shape (n,).

    Returns:
        Bounds are (0, 1) and the estimate NaN without labels.

    Raises:
        MedbenchError: values outside 0-1, missing ones, or lengths that differ.
    """
    y, f, u = _checked(labels, judged, unlabelled, empty_ok=True)
    if any(len(x) and (x.min() < -1e-12 or x.max() > 1 + 1e-12) for x in (y, f, u)):
        raise MedbenchError("labels and verdicts of a rate lie in 0-1.")
    everything = np.concatenate([f, u])
    judge = float(everything.mean()) if len(everything) else float("nan")
    if len(y) == 0:
        return Powered(float("nan"), 0.0, 1.0, float("nan"), Interval(float("nan"), 0.0, 1.0), judge)
    here, there = _labels_of(clusters, unlabelled_clusters, len(y), len(u))
    size, groups = _label_size(y, here, runs, confidence)
    alone = wilson(float(y.mean()) * size, size, confidence)
    best, saved = _control(y, f, u, here, there, groups) if len(u) else (0.0, 0.0)
    gap = float(u.mean() - f.mean()) if len(u) else 0.0
    estimate, bounds, lam = _no_wider(alone, best, saved, gap, size, confidence)
    return Powered(estimate, bounds.low, bounds.high, lam, alone, judge)


def _control(
    y: np.ndarray, f: np.ndarray, u: np.ndarray, here: np.ndarray, there: np.ndarray, groups: int
) -> tuple[float, float]:
    """`lam`, and the share of the labels' variance that it saves: both shrunk.

    The judge's mean over unlabelled less labelled items has expectation 0: it is a control variate for the labels'
    mean. Influences are summed per cluster over both kinds of items, so a shared question is counted once.
    """
    total = int(max(here.max(), there.max())) + 1
    label = np.bincount(here, weights=y - y.mean(), minlength=total) / len(y)
    control = np.bincount(here, weights=f - f.mean(), minlength=total) / len(f)
    control -= np.bincount(there, weights=u - u.mean(), minlength=total) / len(u)
    both, own, other = float(label @ control), float(label @ label), float(control @ control)
    if own <= 0 or other <= 0 or both <= 0 or groups < 4:
        return 0.0, 0.0
    told = min(1.0, both**2 / (own * other))
    saved = 1 - ((1 - told) * (groups - 1) + _PRIOR_LABELS) / (groups - 3 + _PRIOR_LABELS)
    if saved <= 0:
        return 0.0, 0.0
    return both / other * saved / told, saved


def _no_wider(
    alone: Interval, lam: float, saved: float, gap: float, size: float, confidence: float
) -> tuple[float, Interval, float]:
    """Wilson's interval at the size that `saved` leaves; `lam` is drawn back where it would be wider than allowed."""
    for share in np.linspace(1, 0, 21):
        estimate = float(np.clip(alone.estimate + share * lam * gap, 0, 1))
        effective = size / (1 - saved * share * (2 - share))
        bounds = wilson(estimate * effective, effective, confidence)
        if bounds.high - bounds.low <= _WIDEST * (alone.high - alone.low):
            return estimate, bounds, float(share * lam)
    return alone.estimate, alone, 0.0


def _label_size(y: np.ndarray, here: np.ndarray, runs: ArrayLike | float, confidence: float) -> tuple[float, int]:
    """How many independent yes-or-no labels the labelled items are worth, and the number of their clusters."""
    _, index = np.unique(here, return_inverse=True)
    outputs = float(np.sum(np.broadcast_to(np.asarray(runs, dtype=float), y.shape)))
    given = Units(np.bincount(index, weights=y), np.bincount(index).astype(float), max(outputs, float(len(y))))
    return effective_size(given, confidence, _AGREE), int(index.max()) + 1


def _labels_of(
    clusters: ArrayLike | None, others: ArrayLike | None, n: int, many: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both kinds' clusters as numbers from 0 in common; every item its own where none are given."""
    if clusters is None and others is None:
        return np.arange(n), n + np.arange(many)
    first, second = (np.asarray([] if x is None else x).astype(str) for x in (clusters, others))
    if len(first) != n or len(second) != many:
        raise MedbenchError(
            f"one cluster per item: got {len(first)} for {n} labelled, {len(second)} for {many} others."
        )
    index = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    return index[:n], index[n:]


def _checked(
    labels: ArrayLike, judged: ArrayLike, unlabelled: ArrayLike, empty_ok: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, f, u = (np.asarray(x, dtype=float) for x in (labels, judged, unlabelled))
    if y.shape != f.shape or y.ndim != 1 or u.ndim != 1:
        raise MedbenchError(f"one verdict per label, as flat lists; got shapes {y.shape}, {f.shape} and {u.shape}.")
    if not all(np.isfinite(x).all() for x in (y, f, u)):
        raise MedbenchError("labels or verdicts are missing (NaN): leave those items out, and say so.")
    if not empty_ok and (len(y) == 0 or len(u) == 0):
        raise MedbenchError(f"PPI needs labels and unlabelled verdicts; got {len(y)} and {len(u)}.")
    return y, f, u
