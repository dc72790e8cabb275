"""One base in memory that becomes one candidate after another.

Where the model runs in float32 the sum stays in float32, so that nothing is lost, however the base is stored. Where it
runs in 16 bits the sum is rounded: stochastically, or as asked. A rounded candidate has, bit for bit, the weights of a
fresh load of the checkpoint that `medbench merge` writes with the same rounding and seed. Running the adapters as
separate low-rank paths would spare the switch and cost more in every step of generation (benchmarks/sweep.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from medbench.errors import MedbenchError, unknown
from medbench.merging.adapters import Adapter, parse_adapter, read_adapter
from medbench.merging.checkpoints import open_checkpoint
from medbench.merging.fitting import fit_adapters
from medbench.merging.kept import Products
from medbench.merging.methods import method as registered
from medbench.merging.recipe import Recipe, make_recipe
from medbench.merging.rounding import MODES, Rounding

if TYPE_CHECKING:
    from torch.nn import Module


# What becomes of a live sum: kept in float32, or rounded to the dtype that the base is stored in.
ROUNDINGS = ("float32", *MODES)
# Rows are merged in blocks of about so many values, as `medbench merge` does.
_BLOCK = 1 << 18


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
        self._names: dict[str, str] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    def recipe(
        self,
        adapters: Sequence[str],
        *,
        method: str = "linear",
        settings: Mapping[str, Any] | None = None,
        any_base: bool = False,
        rounding: str = "float32",
    ) -> Recipe:
        """A candidate of ``NAME=DIR:WEIGHT`` adapters, checked against the base; files are read once.

        `rounding`: one of `ROUNDINGS`; pass it to `apply` and `facts` too.

        Raises:
            MedbenchError: whatever `medbench merge` would refuse.
        """
        if rounding not in ROUNDINGS:
            raise unknown("merge_rounding", rounding, ("auto", *ROUNDINGS))
        rounded = Rounding("nearest" if rounding == "float32" else rounding)  # type: ignore[arg-type]  # checked
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
            for adapter in loaded:
                self._names |= adapter.modules
            weights = {name: 1.0 if weight is None else weight for name, _, weight in parsed}
            recipe = make_recipe(loaded, weights, name=method, settings=settings, rounding=rounded)
            for key in recipe.targets:
                if key not in self._kept:
                    self._kept[key] = self._checkpoint.tensors[key].read().to(self._device)
        return recipe

    def facts(self, recipe: Recipe, rounding: str) -> dict[str, Any]:
        """How a candidate was rounded, and the weights with which its adapters take effect."""
        plain = recipe.method.name == "linear" and not recipe.weights.overrides
        if rounding == "float32" and plain:
            return {"rounding": rounding, "effective": dict(recipe.weights.default), "update_kept": 1.0}
        products = Products(recipe.adapters)
        for key in recipe.targets:
            base = self._kept[key].float() if rounding == "float32" else self._kept[key]
            products.add_weight(key)
            products.add_block(key, recipe.merged(key).block(base), base, 0)
        kept = products.kept()
        return {"rounding": rounding, "effective": kept.effective, "update_kept": kept.share}

    def apply(self, recipe: Recipe, rounding: str = "float32") -> Callable[[Module], None]:
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
                    base, merged = self._kept[key], recipe.merged(key)
                    step = max(1, _BLOCK * len(base) // max(base.numel(), 1))
                    for first in range(0, len(base), step):
                        rows = base[first : first + step]
                        rows = rows.float() if rounding == "float32" else rows
                        parameters[key][first : first + step].copy_(merged.rows(rows, first))
            self._changed = wanted

        return change

    def restore(self, model: Module) -> None:
        """Give a model the base's own weights back."""
        parameters = self._parameters(model, self._changed)
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(self._kept[key])
        self._changed = set()

    def _parameters(self, model: Module, keys: set[str]) -> dict[str, torch.nn.Parameter]:
        """The model's parameters by the names in the base's files; some load under the name that PEFT says instead."""
        named = dict(model.named_parameters())
        found = {key: named.get(key, named.get(self._names.get(key, ""))) for key in sorted(keys)}
        parameters = {key: parameter for key, parameter in found.items() if parameter is not None}
        if missing := keys - parameters.keys():
            raise MedbenchError(
                f"{type(model).__name__} has no parameter {min(missing)}: it names its weights differently from the "
                "checkpoint. Write the candidate with medbench merge, and evaluate that."
            )
        return parameters
