"""A merged checkpoint, streamed shard by shard from its base."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.merging.checkpoints import INDEX, Checkpoint, Syncer, carry_along, copy_bytes, read_json
from medbench.merging.kept import Products
from medbench.merging.proof import NotFinite
from medbench.merging.recipe import Merged, Recipe, one_thread_each, ordered
from medbench.merging.stored import FLOATING, Cast, Stored, build_header, raw_bytes, read_header

# Values of one tensor that a worker merges at a time: what it holds of them stays near a core's cache.
_BLOCK = 1 << 18


def write_checkpoint(checkpoint: Checkpoint, recipe: Recipe, staging: Path, *, float32: bool = False) -> dict[str, Any]:
    """Stream the base shard by shard into `staging`, with the recipe's weights in place of the base's.

    Every shard keeps the base's header, so tensors lie where they lay, and what no adapter touches is copied as bytes;
    with `float32` every weight is stored in float32, and the sums are those of the base's values, rounded to that.
    Returns the facts that a manifest keeps.
    """
    targets = set(recipe.targets)
    products = Products(recipe.adapters)
    if not float32 and any(checkpoint.tensors[name].kind == "bfloat16" for name in targets):
        # Half a second, beside the copying of what comes first.
        threading.Thread(target=_load_kernels, daemon=True).start()
    with Syncer() as syncer, one_thread_each():
        for file in checkpoint.files:
            stored = read_header(file)
            with open(file, "rb", buffering=0) as source, syncer.new_file(staging / file.name) as target:
                places = _copy_rest(source, target, stored, targets, float32)
                pieces = _pieces(recipe, stored, places, targets, float32)
                # One queue for all weights of a shard: no core waits for the end of a weight.
                for counted in ordered(
                    _merge_piece, ((recipe, piece, target) for piece in pieces), os.cpu_count() or 1
                ):
                    products.add(counted)
    carried = carry_along(checkpoint.path, staging)
    if float32:
        _say_float32(staging)
    kinds = Counter("float32" if float32 else checkpoint.tensors[name].kind for name in targets)
    return {
        "merged_tensors": len(targets),
        "carried": carried,
        "relative_error": recipe.error,
        "dtype": kinds.most_common(1)[0][0],
        "rounding": recipe.rounding.mode if set(kinds) != {"float32"} else "nearest",
        **products.kept().facts(),
    }


def _load_kernels() -> None:
    from medbench.merging.kernels import load

    load()


def _copy_rest(
    source: FileIO, target: FileIO, stored: Mapping[str, Stored], targets: set[str], float32: bool
) -> dict[str, int]:
    """Write a shard's header and all that stays as it is; where each tensor begins in the new file."""
    tensors = list(stored.values())
    if not float32:
        position = 0
        for tensor in tensors:
            if tensor.name in targets:
                copy_bytes(source, target, position, tensor.begin)
                position = tensor.end
        copy_bytes(source, target, position, os.fstat(source.fileno()).st_size)
        return {tensor.name: tensor.begin for tensor in tensors}
    header, places = build_header(source, tensors, "float32")
    write_at(target, memoryview(header), 0)
    for tensor in tensors:
        if tensor.kind not in FLOATING:
            copy_bytes(source, target, tensor.begin, tensor.end, places[tensor.name])
    return places


@dataclass(frozen=True)
class _Piece:
    """Rows of a weight, what they become (None: the same numbers), and the byte at which they begin in the new file."""

    stored: Stored | Cast
    rows: tuple[int, int]
    merged: Merged | None
    place: int
    weights: dict[str, float] | None


def _pieces(
    recipe: Recipe, stored: Mapping[str, Stored], places: Mapping[str, int], targets: set[str], float32: bool
) -> Iterator[_Piece]:
    """The work on a shard, in the file's order."""
    for name, tensor in stored.items():
        if name not in targets and not (float32 and tensor.kind in FLOATING):
            continue
        read: Stored | Cast = Cast(tensor, "float32") if float32 else tensor
        merged = None if name not in targets else recipe.merged(name) if float32 else recipe.merged_file(tensor)
        weights = recipe.plain_weights(name) if merged else None
        for first, last in tensor.blocks(_BLOCK):
            yield _Piece(read, (first, last), merged, places[name] + first * read.row_bytes, weights)


def _merge_piece(work: tuple[Recipe, _Piece, FileIO]) -> Products:
    """Put one piece into the new file; what rounding kept of the update in it."""
    recipe, piece, target = work
    products, (first, last) = Products(recipe.adapters), piece.rows
    if piece.merged is None:
        write_at(target, raw_bytes(piece.stored.read(first, last)), piece.place)
        return products
    base = piece.merged.read(piece.stored, first, last)
    try:
        block = piece.merged.block(base, first)
    except NotFinite as error:
        raise MedbenchError(f"{piece.stored.name} in {piece.stored.file}: {error}") from None
    write_at(target, raw_bytes(block.rows), piece.place)
    if first == 0:
        products.add_weight(piece.stored.name)
    return products.add_block(piece.stored.name, block, base, first, piece.weights)


def write_at(target: FileIO, data: memoryview, position: int) -> None:
    """Write all of `data` at a byte position, from any thread."""
    while data:
        count = os.pwrite(target.fileno(), data, position)
        data, position = data[count:], position + count


def _say_float32(model: Path) -> None:
    """Let the config and the index say what is stored now."""

    def changed(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: "float32" if k in ("dtype", "torch_dtype") else changed(v) for k, v in value.items()}

    config = changed(read_json(model / "config.json"))
    (model / "config.json").write_text(json.dumps({"dtype": "float32", **config}, indent=2) + "\n", "utf-8")
    if (model / INDEX).exists():
        index = read_json(model / INDEX)
        sizes = (t.end - t.begin for file in model.glob("*.safetensors") for t in read_header(file).values())
        said = index.get("metadata")
        index["metadata"] = {**(said if isinstance(said, dict) else {}), "total_size": sum(sizes)}
        (model / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
