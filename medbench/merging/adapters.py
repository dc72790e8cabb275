"""PEFT LoRA adapters as low-rank factors, checked against the base they are for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medbench.errors import MedbenchError, unknown
from medbench.merging.checkpoints import Checkpoint, Stored, read_header, read_json
from medbench.merging.exact import STORED

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."

# Kinds of adapter whose update is not (alpha / r) B A on the base as it is: setting -> what it does instead.
_OTHER_KINDS = {
    "use_dora": "DoRA also rescales every weight by a learned magnitude",
    "lora_bias": "it adds a learned bias besides B A",
    "use_qalora": "QA-LoRA pools the inputs of A",
    "use_bdlora": "its factors are block-diagonal",
    "kasa_config": "KaSA changes the base by a truncated SVD",
    "monteclora_config": "MonteCLoRA samples its factors",
    "arrow_config": "Arrow routes every token to other adapters",
    "layer_replication": "it stacks copies of the base's layers",
    "target_parameters": "it updates bare parameters, not the weights of linear layers",
    "trainable_token_indices": "it replaces single rows of the embedding",
    "alora_invocation_tokens": "aLoRA acts only after its invocation tokens",
}
# These start from a base that the initialisation itself has changed, so B A is not the whole difference.
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
_LOW_RANK = re.compile(r"\.(lora_A|lora_B)\.weight$|\.(lora_embedding_A|lora_embedding_B)$")


@dataclass(frozen=True)
class LowRank:
    """One weight's update: dW = scale * left @ right in the shape of the base's weight; float32 factors.

    `transposed` says that the weight is stored [in, out] (an embedding, or fan_in_fan_out), so that left and right are
    A and B transposed rather than B and A.
    """

    left: torch.Tensor
    right: torch.Tensor
    scale: float
    transposed: bool = False
    embedding: bool = False

    @property
    def rank(self) -> int:
        """Columns of `left`."""
        return self.left.shape[1]

    @property
    def a(self) -> torch.Tensor:
        """LoRA A, [rank, in]."""
        return self.left.T if self.transposed else self.right

    @property
    def b(self) -> torch.Tensor:
        """LoRA B, [out, rank]."""
        return self.right.T if self.transposed else self.left

    def delta(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """dW as one dense matrix."""
        return self.scale * (self.left.to(dtype) @ self.right.to(dtype))


@dataclass(frozen=True)
class Adapter:
    """An adapter's updates by the base's tensor names.

    Attributes:
        name: what the user calls it (pt, sft).
        path: its directory.
        config: adapter_config.json as it is.
        low_rank: tensor name -> update.
        whole: tensor name -> weight that was trained whole (modules_to_save), as stored.
    """

    name: str
    path: Path
    config: dict[str, Any]
    low_rank: dict[str, LowRank]
    whole: dict[str, torch.Tensor]

    def to(self, device: torch.device) -> Adapter:
        """The same adapter with its tensors on a device."""
        low_rank = {
            key: replace(update, left=update.left.to(device), right=update.right.to(device))
            for key, update in self.low_rank.items()
        }
        return replace(self, low_rank=low_rank, whole={key: value.to(device) for key, value in self.whole.items()})

    @property
    def targets(self) -> set[str]:
        """The base's tensors that it changes."""
        return set(self.low_rank) | set(self.whole)


def parse_adapter(text: str) -> tuple[str, str, float | None]:
    """Split ``name=DIR:weight`` (``name=DIR`` where no weight is needed) into name, directory and weight.

    Raises:
        MedbenchError: no name, or a weight that is no finite number.
    """
    name, equals, rest = text.partition("=")
    if not equals or not name.strip() or not rest:
        raise MedbenchError(f"adapter {text!r}: expected NAME=DIR:WEIGHT, for example pt=adapters/pt:0.3.")
    path, colon, last = rest.rpartition(":")
    if not colon or "/" in last:
        return name.strip(), rest, None
    try:
        weight = float(last)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise MedbenchError(
            f"adapter {text!r}: {last!r} is no weight; expected a number, for example {name}={path}:0.3."
        )
    return name.strip(), path, weight


