"""`medbench merge`: candidates from a base and weighted adapters.

medbench merge --base B --adapter pt=DIR:0.3 --adapter sft=DIR:0.7 --out DIR
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medbench.errors import MedbenchError, unknown
from medbench.files.copies import origin
from medbench.files.manifest import NAME as MANIFEST
from medbench.files.manifest import read_manifest, sha256_file, write_manifest
from medbench.files.options import Write
from medbench.merging.weights import parse_weights

if TYPE_CHECKING:
    from medbench.merging.adapters import Adapter
    from medbench.merging.checkpoints import Checkpoint
    from medbench.merging.recipe import Recipe

# What a checkpoint's weights are stored in: the base's dtype, or float32, in which nothing of an update is lost.
DTYPES = ("stored", "float32")
_HOW = {"nearest": "to nearest", "stochastic": "stochastically"}


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
    dtype: str = "stored",
    any_base: bool = False,
    task_vectors: Sequence[str] = (),
) -> dict[str, Any]:
    """Merge adapters into a base and write the result to `out`.

    Args:
        base: a model directory, or a hub id.
        adapters: ``NAME=DIR:WEIGHT`` each; soup takes 1 where the weight is left out.
        out: directory that does not exist yet or is empty; one that holds this very merge is left as it is.
        method: a name from `medbench.merging.methods`.
        settings: the method's inputs.
        overrides: (pattern, weights) pairs, see `medbench.merging.weights.Weights`.
        format: ``checkpoint``, or ``adapter`` for one adapter that equals the sum.
        rounding: ``nearest`` or ``stochastic``, of a checkpoint in 16 bits; None for the default.
        seed: of stochastic rounding: the same seed gives the same bytes.
        dtype: ``stored``: a checkpoint in the base's dtype; ``float32``: all its weights in float32, unrounded.
        any_base: accept adapters that record another base's name or cover some layers only.
        task_vectors: ``NAME=DIR:WEIGHT`` each, full checkpoints that were fine-tuned from the base.

    Returns the facts that the manifest keeps: values merged, what rounding kept of the update, the error of a
    truncating method.

    Raises:
        MedbenchError: bad input, found before any large work; or a disk that fills. Nothing is left at `out`.
    """
    from medbench.files.directories import held, new_directory
    from medbench.merging.adapters import WEIGHTS, parse_adapter, read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    from medbench.merging.fitting import fit_adapters
    from medbench.merging.recipe import make_recipe
    from medbench.merging.registry import method as registered
    from medbench.merging.rounding import DEFAULT, Rounding

    checkpoint = open_checkpoint(base)
    parsed = [parse_adapter(text) for text in (*adapters, *task_vectors)]
    unweighted = [name for name, _, weight in parsed if weight is None]
    if unweighted and registered(method).needs_weights:
        raise MedbenchError(
            f"adapter {unweighted[0]} has no weight: give NAME=DIR:WEIGHT, e.g. {unweighted[0]}=DIR:0.3."
        )
    with ThreadPoolExecutor() as readers:
        loaded = list(readers.map(lambda given: read_adapter(*given[:2]), parsed[: len(adapters)]))
    weights = {name: 1.0 if weight is None else weight for name, _, weight in parsed}
    loaded = fit_adapters(checkpoint, loaded, any_base=any_base)
    if task_vectors:
        from medbench.merging.task_vectors import read_task_vector

        loaded += [read_task_vector(name, path, checkpoint) for name, path, _ in parsed[len(adapters) :]]
    chosen = Rounding(rounding or DEFAULT, seed)  # type: ignore[arg-type]  # which checks it
    recipe = make_recipe(loaded, weights, name=method, settings=settings, overrides=overrides, rounding=chosen)
    if format == "adapter" and (recipe.method.kind == "dense" or task_vectors):
        what = "a full checkpoint" if task_vectors else f"method {method}"
        raise MedbenchError(f"{what} has no low-rank result: use --format checkpoint.")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    size = checkpoint.bytes * (2 if dtype == "float32" else 1)
    if format == "adapter":
        size = sum((a.path / WEIGHTS).stat().st_size * 2 for a in loaded)
    told = {
        "method": method,
        **recipe.settings,
        "weights": recipe.weights.default,
        "overrides": [list(item) for item in recipe.weights.overrides],
        **({"rounding": chosen.mode, "rounding_seed": seed, "dtype": dtype} if format == "checkpoint" else {}),
    }
    paths = {"base": checkpoint.path, **{a.name: a.path for a in loaded}}
    inputs = {name: origin(str(path.resolve())) for name, path in paths.items()}
    with held(out):
        made = _made_before(Path(out), format, told, inputs, checkpoint.files, loaded)
    if made is not None:
        return made
    with new_directory(out, size + (1 << 20)) as staging, ThreadPoolExecutor(1) as beside:
        hashes = [beside.submit(_hashes, adapter) for adapter in loaded]
        facts = _write(format, checkpoint, recipe, staging, dtype)
        given = zip(loaded, hashes, strict=True)
        hashed = {a.name: {"path": inputs[a.name], "sha256": found.result()} for a, found in given}
        write_manifest(staging, format, settings=told, inputs={"base": inputs["base"], **hashed}, **facts)
    return facts


def _made_before(
    out: Path,
    format: str,
    told: dict[str, Any],
    inputs: dict[str, str],
    base_files: Sequence[Path],
    adapters: Sequence[Adapter],
) -> dict[str, Any] | None:
    """The facts of a finished merge at `out` if it is this very one, so that a command may be called again."""
    if not (out / MANIFEST).is_file():
        return None
    made = read_manifest(out)
    made_of = {name: one["path"] if isinstance(one, dict) else one for name, one in made["inputs"].items()}
    if (made["kind"], made["settings"], made_of) != (format, json.loads(json.dumps(told)), inputs):
        return None
    when = (out / MANIFEST).stat().st_mtime_ns
    if any(file.stat().st_mtime_ns > when for file in base_files):
        return None
    if any(made["inputs"][adapter.name]["sha256"] != _hashes(adapter) for adapter in adapters):
        return None
    shown = ("kind", "created", "command", "settings", "inputs", "versions")
    return {key: value for key, value in made.items() if key not in shown}


def _write(format: str, checkpoint: Checkpoint, recipe: Recipe, staging: Path, dtype: str) -> dict[str, Any]:
    if format == "checkpoint":
        from medbench.merging.streaming import write_checkpoint

        return write_checkpoint(checkpoint, recipe, staging, float32=dtype == "float32")
    from medbench.merging.combined import write_adapter

    return write_adapter(checkpoint, recipe, staging)


def _hashes(adapter: Adapter) -> str | dict[str, str]:
    """The hash of an adapter's weights; of a full checkpoint, that of each of its shards."""
    hashes = {file.name: sha256_file(file) for file in adapter.files}
    return next(iter(hashes.values())) if len(hashes) == 1 else hashes


