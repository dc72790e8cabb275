"""Weights by adapter, and other ones for some modules."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field

from medbench.errors import MedbenchError


@dataclass(frozen=True)
class Weights:
    """Weights by adapter, with overrides for some modules: the last override that matches decides.

    An override is a pattern, either ``layers:A-B`` (both ends included) or a shell pattern on the tensor's name
    (``*.mlp.*``), and its weights by adapter; adapters that it leaves out keep their default weight.
    """

    default: dict[str, float]
    overrides: tuple[tuple[str, dict[str, float]], ...] = field(default=())

    def at(self, tensor: str) -> dict[str, float]:
        """The weights for one tensor."""
        found = dict(self.default)
        for pattern, weights in self.overrides:
            if matches(pattern, tensor):
                found |= weights
        return found

    def normalised(self) -> Weights:
        """Every set of weights scaled to a sum of 1."""
        overrides = tuple((pattern, _to_one({**self.default, **part})) for pattern, part in self.overrides)
        return Weights(_to_one(self.default), overrides)


def _to_one(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    if total == 0:
        raise MedbenchError(f"weights {weights} sum to 0: they cannot be scaled to a sum of 1.")
    return {name: weight / total for name, weight in weights.items()}


def matches(pattern: str, tensor: str) -> bool:
    """Whether an override's pattern means this tensor."""
    if layers := re.fullmatch(r"layers:(\d+)(?:-(\d+))?", pattern):
        number = re.search(r"\.(\d+)\.", tensor)
        return number is not None and int(layers[1]) <= int(number[1]) <= int(layers[2] or layers[1])
    return fnmatch.fnmatchcase(tensor, pattern)


def parse_weights(text: str) -> dict[str, float]:
    """``pt=0.3,sft=0.7`` as a dict."""
    weights = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise MedbenchError(f"{text!r}: expected NAME=WEIGHT pairs such as pt=0.3,sft=0.7.") from None
    return weights
