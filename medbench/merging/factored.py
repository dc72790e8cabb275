"""Merge methods on low-rank factors: B_i A_i -> another B A, by QR and SVDs of small matrices, no full matrix formed.

The result is of rank r_1 + ... + r_n at most, so it can be stored as an adapter too.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from medbench.errors import MedbenchError, unknown
from medbench.merging import dense
from medbench.merging.registry import Density, Rank, one_of, register
from medbench.merging.stored import Stored, read_header

# Singular values below this share of the largest are those of zero: B A in float32 leaves some.
_ZERO = 1e-9


@dataclass(frozen=True)
class Pair:
    """One adapter's update to one weight in float64: b [out, rank], with alpha / r in it, and a [rank, in]."""

    name: str
    weight: float
    b: torch.Tensor
    a: torch.Tensor


Factors = tuple[torch.Tensor, torch.Tensor]


def _sum(pairs: Sequence[Pair]) -> Factors:
    """The factors of Equation (1)'s sum."""
    return torch.cat([pair.weight * pair.b for pair in pairs], dim=1), torch.cat([pair.a for pair in pairs])


def _svd(b: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U [out, k], s [k] and V' [k, in] of b a, without the singular values that are zero."""
    q_left, r_left = torch.linalg.qr(b)
    q_right, r_right = torch.linalg.qr(a.T)
    u, s, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    kept = int((s > _ZERO * s[0]).sum()) if len(s) else 0
    return q_left @ u[:, :kept], s[:kept], vh[:kept] @ q_right.T


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """The matrix with orthonormal columns that is nearest to the given one (orthogonal Procrustes)."""
    u, _, vh = torch.linalg.svd(columns, full_matrices=False)
    return u @ vh


def _ties(parts: Sequence[torch.Tensor], pairs: Sequence[Pair], density: float) -> torch.Tensor:
    """TIES on matrices in another basis."""
    trimmed = [dense.prune_small(part.cpu().numpy(), density) for part in parts]
    return torch.from_numpy(dense.elect_and_average(trimmed, [pair.weight for pair in pairs])).to(parts[0].device)


@register("svd", "factors", "Eckart and Young 1936, doi:10.1007/BF02288367")
def svd(pairs: Sequence[Pair], tensor: str, *, rank: Rank) -> Factors:
    """The best approximation of the weighted sum at that rank."""
    u, s, vh = _svd(*_sum(pairs))
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * vh[:rank]


@register("knots", "factors", "Stoica et al. 2024, KnOTS, arXiv:2410.19735")
def knots(pairs: Sequence[Pair], tensor: str, *, density: Density = 0.5) -> Factors:
    """TIES in the common output basis of the updates: [dW_1 ... dW_n] = U [S V_1' ... S V_n'], merged in S V'.

    The singular values go with V, as in the authors' code; trimming is by weight of the model.
    """
    stacked = torch.block_diag(*(pair.a for pair in pairs))
    u, s, vh = _svd(torch.cat([pair.b for pair in pairs], dim=1), stacked)
    parts = (s[:, None] * vh).split([pair.a.shape[1] for pair in pairs], dim=1)
    return u, _ties(parts, pairs, density)


@register("tsv", "factors", "Gargiulo et al. 2025, Task Singular Vectors, arXiv:2412.00081")
def tsv(pairs: Sequence[Pair], tensor: str) -> Factors:
    """TSV-Merge: the first 1/n of each update's singular vectors, side by side, made orthogonal against interference.

    Of each of n updates min(out, in) / n singular vectors are kept, which for adapters are all. U = [U_1 ... U_n] and
    V are replaced by the nearest matrices with orthonormal columns; the weights multiply the singular values.
    """
    parts = []
    for pair in pairs:
        u, s, vh = _svd(pair.b, pair.a)
        keep = min(len(s), max(1, min(u.shape[0], vh.shape[1]) // len(pairs)))
        parts.append((u[:, :keep], pair.weight * s[:keep], vh[:keep]))
    us, ss, vhs = zip(*parts, strict=True)
    return _orthonormal(torch.cat(us, dim=1)) * torch.cat(ss), _orthonormal(torch.cat(vhs).T).T


@register("iso_c", "factors", "Marczak et al. 2025, No Task Left Behind, arXiv:2502.04959")
def iso_c(pairs: Sequence[Pair], tensor: str) -> Factors:
    """Iso-C: the weighted sum with every singular value replaced by their mean.

    The mean is over the sum's own rank: beyond it a low-rank sum has no singular vectors to speak of.
    """
    u, s, vh = _svd(*_sum(pairs))
    return u * (s.mean() if len(s) else 0.0), vh


@register("core_space", "factors", "Panariello et al. 2025, Core Space, arXiv:2509.17786")
def core_space(
    pairs: Sequence[Pair],
    tensor: str,
    *,
    inner: Annotated[str, one_of("ties", "tsv", "iso_c", "linear")] = "ties",
    density: Density = 0.5,
) -> Factors:
    """Another merge method in the common core space: M_i = U_B' B_i A_i V_A of size R x R, R the sum of the ranks.

    U_B is the left basis of [B_1 ... B_n] (with alpha / r in them), V_A the right one of the stacked A_i, so that no
    update loses anything. `density` is for inner=ties; inner=linear is Equation (1).
    """
    u = torch.linalg.svd(torch.cat([pair.b for pair in pairs], dim=1), full_matrices=False)[0]
    vh = torch.linalg.svd(torch.cat([pair.a for pair in pairs]), full_matrices=False)[2]
    cores = [Pair(pair.name, pair.weight, u.T @ pair.b, pair.a @ vh.T) for pair in pairs]
    if inner == "ties":
        return u @ _ties([core.b @ core.a for core in cores], cores, density), vh
    b, a = {"tsv": tsv, "iso_c": iso_c}[inner](cores, tensor) if inner != "linear" else _sum(cores)
    return u @ b, a @ vh


@register("null_space", "factors", "Huang et al. 2026, RAIN-Merging (its first stage), arXiv:2602.22538")
def null_space(pairs: Sequence[Pair], tensor: str, *, project: str, activations: str) -> Factors:
    """Equation (1) with one update projected onto the null space of given activations: it leaves their outputs alone.

    dW <- dW (I - X' (X X')^+ X), X [tokens, in] being the inputs of the layer at the tokens to preserve; RAIN-Merging
    takes those of the thinking tags, from the model that thinks. Its second stage, scaling by attention, is not here.

    Args:
        pairs, tensor: the updates to one weight, and its name.
        project: the adapter whose update is projected.
        activations: a safetensors file that holds X under the weight's name (or its module's), any float dtype.
    """
    projected = []
    for pair in pairs:
        if pair.name == project:
            x = _inputs(activations, tensor)
            if x.shape[1] != pair.a.shape[1]:
                raise MedbenchError(f"{activations}: {tensor} has inputs of {x.shape[1]}; expected {pair.a.shape[1]}.")
            _, s, vh = torch.linalg.svd(x, full_matrices=False)
            basis = vh[s > s.max() * max(x.shape) * torch.finfo(torch.float32).eps] if len(x) else vh
            pair = Pair(pair.name, pair.weight, pair.b, pair.a - pair.a @ basis.T @ basis)
        projected.append(pair)
    return _sum(projected)


def _inputs(file: str, tensor: str) -> torch.Tensor:
    stored = _header(file)
    found = stored.get(tensor) or stored.get(tensor.removesuffix(".weight"))
    if found is None:
        raise unknown(f"weight in {file}", tensor, list(stored)[:20])
    x = found.read().double()
    if x.ndim != 2 or not x.isfinite().all():
        raise MedbenchError(f"{file}: {found.name} is {list(x.shape)}; expected finite activations [tokens, in].")
    return x


@functools.lru_cache(maxsize=4)
def _header(file: str) -> dict[str, Stored]:
    from pathlib import Path

    return read_header(Path(file).expanduser())
