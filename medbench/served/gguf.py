"""Checkpoints and adapters of llama architecture as GGUF files, for a llama.cpp server.

The tensors' names and the order of the rows of the queries and keys follow llama.cpp's `convert_hf_to_gguf.py` and
`convert_lora_to_gguf.py`, which are in no package. A new file takes its tokenizer and settings from an existing one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medbench.errors import MedbenchError

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter

# transformers' names of a llama's weights -> GGUF's
_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


def write_checkpoint(checkpoint: str | Path, like: str | Path, out: str | Path, *, dtype: str = "float32") -> None:
    """Write a llama checkpoint as a GGUF file.

    Args:
        checkpoint: a model directory.
        like: a GGUF file of the same model, whose tokenizer and settings are taken over.
        out: the file to write.
        dtype: ``float32``, or ``float16`` for the matrices.

    Raises:
        MedbenchError: another architecture, or a weight of a name that llamas do not have.
    """
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    from medbench.merging.checkpoints import open_checkpoint

    opened = open_checkpoint(checkpoint)
    reader = GGUFReader(like)
    heads = _heads(reader)
    writer = GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for name, stored in opened.tensors.items():
        rows = _ordered(name, stored.read().float().numpy(), heads)
        writer.add_tensor(gguf_name(name), rows.astype(np.float16) if dtype == "float16" and rows.ndim == 2 else rows)
    _close(writer)


def write_adapter(adapter: str | Path, like: str | Path, out: str | Path) -> None:
    """Write a LoRA adapter of a llama as a GGUF file in float32; its scale stays alpha / r.

    Args:
        adapter: PEFT's directory.
        like: a GGUF file of the base, for its numbers of heads.
        out: the file to write.

    Raises:
        MedbenchError: weights trained whole, several ranks, or rsLoRA, which the format cannot say.
    """
    from gguf import GGUFReader, GGUFWriter

    from medbench.merging.adapters import read_adapter

    read = read_adapter("adapter", adapter)
    scales = {update.scale for update in read.low_rank.values()}
    ranks = {update.right.shape[0] for update in read.low_rank.values()}
    if read.whole or len(scales) != 1 or len(ranks) != 1:
        raise MedbenchError(
            f"{adapter}: a GGUF adapter has one rank, one scale and no weights trained whole; "
            f"this one has ranks {sorted(ranks)} and {len(read.whole)} whole weights."
        )
    heads = _heads(GGUFReader(like))
    writer = GGUFWriter(out, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", scales.pop() * ranks.pop())
    for name, update in read.low_rank.items():
        target = gguf_name(name)
        writer.add_tensor(f"{target}.lora_a", update.right.float().contiguous().numpy())
        writer.add_tensor(f"{target}.lora_b", _ordered(name, update.left.float().contiguous().numpy(), heads))
    _close(writer)


def gguf_name(name: str) -> str:
    """The name of a llama's weight in GGUF.

    Raises:
        MedbenchError: no weight of a llama.
    """
    module, _, kind = name.rpartition(".")
    if module in _OUTER:
        return f"{_OUTER[module]}.{kind}"
    match = _LAYER.fullmatch(module)
    if match is None or match[2] not in _INNER:
        raise MedbenchError(f"{name} is no weight of a llama; only that architecture is written as GGUF.")
    return f"blk.{match[1]}.{_INNER[match[2]]}.{kind}"


def _heads(reader: GGUFReader) -> dict[str, int]:
    """Heads of queries and keys, by the name of their projection."""

    def number(key: str) -> int | None:
        field = reader.get_field(key)
        return None if field is None else int(field.contents())

    named = reader.get_field("general.architecture")
    architecture = "" if named is None else str(named.contents())
    queries = number("llama.attention.head_count")
    if architecture != "llama" or queries is None:
        raise MedbenchError(f"expected a GGUF file of architecture llama, not {architecture!r}.")
    return {"q_proj": queries, "k_proj": number("llama.attention.head_count_kv") or queries}


def _ordered(name: str, rows: np.ndarray, heads: dict[str, int]) -> np.ndarray:
    """The rows in GGUF's order: there the two halves that a rotation mixes lie side by side."""
    count = next((heads[kind] for kind in heads if f".{kind}." in name), None)
    if count is None:
        return rows
    halves = rows.reshape(count, 2, len(rows) // count // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _close(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
