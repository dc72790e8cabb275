"""PEFT LoRA adapters as low-rank factors; `fitting` brings them to their base."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medbench.errors import MedbenchError, unknown
from medbench.files import places
from medbench.files.manifest import require_finished
from medbench.merging.checkpoints import read_json
from medbench.merging.patterns import CONFIG, Patterns
from medbench.merging.stored import FLOATING, Stored, read_header
from medbench.merging.updates import LowRank, Update, Whole

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"
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
            key: replace(update, device=None if device.type == "cpu" else device)
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
        MedbenchError: files missing, pickled or damaged; a training that did not finish; an adapter of another kind
            than LoRA; NaN or Inf; factors that lack their partner or whose rank is not the recorded one.
    """
    path = places.local(path).expanduser()
    if not path.is_dir():
        raise MedbenchError(f"adapter {name}: no directory {path}.")
    require_finished(path)
    config = read_json(path / CONFIG)
    _refuse_other_kinds(name, config)
    _check_config(name, config)
    patterns = Patterns(name, config)
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
            _finite(name, tensor)
            whole[module.replace(".modules_to_save.", ".")] = tensor.read()
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
    if not isinstance(recorded, str | None) or "\0" in (recorded or ""):
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


def _finite(name: str, stored: Stored) -> np.ndarray:
    """A tensor of the adapter's as float32."""
    if stored.kind not in FLOATING:
        raise MedbenchError(
            f"adapter {name}: {stored.name} is stored as {stored.kind}; expected float32, bfloat16 or float16."
        )
    values = stored.floats()
    if not np.isfinite(values).all():
        raise MedbenchError(
            f"adapter {name}: {stored.name} holds NaN or Inf. Its training diverged; use an earlier checkpoint."
        )
    return values


def _low_rank(name: str, module: str, found: Mapping[str, Stored], patterns: Patterns) -> LowRank:
    embedding = any(factor.startswith("lora_embedding") for factor in found)
    names = ("lora_embedding.A", "lora_embedding.B") if embedding else ("lora_A", "lora_B")
    if set(found) != set(names):
        raise MedbenchError(f"adapter {name}: {module} has only {', '.join(sorted(found))}; it needs both factors.")
    a, b = (_finite(name, found[factor]) for factor in names)
    if a.ndim != 2 or b.ndim != 2:
        raise MedbenchError(f"adapter {name}: {module} is a convolution; medbench merges linear layers and embeddings.")
    rank = patterns.rank(module)
    if a.shape[0] != rank or b.shape[1] != rank:
        raise MedbenchError(
            f"adapter {name}: {module} has A {list(a.shape)} and B {list(b.shape)}, and {CONFIG} records rank {rank}."
        )
    if embedding:
        left, right = (np.ascontiguousarray(factor.T) for factor in (a, b))
        return LowRank(left, right, patterns.scale(module), transposed=True, embedding=True)
    return LowRank(b, a, patterns.scale(module))


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
