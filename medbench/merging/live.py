"""One base in memory that becomes one candidate after another.

Merging again from the kept base weights gives, bit for bit, the weights of a fresh load of the merged checkpoint: the
sum is rounded to the dtype that the base is stored in, and then converted as a load converts it. Running the adapters
as separate low-rank paths would spare the switch and cost more in every step of generation (benchmarks/sweep.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from medbench.errors import MedbenchError
from medbench.merging.adapters import Adapter, parse_adapter, read_adapter
from medbench.merging.checkpoints import open_checkpoint
from medbench.merging.fitting import fit_adapters
from medbench.merging.methods import method as registered
from medbench.merging.recipe import Recipe, make_recipe

if TYPE_CHECKING:
    from torch.nn import Module


class LiveWeights:
    """The base weights that candidates change, and what it takes to change them.

    Args:
        base: the model's directory or hub id.
        device: where the kept weights lie and the sums are formed: the model's own.
        revision: of a hub id.

    Recipes are made on any thread; `apply` and `restore` belong to the thread that runs the model.
    """

    def __init__(self, base: str, device: torch.device, revision: str | None = None) -> None:
        self._checkpoint = open_checkpoint(base, revision=revision)
        self._device = device
        self._adapters: dict[tuple[str, str], Adapter] = {}
        self._kept: dict[str, torch.Tensor] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    def recipe(
        self,
        adapters: Sequence[str],
        *,
        method: str = "linear",
        settings: Mapping[str, Any] | None = None,
        any_base: bool = False,
    ) -> Recipe:
        """A candidate of ``NAME=DIR:WEIGHT`` adapters, checked against the base; files are read once.

        Raises:
            MedbenchError: whatever `medbench merge` would refuse.
        """
        parsed = [parse_adapter(text) for text in adapters]
        for name, path, weight in parsed:
            if weight is None and registered(method).needs_weights:
                raise MedbenchError(f"adapter {name} has no weight: give {name}={path}:WEIGHT.")
        with self._lock:
            loaded = []
            for name, path, _ in parsed:
                if (name, path) not in self._adapters:
                    self._adapters[name, path] = read_adapter(name, path).to(self._device)
                loaded.append(self._adapters[name, path])
            loaded = fit_adapters(self._checkpoint, loaded, any_base=any_base)
            weights = {name: 1.0 if weight is None else weight for name, _, weight in parsed}
            recipe = make_recipe(loaded, weights, name=method, settings=settings)
            for key in recipe.targets:
                if key not in self._kept:
                    self._kept[key] = self._checkpoint.tensors[key].read().to(self._device)
        return recipe

    def apply(self, recipe: Recipe) -> Callable[[Module], None]:
        """What gives a model the recipe's weights, whatever candidate it was before."""

        def change(model: Module) -> None:
            wanted = set(recipe.targets)
            parameters = self._parameters(model, wanted | self._changed)
            with torch.no_grad():
                for key in sorted(self._changed - wanted):
                    parameters[key].copy_(self._kept[key])
                # A failure on the way leaves some weights changed: they count as such.
                self._changed |= wanted
                for key in recipe.targets:
                    parameters[key].copy_(recipe.merged(key).rows(self._kept[key]))
            self._changed = wanted

        return change

    def restore(self, model: Module) -> None:
        """Give a model the base's own weights back."""
        parameters = self._parameters(model, self._changed)
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(self._kept[key])
        self._changed = set()

    @staticmethod
    def _parameters(model: Module, keys: set[str]) -> dict[str, torch.nn.Parameter]:
        named = dict(model.named_parameters())
        missing = sorted(keys - named.keys())
        if missing:
            raise MedbenchError(
                f"{type(model).__name__} has no parameter {missing[0]}: it names its weights differently from the "
                "checkpoint. Write the candidate with medbench merge, and evaluate that."
            )
        return {key: named[key] for key in sorted(keys)}
