"""PEFT LoRA adapters as low-rank factors; `fitting` brings them to their base."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import regex
import torch

from medbench.errors import MedbenchError, unknown
from medbench.merging.checkpoints import Stored, read_header, read_json
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
# What matching all modules against a config's patterns may take; hundreds of plain names take milliseconds.
_PATTERN_SECONDS = 2.0
_LOW_RANK = re.compile(r"\.(lora_A|lora_B)\.weight$|\.(lora_embedding_A|lora_embedding_B)$")


@dataclass(frozen=True)
class LowRank:
    """One weight's update: dW = scale * left @ right in the shape of the base's weight; float32 factors.

    `transposed` says that the weight is stored [in, out] (an embedding, or GPT-2's Conv1D), so that left and right are
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

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Rows `first` to `last` of dW, in float64."""
        return self.scale * (self.left[first:last].double() @ self.right.double())


@dataclass(frozen=True)
class Whole:
    """The update of a weight that was trained whole: dW = value - start; both of the weight's shape, as stored."""

    value: torch.Tensor
    start: torch.Tensor

    def delta(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """dW as one dense tensor."""
        return self.value.to(dtype) - self.start.to(dtype)

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Rows `first` to `last` of dW, in float64."""
        return self.value[first:last].double() - self.start[first:last].double()


Update = LowRank | Whole


@dataclass(frozen=True)
class Adapter:
    """An adapter's updates by the base's tensor names.

    Attributes:
        name: what the user calls it (pt, sft).
        path: its directory.
        config: adapter_config.json as it is.
        low_rank: tensor name -> update.
        whole: tensor name -> weight that was trained whole (modules_to_save), as stored.
        modules: tensor name -> the name that PEFT gives it, once `fitting` has put the base's names in its place.
        start: tensor name -> the base's own weight, for those in `whole`, once fitted.
        files: the files that hold the weights.

    As read, the names are PEFT's, and every update of a linear layer is B A, [out, in].
    """

    name: str
    path: Path
    config: dict[str, Any]
    low_rank: dict[str, LowRank]
    whole: dict[str, torch.Tensor]
    modules: dict[str, str] = field(default_factory=dict)
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def to(self, device: torch.device) -> Adapter:
        """The same adapter with its tensors on a device."""
        low_rank = {
            key: replace(update, left=update.left.to(device), right=update.right.to(device))
            for key, update in self.low_rank.items()
        }
        whole, start = ({key: value.to(device) for key, value in kept.items()} for kept in (self.whole, self.start))
        return replace(self, low_rank=low_rank, whole=whole, start=start)

    def update(self, tensor: str) -> Update | None:
        """Its update of one of the base's tensors, None where it leaves that alone."""
        if tensor in self.whole:
            return Whole(self.whole[tensor], self.start[tensor])
        return self.low_rank.get(tensor)

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
    _check_config(name, config)
    patterns = _Patterns(name, config)
    if not (path / WEIGHTS).exists():
        _refuse_pickle(path)
        raise MedbenchError(f"adapter {name}: {path} holds no {WEIGHTS}.")
    stored = read_header(path / WEIGHTS)
    factors: dict[str, dict[str, Stored]] = {}
    whole: dict[str, torch.Tensor] = {}
    for key, tensor in stored.items():
        module = key.removeprefix(PREFIX)
        _refuse_named(name, key, path)
        if match := _LOW_RANK.search(module):
            factor = (match[1] or match[2]).replace("embedding_", "embedding.")
            factors.setdefault(module[: match.start()], {})[factor] = tensor
        elif ".base_layer." in module or ".original_module." in module:
            continue  # copies of the base's own weights
        elif "lora_" in module:
            raise MedbenchError(f"adapter {name}: tensor {key} is no part of plain LoRA, which Equation (1) covers.")
        else:
            whole[module.replace(".modules_to_save.", ".")] = _finite(name, key, tensor)
    if not factors and not whole:
        raise MedbenchError(f"adapter {name}: {path / WEIGHTS} holds no weights.")
    low_rank = {f"{module}.weight": _low_rank(name, module, found, patterns) for module, found in factors.items()}
    _check_targets(name, config, [*factors])
    return Adapter(name, path, config, low_rank, whole, files=(path / WEIGHTS,))


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


def _check_config(name: str, config: Mapping[str, Any]) -> None:
    """Rank and alpha are finite numbers above 0, also by pattern; the base's name and the targets are text."""
    for default, by_pattern, kind in (("r", "rank_pattern", int), ("lora_alpha", "alpha_pattern", int | float)):
        patterns = config.get(by_pattern) or {}
        if not isinstance(patterns, dict):
            raise MedbenchError(f"adapter {name}: {by_pattern} in {CONFIG} is {patterns!r:.80}; expected a mapping.")
        for key, value in [(default, config.get(default)), *patterns.items()]:
            if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < 1e9:
                where = key if key == default else f"{by_pattern}[{key!r}]"
                raise MedbenchError(
                    f"adapter {name}: {where} in {CONFIG} is {value!r:.80}; expected a number above 0 (and finite)."
                )
    recorded = config.get("base_model_name_or_path")
    if not isinstance(recorded, str | None):
        raise MedbenchError(
            f"adapter {name}: base_model_name_or_path in {CONFIG} is {recorded!r:.80}; expected a name."
        )
    targets = config.get("target_modules")
    if isinstance(targets, list) and not all(isinstance(target, str) for target in targets):
        raise MedbenchError(
            f"adapter {name}: target_modules in {CONFIG} is {targets!r:.80}; expected names of modules."
        )
    if not isinstance(targets, list | str | None):
        raise MedbenchError(
            f"adapter {name}: target_modules in {CONFIG} is {targets!r:.80}; expected names of modules."
        )


def _refuse_named(name: str, key: str, path: Path) -> None:
    """Keys of a state dict of the wrapped model hold the adapter's name; those of an adapter that PEFT saved do not."""
    named = re.search(r"\.(?:lora_[AB]|lora_embedding_[AB]|modules_to_save)\.([^.]+)(?:\.(?:weight|bias))?$", key)
    if named and named[1] not in ("weight", "bias"):
        raise MedbenchError(
            f"adapter {name}: {key} in {path / WEIGHTS} carries the name of an adapter in memory, {named[1]!r}: the "
            "file is a state_dict() of the wrapped model, not a saved adapter. Save it again with PEFT: "
            "model.save_pretrained(DIR)."
        )


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


def _low_rank(name: str, module: str, found: Mapping[str, Stored], patterns: _Patterns) -> LowRank:
    embedding = any(factor.startswith("lora_embedding") for factor in found)
    names = ("lora_embedding.A", "lora_embedding.B") if embedding else ("lora_A", "lora_B")
    if set(found) != set(names):
        raise MedbenchError(f"adapter {name}: {module} has only {', '.join(sorted(found))}; it needs both factors.")
    a, b = (_finite(name, found[factor].name, found[factor]).float() for factor in names)
    if a.ndim != 2 or b.ndim != 2:
        raise MedbenchError(f"adapter {name}: {module} is a convolution; medbench merges linear layers and embeddings.")
    rank = patterns.rank(module)
    if a.shape[0] != rank or b.shape[1] != rank:
        raise MedbenchError(
            f"adapter {name}: {module} has A {list(a.shape)} and B {list(b.shape)}, and {CONFIG} records rank {rank}."
        )
    if embedding:
        return LowRank(a.T.contiguous(), b.T.contiguous(), patterns.scale(module), transposed=True, embedding=True)
    return LowRank(b, a, patterns.scale(module))


class _Patterns:
    """Rank and alpha of each module. Patterns are regular expressions of a stranger: their time is bounded."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self._name, self._config = name, config
        self._left = _PATTERN_SECONDS
        self._compiled = {
            kind: [(self._compile(kind, pattern), value) for pattern, value in (config.get(kind) or {}).items()]
            for kind in ("rank_pattern", "alpha_pattern")
        }

    def rank(self, module: str) -> int:
        """The rank that the config records for a module."""
        found: int = self._matching("rank_pattern", module, self._config["r"])
        return found

    def scale(self, module: str) -> float:
        """alpha / r, or alpha / sqrt(r) with rsLoRA."""
        rank, alpha = self.rank(module), self._matching("alpha_pattern", module, self._config["lora_alpha"])
        return float(alpha / rank**0.5 if self._config.get("use_rslora") else alpha / rank)

    def _compile(self, kind: str, pattern: str) -> regex.Pattern[str]:
        try:
            return regex.compile(rf"(.*\.)?({pattern})$")
        except (regex.error, RecursionError, OverflowError) as error:
            raise MedbenchError(f"adapter {self._name}: {kind} {pattern!r:.80} in {CONFIG}: {error}.") from None

    def _matching(self, kind: str, module: str, default: Any) -> Any:
        """The value of the first pattern that matches a module's name as PEFT matches it: on its whole or its end."""
        for pattern, value in self._compiled[kind]:
            start = time.monotonic()
            try:
                matched = pattern.match(module, timeout=max(self._left, 0.001))
            except TimeoutError:
                raise MedbenchError(
                    f"adapter {self._name}: matching {kind} in {CONFIG} takes longer than {_PATTERN_SECONDS} seconds, "
                    f"at {pattern.pattern!r:.80}. Name the modules plainly instead."
                ) from None
            self._left -= time.monotonic() - start
            if matched:
                return value
        return default


def _check_targets(name: str, config: Mapping[str, Any], modules: Sequence[str]) -> None:
    targets = config.get("target_modules")
    if not isinstance(targets, list) or config.get("exclude_modules"):
        return
    for target in targets:
        if not any(module == target or module.endswith(f".{target}") for module in modules):
            known = modules if "." in target else {module.rsplit(".", 1)[-1] for module in modules}
            raise MedbenchError(
                f"adapter {name}: {unknown('target module', target, known)!s:.400} "
                f"{WEIGHTS} holds no weights for it: the adapter was saved incompletely."
            )
