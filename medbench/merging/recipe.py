"""A candidate as a recipe: adapters, weights and a merge method, turned into the new rows of any weight."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from medbench.errors import MedbenchError
from medbench.merging.adapters import Adapter
from medbench.merging.bfloat16 import Bfloat16Dense, Bfloat16Sum
from medbench.merging.deltas import Deltas, DenseUpdate
from medbench.merging.proof import Replacement, Rows, Term
from medbench.merging.registry import Method, method
from medbench.merging.rounding import Block, Rounding
from medbench.merging.updates import LowRank, Update, Whole
from medbench.merging.weights import Weights, matches

if TYPE_CHECKING:
    import torch

    from medbench.merging.stored import Readable, Stored

T = TypeVar("T")
R = TypeVar("R")
Source = TypeVar("Source", contravariant=True)


class Tensors(Protocol):
    """What a weight becomes, in torch."""

    def read(self, stored: Readable, first: int, last: int) -> torch.Tensor:
        """Rows of the base."""

    def rows(self, base: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The merged rows, given the base's rows from `first` on, in the base's dtype."""

    def block(self, base: torch.Tensor, first: int = 0) -> Block:
        """The same, with what became of the update in them."""


class Merged(Protocol[Source, Rows]):
    """What a weight becomes, block by block: `read` a block of the base's rows, and hand it to `block`."""

    def read(self, stored: Source, first: int, last: int) -> Rows:
        """Rows of the base as `block` takes them."""

    def block(self, base: Rows, first: int = 0) -> Block:
        """The merged rows from `first` on, and what became of the update in them."""


@dataclass
class Recipe:
    """Adapters, weights, a merge method, its settings, and rounding: everything that decides a candidate but its base.

    `dropped` and `total` collect the squared norms that a truncating method dropped and had.
    """

    adapters: Sequence[Adapter]
    weights: Weights
    method: Method
    settings: dict[str, Any]
    rounding: Rounding = field(default_factory=Rounding)
    dropped: float = field(default=0.0, init=False)
    total: float = field(default=0.0, init=False)

    @property
    def targets(self) -> list[str]:
        """The tensors that it changes, sorted."""
        return sorted(set().union(*(adapter.targets for adapter in self.adapters)))

    def _updates(self, tensor: str) -> dict[str, Update]:
        found = {adapter.name: adapter.update(tensor) for adapter in self.adapters}
        return {name: update for name, update in found.items() if update is not None}

    def parts(self, tensor: str) -> tuple[list[Term], list[Replacement]]:
        """What is added to one weight, for methods that keep updates apart: low-rank terms, and whole weights."""
        weights, updates = self.weights.at(tensor), self._updates(tensor)
        if self.method.kind == "coefficients":
            if updates:
                weights = self.method.function(weights, updates, **self.settings)
            terms = [update.term(weights[name]) for name, update in updates.items() if isinstance(update, LowRank)]
            wholes = {name: update.value for name, update in updates.items() if isinstance(update, Whole)}
            return terms, [Replacement(weights[name], value) for name, value in wholes.items()]
        from medbench.merging.methods import low_rank_terms

        low_rank = {name: update for name, update in updates.items() if isinstance(update, LowRank)}
        terms, dropped, total = low_rank_terms(self.method, self.settings, weights, low_rank, tensor)
        self.dropped += dropped
        self.total += total
        return terms, []

    def merged(self, tensor: str) -> Tensors:
        """What one weight becomes, for blocks in torch."""
        key = self.rounding.key(tensor)
        if self.method.kind == "dense":
            from medbench.merging.dense_sum import DenseSum

            return DenseSum(self._dense(tensor), key)
        from medbench.merging.exact import ExactSum

        return ExactSum(*self.parts(tensor), key=key)

    def merged_file(self, stored: Stored) -> Merged[Stored, Any]:
        """What a weight in a file becomes: bfloat16 ones by their bit patterns, but for sums with whole weights."""
        key = self.rounding.key(stored.name)
        if stored.kind != "bfloat16" or self._wholes(stored.name):
            return self.merged(stored.name)
        if self.method.kind == "dense":
            return Bfloat16Dense(self._dense(stored.name), key=key)
        terms, _ = self.parts(stored.name)
        return Bfloat16Sum(terms, key=key)

    def plain_weights(self, tensor: str) -> dict[str, float] | None:
        """The weights with which the adapters' own updates make up a weight's asked one; None for other methods."""
        if self.method.kind != "coefficients" or self._wholes(tensor):
            return None
        found: dict[str, float] = self.method.function(self.weights.at(tensor), self._updates(tensor), **self.settings)
        return found

    def _wholes(self, tensor: str) -> bool:
        return any(tensor in adapter.whole for adapter in self.adapters)

    def _dense(self, tensor: str) -> DenseUpdate:
        weights, updates = self.weights.at(tensor), self._updates(tensor)
        deltas = Deltas(list(updates.values()), tensor)
        return DenseUpdate(deltas, [weights[name] for name in updates], self.method.function, self.settings)

    @property
    def error(self) -> float | None:
        """Relative Frobenius error of a truncating method over the weights done so far, None for the others."""
        if self.method.kind != "factors":
            return None
        return (self.dropped / self.total) ** 0.5 if self.total > 0 else 0.0


