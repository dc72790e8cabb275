"""The private parts of transformers that medbench uses, and why no public one does. Importing it imports torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

# Bytes as byte-level BPE writes them in a vocabulary; `tokenizers` applies the table but does not show it.
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.trainer_utils import EvalLoopOutput

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["EvalLoopOutput", "attention_of", "bytes_to_unicode", "gguf_architectures", "names_in_memory"]


def attention_of(config: PreTrainedConfig) -> str:
    """The attention that a built model's config stands for: ``eager``, ``sdpa``, ``flash_attention_2``, ...

    `attn_implementation` is public only as an argument.
    """
    return str(config._attn_implementation)


def names_in_memory(model: PreTrainedModel, stored: Iterable[str]) -> dict[str, str]:
    """Where a checkpoint's tensors land in a model: name in memory -> name in the file.

    Only tensors that loading merely renames; those that it splits, joins or converts are left out. transformers 5
    renames by rules of each architecture that no public function returns.
    """
    from transformers import WeightConverter
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    parameters = model.state_dict()
    names = {}
    for name in stored:
        renamed, converted = rename_source_key(name, renamings, converters, model.base_model_prefix, parameters)
        if converted is None:
            names[renamed] = name
    return names


def gguf_architectures() -> list[str]:
    """The architectures, as GGUF names them, that `from_pretrained(gguf_file=...)` reads; its error lists none."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    return sorted(GGUF_SUPPORTED_ARCHITECTURES)
