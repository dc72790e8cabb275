"""PPI++ against `ppi-python` 0.2.3, and the corrected interval where the published one does not hold."""

from __future__ import annotations

import numpy as np
import pytest

from medbench import stats
from medbench.errors import MedbenchError


def study() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    labels = (rng.random(30) < 0.4).astype(float)
    judged = np.clip(0.3 * labels + 0.4 * rng.random(30) + 0.1, 0, 1)
    others = np.clip(0.3 * (rng.random(300) < 0.4) + 0.4 * rng.random(300) + 0.1, 0, 1)
    return labels, judged, others


def test_published_interval_is_ppi_pythons() -> None:
    # ppi_py.ppi_mean_ci(*study(), alpha=0.05), ppi_mean_pointestimate(*study()), and lam=0
    found = stats.ppi_plus_plus(*study())
    assert (found.low, found.high) == pytest.approx((0.24972965, 0.50281366), abs=1e-8)
    assert found.estimate == pytest.approx(0.37627166, abs=1e-8)
    alone = stats.ppi_plus_plus(*study(), lam=0)
    assert (alone.low, alone.high) == pytest.approx((0.16464649, 0.50202017), abs=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_published_interval_equals_the_package_where_it_is_installed(seed: int) -> None:
    ppi_py = pytest.importorskip("ppi_py", reason="ppi-python is not installed")
    rng = np.random.default_rng(seed)
    n, many = int(rng.integers(5, 200)), int(rng.integers(5, 2000))
    labels, others = rng.normal(size=n), rng.normal(1, 2, size=many)
    judged = rng.uniform(-1, 1) * labels + rng.normal(size=n)
    for lam in (None, 0.0, 0.4, 1.0):
        found = stats.ppi_plus_plus(labels, judged, others, lam=lam, confidence=0.9)
        low, high = ppi_py.ppi_mean_ci(labels, judged, others, alpha=0.1, lam=lam)
        assert (found.low, found.high) == pytest.approx((low[0], high[0]), abs=1e-12)
        assert found.estimate == pytest.approx(
            float(np.squeeze(ppi_py.ppi_mean_pointestimate(labels, judged, others, lam=lam))), abs=1e-12
        )


def worlds(rate: float, flip: float, n: int, many: int, draws: int, published: bool = False) -> list[stats.Powered]:
    """A judge who says the other thing with probability `flip`."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(draws):
        truth = (rng.random(n + many) < rate).astype(float)
        judged = np.where(rng.random(n + many) < flip, 1 - truth, truth)
        compute = stats.ppi_plus_plus if published else stats.ppi_rate
        found.append(compute(truth[:n], judged[:n], judged[n:]))
    return found


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_twenty_labels_and_a_good_judge_hold(rate: float) -> None:
    found = worlds(rate, 0.1, 20, 500, 500)
    covered = np.mean([one.low <= rate <= one.high for one in found])
    published = [stats.Interval(*one[:3]) for one in worlds(rate, 0.1, 20, 500, 500, published=True)]
    assert covered >= 0.925  # 0.95, give or take 500 draws
    assert np.mean([one.low <= rate <= one.high for one in published]) < covered
    width = [(one.high - one.low) / (one.labels_alone.high - one.labels_alone.low) for one in found]
    assert np.mean(width) < 0.9
    assert max(width) <= 1.05 + 1e-9


def test_a_judge_who_tells_nothing_is_not_listened_to() -> None:
    found = worlds(0.3, 0.5, 50, 500, 200)
    assert np.median([one.lam for one in found]) == 0
    assert np.mean([(o.high - o.low) / (o.labels_alone.high - o.labels_alone.low) for o in found]) > 0.97


def test_a_judge_without_error_is_not_believed_to_the_letter() -> None:
    truth = np.tile([1.0, 0, 0, 0], 5)
    found = stats.ppi_rate(truth, truth, np.tile([1.0, 0], 500))
    assert 0.25 < found.estimate < 0.5
    published = stats.ppi_plus_plus(truth, truth, np.tile([1.0, 0], 500))
    assert found.high - found.low > 1.5 * (published.high - published.low)


def test_labels_of_one_question_count_once() -> None:
    labels = np.repeat([1.0, 0, 1, 0, 1, 0], 10)
    judged = labels * 0.8 + 0.1
    questions = np.repeat(np.arange(6), 10)
    others, theirs = np.full(100, 0.5), np.repeat(np.arange(10, 20), 10)
    alone = stats.ppi_rate(labels, judged, others)
    found = stats.ppi_rate(labels, judged, others, clusters=questions, unlabelled_clusters=theirs)
    assert found.high - found.low > 2 * (alone.high - alone.low)


def test_everything_labelled_leaves_the_labels_alone() -> None:
    found = stats.ppi_rate([1.0, 0, 1], [1.0, 0, 0], [])
    assert (found.estimate, found.low, found.high) == tuple(found.labels_alone)
    assert found.lam == 0


def test_missing_and_wrong_values_are_refused() -> None:
    with pytest.raises(MedbenchError, match="one verdict per label"):
        stats.ppi_rate([1.0], [1.0, 0], [0.0])
    with pytest.raises(MedbenchError, match="missing"):
        stats.ppi_rate([1.0, np.nan], [1.0, 0], [0.0])
    with pytest.raises(MedbenchError, match="0-1"):
        stats.ppi_rate([1.0, 3.0], [1.0, 0], [0.0])


def test_counts_have_poissons_interval_and_are_never_sure_of_none() -> None:
    # Garwood's interval of 0 and of 10 events: (0, 3.689) and (4.795, 18.390)
    none = stats.count_mean(np.zeros(10))
    assert none.high == pytest.approx(0.3689, abs=1e-4)
    ten = stats.count_mean(np.ones(10))  # varies less than Poisson's, which is not rewarded
    assert (10 * ten.low, 10 * ten.high) == pytest.approx((4.795, 18.390), abs=1e-3)
    lumpy = stats.count_mean([10.0] + [0.0] * 9)
    assert lumpy.high > 2 * ten.high


def test_kappa_over_questions_is_wider_where_they_agree_within() -> None:
    rng = np.random.default_rng(1)
    questions = np.repeat(np.arange(12), 10)
    right = rng.random(12)[questions] < 0.7
    truth = rng.integers(0, 3, 120)
    said = np.where(right, truth, (truth + 1) % 3)
    plain = stats.cohen_kappa(truth.tolist(), said.tolist())
    found = stats.cohen_kappa(truth.tolist(), said.tolist(), clusters=questions)
    assert found.estimate == pytest.approx(plain.estimate)
    assert found.high - found.low > 1.5 * (plain.high - plain.low)
    single = stats.cohen_kappa(truth.tolist(), said.tolist(), clusters=np.arange(120))
    assert single.low == pytest.approx(plain.low, abs=0.02)
