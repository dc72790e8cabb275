"""Differences of models that are each asked with the wording that suited them best."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from medbench import stats
from medbench.errors import MedbenchError


def right(rng: np.random.Generator, skill: np.ndarray, n: int) -> np.ndarray:
    """Answers of shape (..., n): models' and wordings' skills as thresholds of a normal."""
    return (rng.normal(size=(*skill.shape, n)) < skill[..., None]).astype(float)


def study(rng: np.random.Generator, effect: float, n: int = 800, m: int = 200) -> stats.TunedComparison:
    """Exchangeable models: six wordings each, tuned on m items, tested on n others."""
    skill = rng.normal(0, effect, (2, 6))
    tuning = right(rng, skill, m)
    picked = skill[[0, 1], tuning.mean(axis=2).argmax(axis=1)]
    base, adapted = right(rng, picked, n)
    return stats.tuned_rates(base, adapted, tuning[0], tuning[1])


def test_the_general_claim_is_a_t_test_whose_variance_has_both_parts() -> None:
    rng = np.random.default_rng(3)
    base, adapted = right(rng, np.array([0.0, 0.4]), 500)
    one, two = right(rng, np.linspace(-0.3, 0.3, 5), 150), right(rng, np.linspace(0.4, -0.2, 5), 150)
    found = stats.tuned_rates(base, adapted, one, two)
    items = scipy.stats.sem(adapted - base) ** 2
    wordings = np.var(two.mean(1) - one.mean(1), ddof=1)
    freedom = (items + wordings) ** 2 / (items**2 / 499 + wordings**2 / 4)
    t = (adapted - base).mean() / np.sqrt(items + wordings)
    assert found.general.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), freedom))
    reach = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(items + wordings)
    assert found.general.high - found.general.difference == pytest.approx(reach)
    assert found.spread == pytest.approx(np.sqrt(wordings))
    assert found.asked == stats.paired_rates(base, adapted)


def test_prompt_luck_is_no_skill() -> None:
    rng = np.random.default_rng(5)
    found = [study(rng, effect=0.15) for _ in range(300)]
    plain = np.mean([one.asked.p < 0.05 for one in found])
    general = np.mean([one.general.p < 0.05 for one in found])
    assert plain > 0.2  # the paired test alone takes luck with a wording for skill
    assert general <= 0.055


def test_the_general_claim_is_never_bolder() -> None:
    rng = np.random.default_rng(7)
    for effect in (0.0, 0.05, 0.3):
        one = study(rng, effect, n=100, m=40)
        assert one.general.p >= one.asked.p
        assert one.general.low <= one.asked.low
        assert one.general.high >= one.asked.high


def test_equal_tuning_scores_leave_the_paired_test() -> None:
    rng = np.random.default_rng(9)
    base, adapted = right(rng, np.array([0.0, 1.5]), 200)
    same = right(rng, np.zeros(4), 60)
    found = stats.tuned_rates(base, adapted, same, same)
    assert found.spread == 0
    assert found.general.p < 1e-6
    alike = stats.tuned_rates(base, base, same, same)
    assert (alike.general.difference, alike.general.p) == (0, 1)


def test_one_wording_says_nothing_of_others_and_unlike_ones_are_refused() -> None:
    one = stats.tuned_rates([1, 0, 1], [1, 1, 1], [[1, 0]], [[1, 1]])
    assert one.asked.difference == pytest.approx(1 / 3)
    assert np.isnan(one.general.low)
    assert np.isnan(one.general.p)
    with pytest.raises(MedbenchError, match=r"same wordings and items; got \(2, 2\) and \(2, 3\)"):
        stats.tuned_rates([1], [0], [[1, 0]] * 2, [[1, 0, 1]] * 2)


def test_items_of_one_context_count_together() -> None:
    rng = np.random.default_rng(11)
    base, adapted = (np.repeat(x, 5) for x in right(rng, np.array([0.0, 0.5]), 40))
    tuning = right(rng, np.zeros((2, 4)), 100)
    alone = stats.tuned_rates(base, adapted, *tuning)
    together = stats.tuned_rates(base, adapted, *tuning, clusters=np.repeat(np.arange(40), 5))
    assert together.general.high - together.general.low > alone.general.high - alone.general.low
