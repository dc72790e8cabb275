"""A merge as one adapter that equals the weighted sum, for PEFT and for servers that load adapters."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from medbench.merging.adapters import PREFIX, WEIGHTS
from medbench.merging.checkpoints import Checkpoint
from medbench.merging.exact import ExactSum
from medbench.merging.patterns import CONFIG
from medbench.merging.proof import as_tensor
from medbench.merging.recipe import Recipe


def write_adapter(checkpoint: Checkpoint, recipe: Recipe, staging: Path) -> dict[str, Any]:
    """Write the sum as one adapter: A stacked, and B side by side with weight and scaling folded in (so alpha = r).

    Where weights have several ranks, rank_pattern and alpha_pattern say so, and the scaling stays 1 everywhere.
    """
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    whole = set()
    for key in recipe.targets:
        name = next(a.modules[key] for a in recipe.adapters if key in a.modules)
        module = name.removesuffix(".weight")
        terms, replacements = recipe.parts(key)
        if replacements:
            whole.add(module.rsplit(".", 1)[-1])
            tensors[PREFIX + name] = ExactSum(terms, replacements).rows(checkpoint.tensors[key].read())
            continue
        left = torch.cat([(as_tensor(term.left).double() * term.coefficient).float() for term in terms], dim=1)
        right = torch.cat([as_tensor(term.right) for term in terms])
        example = next(a.low_rank[key] for a in recipe.adapters if key in a.low_rank)
        a, b = (left.T, right.T) if example.transposed else (right, left)
        ranks[module] = left.shape[1]
        suffix = ("lora_embedding_A", "lora_embedding_B") if example.embedding else ("lora_A.weight", "lora_B.weight")
        tensors[f"{PREFIX}{module}.{suffix[0]}"] = a.contiguous()
        tensors[f"{PREFIX}{module}.{suffix[1]}"] = b.contiguous()
    save_file(tensors, staging / WEIGHTS, metadata={"format": "pt"})
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: value for module, value in ranks.items() if value != rank}
    config = {
        **recipe.adapters[0].config,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
        "modules_to_save": sorted(whole) or None,
        "target_modules": _target_modules(checkpoint, set(ranks)),
    }
    with open(staging / WEIGHTS, "rb+") as handle:
        os.fsync(handle.fileno())
    (staging / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    return {"rank": rank, "ranks": sorted(set(ranks.values())), "relative_error": recipe.error}


def _target_modules(checkpoint: Checkpoint, modules: set[str]) -> list[str]:
    """Module kinds (q_proj) where the adapter covers all of a kind, as servers expect them; else full names."""
    kinds = {module.rsplit(".", 1)[-1] for module in modules}
    weights = {name.removesuffix(".weight") for name, t in checkpoint.tensors.items() if len(t.shape) == 2}
    covered = {name for name in weights if name.rsplit(".", 1)[-1] in kinds}
    return sorted(kinds if covered == modules else modules)
