"""What the measures of a card are called."""

from __future__ import annotations

SURFACE_TITLES = {"bleu4": "BLEU-4", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
SIDES = ("", "_precision", "_recall")
LENGTHS = ("length", "length_ratio")
_TITLES = SURFACE_TITLES | {"length": "length", "length_ratio": "length over reference"}


def title(metric: str) -> str:
    """``rouge1_recall`` as ``ROUGE-1 recall``; a score column by its own name."""
    for side in SIDES[1:]:
        name = metric.removesuffix(side)
        if name != metric and name in SURFACE_TITLES:
            return f"{SURFACE_TITLES[name]} {side[1:]}"
    return _TITLES.get(metric, metric)