def _parse_override(text: str) -> tuple[str, dict[str, float]]:
    pattern, _, weights = text.partition(" ")
    if not weights.strip():
        raise MedbenchError(f"--at {text!r}: expected 'PATTERN NAME=WEIGHT,...', e.g. 'layers:0-11 pt=0.5,sft=0.5'.")
    return pattern, parse_weights(weights.strip())


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
@click.option("--dtype", type=click.Choice(DTYPES), default="stored", show_default=True, help="float32 rounds nothing.")
@click.option("--any-base", is_flag=True, help="Accept adapters that record another base's name, or other layers.")
@click.option("--out", required=True, type=Write(known_by=()), help="A directory that does not exist yet, or is empty.")
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
    dtype: str,
    any_base: bool,
    out: Path,
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
        dtype=dtype,
        any_base=any_base,
        task_vectors=task_vectors,
    )
    if facts["relative_error"] is not None:
        click.echo(f"truncated: relative Frobenius error {facts['relative_error']:.4f}")
    if "update_kept" in facts:
        click.echo(_kept(facts))
    else:
        click.echo(f"one adapter of rank {facts['rank']} that adds the whole sum to the base, for PEFT or a server")
    click.echo(f"wrote {origin(str(out))}")


def _kept(facts: dict[str, Any]) -> str:
    """What a checkpoint kept of the update, and what to do where that is little."""
    from medbench.merging.kept import Kept, advice, weights_text

    kept = Kept(facts["update_kept"], facts["effective_weights"], facts["values_unchanged"], facts["adapted_values"])
    how = (
        "stored as float32" if facts["dtype"] == "float32" else f"rounded {_HOW[facts['rounding']]} to {facts['dtype']}"
    )
    text = f"{how}: {kept.share:.1%} of the update kept"
    if kept.effective:
        text += f"; effective weights: {weights_text(kept.effective)}"
    if kept.unchanged:
        text += f"\n{kept.unchanged:.1%} of {kept.values:,} adapted values are as they were"
    warning = advice(kept, facts["dtype"], facts["rounding"])
    return f"{text}\nWARNING: {warning}" if warning else text
