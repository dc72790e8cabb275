"""`medbench merge` and `medbench verify-merge`: candidates from a base and weighted adapters, and the way back.

medbench merge --base B --adapter pt=DIR:0.3 --adapter sft=DIR:0.7 --out DIR
medbench verify-merge --base B --merged DIR --adapter pt=DIR --adapter sft=DIR --expect pt=0.3,sft=0.7
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from medbench.errors import MedbenchError
from medbench.manifest import sha256_file, write_manifest

# Values of one tensor that a worker merges at a time: their float64 copies stay in a core's second-level cache.
_BLOCK = 1 << 18


def merge(
    base: str | Path,
    adapters: Sequence[str],
    out: str | Path,
    *,
    method: str = "linear",
    settings: dict[str, Any] | None = None,
    overrides: Sequence[tuple[str, dict[str, float]]] = (),
    format: str = "checkpoint",
    rounding: str | None = None,
    seed: int = 0,
    any_base: bool = False,
    task_vectors: Sequence[str] = (),
) -> dict[str, Any]:
    """Merge adapters into a base and write the result to `out`.

    Args:
        base: a model directory, or a hub id.
        adapters: ``NAME=DIR:WEIGHT`` each; soup takes 1 where the weight is left out.
        out: directory that does not exist yet or is empty.
        method: a name from `medbench.merging.methods`.
        settings: the method's inputs.
        overrides: (pattern, weights) pairs, see `medbench.merging.methods.Weights`.
        format: ``checkpoint``, or ``adapter`` for one adapter that equals the sum.
        rounding: ``nearest`` or ``stochastic``, of a checkpoint in 16 bits; None for the default.
        seed: of stochastic rounding: the same seed gives the same bytes.
        any_base: accept adapters that record another base's name or cover some layers only.
        task_vectors: ``NAME=DIR:WEIGHT`` each, full checkpoints that were fine-tuned from the base.

    Returns the facts that the manifest keeps: values merged, what rounding kept of the update, the error of a
    truncating method.

    Raises:
        MedbenchError: bad input, found before any large work; or a disk that fills. Nothing is left at `out`.
    """
    from medbench.merging.adapters import WEIGHTS, parse_adapter, read_adapter
    from medbench.merging.checkpoints import new_directory, open_checkpoint
    from medbench.merging.fitting import fit_adapters
    from medbench.merging.methods import method as registered
    from medbench.merging.recipe import make_recipe, one_thread_each
    from medbench.merging.rounding import DEFAULT, Rounding
    from medbench.merging.task_vectors import read_task_vector

    checkpoint = open_checkpoint(base)
    parsed = [parse_adapter(text) for text in (*adapters, *task_vectors)]
    unweighted = [name for name, _, weight in parsed if weight is None]
    if unweighted and registered(method).needs_weights:
        raise MedbenchError(
            f"adapter {unweighted[0]} has no weight: give NAME=DIR:WEIGHT, e.g. {unweighted[0]}=DIR:0.3."
        )
    with one_thread_each():
        loaded = [read_adapter(name, path) for name, path, _ in parsed[: len(adapters)]]
    weights = {name: 1.0 if weight is None else weight for name, _, weight in parsed}
    loaded = fit_adapters(checkpoint, loaded, any_base=any_base)
    loaded += [read_task_vector(name, path, checkpoint) for name, path, _ in parsed[len(adapters) :]]
    chosen = Rounding(rounding or DEFAULT, seed)  # type: ignore[arg-type]  # which checks it
    recipe = make_recipe(loaded, weights, name=method, settings=settings, overrides=overrides, rounding=chosen)
    if format == "adapter" and (recipe.method.kind == "dense" or task_vectors):
        what = "a full checkpoint" if task_vectors else f"method {method}"
        raise MedbenchError(f"{what} has no low-rank result: use --format checkpoint.")
    size = checkpoint.bytes if format == "checkpoint" else sum((a.path / WEIGHTS).stat().st_size * 2 for a in loaded)
    with new_directory(out, size + (1 << 20)) as staging:
        facts = (
            write_checkpoint(checkpoint, recipe, staging)
            if format == "checkpoint"
            else write_adapter(checkpoint, recipe, staging)
        )
        write_manifest(
            staging,
            format,
            settings={
                "method": method,
                **recipe.settings,
                "weights": recipe.weights.default,
                "overrides": [list(item) for item in recipe.weights.overrides],
                **({"rounding": chosen.mode, "rounding_seed": seed} if format == "checkpoint" else {}),
            },
            inputs={
                "base": str(checkpoint.path.resolve()),
                **{a.name: {"path": str(a.path.resolve()), "sha256": _hashes(a)} for a in loaded},
            },
            **facts,
        )
    return facts


def _hashes(adapter: Any) -> str | dict[str, str]:
    """The hash of an adapter's weights; of a full checkpoint, that of each of its shards."""
    hashes = {file.name: sha256_file(file) for file in adapter.files}
    return next(iter(hashes.values())) if len(hashes) == 1 else hashes


