"""Equation (1) without a wrong last bit: base + sum of c_i * left_i @ right_i, rounded once to the base's dtype.

Rounded to nearest, every element is proven. A float32 sum that is then rounded to bfloat16 is wrong wherever the
float32 error straddles a rounding boundary (about one element in ten thousand here). So each sum carries a bound on its
own error: where no boundary lies within it the result is proven. The few elements that stay open are summed again in
float64, and what even that leaves open (exact ties) in rational arithmetic. For weights stored in 16 bits the first sum
is one of float32: it leaves hardly more elements open (bfloat16's spacing is 2^16 times as wide) and costs half the
memory traffic.

Rounded stochastically there is nothing to prove: the float32 sum errs by 2^-16 of a spacing, far below the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from medbench.errors import MedbenchError
from medbench.merging.rounding import Block, measured, stochastic

STORED = {torch.float32, torch.bfloat16, torch.float16}
# Elements of one tensor that are refined at a time: bounds the float64 copies of their factors to some 10 MB.
_REFINE_AT_ONCE = 16_384


_NOT_FINITE = "the base or the merged weight holds NaN or Inf, or leaves the range of {}."


class NotFinite(MedbenchError):
    """The base or the sum holds NaN, Inf or a value beyond the stored dtype's range."""


@dataclass(frozen=True)
class Term:
    """coefficient * left @ right: left [rows, rank], right [rank, columns], both float32."""

    coefficient: float
    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True)
class Replacement:
    """coefficient * (value - base): a module that was trained whole (PEFT's modules_to_save); value [rows, columns]."""

    coefficient: float
    value: torch.Tensor


