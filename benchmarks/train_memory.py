"""Memory per GPU of LoRA training at Qwen3-14B's shape, counted without a GPU.

    python benchmarks/train_memory.py [--shape 14b] [--gpus 8] [--tokens 2048] [--rank 16]

Weights are counted on a model without storage (PyTorch's meta device), and so is what autograd saves of a forward pass
for the backward one. What is not counted: CUDA's context, the allocator's fragments, buffers of communication.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from peft import get_peft_model
from shapes import QWEN3
from transformers import Qwen3Config, Qwen3ForCausalLM

from medbench.trainers.model import lora_config
from medbench.trainers.recipe import load_recipe

GB = 1e9


def built(shape: str, layers: int, rank: int) -> Any:
    """The base in bfloat16 with an adapter in float32, without storage."""
    sizes = QWEN3[shape] | {"num_hidden_layers": layers}
    required = ["model_name_or_path=none", "dataset=none", "output_dir=none", f"lora_rank={rank}"]
    recipe = load_recipe("sft", None, required)[0]
    with torch.device("meta"):
        base = Qwen3ForCausalLM(Qwen3Config(**sizes, attn_implementation="sdpa")).to(torch.bfloat16)
        model = get_peft_model(base, lora_config(recipe, base))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train()


def saved(model: Any, tokens: int) -> int:
    """Bytes of what autograd keeps of a forward pass over one row, other than weights."""
    weights = {id(parameter) for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        root = tensor if tensor._base is None else tensor._base
        if root.shape[-2:] == (tokens, tokens):  # attention weights, which a GPU's kernels do not store
            return tensor
        if id(root) not in weights and not isinstance(root, torch.nn.Parameter):
            kept[id(root)] = root  # held, so that an id is of one tensor
        return tensor

    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        # one position's logits: those of all are counted apart
        model(input_ids=ids, attention_mask={"full_attention": None}, logits_to_keep=1, use_cache=False)
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())


def table(shape: str, gpus: int, tokens: int, rank: int) -> list[str]:
    """Markdown rows, GB per GPU."""
    sizes = QWEN3[shape]
    layers = sizes["num_hidden_layers"]
    model = built(shape, layers, rank)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = sizes["vocab_size"] * sizes["hidden_size"]
    layer = 2 * sum(p.numel() for p in model.get_base_model().model.layers[0].parameters() if not p.requires_grad)
    one, two = (saved(built(shape, number, rank), tokens) for number in (1, 2))
    per_layer = two - one
    whole = per_layer * layers
    again = per_layer + layers * tokens * sizes["hidden_size"] * 2  # one layer, and the inputs of all
    logits = tokens * sizes["vocab_size"] * (2 + 4 + 4)  # bfloat16, float32 for the loss, its gradient
    rows = [
        f"{frozen / GB:.2f} billion weights in the base, {adapter / 1e6:.1f} million in the adapter (rank {rank}); "
        f"{tokens} tokens a row: {per_layer / GB:.2f} GB saved per layer, {logits / GB:.1f} GB around the logits.",
        "",
        "| GB per GPU | base | adapter | its gradient | AdamW | gathered for a while | activations | with "
        "gradient_checkpointing | sum, with it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, base, state, gathered in (
        ("`ddp`, any number", 1, 1, 0.0),
        (f"`zero2`, {gpus}", 1, gpus, 0.0),
        (f"`zero3` or `fsdp2`, {gpus}", gpus, gpus, max(2 * layer, 2 * head)),
    ):
        own = adapter / (gpus if base > 1 else 1)
        parts = [2 * frozen / base, 4 * own, 4 * adapter / state, 8 * adapter / state, gathered]
        total = sum(parts) + again + logits
        shown = [*parts, whole + logits, again + logits, total]
        rows.append(f"| {name} | " + " | ".join(f"{value / GB:.2f}" for value in shown) + " |")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(QWEN3), default="14b")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rank", type=int, default=16)
    given = parser.parse_args()
    print("\n".join(table(given.shape, given.gpus, given.tokens, given.rank)))
