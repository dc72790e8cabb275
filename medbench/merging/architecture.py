"""What transformers knows about a base and its files do not say: layer types, tied weights, names in memory.

Importing transformers costs seconds, and building a model (without memory, on the meta device) some more, so everything
here is asked only where the files leave it open.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.advice import install
from medbench.errors import MedbenchError
from medbench.merging.checkpoints import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Architecture:
    """The base's modules as transformers builds them from its config, without weights and without running its code."""

    def __init__(self, base: Checkpoint) -> None:
        self._base = base

    @cached_property
    def may_transpose(self) -> bool:
        """Whether some layer may store its weight as [in, out]: the source of the base's model names Conv1D.

        Read as text, from transformers' own file for each model type in the config, which costs no import.
        """
        spec = importlib.util.find_spec("transformers")
        if spec is None or spec.origin is None:
            raise MedbenchError(f"transformers is not installed: {install('local')}")
        models = Path(spec.origin).parent / "models"
        for kind in {*_model_types(self._base.config)} or {""}:
            source = models / kind / f"modeling_{kind}.py"
            if not kind.isidentifier() or not source.exists() or "Conv1D" in source.read_text("utf-8"):
                return True
        return False

    @cached_property
    def transposed(self) -> frozenset[str]:
        """Weights, by their names in memory, of layers that store [in, out] (GPT-2's Conv1D)."""
        from transformers import Conv1D

        return frozenset(f"{name}.weight" for name, module in self._model.named_modules() if isinstance(module, Conv1D))

    @cached_property
    def tied(self) -> frozenset[str]:
        """Weights, by their names in memory, that share their memory with another one."""
        pairs = self._model.all_tied_weights_keys
        return frozenset({*pairs, *pairs.values()})

    @cached_property
    def stored(self) -> dict[str, str]:
        """Name in memory (which PEFT uses) -> name in the base's files, where a load only renames the tensor."""
        from medbench.private.transformers import names_in_memory

        return names_in_memory(self._model, self._base.tensors)

    @cached_property
    def _model(self) -> PreTrainedModel:
        import torch
        import transformers

        path = self._base.path
        try:
            config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
            kind = next(iter(config.architectures or ()), None)
            with torch.device("meta"):
                known = getattr(transformers, str(kind), None)
                return known(config) if known else transformers.AutoModelForCausalLM.from_config(config)
        except Exception as error:  # the config is a stranger's, and the model's code may fail in any way on it
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise MedbenchError(
                f"how the layers of {path} store their weights cannot be told: transformers does not build the model "
                f"({reason[0]:.200}). Its own code is not run: save the base as an architecture that transformers has."
            ) from None


def _model_types(config: object) -> Iterator[str]:
    """The model types of a config and of the configs within it (text_config, vision_config)."""
    if isinstance(config, dict):
        if isinstance(kind := config.get("model_type"), str):
            yield kind.replace("-", "_")
        for value in config.values():
            yield from _model_types(value)
