"""An adapter brought to its base: refused if made for another one, named and turned as the base stores its weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medbench.errors import MedbenchError, unknown
from medbench.merging.adapters import Adapter
from medbench.merging.architecture import Architecture
from medbench.merging.checkpoints import Checkpoint
from medbench.merging.stored import FLOATING, Stored, map_tensors
from medbench.merging.updates import LowRank

if TYPE_CHECKING:
    import torch

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|lm_head|word_embeddings|embed_in|embed_out|shared)\.weight$")
_LAYER = re.compile(r"\.(\d+)\.")


def fit_adapters(base: Checkpoint, adapters: Sequence[Adapter], *, any_base: bool = False) -> list[Adapter]:
    """The adapters by the base's own tensor names and in the orientation of its layers.

    Args:
        base: the opened checkpoint.
        adapters: as read, by the names that PEFT gives.
        any_base: accept another recorded base name (a renamed or moved copy) and updates of some layers only.

    Raises:
        MedbenchError: another base's name, unknown target modules, other shapes, other layers, tied embeddings, a
            grown vocabulary, a quantized base. Nothing large has been read by then.
    """
    architecture = Architecture(base)
    fitted = []
    for adapter in adapters:
        if not any_base:
            _check_name(base, adapter)
        adapter = _fit(base, architecture, adapter)
        if not any_base:
            _check_depth(base, adapter)
        fitted.append(adapter)
    return fitted


def _check_name(base: Checkpoint, adapter: Adapter) -> None:
    recorded = adapter.config.get("base_model_name_or_path")
    if not recorded:
        return
    path = base.path.resolve()
    names = {path.name, str(base.config.get("_name_or_path") or "").rstrip("/").rsplit("/", 1)[-1]}
    # A hub snapshot lies in models--OWNER--NAME/snapshots/REVISION.
    names |= {part.rsplit("--", 1)[-1] for part in path.parts if part.startswith("models--")}
    if recorded.rstrip("/").rsplit("/", 1)[-1] not in names and Path(recorded).expanduser().resolve() != path:
        raise MedbenchError(
            f"adapter {adapter.name} was trained on {recorded}, and the base is {base.path}. If that is the same model "
            "under another name, pass --any-base (in a study: model_args: {any_base: true}; inspect: -M any_base=true)."
        )


def _fit(base: Checkpoint, architecture: Architecture, adapter: Adapter) -> Adapter:
    low_rank: dict[str, LowRank] = {}
    whole: dict[str, torch.Tensor] = {}
    modules: dict[str, str] = {}
    for key in sorted(adapter.targets):
        stored = _find(base, architecture, adapter, key)
        if key in adapter.low_rank:
            _refuse_tied(base, architecture, adapter, key)
            low_rank[stored.name] = _turned(base, architecture, adapter, key, stored)
        else:
            value = adapter.whole[key]
            if tuple(value.shape) != stored.shape:
                raise _other_shape(base, adapter, key, tuple(value.shape), stored)
            if _EMBEDDING.search(key) and value.to(stored.dtype).equal(stored.read()):
                continue  # a copy of the base's own, which PEFT saves beside embeddings that it trained
            _refuse_tied(base, architecture, adapter, key)
            whole[stored.name] = value
        modules[stored.name] = key
    start = map_tensors({name: base.tensors[name] for name in whole}) if whole else {}
    return replace(adapter, low_rank=low_rank, whole=whole, modules=modules, start=start)


def _find(base: Checkpoint, architecture: Architecture, adapter: Adapter, key: str) -> Stored:
    """The base's tensor that PEFT calls `key`."""
    module = key.removesuffix(".weight")
    stored = base.tensors.get(key)
    quantized = base.config.get("quantization_config")
    if f"{module}.qweight" in base.tensors or (stored is None and quantized):
        kind = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise MedbenchError(
            f"{base.path} is quantized ({str(kind or 'GPTQ or AWQ').upper()}): {module} holds packed integers, to "
            "which an update cannot be added. Merge into the unquantized base, and quantize the result."
        )
    if stored is None and _LAYER.search(key) and _LAYER.sub(".0.", key, count=1) in base.tensors:
        raise MedbenchError(
            f"adapter {adapter.name} is for a base of another depth: it changes {key}, which {base.path} does not have."
        )
    if stored is None:
        stored = base.tensors.get(architecture.stored.get(key, ""))
    if stored is None:
        raise MedbenchError(f"adapter {adapter.name}: {unknown('target module', key, base.tensors)}"[:600])
    if stored.kind not in FLOATING:
        raise MedbenchError(
            f"{stored.name} of the base is stored as {stored.kind}: merge into the unquantized base "
            "(float32, bfloat16 or float16)."
        )
    return stored