def write_checkpoint(checkpoint: Any, recipe: Any, staging: Path) -> dict[str, Any]:
    """Stream the base shard by shard into `staging`, with the recipe's weights in place of the base's.

    Every shard keeps the base's header, so tensors lie where they lay; what no adapter touches is copied as bytes.
    """
    from medbench.merging.checkpoints import Syncer, carry_along, copy_bytes, read_header
    from medbench.merging.kept import Products
    from medbench.merging.recipe import one_thread_each, ordered

    targets = set(recipe.targets)
    products = Products(recipe.adapters)
    with Syncer() as syncer, one_thread_each():
        for file in checkpoint.files:
            changed = [stored for stored in read_header(file).values() if stored.name in targets]
            with open(file, "rb") as source, syncer.new_file(staging / file.name) as target:
                position = 0
                # One queue for all weights of a shard: no core waits for the end of a weight.
                for stored, data, counted in ordered(_merged, _blocks(changed, recipe), os.cpu_count() or 1):
                    if position < stored.begin:
                        copy_bytes(source, target, position, stored.begin)
                        position = stored.begin
                    target.write(data)
                    position += data.nbytes
                    products.add(counted)
                copy_bytes(source, target, position, file.stat().st_size)
    for name in recipe.targets:
        products.add_weight(name)
    carried = carry_along(checkpoint.path, staging)
    dtypes = Counter(str(checkpoint.tensors[name].dtype).removeprefix("torch.") for name in targets)
    return {
        "merged_tensors": len(targets),
        "carried": carried,
        "relative_error": recipe.error,
        "dtype": dtypes.most_common(1)[0][0],
        "rounding": recipe.rounding.mode,
        **products.kept().facts(),
    }


def _blocks(changed: Sequence[Any], recipe: Any) -> Iterator[tuple[Any, Any, Any, tuple[int, int]]]:
    """Recipe, stored weight, what it becomes, and a range of its rows: the work of `_merged`, in the file's order."""
    for stored in changed:
        merged = recipe.merged(stored.name)
        for rows in stored.blocks(_BLOCK):
            yield recipe, stored, merged, rows


def _merged(work: tuple[Any, Any, Any, tuple[int, int]]) -> tuple[Any, memoryview, Any]:
    """The weight, the bytes of its merged rows, and what rounding kept of the update in them."""
    from medbench.merging.checkpoints import raw_bytes
    from medbench.merging.exact import NotFinite
    from medbench.merging.kept import Products

    recipe, stored, merged, (first, last) = work
    base = stored.read(first, last)
    try:
        block = merged.block(base, first)
    except NotFinite as error:
        raise MedbenchError(f"{stored.name} in {stored.file}: {error}") from None
    return stored, raw_bytes(block.rows), Products(recipe.adapters).add_block(stored.name, block, base, first)


