"""Power against statsmodels and the figures in the design, variance components against statsmodels' mixed model."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.proportion import power_proportions_2indep

from medbench import stats
from medbench.errors import MedbenchError


def test_items_needed_for_the_papers_difference() -> None:
    """66.38 against 69.29 takes about 4,060 items unpaired at 80% power."""
    got = stats.items_needed(0.6638, 0.6929)
    assert got == pytest.approx(4060, rel=0.01)
    assert power_proportions_2indep(0.0291, 0.6638, got).power == pytest.approx(0.8, abs=1e-3)


def test_detectable_difference_inverts_items_needed() -> None:
    gain = stats.detectable_difference(4060, 0.6638)
    assert gain == pytest.approx(0.0291, abs=2e-4)
    assert np.isnan(stats.detectable_difference(5, 0.9))
    with pytest.raises(MedbenchError, match="difference of 0"):
        stats.items_needed(0.5, 0.5)


def test_paired_detectable_difference_has_its_power() -> None:
    """Simulated: McNemar's mid-size power at the difference that the formula names."""
    n, discordant = 1273, 0.15
    d = stats.detectable_difference_paired(n, discordant)
    assert d < stats.detectable_difference(n, 0.66)
    rng = np.random.default_rng(0)
    flips = rng.multinomial(n, [(discordant - d) / 2, (discordant + d) / 2, 1 - discordant], size=4000)[:, :2]
    z = np.abs(flips[:, 1] - flips[:, 0]) / np.sqrt(flips.sum(1))
    assert np.mean(z > 1.959964) == pytest.approx(0.8, abs=0.025)
    assert np.isnan(stats.detectable_difference_paired(10, 0.05))
    assert np.isnan(stats.detectable_difference_paired(10, 0.0))


def test_detectable_from_standard_error() -> None:
    assert stats.detectable_from_se(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-5)


def test_variance_split_equals_the_mixed_model() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 2, size=(80, 1)) + rng.normal(0, 1, size=(80, 5))
    got = stats.variance_split(values)
    frame = pd.DataFrame({"y": values.ravel(), "item": np.repeat(np.arange(80), 5)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = smf.mixedlm("y ~ 1", frame, groups=frame["item"]).fit(reml=True)
    assert got.within == pytest.approx(fit.scale, rel=1e-4)
    assert got.between == pytest.approx(float(fit.cov_re.iloc[0, 0]), rel=1e-3)
    se = (got.mean.high - got.mean.low) / 2 / 1.990450
    assert se == pytest.approx(float(fit.bse_fe.iloc[0]), rel=1e-3)
    assert got.within_share.estimate == pytest.approx(0.2, abs=0.08)
    assert 0.1 < got.within_share.low < 0.2 < got.within_share.high < 0.35
    assert got.same_items_se < se


def test_variance_split_with_missing_runs_and_one_seed() -> None:
    values = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, 1.0], [0.0, np.nan, 0.0], [np.nan, np.nan, np.nan]])
    got = stats.variance_split(values)
    assert got.mean.estimate == pytest.approx(0.5)
    assert got.within == pytest.approx(0.5 / 4)
    single = stats.variance_split(values[:, :1])
    assert np.isnan(single.within)
    with pytest.raises(MedbenchError, match="items, seeds"):
        stats.variance_split(np.ones(4))
