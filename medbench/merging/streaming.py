"""A merged checkpoint, streamed shard by shard from its base."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.merging.checkpoints import INDEX, Checkpoint, Syncer, carry_along, copy_bytes, read_json, write_at
from medbench.merging.kept import Products
from medbench.merging.proof import NotFinite
from medbench.merging.recipe import Merged, Recipe, one_thread_each, ordered
from medbench.merging.stored import FLOATING, Cast, Stored, build_header, raw_bytes, read_header

# Values of one tensor that a worker merges at a time: what it holds of them stays near a core's cache.
_BLOCK = 1 << 18
# Bytes that stay as they are and are copied at a time.
_COPIED = 1 << 22


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
    with ExitStack() as opened, Syncer() as syncer, one_thread_each():
        # One queue for all shards: no core waits for the end of a weight or of a file.
        pieces = _pieces(checkpoint, recipe, staging, targets, float32, opened)
        work, cores = ((recipe, piece) for piece in pieces), os.cpu_count() or 1
        # Pieces hold no values, so many may wait: no core does where one piece takes long.
        for counted, finished in ordered(_do, work, cores, ahead=8):
            products.add(counted)
            if finished is not None:
                syncer.finish(finished)
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


@dataclass(frozen=True)
class _Rows:
    """Rows of a weight, what they become (None: the same numbers), and the byte at which they begin in the new file."""

    stored: Stored | Cast
    rows: tuple[int, int]
    merged: Merged[Any, Any] | None
    place: int
    weights: dict[str, float] | None
    target: FileIO


@dataclass(frozen=True)
class _Bytes:
    """A range of bytes that stays as it is, and where it goes."""

    source: FileIO
    begin: int
    end: int
    place: int
    target: FileIO


@dataclass(frozen=True)
class _End:
    """A file is complete when this comes out of the queue."""

    target: FileIO


_Piece = _Rows | _Bytes | _End


def _pieces(
    checkpoint: Checkpoint, recipe: Recipe, staging: Path, targets: set[str], float32: bool, opened: ExitStack
) -> Iterator[_Piece]:
    """All the work, in the files' order."""
    for file in checkpoint.files:
        stored = read_header(file)
        source = opened.enter_context(FileIO(file))
        target = opened.enter_context(FileIO(staging / file.name, "w"))
        if float32:
            yield from _all_as_float32(source, target, recipe, stored, targets)
        else:
            yield from _as_stored(source, target, recipe, stored, targets)
        yield _End(target)


def _as_stored(
    source: FileIO, target: FileIO, recipe: Recipe, stored: Mapping[str, Stored], targets: set[str]
) -> Iterator[_Piece]:
    """The base's file with other weights in their places."""
    copied, size = 0, os.fstat(source.fileno()).st_size
    for tensor in stored.values():
        if tensor.name in targets:
            yield from _unchanged(source, target, copied, tensor.begin, copied)
            copied = tensor.end
            yield from _weight(target, recipe, tensor.name, tensor, recipe.merged_file(tensor), tensor.begin)
    yield from _unchanged(source, target, copied, size, copied)


def _all_as_float32(
    source: FileIO, target: FileIO, recipe: Recipe, stored: Mapping[str, Stored], targets: set[str]
) -> Iterator[_Piece]:
    """A new header, and every weight that can be changed as float32."""
    tensors = list(stored.values())
    header, places = build_header(source, tensors, "float32")
    write_at(target, memoryview(header), 0)
    for name, tensor in stored.items():
        if tensor.kind in FLOATING:
            merged = recipe.merged(name) if name in targets else None
            yield from _weight(target, recipe, name, Cast(tensor, "float32"), merged, places[name])
        else:
            yield from _unchanged(source, target, tensor.begin, tensor.end, places[name])


def _weight(
    target: FileIO, recipe: Recipe, name: str, stored: Stored | Cast, merged: Merged[Any, Any] | None, place: int
) -> Iterator[_Piece]:
    weights = recipe.plain_weights(name) if merged else None
    for first, last in stored.blocks(_BLOCK):
        yield _Rows(stored, (first, last), merged, place + first * stored.row_bytes, weights, target)


def _unchanged(source: FileIO, target: FileIO, begin: int, end: int, place: int) -> Iterator[_Piece]:
    for at in range(begin, end, _COPIED):
        yield _Bytes(source, at, min(at + _COPIED, end), place + at - begin, target)


def _do(work: tuple[Recipe, _Piece]) -> tuple[Products, FileIO | None]:
    """Do one piece: what rounding kept of the update in it, and the file that it completes."""
    recipe, piece = work
    products = Products(recipe.adapters)
    if isinstance(piece, _End):
        return products, piece.target
    if isinstance(piece, _Bytes):
        copy_bytes(piece.source, piece.target, piece.begin, piece.end, piece.place)
        return products, None
    first, last = piece.rows
    if piece.merged is None:
        write_at(piece.target, raw_bytes(piece.stored.read(first, last)), piece.place)
        return products, None
    base = piece.merged.read(piece.stored, first, last)
    try:
        block = piece.merged.block(base, first)
    except NotFinite as error:
        raise MedbenchError(f"{piece.stored.name} in {piece.stored.file}: {error}") from None
    write_at(piece.target, raw_bytes(block.rows), piece.place)
    if first == 0:
        products.add_weight(piece.stored.name)
    return products.add_block(piece.stored.name, block, base, first, piece.weights), None


def _say_float32(model: Path) -> None:
    """Let the config and the index say what is stored now."""

    def changed(config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: "float32" if key in ("dtype", "torch_dtype") else changed(value) if isinstance(value, dict) else value
            for key, value in config.items()
        }

    config = changed(read_json(model / "config.json"))
    (model / "config.json").write_text(json.dumps({"dtype": "float32", **config}, indent=2) + "\n", "utf-8")
    if (model / INDEX).exists():
        index = read_json(model / INDEX)
        sizes = (t.end - t.begin for file in model.glob("*.safetensors") for t in read_header(file).values())
        said = index.get("metadata")
        index["metadata"] = {**(said if isinstance(said, dict) else {}), "total_size": sum(sizes)}
        (model / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
