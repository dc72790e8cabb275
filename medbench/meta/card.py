"""Cards: what a metric was worth against people, as figures with intervals, never the data.

`make` writes them; here they are read, and the two that medbench ships are found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.files.cards import read_card
from medbench.files.json_files import ANY

CARD_KIND = "metric-card"
_FIGURE = {"estimate": (float, None), "interval": (None, [float])}
_FIGURES = {"pairs": _FIGURE, "auc": _FIGURE}
# What is read of a card.
_SHAPE = {
    "name": str,
    "human": {"kind": str, "positive": str},
    "groups": dict,
    "texts": {"languages": {ANY: int}, "median_reference": float},
    "settings": dict,
    "profiles": {ANY: {"metrics": {ANY: _FIGURES}}},
    "other": {ANY: _FIGURES},
}
# The one that fits whole answers first (docs/meta-evaluation.md).
SHIPPED = ("mslr", "kqa")


@cache
def shipped() -> tuple[dict[str, Any], ...]:
    """The cards that medbench ships, the one that fits whole answers first (docs/meta-evaluation.md)."""
    folder = files("medbench.meta").joinpath("cards")
    return tuple(json.loads(folder.joinpath(f"{name}.json").read_text("utf-8")) for name in SHIPPED)


def load_cards(paths: Sequence[str | Path] = ()) -> tuple[dict[str, Any], ...]:
    """Stored cards, or the shipped ones where none is named; ``mslr`` and ``kqa`` name a shipped one.

    Raises:
        MedbenchError: a file is missing, no JSON, or not a card.
    """
    if not paths:
        return shipped()
    return tuple(_load(path) for path in paths)


def _load(path: str | Path) -> dict[str, Any]:
    name = str(path)
    if name in SHIPPED and not Path(path).exists():
        return shipped()[SHIPPED.index(name)]
    if not Path(path).exists():
        raise MedbenchError(
            f"{path} does not exist; write one with `medbench meta FILE`, or name a shipped one: {', '.join(SHIPPED)}."
        )
    return read_card(path, CARD_KIND, "not a card of `medbench meta`", "medbench meta FILE", _SHAPE)


def figures_of(card: dict[str, Any], metric: str, profile: str) -> dict[str, Any] | None:
    """The figures of a metric (``rouge1_recall``) in a profile, of a length or score column, or None."""
    found = card["profiles"].get(profile, {}).get("metrics", {}).get(metric)
    return found if found is not None else card["other"].get(metric)