class ExactSum:
    """base + terms for one weight, block of rows by block of rows.

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
        self._terms = [term for term in terms if term.coefficient != 0]
        self._replacements = [
            Replacement(item.coefficient, _matrix(item.value)) for item in replacements if item.coefficient != 0
        ]
        if self._terms:
            self._left = torch.cat([term.left.double() * term.coefficient for term in self._terms], dim=1)
            self._right = torch.cat([term.right.double() for term in self._terms])
            self._columns = self._right.T.contiguous()
            # Any order of summation errs by less than (rank + 4) u sum_k |l_ik r_kj| (Higham, Accuracy and Stability of
            # Numerical Algorithms, 3.1), and by Cauchy-Schwarz that sum is at most |l_i| max_j |r_j|: one bound a row.
            sizes = self._left.norm(dim=1, keepdim=True) * self._columns.norm(dim=1).max()
            rank = self._left.shape[1]
            self._bound = (rank + 4) * 2.0**-53 * 1.001 * sizes
            # The same in float32, whose left factors are rounded once more; and a library may flush what is smaller
            # than the smallest normal number, product by product.
            self._left_single, self._right_single = self._left.float(), self._right.float()
            tiny = 2 * rank * torch.finfo(torch.float32).smallest_normal
            self._bound_single = ((rank + 5) * 2.0**-24 * 1.001 * sizes).float() + tiny

    def rows(self, base: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The merged rows `first` ... of the weight, given the base's rows [n, ...]; same dtype as `base`.

        Raises:
            NotFinite: a value is NaN or Inf, or leaves the range of the dtype.
            MedbenchError: the base is stored in a dtype other than float32, bfloat16 or float16.
        """
        return self.block(base, first).rows

    def block(self, base: torch.Tensor, first: int = 0) -> Block:
        """The merged rows, and what became of the update in them; see `rows`."""
        if base.dtype not in STORED:
            raise MedbenchError(
                f"weights stored as {str(base.dtype).removeprefix('torch.')} cannot be merged into: "
                "use the unquantized base (float32, bfloat16 or float16)."
            )
        start = _matrix(base).contiguous()
        if not self._terms and not self._replacements:
            nothing = torch.zeros(start.shape, device=base.device)
            return Block(base.clone(), nothing, 0.0, 0.0, base.numel())
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
        """bfloat16 on a CPU: one compiled pass over the float32 product of the factors."""
        from medbench.merging import kernels

        here = slice(first, first + len(base))
        change = torch.mm(self._left_single[here], self._right_single)
        rows = torch.empty_like(base)
        patterns, update, out = base.view(torch.uint16).numpy(), change.numpy(), rows.view(torch.uint16).numpy()
        if self._key is not None:
            wrong, same, square, product = kernels.stochastic_bfloat16(
                patterns, update, np.uint64(self._key), first, out
            )
            open_ = np.empty(0, np.int64)
        else:
            bound, room = self._bound_single[here, 0].numpy(), np.empty(max(base.numel() // 64, 64), np.int64)
            relative = np.float32(2 * torch.finfo(torch.float32).eps)
            found, wrong, same, square, product = kernels.nearest_bfloat16(patterns, update, bound, relative, out, room)
            if found > len(room):  # factors so large that float32 proves little
                return self._nearest(base, first, True)
            open_ = room[:found]
        same_before, square_before = _counts(change, open_)
        self._settle(open_, base, first, rows, change)
        same_after, square_after = _counts(change, open_)
        # An open value's update is the tie between both of its changes: a (b - c) with a = (b + c) / 2.
        same, product = same + same_after - same_before, product + (square_after - square_before) / 2
        if wrong:
            raise NotFinite(_NOT_FINITE.format(base.dtype))
        return Block(rows, change, square, product, same)

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
            here = slice(first, first + len(base))
            asked = torch.mm(self._left_single[here], self._right_single)
            value, bound = asked + base, self._bound_single[here]
        # Four units: the addition of the base, the step to float32, and forming both ends of the interval.
        # The clamp: below the smallest normal number the spacing no longer shrinks with the value.
        info = torch.finfo(value.dtype)
        bound = value.abs().clamp_min_(info.smallest_normal).mul_(2 * info.eps).add_(bound)
        low, high = (value - bound).to(base.dtype), value.add_(bound).to(base.dtype)
        self._settle(_differing(low, high), base, first, high)
        if not high.sum(dtype=torch.float64).isfinite():
            raise NotFinite(_NOT_FINITE.format(base.dtype))
        return measured(high, base, asked)

    def _settle(
        self,
        open_: np.ndarray,
        base: torch.Tensor,
        first: int,
        rows: torch.Tensor,
        change: torch.Tensor | None = None,
    ) -> None:
        """Put the correctly rounded sum at the flat positions `open_` into `rows`, and its change into `change`."""
        for at in range(0, len(open_), _REFINE_AT_ONCE):
            row, column = np.divmod(open_[at : at + _REFINE_AT_ONCE], base.shape[1])
            i, j = torch.from_numpy(row).to(base.device), torch.from_numpy(column).to(base.device)
            rows[i, j] = self._refine(base[i, j], i + first, j)
            if change is not None:
                change[i, j] = rows[i, j].float() - base[i, j].float()

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
            value = torch.mm(self._left[here], self._right).add_(value)
            bound = bound + self._bound[here]
        return value, bound

    def _refine(self, base: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """The correctly rounded sum at single elements: float64 with a bound, rationals where that leaves it open."""
        start = base.double()
        if not start.isfinite().all():
            raise NotFinite("the base weight holds NaN or Inf.")
        value, size, rank = start, start.abs(), 0
        if self._terms:
            products = self._left[row] * self._columns[column]
            value, size, rank = value + products.sum(dim=1), size + products.abs().sum(dim=1), products.shape[1]
        for item in self._replacements:
            other = item.value[row, column].double()
            value = value + item.coefficient * (other - start)
            size = size + abs(item.coefficient) * (other.abs() + start.abs())
        terms = rank + 4 * len(self._replacements) + 4
        center, bound = value.cpu().numpy(), (terms * 2.0**-53 * size).cpu().numpy()
        rounded = round_to_grid(center, base.dtype)
        low, high = round_to_grid(center - bound, base.dtype), round_to_grid(center + bound, base.dtype)
        for at in np.flatnonzero(low != high):
            rounded[at] = self._rational(float(start[at]), int(row[at]), int(column[at]), base.dtype)
        return torch.from_numpy(rounded).to(base.device, base.dtype)

    def _rational(self, base: float, row: int, column: int, dtype: torch.dtype) -> float:
        total = Fraction(base)
        for term in self._terms:
            pairs = zip(term.left[row].tolist(), term.right[:, column].tolist(), strict=True)
            total += Fraction(term.coefficient) * sum(Fraction(a) * Fraction(b) for a, b in pairs)
        for item in self._replacements:
            total += Fraction(item.coefficient) * (Fraction(item.value[row, column].item()) - Fraction(base))
        # A float64 nearest to the sum finds its binade; the tie itself is decided on the rational number.
        _, exponent = np.frexp(float(total))
        quantum = Fraction(2) ** int(_quantum(exponent, dtype))
        return float(round(total / quantum) * quantum)


def _counts(change: torch.Tensor, positions: np.ndarray) -> tuple[int, float]:
    """Of the values at flat positions: how many are zero, and the sum of their squares."""
    values = change.numpy().ravel()[positions].astype(np.float64)
    return int((values == 0).sum()), float(values @ values)


def _matrix(values: torch.Tensor) -> torch.Tensor:
    """A weight as [rows, columns]: norms and biases have one dimension."""
    return values if values.ndim == 2 else values.reshape(len(values), -1)


def _in_range(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float32 values that can be rounded to `dtype`.

    Raises:
        NotFinite: a value is NaN or Inf, or beyond the largest number of `dtype`.
    """
    if not bool((values.abs() <= torch.finfo(dtype).max).all()):
        raise NotFinite(_NOT_FINITE.format(dtype))
    return values


def _multiplies_in_float32(device: torch.device) -> bool:
    """Whether float32 matrices are multiplied as such: TF32 on a GPU, or bfloat16 by choice, would break the bound."""
    return device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"


def round_to_grid(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """float64 values rounded half to even to the numbers of `dtype`, as float64.

    `Tensor.to(torch.bfloat16)` goes from float64 over float32 and so rounds twice.
    """
    _, exponent = np.frexp(values)
    quantum = _quantum(exponent, dtype)
    return np.ldexp(np.rint(np.ldexp(values, -quantum)), quantum)


def _quantum(exponent: np.ndarray | int, dtype: torch.dtype) -> np.ndarray | int:
    """Exponent of the spacing of `dtype` at values in [2^(exponent - 1), 2^exponent)."""
    info = torch.finfo(dtype)
    _, epsilon = np.frexp(info.eps)
    _, normal = np.frexp(info.smallest_normal)
    return np.maximum(exponent, int(normal)) - 1 + (int(epsilon) - 1)


def _differing(low: torch.Tensor, high: torch.Tensor) -> np.ndarray:
    """Flat positions at which two tensors of one dtype differ."""
    width = torch.int32 if low.dtype == torch.float32 else torch.int16
    low, high = low.view(width).flatten(), high.view(width).flatten()
    if low.device.type != "cpu":
        return torch.ne(low, high).nonzero().flatten().cpu().numpy()
    # numpy compares and searches several times faster than torch does on a CPU.
    return np.flatnonzero(low.numpy() != high.numpy())