def make_recipe(
    adapters: Sequence[Adapter],
    weights: Mapping[str, float],
    *,
    name: str = "linear",
    settings: Mapping[str, Any] | None = None,
    overrides: Sequence[tuple[str, dict[str, float]]] = (),
    rounding: Rounding | None = None,
) -> Recipe:
    """Check that adapters, weights and method fit together.

    Raises:
        MedbenchError: unknown method or setting, an override for an unknown adapter or for no weight, a soup of
            different runs, weights that were trained whole under a method that works on low-rank factors.
    """
    chosen = method(name)
    names = [adapter.name for adapter in adapters]
    if not names:
        raise MedbenchError("nothing to merge: give at least one --adapter or --task-vector, NAME=DIR:WEIGHT.")
    if len(set(names)) < len(names):
        raise MedbenchError(f"two adapters share a name ({', '.join(names)}): name them apart, NAME=DIR:WEIGHT.")
    targets = set().union(*(adapter.targets for adapter in adapters))
    for pattern, part in overrides:
        if not any(matches(pattern, target) for target in targets):
            raise MedbenchError(
                f"override {pattern!r} matches no weight that the adapters change; these are such as {min(targets)}. "
                "A pattern is layers:A-B, or a shell pattern on the whole name, e.g. '*.mlp.*'."
            )
        for adapter in part:
            if adapter not in names:
                raise MedbenchError(f"override {pattern!r} names adapter {adapter!r}; known: {', '.join(names)}.")
    if not chosen.weighted and any(weight != 1 for weight in weights.values()):
        raise MedbenchError(
            f"method {name} finds its own coefficients: leave the weights out (they are {dict(weights)})."
        )
    whole = next((adapter for adapter in adapters if adapter.whole), None)
    if whole is not None and chosen.kind == "factors":
        raise MedbenchError(
            f"{whole.name} trained weights whole ({min(whole.whole)}), and method {name} works on low-rank updates: "
            "use linear, or a method such as ties."
        )
    if name == "soup":
        _check_one_run(adapters)
    combined = Weights(dict(weights), tuple(overrides))
    return Recipe(
        adapters,
        combined.normalised() if chosen.normalise else combined,
        chosen,
        chosen.settings(settings or {}),
        rounding or Rounding(),
    )


def _check_one_run(adapters: Sequence[Adapter]) -> None:
    """A soup averages checkpoints of one run: they share every setting and change the same weights."""
    first = adapters[0]
    for adapter in adapters[1:]:
        for key in ("base_model_name_or_path", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"):
            if adapter.config.get(key) != first.config.get(key):
                raise MedbenchError(
                    f"soup: {first.name} and {adapter.name} are not of one run: {key} is {first.config.get(key)!r} "
                    f"and {adapter.config.get(key)!r}. Use linear to combine different adapters."
                )
        if adapter.targets != first.targets:
            raise MedbenchError(f"soup: {first.name} and {adapter.name} change different weights: not of one run.")


def ordered(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int = 2) -> Iterator[R]:
    """Map on threads, results in order, with at most `ahead` items a worker in memory."""
    with ThreadPoolExecutor(workers) as pool:
        source = iter(items)
        pending: list[Future[R]] = [pool.submit(function, item) for item in islice(source, ahead * workers)]
        try:
            while pending:
                result = pending.pop(0).result()
                pending += [pool.submit(function, item) for item in islice(source, 1)]
                yield result
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within the block matrices are multiplied on one thread, so that several blocks can be worked on side by side."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
