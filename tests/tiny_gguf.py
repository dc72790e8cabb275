"""A random llama of two layers as a GGUF file, and as the model directory and adapters that belong to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HIDDEN, LAYERS, HEADS, VOCABULARY, INNER = 64, 2, 2, 260, 96
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    quantise: bool = True,
    context: int = 123,
    template: str = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
) -> dict[str, Any]:
    """A random llama of two layers, its linear layers as Q4_1; returns what the reader should dequantise to."""
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(context)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY)
    _add_tokenizer(writer, pre, template)
    generator = np.random.default_rng(0)
    expected = {}

    def add(name: str, *shape: int) -> None:
        values = generator.normal(size=shape).astype(np.float32) * 0.1
        if quantise and len(shape) == 2:
            packed = quants.quantize(values, GGMLQuantizationType.Q4_1)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q4_1)
            values = quants.dequantize(packed, GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(name, values)
        expected[name] = torch.from_numpy(values)

    add("token_embd.weight", VOCABULARY, HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        for kind in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{kind}.weight", HIDDEN, HIDDEN)
        for kind, shape in (("ffn_gate", (INNER, HIDDEN)), ("ffn_up", (INNER, HIDDEN)), ("ffn_down", (HIDDEN, INNER))):
            add(f"blk.{layer}.{kind}.weight", *shape)
        for kind in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{kind}.weight", HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _add_tokenizer(writer: Any, pre: str, template: str) -> None:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ĠĠ"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(template)


def build_llama(folder: Path, *, context: int = 1024, template: str = CHATML) -> tuple[Path, Path]:
    """A llama with telling predictions in float32: its model directory, and the same weights as a GGUF file."""
    import torch
    from safetensors.torch import load_file, save_file

    from medbench.fetching.command import fetch
    from medbench.served.gguf import write_checkpoint

    raw, directory, file = folder / "raw.gguf", folder / "llama", folder / "llama.gguf"
    write_gguf(raw, quantise=False, context=context, template=template)
    fetch(str(raw), directory, dtype="float32")
    weights = load_file(directory / "model.safetensors")
    for name, value in weights.items():
        # Norms of one and larger matrices: predictions that are far from uniform, and from each other.
        weights[name] = torch.ones_like(value) if "norm" in name else value * (3.0 if "embed" in name else 2.5)
        if "embed" in name:
            weights[name][_unprintable(directory)] = 0.0  # never the likeliest: greedy text is plain ASCII
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    write_checkpoint(directory, raw, file)
    return directory, file


def _unprintable(directory: Path) -> list[int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    texts = [tokenizer.decode([token]) for token in range(VOCABULARY)]
    return [token for token, text in enumerate(texts) if not (len(text) == 1 and (text == "\n" or " " < text <= "~"))]


def build_adapter(folder: Path, base: Path, name: str, *, seed: int, size: float = 0.05, rank: int = 4) -> Path:
    """A random LoRA adapter of a llama's attention and feed-forward layers, as PEFT writes one."""
    import torch
    from safetensors.torch import save_file

    from medbench.merging.checkpoints import open_checkpoint

    generator = torch.Generator().manual_seed(seed)
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    tensors = {}
    for key, stored in sorted(open_checkpoint(base).tensors.items()):
        module = key.removesuffix(".weight")
        if module.rpartition(".")[2] in kinds:
            rows, columns = stored.shape
            prefix = f"base_model.model.{module}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, columns, generator=generator)
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(rows, rank, generator=generator) * size
    target = folder / name
    target.mkdir(parents=True)
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted(kinds),
        "base_model_name_or_path": str(base),
        "task_type": "CAUSAL_LM",
        "bias": "none",
    }
    (target / "adapter_config.json").write_text(json.dumps(config))
    return target