def write_adapter(checkpoint: Any, recipe: Any, staging: Path) -> dict[str, Any]:
    """Write the sum as one adapter: A stacked, and B side by side with weight and scaling folded in (so alpha = r).

    Where weights have several ranks, rank_pattern and alpha_pattern say so, and the scaling stays 1 everywhere.
    """
    import torch
    from safetensors.torch import save_file

    from medbench.merging.adapters import CONFIG, PREFIX, WEIGHTS
    from medbench.merging.exact import ExactSum

    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    whole = set()
    for key in recipe.targets:
        name = next(a.modules[key] for a in recipe.adapters if key in a.modules)
        module = name.removesuffix(".weight")
        terms, replacements = recipe.parts(key)
        if replacements:
            whole.add(module.rsplit(".", 1)[-1])
            tensors[PREFIX + name] = ExactSum(terms, replacements).rows(checkpoint.tensors[key].read())
            continue
        left = torch.cat([(term.left.double() * term.coefficient).float() for term in terms], dim=1)
        right = torch.cat([term.right for term in terms])
        example = next(a.low_rank[key] for a in recipe.adapters if key in a.low_rank)
        a, b = (left.T, right.T) if example.transposed else (right, left)
        ranks[module] = left.shape[1]
        suffix = ("lora_embedding_A", "lora_embedding_B") if example.embedding else ("lora_A.weight", "lora_B.weight")
        tensors[f"{PREFIX}{module}.{suffix[0]}"] = a.contiguous()
        tensors[f"{PREFIX}{module}.{suffix[1]}"] = b.contiguous()
    save_file(tensors, staging / WEIGHTS, metadata={"format": "pt"})
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: value for module, value in ranks.items() if value != rank}
    config = {
        **recipe.adapters[0].config,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
        "modules_to_save": sorted(whole) or None,
        "target_modules": _target_modules(checkpoint, set(ranks)),
    }
    with open(staging / WEIGHTS, "rb+") as handle:
        os.fsync(handle.fileno())
    (staging / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    return {"rank": rank, "ranks": sorted(set(ranks.values())), "relative_error": recipe.error}


def _target_modules(checkpoint: Any, modules: set[str]) -> list[str]:
    """Module kinds (q_proj) where the adapter covers all of a kind, as servers expect them; else full names."""
    kinds = {module.rsplit(".", 1)[-1] for module in modules}
    weights = {name.removesuffix(".weight") for name, t in checkpoint.tensors.items() if len(t.shape) == 2}
    covered = {name for name in weights if name.rsplit(".", 1)[-1] in kinds}
    return sorted(kinds if covered == modules else modules)


def _parse_weights(text: str) -> dict[str, float]:
    """``pt=0.3,sft=0.7`` as a dict."""
    weights = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise MedbenchError(f"{text!r}: expected NAME=WEIGHT pairs such as pt=0.3,sft=0.7.") from None
    return weights


def _parse_override(text: str) -> tuple[str, dict[str, float]]:
    pattern, _, weights = text.partition(" ")
    if not weights.strip():
        raise MedbenchError(f"--at {text!r}: expected 'PATTERN NAME=WEIGHT,...', e.g. 'layers:0-11 pt=0.5,sft=0.5'.")
    return pattern, _parse_weights(weights.strip())


def _parse_setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise MedbenchError(f"--set {text!r}: expected NAME=VALUE, e.g. density=0.5.")
    return name, value


@click.command()
@click.option("--base", required=True, help="Model directory or Hugging Face id that the adapters were trained on.")
@click.option("--adapter", "adapters", multiple=True, help="NAME=DIR:WEIGHT, as often as needed.")
@click.option("--task-vector", "task_vectors", multiple=True, help="NAME=DIR:WEIGHT of a full fine-tuned checkpoint.")
@click.option("--method", default="linear", show_default=True, help="How the updates are combined.")
@click.option("--set", "settings", multiple=True, help="A setting of the method, e.g. density=0.5, rank=16, seed=1.")
@click.option("--at", "overrides", multiple=True, help="Other weights for some modules: 'layers:0-11 pt=0.5,sft=0.5'.")
@click.option("--format", type=click.Choice(["checkpoint", "adapter"]), default="checkpoint", show_default=True)
@click.option("--rounding", type=click.Choice(["nearest", "stochastic"]), default=None, help="Default: stochastic.")
@click.option("--seed", default=0, show_default=True, help="Of stochastic rounding.")
@click.option("--any-base", is_flag=True, help="Accept adapters that record another base's name, or other layers.")
@click.option("--out", required=True, help="A directory that does not exist yet, or is empty.")
def merge_command(
    base: str,
    adapters: tuple[str, ...],
    task_vectors: tuple[str, ...],
    method: str,
    settings: tuple[str, ...],
    overrides: tuple[str, ...],
    format: str,
    rounding: str | None,
    seed: int,
    any_base: bool,
    out: str,
) -> None:
    """Merge weighted adapters into their base: W = W_base + sum of w_i (alpha_i / r_i) B_i A_i."""
    facts = merge(
        base,
        adapters,
        out,
        method=method,
        settings=dict(_parse_setting(text) for text in settings),
        overrides=[_parse_override(text) for text in overrides],
        format=format,
        rounding=rounding,
        seed=seed,
        any_base=any_base,
        task_vectors=task_vectors,
    )
    if facts["relative_error"] is not None:
        click.echo(f"truncated: relative Frobenius error {facts['relative_error']:.4f}")
    if "update_kept" in facts:
        click.echo(_kept(facts))
    click.echo(f"wrote {out}")


def _kept(facts: dict[str, Any]) -> str:
    """What a checkpoint kept of the update, and what to do where that is little."""
    from medbench.merging.kept import Kept, advice, weights_text

    kept = Kept(facts["update_kept"], facts["effective_weights"], facts["values_unchanged"], facts["adapted_values"])
    text = f"{kept.share:.4f} of the update kept; {kept.unchanged:.1%} of {kept.values:,} adapted values unchanged"
    if kept.effective:
        text += f"; effective weights: {weights_text(kept.effective)}"
    warning = advice(kept, facts["dtype"], facts["rounding"])
    return f"{text}\nWARNING: {warning}" if warning else text


def recover(
    base: str | Path,
    merged: str | Path,
    adapters: Sequence[str],
    expect: dict[str, float] | None = None,
    *,
    task_vectors: Sequence[str] = (),
) -> Any:
    """Solve for the weights of a merged checkpoint.

    Returns `medbench.merging.solve.Recovered`, and the names of tensors outside the adapters that differ from the base.

    Raises:
        MedbenchError: files that do not fit together.
    """
    from medbench.merging.adapters import parse_adapter, read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    from medbench.merging.fitting import fit_adapters
    from medbench.merging.solve import Weight, recover_weights
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
    weights = [
        Weight(
            name,
            _layer(name),
            before.tensors[name],
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
            not before.tensors[name].read(*rows).equal(after.tensors[name].read(*rows))
            for rows in before.tensors[name].blocks(_BLOCK)
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
    expected = _parse_weights(expect) if expect else None
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
    found: Any,
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
        lines.append(
            "  merge with --rounding stochastic, into a float32 base, or with --format adapter; or pass --asked-only"
        )
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


def _how(found: Any) -> str:
    if found.rounding == "stochastic":
        return "stochastically"
    return "to nearest" if found.unequal < 0.001 else "more than once, or stochastically"


def _lost(found: Any, tolerance: float) -> str:
    """The weights that do not take effect as they were asked for."""
    return ", ".join(
        f"{name} takes effect as {weight:.4f} instead of {found.weights[name]:.4g}"
        for name, weight in found.effective.items()
        if abs(weight - found.weights[name]) > max(tolerance, 5 * found.errors[name])
    )


def _unexplained(found: Any) -> str:
    worst = max(found.unexplained, key=found.unexplained.get)
    return (
        f"  the residual is larger than rounding explains in {len(found.unexplained)} tensors, most in {worst}: "
        f"{found.unexplained[worst]:.1%} of its change."
    )


def _cross_terms(found: Any) -> Iterator[str]:
    if not found.cross:
        return
    for (i, j), value in found.cross.items():
        yield f"  cross term B_{i} A_{j}: {value:.4f} (Equation (1) has none)"
    products = [max(found.weights[i] * found.weights[j], 0) ** 0.5 for i, j in found.cross]
    if all(abs(value - product) < 0.02 for value, product in zip(found.cross.values(), products, strict=True)):
        yield "  they are sqrt(w_i w_j): PEFT's add_weighted_adapter(combination_type='linear') sums A and B apart."
