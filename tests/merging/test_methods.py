"""Every registered merge method against a straight computation of its paper's formula on dense matrices.

`FORMULAS` holds one for each method, or its registration does; a method without one fails the suite. Where PEFT or
mergekit implement the same method, they are compared with too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
merge_utils = pytest.importorskip("peft.utils.merge_utils")

from safetensors.torch import save_file  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.merging.coefficients import inner_products  # noqa: E402
from medbench.merging.deltas import Deltas, DenseUpdate  # noqa: E402
from medbench.merging.methods import METHODS, low_rank_terms, method  # noqa: E402
from medbench.merging.proof import as_tensor  # noqa: E402
from medbench.merging.selection import split  # noqa: E402
from medbench.merging.updates import LowRank, Whole  # noqa: E402
from medbench.merging.weights import Weights  # noqa: E402

OUT, IN = 14, 11
WEIGHTS = {"pt": 0.3, "sft": 0.9}
Matrix = Any


def update(seed: int, rank: int, scale: float = 2.0, *, transposed: bool = False) -> LowRank:
    g = torch.Generator().manual_seed(seed)
    b, a = torch.randn(OUT, rank, generator=g), torch.randn(rank, IN, generator=g)
    return LowRank(a.T.contiguous(), b.T.contiguous(), scale, transposed=True) if transposed else LowRank(b, a, scale)


def dense(name: str, updates: list[Any], weights: list[float], tensor: str = "w", **settings: Any) -> Matrix:
    """What a dense method makes of whole matrices, or of low-rank updates."""
    held = [u if isinstance(u, LowRank) else Whole(u, torch.zeros_like(u)) for u in updates]
    chosen = METHODS[name]
    merged = DenseUpdate(Deltas(held, tensor), weights, chosen.function, chosen.settings(settings))
    return torch.from_numpy(merged.rows(0, held[0].shape[0]))


def uniform(shape: tuple[int, int], seed: int, count: int, tensor: str = "w") -> Iterator[Matrix]:
    """The random numbers in [0, 1) of the updates to one weight."""
    deltas = Deltas([Whole(torch.zeros(shape), torch.zeros(shape))] * count, tensor)
    return (torch.from_numpy(np.vstack([deltas.uniform(p, at, seed) for p in deltas.parts()])) for at in range(count))


# ---- the formulas, on dW in float64 with full SVDs ----


def keep_largest(x: Matrix, density: float) -> Matrix:
    threshold = x.abs().flatten().sort(descending=True).values[int(density * x.numel()) - 1]
    return torch.where(x.abs() >= threshold, x, 0.0)


def agree(parts: list[Matrix], weights: list[float]) -> Matrix:
    """TIES' election and disjoint mean, value by value."""
    out = torch.zeros_like(parts[0])
    for at in range(out.numel()):
        values = [part.flatten()[at].item() for part in parts]
        sign = 1 if sum(values) >= 0 else -1
        chosen = [w * v for w, v in zip(weights, values, strict=True) if v * sign > 0]
        out.view(-1)[at] = sum(chosen) / len(chosen) if chosen else 0.0
    return out


def ties(deltas: dict[str, Matrix], w: dict[str, float], density: float = 0.5, **_: Any) -> Matrix:
    return agree([keep_largest(d, density) for d in deltas.values()], [w[n] for n in deltas])


def total(deltas: dict[str, Matrix], w: dict[str, float], **_: Any) -> Matrix:
    return sum(w[name] * delta for name, delta in deltas.items())


def norm_preserving(deltas: dict[str, Matrix], w: dict[str, float], **_: Any) -> Matrix:
    linear = total(deltas, w)
    return linear * sum(abs(w[n]) * d.norm() for n, d in deltas.items()) / linear.norm()


def project_out(deltas: dict[str, Matrix], w: dict[str, float], *, remove: str, **_: Any) -> Matrix:
    others = sum(w[n] * d for n, d in deltas.items() if n != remove)
    along = deltas[remove] / deltas[remove].norm()
    return others - (others * along).sum() * along


def slerp(deltas: dict[str, Matrix], w: dict[str, float], **_: Any) -> Matrix:
    (one, other), size = deltas.values(), sum(w.values())
    t, angle = w["sft"] / size, torch.acos((one * other).sum() / one.norm() / other.norm())
    return size * (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)


