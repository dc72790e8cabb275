"""ReAcc and ReCon against ReMedQA's published arithmetic, restated."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from medbench.benchmark.controls.reliability import answered_the_same, right_under_all


def published_reacc(accuracy: dict[str, list[tuple[str, bool]]]) -> float:
    """calculate_overall_accuracy: percent of questions all of whose variations are right."""
    judged = [sum(right for _, right in found) == len(found) for found in accuracy.values()]
    return sum(judged) / len(judged) * 100


def published_recon(consistency: dict[str, list[tuple[str, str]]]) -> float:
    """calculate_overall_consistency: percent of questions whose variations have one distinct answer."""
    judged = [len(Counter(answer for _, answer in found)) == 1 for found in consistency.values()]
    return sum(judged) / len(judged) * 100


@pytest.mark.parametrize("seed", range(20))
def test_the_shares_are_the_published_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    modes = ["open", "mcq", "none_of_the_provided", "fixed_pos", "no_symbols", "roman_numeral"][: 2 + seed % 5]
    n, k = 200, len(modes)
    gold = rng.choice(list("ABCD"), size=n)
    habit = np.where(rng.random(n) < 0.7, gold, rng.choice(list("ABCD"), size=n))
    said = np.where(rng.random((k, n)) < 0.8, habit, rng.choice(list("ABCD"), size=(k, n))).astype(object)
    said[rng.random((k, n)) < 0.05] = None  # no answer
    said[0, np.array([all(x is None for x in column) for column in said.T])] = "A"
    asked = rng.random((k, n)) < 0.95  # an item that a variation does not have
    asked[0] = True

    accuracy = {
        f"q{i}": [(modes[v], said[v, i] is not None and said[v, i] == gold[i]) for v in range(k) if asked[v, i]]
        for i in range(n)
    }
    consistency = {
        f"q{i}": [(modes[v], str(said[v, i])) for v in range(k) if asked[v, i] and said[v, i] is not None]
        for i in range(n)
    }
    consistency = {key: found for key, found in consistency.items() if found}  # as the published loop fills it

    right = np.where(
        asked, np.array([[x is not None and x == g for x, g in zip(row, gold, strict=True)] for row in said]), np.nan
    )
    answers = [[said[v, i] if asked[v, i] else None for v in range(k)] for i in range(n)]
    assert abs(100 * np.nanmean(right_under_all(right)) - published_reacc(accuracy)) < 1e-9
    assert abs(100 * np.nanmean(answered_the_same(answers)) - published_recon(consistency)) < 1e-9


def test_the_edges() -> None:
    nan = float("nan")
    assert right_under_all([[1, 1, nan, nan], [1, 0, 1, nan]])[:3].tolist() == [1, 0, 1]
    assert np.isnan(right_under_all([[nan], [nan]])).all()
    assert right_under_all([[0.5]]).tolist() == [0]
    found = answered_the_same([["A", "A"], ["A", "B"], ["A", None], [None, None]])
    assert found[:3].tolist() == [1, 0, 1]
    assert np.isnan(found[3])
