"""Equation (1) without a wrong last bit: base + sum of c_i * left_i @ right_i, rounded once to the base's dtype.

Rounded to nearest, every element is proven. A float32 sum that is then rounded to bfloat16 is wrong wherever the
float32 error straddles a rounding boundary (about one element in ten thousand here). So each sum carries a bound on its
own error: where no boundary lies within it the result is proven. The few elements that stay open are summed again in
float64, and what even that leaves open (exact ties) in rational arithmetic (`proof`). For weights stored in 16 bits the
first sum is one of float32: it leaves hardly more elements open (bfloat16's spacing is 2^16 times as wide) and costs
half the memory traffic.

Rounded stochastically there is nothing to prove: the float32 sum errs by 2^-16 of a spacing, far below the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from medbench.errors import MedbenchError
from medbench.merging.bfloat16 import Bfloat16Sum
from medbench.merging.proof import NOT_FINITE, NotFinite, Prover, Replacement, Term, as_tensor
from medbench.merging.rounding import Block, measured, stochastic

if TYPE_CHECKING:
    from medbench.merging.stored import Readable

STORED = {torch.float32, torch.bfloat16, torch.float16}
# Elements of one tensor that are settled at a time: bounds the float64 copies of their factors to some 10 MB.
_AT_ONCE = 16_384


class ExactSum:
    """base + terms for one weight, block of rows by block of rows, in any stored dtype and on any device.

    Args:
        terms: low-rank terms, whose factors are exact in float32.
        replacements: whole weights, [rows, columns], in any of the stored dtypes.
        key: of the random numbers that round the sum (`rounding.Rounding.key`); None rounds to nearest.

    The exact sum is the one of the given float64 coefficients and the given factors, in real numbers.
    """

    def __init__(
        self, terms: Sequence[Term], replacements: Sequence[Replacement] = (), *, key: int | None = None
    ) -> None:
        self._key = key
        self._terms = [
            Term(term.coefficient, as_tensor(term.left), as_tensor(term.right))
            for term in terms
            if term.coefficient != 0
        ]
        self._replacements = [
            Replacement(item.coefficient, _matrix(item.value)) for item in replacements if item.coefficient != 0
        ]
        # Made when a block asks for them: most weights need one of the two.
        self._patterns: Bfloat16Sum | None = None
        self._factors: _Factors | None = None
        self._prover: Prover | None = None

    def read(self, stored: Readable, first: int, last: int) -> torch.Tensor:
        """What `block` takes of a weight in a file."""
        return stored.read(first, last)

    def rows(self, base: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The merged rows `first` ... of the weight, given the base's rows [n, ...]; same dtype as `base`.

        Raises:
            NotFinite: a value is NaN or Inf, or leaves the range of the dtype.
            MedbenchError: the base is stored in a dtype other than float32, bfloat16 or float16.
        """
        rows: torch.Tensor = self.block(base, first).rows
        return rows

    def block(self, base: torch.Tensor, first: int = 0) -> Block:
        """The merged rows, and what became of the update in them; see `rows`."""
        if base.dtype not in STORED:
            raise MedbenchError(
                f"weights stored as {str(base.dtype).removeprefix('torch.')} cannot be merged into: "
                "use the unquantized base (float32, bfloat16 or float16)."
            )
        start = _matrix(base).contiguous()
        if not self._terms and not self._replacements:
            return Block(base.clone(), 0.0, 0.0, base.numel())
        in_float32 = not self._replacements and _multiplies_in_float32(base.device)
        if base.dtype == torch.bfloat16 and in_float32:
            block = self._bfloat16(start, first)
        elif self._key is not None and base.dtype != torch.float32:
            value, _ = self._sum(start, first)
            block = measured(
                stochastic(_in_range(value.float(), base.dtype), self._key, first, base.dtype), start, value - start
            )
        else:
            block = self._nearest(start, first, in_float32)
        return block._replace(rows=block.rows.reshape(base.shape))

    def _bfloat16(self, base: torch.Tensor, first: int) -> Block:
        """bfloat16 on a CPU, as files are merged."""
        if self._patterns is None:
            self._patterns = Bfloat16Sum(self._terms, key=self._key)
        block = self._patterns.block(base.view(torch.uint16).numpy(), first)
        return block._replace(rows=torch.from_numpy(block.rows.copy()).view(torch.bfloat16))

    def _nearest(self, base: torch.Tensor, first: int, in_float32: bool) -> Block:
        """Any dtype and device: both ends of the interval are rounded, and compared."""
        if base.dtype == torch.float32:
            value, bound = self._sum(base, first)
            asked = value - base
        elif not in_float32:
            # torch rounds correctly to 16 bits from float32 only; the interval takes in the step from float64 to there.
            exact, wide = self._sum(base, first)
            asked, value, bound = exact - base, exact.float(), wide.float()
        else:
            here, factors = slice(first, first + len(base)), self._stacked()
            asked = torch.mm(factors.left_single[here], factors.right_single)
            value, bound = asked + base, factors.bound_single[here]
        # Four units: the addition of the base, the step to float32, and forming both ends of the interval.
        # The clamp: below the smallest normal number the spacing no longer shrinks with the value.
        info = torch.finfo(value.dtype)
        bound = value.abs().clamp_min_(info.smallest_normal).mul_(2 * info.eps).add_(bound)
        low, high = (value - bound).to(base.dtype), value.add_(bound).to(base.dtype)
        self._settle(_differing(low, high), base, first, high)
        if not high.sum(dtype=torch.float64).isfinite():
            raise NotFinite(NOT_FINITE.format(base.dtype))
        return measured(high, base, asked)

    def _settle(self, open_: np.ndarray, base: torch.Tensor, first: int, rows: torch.Tensor) -> None:
        """Put the correctly rounded sum at the flat positions `open_` into `rows`."""
        if self._prover is None:
            self._prover = Prover(self._terms, self._replacements)
        name = str(base.dtype).removeprefix("torch.")
        for at in range(0, len(open_), _AT_ONCE):
            row, column = np.divmod(open_[at : at + _AT_ONCE], base.shape[1])
            i, j = torch.from_numpy(row).to(base.device), torch.from_numpy(column).to(base.device)
            settled = self._prover.settle(base[i, j].double().cpu().numpy(), row + first, column, name)
            rows[i, j] = torch.from_numpy(settled).to(base.device, base.dtype)

    def _sum(self, base: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum in float64, and a bound on each element's distance from the exact sum but for the last addition."""
        here = slice(first, first + len(base))
        value, bound = base.double(), torch.zeros(1, 1, dtype=torch.float64, device=base.device)
        for item in self._replacements:
            start, other = base.double(), item.value[here].double()
            value = value + item.coefficient * (other - start)
            # Each of the three operations errs by a unit of what it handles, and so does each sum that follows.
            bound = bound + 4 * 2.0**-53 * (value.abs() + abs(item.coefficient) * (other.abs() + start.abs()))
        if self._terms:
            factors = self._stacked()
            value = torch.mm(factors.left[here], factors.right).add_(value)
            bound = bound + factors.bound[here]
        return value, bound

    def _stacked(self) -> _Factors:
        if self._factors is None:
            self._factors = _Factors(self._terms)
        return self._factors


class _Factors:
    """The terms' factors side by side, with bounds on what multiplying them errs, a row each.

    Any order of summation errs by less than (rank + 4) u sum_k |l_ik r_kj| (Higham, Accuracy and Stability of Numerical
    Algorithms, 3.1), and by Cauchy-Schwarz that sum is at most |l_i| max_j |r_j|.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.left = torch.cat([as_tensor(term.left).double() * term.coefficient for term in terms], dim=1)
        self.right = torch.cat([as_tensor(term.right).double() for term in terms])
        sizes = self.left.norm(dim=1, keepdim=True) * self.right.norm(dim=0).max()
        rank = self.left.shape[1]
        self.bound = (rank + 4) * 2.0**-53 * 1.001 * sizes
        # The same in float32, whose left factors are rounded once more; and a library may flush what is smaller than
        # the smallest normal number, product by product.
        self.left_single, self.right_single = self.left.float(), self.right.float()
        tiny = 2 * rank * torch.finfo(torch.float32).smallest_normal
        self.bound_single = ((rank + 5) * 2.0**-24 * 1.001 * sizes).float() + tiny


def _matrix(values: torch.Tensor) -> torch.Tensor:
    """A weight as [rows, columns]: norms and biases have one dimension."""
    return values if values.ndim == 2 else values.reshape(len(values), -1)


def _in_range(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float32 values that can be rounded to `dtype`.

    Raises:
        NotFinite: a value is NaN or Inf, or beyond the largest number of `dtype`.
    """
    if not bool((values.abs() <= torch.finfo(dtype).max).all()):
        raise NotFinite(NOT_FINITE.format(dtype))
    return values


def _multiplies_in_float32(device: torch.device) -> bool:
    """Whether float32 matrices are multiplied as such: TF32 on a GPU, or bfloat16 by choice, would break the bound."""
    return device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"


def _differing(low: torch.Tensor, high: torch.Tensor) -> np.ndarray:
    """Flat positions at which two tensors of one dtype differ."""
    width = torch.int32 if low.dtype == torch.float32 else torch.int16
    low, high = low.view(width).flatten(), high.view(width).flatten()
    if low.device.type != "cpu":
        return torch.ne(low, high).nonzero().flatten().cpu().numpy()
    # numpy compares and searches several times faster than torch does on a CPU.
    return np.flatnonzero(low.numpy() != high.numpy())