def _turned(base: Checkpoint, architecture: Architecture, adapter: Adapter, key: str, stored: Stored) -> LowRank:
    """The update in the orientation of the layer's type.

    Not of the adapter's fan_in_fan_out: PEFT keeps one flag for all layers, that of the layer it wrapped last, and goes
    by the layer's type itself.
    """
    update = adapter.low_rank[key]
    size = (update.left_array.shape[0], update.right_array.shape[1])
    if update.embedding:
        if size != stored.shape:
            raise _other_shape(base, adapter, key, size, stored)
        return update
    if size == stored.shape and (size[0] != size[1] or not architecture.may_transpose):
        return update
    left, right = (np.ascontiguousarray(factor.T) for factor in (update.right_array, update.left_array))
    turned = replace(update, left_array=left, right_array=right, transposed=True)
    if size[::-1] != stored.shape:
        raise _other_shape(base, adapter, key, size, stored)
    if size[0] != size[1] or key in architecture.transposed:
        return turned
    return update


def _refuse_tied(base: Checkpoint, architecture: Architecture, adapter: Adapter, key: str) -> None:
    if not _EMBEDDING.search(key):
        return
    said = base.config.get("tie_word_embeddings")
    # A config that leaves it out has its class's default, and in one of several parts the parts decide.
    parts = any(isinstance(value, dict) and "model_type" in value for value in base.config.values())
    if key in architecture.tied if said is None or parts else said:
        raise MedbenchError(
            f"adapter {adapter.name} changes {key}, which the base ties to its other embedding: merging would change "
            "both. Untie the base first (tie_word_embeddings: false, with lm_head.weight stored)."
        )


def _other_shape(base: Checkpoint, adapter: Adapter, key: str, shape: tuple[int, ...], stored: Stored) -> MedbenchError:
    if _EMBEDDING.search(key) and shape[1:] == stored.shape[1:]:
        return MedbenchError(
            f"adapter {adapter.name} was trained with a vocabulary of {shape[0]:,} tokens: {key} would be "
            f"{list(shape)}, and {base.path} has {stored.shape[0]:,}. Resize the base as before training "
            f"(resize_token_embeddings({shape[0]}), save_pretrained with the adapter's tokenizer), and merge into that."
        )
    return MedbenchError(
        f"adapter {adapter.name} is for another base: {key} would be {list(shape)}, "
        f"and in {base.path} it is {list(stored.shape)}."
    )


def _check_depth(base: Checkpoint, adapter: Adapter) -> None:
    """An adapter of a shallower base fits every shape; the layers it lacks give it away."""
    config = adapter.config
    if config.get("layers_to_transform") is not None or config.get("exclude_modules"):
        return
    targets = config.get("target_modules")
    # Targets that name a layer chose it.
    if not isinstance(targets, list) or any(re.search(r"(^|\.)\d+\.", target) for target in targets):
        return
    kinds = {_LAYER.sub(".*.", key, count=1) for key in adapter.low_rank}
    expected = {key for key in base.tensors if _LAYER.sub(".*.", key, count=1) in kinds}
    missing = sorted(expected - adapter.targets, key=lambda key: [int(number) for number in _LAYER.findall(key)])
    covered = {int(match[1]) for key in adapter.low_rank if (match := _LAYER.search(key))}
    # Layers that were picked one by one have gaps or don't start at 0; another base's are its first ones.
    if missing and covered == set(range(len(covered))):
        raise MedbenchError(
            f"adapter {adapter.name} is for a base of another depth: it has no update for {missing[0]} and "
            f"{len(missing) - 1} more such weights. If it was meant to change some layers only, pass --any-base."
        )
