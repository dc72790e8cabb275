"""Shapes of Qwen3 models, for random weights: the arguments of `Qwen3Config`; and random adapters on a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

QWEN3: dict[str, dict[str, Any]] = {
    "0.6b": {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": True,
    },
    "14b": {
        "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40, "num_attention_heads": 40,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": False,
    },
    # Four of the 0.6B model's layers, and a vocabulary that leaves the output layer about its share (a fifth)
    "wide": {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 4, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 16_384, "tie_word_embeddings": False,
    },
    "narrow": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 16_384, "tie_word_embeddings": False,
    },
    # To try a script, in seconds
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512, "tie_word_embeddings": False,
    },
}  # fmt: skip


def write_adapters(model: Any, work: Path, names: Iterable[str], *, size: float) -> None:
    """Write an adapter of rank 16 on all linear layers to `work/NAME` for each name, B random with this deviation."""
    import torch
    from peft import LoraConfig, get_peft_model

    for seed, name in enumerate(names, start=1):
        wrapped = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"))
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in wrapped.named_parameters():
            if "lora_B" in key:
                parameter.data = torch.randn(parameter.shape, generator=generator) * size
        wrapped.save_pretrained(work / name)
        model = wrapped.unload()
