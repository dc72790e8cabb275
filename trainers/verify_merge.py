"""`medbench verify-merge`: the weights that a merged model was asked for, and those that take effect in it.

medbench verify-merge --base B --merged DIR --adapter pt=DIR --adapter sft=DIR --expect pt=0.3,sft=0.7
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medbench.errors import MedbenchError
from medbench.merging.weights import parse_weights

if TYPE_CHECKING:
    from medbench.merging.solve import Recovered

# Values of one tensor that are compared at a time.
_BLOCK = 1 << 18


def recover(
    base: str | Path,
    merged: str | Path,
    adapters: Sequence[str],
    expect: dict[str, float] | None = None,
    *,
    task_vectors: Sequence[str] = (),
) -> tuple[Recovered, list[str]]:
    """Solve for the weights of a merged checkpoint.

    Returns `medbench.merging.solve.Recovered`, and the names of tensors outside the adapters that differ from the base.

    Raises:
        MedbenchError: files that do not fit together.
    """
    from medbench.merging.adapters import parse_adapter, read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    from medbench.merging.equations import Weight
    from medbench.merging.fitting import fit_adapters
    from medbench.merging.solve import recover_weights
    from medbench.merging.stored import FLOATING, Cast
    from medbench.merging.task_vectors import read_task_vector

    before, after = open_checkpoint(base), open_checkpoint(merged)
    loaded = [read_adapter(name, path) for name, path, _ in map(parse_adapter, adapters)]
    loaded = fit_adapters(before, loaded, any_base=True)
    loaded += [read_task_vector(name, path, before) for name, path, _ in map(parse_adapter, task_vectors)]
    if before.tensors.keys() != after.tensors.keys():
        odd = min(before.tensors.keys() ^ after.tensors.keys())
        raise MedbenchError(f"{before.path} and {after.path} do not hold the same tensors: {odd} is in one only.")
    for name, stored in before.tensors.items():
        if stored.shape != after.tensors[name].shape:
            raise MedbenchError(f"{name} has shape {stored.shape} in the base and {after.tensors[name].shape} merged.")
    targets = set().union(*(adapter.targets for adapter in loaded))
    # A merge that was stored in float32 is one of the base's values in float32.
    bases = {
        name: Cast(stored, "float32") if stored.kind in FLOATING and after.tensors[name].kind == "float32" else stored
        for name, stored in before.tensors.items()
    }
    weights = [
        Weight(
            name,
            _layer(name),
            bases[name],
            after.tensors[name],
            {a.name: a.low_rank[name] for a in loaded if name in a.low_rank},
            {a.name: a.whole[name] for a in loaded if name in a.whole},
        )
        for name in sorted(targets)
    ]
    changed = [
        name
        for name in before.tensors.keys() - targets
        if any(
            not bases[name].read(*rows).equal(after.tensors[name].read(*rows)) for rows in bases[name].blocks(_BLOCK)
        )
    ]
    return recover_weights(weights, [a.name for a in loaded], start=expect), sorted(changed)


def _layer(name: str) -> str:
    match = re.search(r"\.(\d+)\.", name)
    return f"layer {match[1]}" if match else name


@click.command()
@click.option("--base", required=True, help="Model directory or Hugging Face id.")
@click.option("--merged", required=True, help="The merged model's directory.")
@click.option("--adapter", "adapters", multiple=True, help="NAME=DIR, as often as needed.")
@click.option("--task-vector", "task_vectors", multiple=True, help="NAME=DIR of a full fine-tuned checkpoint.")
@click.option("--expect", default=None, help="The weights that should have been used: pt=0.3,sft=0.7.")
@click.option("--tolerance", default=0.005, show_default=True, help="How far a weight may be from the expected one.")
@click.option("--asked-only", is_flag=True, help="Accept effective weights that rounding took from the asked ones.")
def verify_command(
    base: str,
    merged: str,
    adapters: tuple[str, ...],
    task_vectors: tuple[str, ...],
    expect: str | None,
    tolerance: float,
    asked_only: bool,
) -> None:
    """Find the weights that a merge was asked for, and those that take effect in the rounded model.

    Exits 1 if either, or the form of the sum, is not as expected; effective weights are compared with the asked ones
    where nothing is expected.
    """
    expected = parse_weights(expect) if expect else None
    names = [text.partition("=")[0] for text in (*adapters, *task_vectors)]
    if not names:
        raise MedbenchError("nothing to look for: give at least one --adapter or --task-vector, NAME=DIR.")
    if expected is not None and set(expected) != set(names):
        raise MedbenchError(f"--expect names {', '.join(sorted(expected))}; the adapters are {', '.join(names)}.")
    found, changed = recover(base, merged, adapters, expected, task_vectors=task_vectors)
    lines, failed = describe(found, changed, expected, tolerance, asked_only=asked_only)
    click.echo("\n".join(lines))
    if failed:
        raise SystemExit(1)


def describe(
    found: Recovered,
    changed: Sequence[str],
    expected: dict[str, float] | None,
    tolerance: float,
    *,
    asked_only: bool = False,
) -> tuple[list[str], bool]:
    """The lines that verify-merge prints, and whether it fails."""
    lines = [
        f"{name}  {weight:.4f}  (+- {found.errors[name]:.1g})  effective {found.effective[name]:.4f}"
        for name, weight in found.weights.items()
    ]
    off = "more than a step from the sum" if found.rounding == "stochastic" else "not the correctly rounded sum"
    lines.append(
        f"rounded {_how(found)}: residual {found.residual:.2e} of the change, {found.ulps:.2f} units in the last "
        f"place; {found.unequal:.4%} of {found.values:,} values are {off}"
    )
    failed = False
    if not found.has_form:
        failed = True
        lines.append("NOT of the form base + sum of w_i dW_i:")
        lines += list(_cross_terms(found)) or [_unexplained(found)]
    if expected is not None:
        wrong = {n: w for n, w in found.weights.items() if abs(w - expected[n]) > max(tolerance, 5 * found.errors[n])}
        if wrong:
            failed = True
            pairs = ", ".join(f"{name} is {weight:.4f}, expected {expected[name]:g}" for name, weight in wrong.items())
            lines.append(f"MISMATCH: {pairs}")
            if all(abs(weight - expected[name] ** 2) < tolerance for name, weight in found.weights.items()):
                lines.append("  these are the squares of the expected weights: both A and B were scaled by them.")
    lost = _lost(found, tolerance)
    if lost and found.has_form:
        failed = failed or not asked_only
        lines.append(f"{'attenuated' if asked_only else 'ATTENUATED'} by rounding: {lost}")
        lines.append("  merge with --rounding stochastic, --dtype float32 or --format adapter; or pass --asked-only")
    if changed:
        failed = True
        lines.append(f"CHANGED outside the adapters: {len(changed)} tensors, e.g. {changed[0]}")
    outliers = found.outliers(expected or found.typical(), tolerance)
    if outliers and found.has_form:
        failed = failed or expected is not None
        parts = "layers" if all(re.match(r"layer \d", part) for part in found.groups) else "layers and tensors"
        lines.append(f"{len(outliers)} of {len(found.groups)} {parts} used other weights:")
        for layer, weights in outliers.items():
            # adding 0 turns -0 into 0
            lines.append(f"  {layer}: " + ", ".join(f"{name} {round(w, 4) + 0:.4f}" for name, w in weights.items()))
    if found.has_form and not outliers and not found.is_rounded_once:
        lines.append("more than one rounding: merged in 16 bits, or another update of under 2% of each tensor's change")
    if not failed:
        lines.append("ok")
    return lines, failed


def _how(found: Recovered) -> str:
    if found.rounding == "stochastic":
        return "stochastically"
    return "to nearest" if found.unequal < 0.001 else "more than once, or stochastically"


def _lost(found: Recovered, tolerance: float) -> str:
    """The weights that do not take effect as they were asked for."""
    return ", ".join(
        f"{name} takes effect as {weight:.4f} instead of {found.weights[name]:.4g}"
        for name, weight in found.effective.items()
        if abs(weight - found.weights[name]) > max(tolerance, 5 * found.errors[name])
    )


def _unexplained(found: Recovered) -> str:
    worst = max(found.unexplained, key=lambda name: found.unexplained[name])
    return (
        f"  the residual is larger than rounding explains in {len(found.unexplained)} tensors, most in {worst}: "
        f"{found.unexplained[worst]:.1%} of its change."
    )


def _cross_terms(found: Recovered) -> Iterator[str]:
    if not found.cross:
        return
    for (i, j), value in found.cross.items():
        yield f"  cross term B_{i} A_{j}: {value:.4f} (Equation (1) has none)"
    products = [max(found.weights[i] * found.weights[j], 0) ** 0.5 for i, j in found.cross]
    if all(abs(value - product) < 0.02 for value, product in zip(found.cross.values(), products, strict=True)):
        yield "  they are sqrt(w_i w_j): PEFT's add_weighted_adapter(combination_type='linear') sums A and B apart."
