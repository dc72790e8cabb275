"""Full fine-tuned checkpoints as task vectors: dW = tuned - base for every weight, read where it is needed.

A task vector has the shape of an `Adapter` all of whose weights were trained whole. Its tensors are maps of the
checkpoint's files: pages are read as blocks are merged, and given back under pressure, so nothing of full size is kept.
"""

from __future__ import annotations

from pathlib import Path

import torch

from medbench.errors import MedbenchError
from medbench.merging.adapters import Adapter
from medbench.merging.checkpoints import Checkpoint, open_checkpoint
from medbench.merging.stored import FLOATING, Stored, map_tensors


def read_task_vector(name: str, path: str | Path, base: Checkpoint) -> Adapter:
    """A full fine-tuned checkpoint of `base` as the difference from it.

    Raises:
        MedbenchError: whatever is wrong with the checkpoint; tensors that only one of both has, other shapes, a grown
            vocabulary, quantized weights; no difference at all.
    """
    tuned = open_checkpoint(path)
    only_tuned, only_base = tuned.tensors.keys() - base.tensors.keys(), base.tensors.keys() - tuned.tensors.keys()
    for odd, holder, other in ((only_base, base, tuned), (only_tuned, tuned, base)):
        if odd:
            raise MedbenchError(
                f"task vector {name}: {holder.path} holds {min(odd)} and {len(odd) - 1} other tensors that "
                f"{other.path} lacks: one was not fine-tuned from the other, or was saved with other names or ties."
            )
    for key, stored in tuned.tensors.items():
        _check(name, base, base.tensors[key], stored)
    changed = [key for key, stored in tuned.tensors.items() if not _same(base.tensors[key], stored)]
    if not changed:
        raise MedbenchError(f"task vector {name}: {tuned.path} holds the same weights as {base.path}.")
    return Adapter(
        name,
        tuned.path,
        config={},
        low_rank={},
        whole=map_tensors({key: tuned.tensors[key] for key in changed}),
        start=map_tensors({key: base.tensors[key] for key in changed}),
        modules={key: key for key in changed},
        files=tuple(tuned.files),
    )


def _check(name: str, base: Checkpoint, before: Stored, after: Stored) -> None:
    if before.shape != after.shape:
        grown = before.shape[1:] == after.shape[1:] and len(after.shape) == 2
        raise MedbenchError(
            f"task vector {name}: {after.name} is {list(after.shape)} in {after.file}, and {list(before.shape)} in "
            f"{base.path}" + (": tokens were added; resize the base's embeddings first." if grown else ".")
        )
    floating = after.dtype.is_floating_point or before.dtype.is_floating_point
    if floating and not {before.kind, after.kind} <= FLOATING:
        raise MedbenchError(
            f"task vector {name}: {after.name} is stored as {after.kind}, in the base as {before.kind}: both "
            "have to be unquantized (float32, bfloat16 or float16)."
        )


def _same(before: Stored, after: Stored) -> bool:
    """Whether two stored tensors hold the same numbers; stops at the first block that differs."""
    return all(
        torch.equal(before.read(*rows), after.read(*rows).to(before.dtype))
        and torch.equal(before.read(*rows).to(after.dtype), after.read(*rows))
        for rows in after.blocks(1 << 20)
    )