def read_adapter(name: str, path: str | Path) -> Adapter:
    """Read a PEFT LoRA directory.

    Raises:
        MedbenchError: files missing, pickled or damaged; an adapter of another kind than LoRA; NaN or Inf; factors that
            lack their partner or whose rank is not the recorded one.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise MedbenchError(f"adapter {name}: no directory {path}.")
    config = read_json(path / CONFIG)
    _refuse_other_kinds(name, config)
    _check_numbers(name, config)
    if not (path / WEIGHTS).exists():
        _refuse_pickle(path)
        raise MedbenchError(f"adapter {name}: {path} holds no {WEIGHTS}.")
    stored = read_header(path / WEIGHTS)
    factors: dict[str, dict[str, Stored]] = {}
    whole: dict[str, torch.Tensor] = {}
    for key, tensor in stored.items():
        module = key.removeprefix(PREFIX)
        if match := _LOW_RANK.search(module):
            factor = (match[1] or match[2]).replace("embedding_", "embedding.")
            factors.setdefault(module[: match.start()], {})[factor] = tensor
        elif ".base_layer." in module:
            continue  # PEFT's copy of the base's own embedding
        elif "lora_" in module:
            raise MedbenchError(f"adapter {name}: tensor {key} is no part of plain LoRA, which Equation (1) covers.")
        else:
            whole[module.replace(".modules_to_save.", ".")] = _finite(name, key, tensor)
    if not factors and not whole:
        raise MedbenchError(f"adapter {name}: {path / WEIGHTS} holds no weights.")
    low_rank = {f"{module}.weight": _low_rank(name, module, found, config) for module, found in factors.items()}
    _check_targets(name, config, [*factors])
    return Adapter(name, path, config, low_rank, whole)


def _refuse_other_kinds(name: str, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise MedbenchError(f"adapter {name}: its peft_type is {kind!r}; Equation (1) covers LoRA only.")
    for setting, reason in _OTHER_KINDS.items():
        if config.get(setting):
            raise MedbenchError(f"adapter {name} has {setting} set: {reason}, so Equation (1) does not cover it.")
    if config.get("bias", "none") != "none":
        raise MedbenchError(
            f"adapter {name} trained biases (bias={config['bias']!r}), which no merge method here covers."
        )
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASES):
        raise MedbenchError(
            f"adapter {name} was initialised with {start!r}, which changes the base: save it as plain LoRA first "
            "(PEFT: save_pretrained(..., path_initial_model_for_weight_conversion=...))."
        )


def _check_numbers(name: str, config: Mapping[str, Any]) -> None:
    """Rank and alpha, the defaults and those by pattern: each a number above 0, a rank a whole one."""
    for default, by_pattern, kind in (("r", "rank_pattern", int), ("lora_alpha", "alpha_pattern", int | float)):
        patterns = config.get(by_pattern) or {}
        if not isinstance(patterns, dict):
            raise MedbenchError(f"adapter {name}: {by_pattern} in {CONFIG} is {patterns!r:.80}; expected a mapping.")
        for key, value in [(default, config.get(default)), *patterns.items()]:
            if not isinstance(value, kind) or isinstance(value, bool) or not value > 0:
                where = key if key == default else f"{by_pattern}[{key!r}]"
                raise MedbenchError(f"adapter {name}: {where} in {CONFIG} is {value!r}; expected a number above 0.")
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise MedbenchError(f"adapter {name}: {by_pattern} {pattern!r} in {CONFIG}: {error}.") from None


def _refuse_pickle(path: Path) -> None:
    pickled = path / "adapter_model.bin"
    if pickled.exists():
        raise MedbenchError(
            f'{pickled} is pickled, and loading a pickle can run code. Convert it once: python -c "import torch; from '
            f"safetensors.torch import save_file; save_file({{k: v.contiguous() for k, v in torch.load('{pickled}', "
            f"weights_only=True).items()}}, '{path / WEIGHTS}')\""
        )


def _finite(name: str, key: str, tensor: Stored) -> torch.Tensor:
    if tensor.dtype not in STORED:
        raise MedbenchError(
            f"adapter {name}: {key} is stored as {tensor.dtype}; expected float32, bfloat16 or float16."
        )
    values = tensor.read()
    if not values.isfinite().all():
        raise MedbenchError(
            f"adapter {name}: {key} holds NaN or Inf. Its training diverged; use an earlier checkpoint."
        )
    return values


def _low_rank(name: str, module: str, found: Mapping[str, Stored], config: Mapping[str, Any]) -> LowRank:
    embedding = any(factor.startswith("lora_embedding") for factor in found)
    names = ("lora_embedding.A", "lora_embedding.B") if embedding else ("lora_A", "lora_B")
    if set(found) != set(names):
        raise MedbenchError(f"adapter {name}: {module} has only {', '.join(sorted(found))}; it needs both factors.")
    a, b = (_finite(name, found[factor].name, found[factor]).float() for factor in names)
    if a.ndim != 2 or b.ndim != 2:
        raise MedbenchError(f"adapter {name}: {module} is a convolution; medbench merges linear layers and embeddings.")
    rank = matching(config.get("rank_pattern") or {}, module, config["r"])
    if a.shape[0] != rank or b.shape[1] != rank:
        raise MedbenchError(
            f"adapter {name}: {module} has A {list(a.shape)} and B {list(b.shape)}, and {CONFIG} records rank {rank}."
        )
    alpha = matching(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    if embedding or config.get("fan_in_fan_out"):
        return LowRank(a.T.contiguous(), b.T.contiguous(), scale, transposed=True, embedding=embedding)
    return LowRank(b, a, scale)


def matching(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that matches a module's name as PEFT matches it: on its whole or its end."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _check_targets(name: str, config: Mapping[str, Any], modules: Sequence[str]) -> None:
    targets = config.get("target_modules")
    if not isinstance(targets, list) or config.get("exclude_modules"):
        return
    for target in targets:
        if not any(module == target or module.endswith(f".{target}") for module in modules):
            leaves = {module.rsplit(".", 1)[-1] for module in modules}
            raise MedbenchError(
                f"adapter {name}: {unknown('target module', target.rsplit('.', 1)[-1], leaves)} "
                f"{WEIGHTS} holds no weights for it: the adapter was saved incompletely."
            )


def check_adapters(base: Checkpoint, adapters: Sequence[Adapter], *, any_base: bool = False) -> None:
    """Refuse adapters that were not made for this base, before anything large is read.

    Args:
        base: the opened checkpoint.
        adapters: the adapters to be merged into it.
        any_base: accept another recorded base name (a renamed or moved copy) and updates of some layers only.

    Raises:
        MedbenchError: another base's name, unknown target modules, other shapes, other layers, tied embeddings.
    """
    for adapter in adapters:
        if not any_base:
            _check_name(base, adapter)
        for key in sorted(adapter.targets):
            _check_tensor(base, adapter, key)
        if not any_base:
            _check_depth(base, adapter)


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


def _check_tensor(base: Checkpoint, adapter: Adapter, key: str) -> None:
    stored = base.tensors.get(key)
    tied = base.config.get("tie_word_embeddings", False)
    embeddings = key.endswith((".embed_tokens.weight", ".wte.weight", "lm_head.weight"))
    if tied and embeddings:
        raise MedbenchError(
            f"adapter {adapter.name} changes {key}, which the base ties to its other embedding: merging would change "
            "both. Untie the base first (tie_word_embeddings: false, with lm_head.weight stored)."
        )
    if stored is None and re.sub(r"\.\d+\.", ".0.", key) in base.tensors:
        raise MedbenchError(
            f"adapter {adapter.name} is for a base of another depth: it changes {key}, which {base.path} does not have."
        )
    if stored is None:
        raise MedbenchError(f"adapter {adapter.name}: {unknown('target module', key, base.tensors)}"[:600])
    if stored.dtype not in STORED:
        raise MedbenchError(
            f"{key} of the base is stored as {stored.dtype}: merge into the unquantized base "
            "(float32, bfloat16 or float16)."
        )
    if key in adapter.low_rank:
        update = adapter.low_rank[key]
        shape: tuple[int, ...] = (update.left.shape[0], update.right.shape[1])
    else:
        shape = tuple(adapter.whole[key].shape)
    if shape != stored.shape:
        raise MedbenchError(
            f"adapter {adapter.name} is for another base: {key} would be {list(shape)}, "
            f"and in {base.path} it is {list(stored.shape)}."
        )


_LAYER = re.compile(r"\.(\d+)\.")


def _check_depth(base: Checkpoint, adapter: Adapter) -> None:
    """An adapter of a shallower base fits every shape; the layers it lacks give it away."""
    config = adapter.config
    if config.get("layers_to_transform") is not None or config.get("exclude_modules"):
        return
    if not isinstance(config.get("target_modules"), list):
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