def model_stock(deltas: dict[str, Matrix], w: dict[str, float], **_: Any) -> Matrix:
    one, other = deltas.values()
    cosine = (one * other).sum() / one.norm() / other.norm()
    return 2 * cosine / (1 + cosine) * (one + other) / 2


def thinned(delta: Matrix, density: float, draws: Iterator[Matrix]) -> Matrix:
    return delta * (next(draws) < density) / density


def dare_linear(
    deltas: dict[str, Matrix], w: dict[str, float], *, density: float, draws: Iterator[Matrix], **_: Any
) -> Matrix:
    return sum(w[n] * thinned(d, density, draws) for n, d in deltas.items())


def dare_ties(
    deltas: dict[str, Matrix], w: dict[str, float], *, density: float, draws: Iterator[Matrix], **_: Any
) -> Matrix:
    return agree([thinned(d, density, draws) for d in deltas.values()], [w[n] for n in deltas])


def della(
    deltas: dict[str, Matrix], w: dict[str, float], *, density: float, epsilon: float, draws: Iterator[Matrix], **_: Any
) -> Matrix:
    pruned = []
    for delta in deltas.values():
        chance = torch.empty_like(delta)
        for row in range(OUT):
            for rank, column in enumerate(delta[row].abs().argsort()):
                chance[row, column] = density - epsilon / 2 + epsilon * rank / (IN - 1)
        pruned.append(delta * (next(draws) < chance) / chance)
    return agree(pruned, [w[n] for n in deltas])


def breadcrumbs(deltas: dict[str, Matrix], w: dict[str, float], *, density: float, gamma: float, **_: Any) -> Matrix:
    kept = {}
    for name, delta in deltas.items():
        order = delta.abs().flatten().sort().values
        top, stay = int(gamma * len(order)), int(density * len(order))
        low, high = order[len(order) - top - stay], order[len(order) - top - 1]
        kept[name] = torch.where((delta.abs() >= low) & (delta.abs() <= high), delta, 0.0)
    return total(kept, w)


def sce(deltas: dict[str, Matrix], w: dict[str, float], *, select_topk: float, **_: Any) -> Matrix:
    stack = torch.stack(list(deltas.values()))
    variance = stack.var(dim=0, unbiased=False)
    stack = stack * (
        variance >= variance.flatten().sort(descending=True).values[int(select_topk * variance.numel()) - 1]
    )
    shares = (stack**2).sum(dim=(1, 2)) / (stack**2).sum()
    out = torch.zeros(OUT, IN, dtype=torch.float64)
    for i in range(OUT):
        for j in range(IN):
            sign = 1 if stack[:, i, j].sum() >= 0 else -1
            chosen = [(s, v) for s, v in zip(shares, stack[:, i, j], strict=True) if v * sign > 0]
            out[i, j] = sum(s * v for s, v in chosen) / sum(s for s, _ in chosen) if chosen else 0.0
    return out


def svd(deltas: dict[str, Matrix], w: dict[str, float], *, rank: int, **_: Any) -> Matrix:
    u, s, vh = torch.linalg.svd(total(deltas, w))
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


def knots(deltas: dict[str, Matrix], w: dict[str, float], *, density: float, ranks: int, **_: Any) -> Matrix:
    u, s, vh = torch.linalg.svd(torch.cat(list(deltas.values()), dim=1), full_matrices=False)
    parts = (torch.diag(s[:ranks]) @ vh[:ranks]).split(deltas["pt"].shape[1], dim=1)
    return u[:, :ranks] @ ties(dict(zip(deltas, parts, strict=True)), w, density)


