"""The exact sum against rational arithmetic and against hand-made ties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from medbench.errors import MedbenchError  # noqa: E402
from medbench.merging.exact import ExactSum  # noqa: E402
from medbench.merging.proof import NotFinite, Replacement, Term, round_to_grid  # noqa: E402


def neighbours(value: float, dtype: torch.dtype) -> list[float]:
    """Representable numbers around a value."""
    near = torch.tensor(value, dtype=torch.float32).to(dtype)
    up, down = (torch.nextafter(near, torch.tensor(end, dtype=dtype)) for end in (float("inf"), float("-inf")))
    return [down.item(), near.item(), up.item()]


def nearest(exact: Fraction, dtype: torch.dtype) -> set[float]:
    """The representable numbers nearest to a rational one: two of them at a tie."""
    gaps = {value: abs(Fraction(value) - exact) for value in neighbours(float(exact), dtype)}
    return {value for value, gap in gaps.items() if gap == min(gaps.values())}


def exact_value(base: torch.Tensor, terms: list[Term], i: int, j: int) -> Fraction:
    total = Fraction(base[i, j].item())
    for term in terms:
        for a, b in zip(term.left[i].tolist(), term.right[:, j].tolist(), strict=True):
            total += Fraction(term.coefficient) * Fraction(a) * Fraction(b)
    return total


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_element_is_nearest_to_the_rational_sum(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    base = (torch.randn(24, 20, generator=g) * 0.02).to(dtype)
    terms = [
        Term(0.3, torch.randn(24, 4, generator=g) * 0.1, torch.randn(4, 20, generator=g)),
        Term(0.7 * 2, torch.randn(24, 8, generator=g) * 0.1, torch.randn(8, 20, generator=g)),
    ]
    merged = torch.cat([ExactSum(terms).rows(base[at : at + 7], at) for at in range(0, 24, 7)])
    assert merged.dtype == dtype
    for i in range(24):
        for j in range(20):
            assert merged[i, j].item() in nearest(exact_value(base, terms, i, j), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-36])
def test_a_first_sum_in_float32_changes_no_bit(dtype: torch.dtype, scale: float) -> None:
    """Half a million elements, those near the end of float32's range too, against a first sum in float64."""
    g = torch.Generator().manual_seed(4)
    base = (torch.randn(512, 1024, generator=g) * scale).to(dtype)
    terms = [
        Term(weight, torch.randn(512, 16, generator=g) * scale, torch.randn(16, 1024, generator=g) * 0.1)
        for weight in (0.3, -1.7)
    ]
    merged = ExactSum(terms).rows(base)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # permits products of lower precision, so float64 is taken
    try:
        assert torch.equal(merged.view(torch.int16), ExactSum(terms).rows(base).view(torch.int16))
    finally:
        torch.set_float32_matmul_precision(before)


def test_ties_and_near_ties_that_float32_and_float64_get_wrong() -> None:
    # 1 + 2^-8 lies midway between two bfloat16 numbers: the tie goes to the even one, 1; the smallest excess goes up,
    # also one of 2^-60, which neither float32 nor float64 can hold beside 1.
    base = torch.ones(1, 4, dtype=torch.bfloat16)
    right = torch.tensor([[2.0**-8, 2.0**-8, 2.0**-8, -(2.0**-9)], [0.0, 2.0**-60, -(2.0**-60), -(2.0**-60)]])
    merged = ExactSum([Term(1.0, torch.ones(1, 2), right)]).rows(base)
    assert merged.tolist() == [[1.0, 1.0078125, 1.0, 0.99609375]]


def test_whole_modules_and_low_rank_together() -> None:
    g = torch.Generator().manual_seed(4)
    base, value = ((torch.randn(6, 5, generator=g)).bfloat16() for _ in range(2))
    terms = [Term(0.3, torch.randn(6, 2, generator=g), torch.randn(2, 5, generator=g))]
    merged = ExactSum(terms, [Replacement(0.7, value)]).rows(base)
    for i in range(6):
        for j in range(5):
            whole = Fraction(0.7) * (Fraction(value[i, j].item()) - Fraction(base[i, j].item()))
            assert merged[i, j].item() in nearest(exact_value(base, terms, i, j) + whole, torch.bfloat16)


def test_zero_coefficients_return_the_base() -> None:
    base = torch.randn(3, 3).bfloat16()
    assert ExactSum([Term(0.0, torch.ones(3, 1), torch.ones(1, 3))]).rows(base).equal(base)


def test_nan_inf_overflow_and_quantized_bases_are_refused() -> None:
    term = Term(1.0, torch.ones(2, 1), torch.ones(1, 2))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(NotFinite):
            ExactSum([term]).rows(torch.tensor([[1.0, bad], [0, 0]], dtype=torch.bfloat16))
    with pytest.raises(NotFinite, match="float16"):
        ExactSum([Term(1e5, term.left, term.right)]).rows(torch.zeros(2, 2, dtype=torch.float16))
    with pytest.raises(MedbenchError, match="unquantized"):
        ExactSum([term]).rows(torch.zeros(2, 2, dtype=torch.int8))


def test_round_to_grid_agrees_with_torch_where_torch_rounds_once() -> None:
    values = np.concatenate([np.geomspace(1e-44, 1e38, 5000), [0.0, -0.0], -np.geomspace(1e-40, 1e30, 999)])
    once = values.astype(np.float32)
    for dtype in (torch.bfloat16, torch.float16):
        ours = torch.from_numpy(round_to_grid(once.astype(np.float64), str(dtype).removeprefix("torch."))).to(dtype)
        assert ours.equal(torch.from_numpy(once).to(dtype))


def test_round_to_grid_does_not_round_twice() -> None:
    value = 1 + 2.0**-8 + 2.0**-40
    assert torch.tensor(value, dtype=torch.float64).to(torch.bfloat16).item() == 1.0  # torch, over float32
    assert round_to_grid(np.array([value]), "bfloat16")[0] == 1.0078125