def tsv(deltas: dict[str, Matrix], w: dict[str, float], *, each: dict[str, int], **_: Any) -> Matrix:
    us, ss, vs = [], [], []
    for name, delta in deltas.items():
        u, s, vh = torch.linalg.svd(delta)
        k = min(each[name], min(delta.shape) // len(deltas))
        us, ss, vs = [*us, u[:, :k]], [*ss, w[name] * s[:k]], [*vs, vh[:k].T]

    def whitened(x: Matrix) -> Matrix:  # X (X'X)^(-1/2), by eigenvalues
        values, vectors = torch.linalg.eigh(x.T @ x)
        return x @ vectors @ torch.diag(values**-0.5) @ vectors.T

    return whitened(torch.cat(us, dim=1)) @ torch.diag(torch.cat(ss)) @ whitened(torch.cat(vs, dim=1)).T


def iso_c(deltas: dict[str, Matrix], w: dict[str, float], *, ranks: int, **_: Any) -> Matrix:
    u, s, vh = torch.linalg.svd(total(deltas, w))
    return s[:ranks].mean() * u[:, :ranks] @ vh[:ranks]


def core_space(
    deltas: dict[str, Matrix], w: dict[str, float], *, updates: Any, inner: str, density: float, **more: Any
) -> Matrix:
    u = torch.linalg.svd(torch.cat([x.scale * x.b.double() for x in updates.values()], dim=1), full_matrices=False)[0]
    v = torch.linalg.svd(torch.cat([x.a.double() for x in updates.values()]), full_matrices=False)[2].T
    cores = {name: u.T @ delta @ v for name, delta in deltas.items()}
    merged = {"ties": ties, "tsv": tsv, "iso_c": iso_c, "linear": total}[inner](cores, w, density=density, **more)
    return u @ merged @ v.T


def null_space(deltas: dict[str, Matrix], w: dict[str, float], *, project: str, x: Matrix, **_: Any) -> Matrix:
    keep = torch.eye(IN, dtype=torch.float64) - x.T @ torch.linalg.pinv(x @ x.T) @ x
    return total({n: d @ keep if n == project else d for n, d in deltas.items()}, w)


FORMULAS: dict[str, tuple[Callable[..., Matrix], list[dict[str, Any]]]] = {
    "linear": (total, [{}]),
    "soup": (total, [{}]),
    "norm_preserving": (norm_preserving, [{}]),
    "project_out": (project_out, [{"remove": "sft"}]),
    "slerp": (slerp, [{}]),
    "model_stock": (model_stock, [{}]),
    "magnitude_prune": (lambda d, w, density, **_: total({n: keep_largest(x, density) for n, x in d.items()}, w),
                        [{"density": 0.3}]),
    "ties": (ties, [{"density": 0.2}, {"density": 0.7}]),
    "dare_linear": (dare_linear, [{"density": 0.3, "seed": 5}]),
    "dare_ties": (dare_ties, [{"density": 0.6, "seed": 5}]),
    "della": (della, [{"density": 0.5, "epsilon": 0.2, "seed": 3}, {"density": 0.8, "epsilon": 0.4, "seed": 1}]),
    "breadcrumbs": (breadcrumbs, [{"density": 0.8, "gamma": 0.05}]),
    "sce": (sce, [{"select_topk": 1.0}, {"select_topk": 0.3}]),
    "svd": (svd, [{"rank": 2}, {"rank": 5}]),
    "knots": (knots, [{"density": 0.4}]),
    "tsv": (tsv, [{}]),
    "iso_c": (iso_c, [{}]),
    "core_space": (core_space, [{"inner": inner, "density": 0.4} for inner in ("ties", "tsv", "iso_c", "linear")]),
    "null_space": (null_space, [{"project": "sft"}]),
}  # fmt: skip


def _in_torch(formula: Callable[..., Any], declared: set[str]) -> Callable[..., Matrix]:
    """A formula in numpy, which knows nothing of this file's context."""

    def call(deltas: dict[str, Matrix], w: dict[str, float], **given: Any) -> Matrix:
        settings = {name: value for name, value in given.items() if name in declared}
        return torch.from_numpy(formula({n: x.numpy() for n, x in deltas.items()}, w, **settings))

    return call


FORMULAS |= {
    name: (_in_torch(chosen.formula, set(chosen.inputs)), [dict(settings) for settings in chosen.examples])
    for name, chosen in METHODS.items()
    if chosen.formula is not None
}


def test_every_registered_method_has_its_formula() -> None:
    assert FORMULAS.keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_its_paper_and_declares_its_settings(name: str) -> None:
    chosen = METHODS[name]
    assert re.search(r"arXiv:\d{4}\.\d{5}|doi:10\.|docs/merging\.md", chosen.paper)
    for setting, declared in chosen.inputs.items():
        assert declared.type in (int, float, str), setting
        if declared.default is not None:
            assert declared.problem(declared.default) == "", setting
    assert chosen.function.__doc__
    docs = Path(__file__).parents[2] / "docs" / "merging.md"
    assert chosen.formula is not None or f"`{name}`" in docs.read_text("utf-8")


@pytest.mark.parametrize(("name", "at"), [(n, at) for n, (_, sets) in FORMULAS.items() for at in range(len(sets))])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_method_equals_its_formula(name: str, at: int, transposed: bool, tmp_path: Path) -> None:
    formula, settings = FORMULAS[name][0], dict(FORMULAS[name][1][at])
    chosen = METHODS[name]
    updates = {"pt": update(1, 3, transposed=transposed), "sft": update(2, 4, 0.5, transposed=transposed)}
    weights = WEIGHTS if chosen.weighted else {"pt": 1.0, "sft": 1.0}
    # Formulas are of [out, in]; a dense method acts on the matrix as it is stored.
    if transposed and chosen.kind == "dense":
        pytest.skip("dense methods see the stored matrix: orientation is no part of them")
    deltas = {n: u.scale * u.b.double() @ u.a.double() for n, u in updates.items()}
    x = torch.randn(4, IN, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    if name == "null_space":
        save_file({"w": x}, tmp_path / "x.safetensors")
        settings["activations"] = str(tmp_path / "x.safetensors")
    context = {
        "x": x, "updates": updates, "ranks": 7, "each": {"pt": 3, "sft": 4},
        "draws": uniform((OUT, IN), settings.get("seed", 0), 2),
    }  # fmt: skip
    expected = formula(deltas, weights, **settings | context)
    if chosen.kind == "dense":
        found = dense(name, list(updates.values()), list(weights.values()), **settings)
    else:
        terms, apart, size = low_rank_terms(chosen, settings, weights, updates, "w.weight")
        found = sum(term.coefficient * as_tensor(term.left).double() @ as_tensor(term.right).double() for term in terms)
        found = found.T if transposed else found
        linear = total(deltas, weights)
        if chosen.kind == "factors":
            assert sum(term.left.shape[1] for term in terms) <= 7
            assert size == pytest.approx(float(linear.square().sum()), rel=1e-6)
            assert apart == pytest.approx(float((expected - linear).square().sum()), rel=1e-4, abs=1e-6 * size)
    assert float((found - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.parametrize("name", [n for n, chosen in METHODS.items() if chosen.kind == "dense"])
@pytest.mark.parametrize("columns", [7, 300])
def test_blocks_of_rows_change_nothing(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with equal magnitudes, of which some are among the smallest and others are not."""
    g = torch.Generator().manual_seed(7)
    updates = [torch.randint(-4, 5, (50, columns), generator=g).float() for _ in range(3)]
    weights = [0.3, 0.7, -0.2] if METHODS[name].weighted else [1.0] * 3
    whole = dense(name, updates, weights)
    assert 0 < torch.count_nonzero(whole) < whole.numel()
    monkeypatch.setattr("medbench.merging.deltas._BLOCK", 4 * columns)
    assert dense(name, updates, weights).equal(whole)
    chosen = METHODS[name]
    deltas = Deltas([Whole(u, torch.zeros_like(u)) for u in updates], "w")
    merged = DenseUpdate(deltas, weights, chosen.function, chosen.settings({}))
    assert deltas.step == 4
    rows = np.concatenate([merged.rows(first, min(first + 3, 50)) for first in range(0, 50, 3)])
    assert torch.from_numpy(rows).equal(whole)


@pytest.mark.parametrize("rank", [0, 1, 40, 299, 300])
def test_a_split_is_that_of_a_stable_sort(rank: int) -> None:
    values = np.random.default_rng(1).integers(0, 9, 300).astype(np.float32)
    found = split(lambda: iter(np.split(values, [13, 150])), 300, rank)
    expected = np.zeros(300, bool)
    expected[values.argsort(kind="stable")[:rank]] = True
    assert (found.below(values) == expected).all()
    assert (found.below(values[150:], 150) == expected[150:]).all()


@pytest.mark.parametrize("name", ["magnitude_prune", "ties", "dare_linear", "dare_ties"])
@pytest.mark.parametrize("density", [0.2, 0.5])
def test_dense_methods_equal_peft(name: str, density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(7)
    updates, weights = [torch.randn(30, 20, generator=g) for _ in range(3)], [0.3, 0.7, -0.2]
    settings = {"density": density} | ({"seed": 5} if name.startswith("dare") else {})
    ours = dense(name, updates, weights, **settings)
    draws = uniform((30, 20), 5, 3)
    monkeypatch.setattr(torch, "bernoulli", lambda chance: (next(draws) < chance).float())
    theirs = getattr(merge_utils, name)(updates, torch.tensor(weights), density)
    torch.testing.assert_close(ours, theirs)


def test_ties_weights_do_not_sum_as_linear_ones_do() -> None:
    found = dense("ties", [torch.ones(4, 4), torch.ones(4, 4)], [0.5, 0.5], density=1.0)
    assert found[0, 0] == 0.5  # 0.5 + 0.5 of one update is half of it


def test_null_space_leaves_the_outputs_at_the_given_tokens_alone(tmp_path: Path) -> None:
    updates = {"pt": update(1, 3), "sft": update(2, 4)}
    x = torch.randn(4, IN)
    save_file({"model.w": x}, tmp_path / "x.safetensors")
    settings = {"project": "sft", "activations": str(tmp_path / "x.safetensors")}
    terms, _, _ = low_rank_terms(METHODS["null_space"], settings, {"pt": 0.0, "sft": 1.0}, updates, "model.w.weight")
    merged = sum(term.coefficient * as_tensor(term.left) @ as_tensor(term.right) for term in terms)
    assert float((merged @ x.T).abs().max()) < 1e-5 * float((updates["sft"].delta() @ x.T).abs().max())
    assert float(merged.norm()) > 0.1
    with pytest.raises(MedbenchError, match="unknown weight in"):
        low_rank_terms(METHODS["null_space"], settings, {"pt": 0.0, "sft": 1.0}, updates, "other.weight")
    save_file({"model.w": torch.randn(4, IN + 1)}, tmp_path / "wide.safetensors")
    settings["activations"] = str(tmp_path / "wide.safetensors")
    with pytest.raises(MedbenchError, match="has inputs of 12; expected 11"):
        low_rank_terms(METHODS["null_space"], settings, {"pt": 0.0, "sft": 1.0}, updates, "model.w")


def test_zero_updates_and_lone_ones_do_no_harm(tmp_path: Path) -> None:
    """An adapter freshly made (B = 0), and a weight that only one adapter changes."""
    save_file({"w": torch.randn(2, IN)}, tmp_path / "x.safetensors")
    fresh = LowRank(torch.zeros(OUT, 3), torch.randn(3, IN), 1.0)
    needed = {"svd": {"rank": 2}, "project_out": {"remove": "pt"},
              "null_space": {"project": "pt", "activations": str(tmp_path / "x.safetensors")}}  # fmt: skip
    for name, chosen in METHODS.items():
        if chosen.kind == "dense":
            continue
        settings = chosen.settings(needed.get(name, {}))
        weights = {"pt": 1.0, "sft": 1.0}
        for updates in ({"pt": fresh, "sft": update(2, 4)}, {"pt": fresh, "sft": fresh}, {"sft": update(2, 4)}):
            terms, _, _ = low_rank_terms(chosen, settings, weights, updates, "w")
            assert all(as_tensor(factor).isfinite().all() for term in terms for factor in (term.left, term.right)), name


def test_dare_keeps_the_expectation_and_depends_on_the_seed() -> None:
    one = torch.ones(400, 400)
    thin = dense("dare_linear", [one], [1.0], "a", density=0.3, seed=0)
    assert thin.mean().item() == pytest.approx(1.0, abs=0.02)
    assert thin.unique().tolist() == pytest.approx([0.0, 1 / 0.3])
    assert not thin.equal(dense("dare_linear", [one], [1.0], "a", density=0.3, seed=1))
    assert not thin.equal(dense("dare_linear", [one], [1.0], "b", density=0.3, seed=0))


def test_inner_products_are_those_of_the_dense_updates() -> None:
    updates = [update(1, 3), update(2, 5, scale=0.5)]
    dense = torch.stack([one.delta(torch.float64).flatten() for one in updates])
    torch.testing.assert_close(torch.from_numpy(inner_products(updates)), dense @ dense.T)


def test_overrides_by_layer_and_module_the_last_one_decides() -> None:
    weights = Weights({"pt": 0.3, "sft": 0.7}, (("layers:0-1", {"pt": 0.1}), ("*.mlp.*", {"pt": 0.9, "sft": 0.0})))
    assert weights.at("model.layers.2.self_attn.q_proj.weight") == {"pt": 0.3, "sft": 0.7}
    assert weights.at("model.layers.1.self_attn.q_proj.weight") == {"pt": 0.1, "sft": 0.7}
    assert weights.at("model.layers.1.mlp.up_proj.weight") == {"pt": 0.9, "sft": 0.0}
    assert weights.at("model.layers.11.self_attn.q_proj.weight") == {"pt": 0.3, "sft": 0.7}
    assert weights.at("lm_head.weight") == {"pt": 0.3, "sft": 0.7}


def test_settings_are_declared_and_checked() -> None:
    assert method("ties").settings({"density": "0.25"}) == {"density": 0.25}
    with pytest.raises(MedbenchError, match="Did you mean density"):
        method("ties").settings({"densty": 0.5})
    with pytest.raises(MedbenchError, match="at most 1"):
        method("ties").settings({"density": 1.5})
    with pytest.raises(MedbenchError, match="needs rank"):
        method("svd").settings({})
    with pytest.raises(MedbenchError, match="expected int"):
        method("svd").settings({"rank": "many"})
    with pytest.raises(MedbenchError, match="one of ties, tsv"):
        method("core_space").settings({"inner": "dare"})
    with pytest.raises(MedbenchError, match="takes no settings"):
        method("linear").settings({"density": 0.5})
    with pytest.raises(MedbenchError, match="dare_ties"):
        method("dare-ties")
    with pytest.raises(MedbenchError, match="range of chances"):
        dense("della", [torch.ones(2, 2)], [1.0], density=0.1, epsilon=0.5)
    with pytest.raises(MedbenchError, match="two updates, and 3"):
        METHODS["slerp"].function(dict.fromkeys("abc", 1.0), {})


def test_sparsifying_equals_mergekit(monkeypatch: pytest.MonkeyPatch) -> None:
    sparsify = pytest.importorskip("mergekit.sparsify", reason="mergekit needs an environment of its own")
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(1))
    theirs = sparsify.magnitude_outliers(x, 0.8, gamma=0.05)
    ours = dense("breadcrumbs", [x], [1.0], density=0.8, gamma=0.05)
    torch.testing.assert_close(ours, theirs)
    # Its epsilon is half of the paper's window, and the paper divides by the chance.
    draws = uniform((30, 40), 3, 1)
    monkeypatch.setattr(torch, "bernoulli", lambda chance: (next(draws) < chance).float())
    theirs = sparsify.della_magprune(x, 0.6, 0.15)
    ours = dense("della", [x], [1.0], density=0.6, epsilon=0.3, seed=3)
    assert (ours != 0).equal(theirs != 0)
    ranks = x.abs().argsort(dim=1).argsort(dim=1)
    torch.testing.assert_close(ours * (0.45 + 0.3 * ranks / 39), theirs)


def test_merges_equal_mergekit() -> None:
    kit = pytest.importorskip("mergekit.merge_methods", reason="mergekit needs an environment of its own")
    from mergekit.merge_methods import sce as their_sce
    from mergekit.merge_methods.slerp import slerp as their_slerp

    assert kit
    x, y = (torch.randn(30, 40, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    ours = dense("sce", [x, y], [1.0, 1.0], select_topk=0.4)
    stack = torch.stack([x, y]) * their_sce.sce_mask(torch.stack([x, y]), 0.4)
    mask = their_sce.sce_weight(stack)[:, None, None] * their_sce.sign_consensus_mask(stack)
    torch.testing.assert_close(ours, (stack * mask).sum(dim=0) / mask.sum(dim=0).clamp(min=1e-6))
    updates = {"pt": update(1, 3), "sft": update(2, 4)}
    found = METHODS["slerp"].function({"pt": 0.3, "sft": 0.7}, updates)
    one, other = (u.delta(torch.float64) for u in updates.values())
    theirs = their_slerp(torch.tensor([0.7]), one[None], other[None])[0]
    torch.testing.assert_close(found["pt"] * one + found["sft"] * other, theirs, rtol=1e-6, atol=1e-6)
