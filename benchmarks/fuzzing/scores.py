"""Surface metrics fuzzed: both profiles, in every language, on texts that are empty, odd, or long."""

from __future__ import annotations

import math
import random

from fuzzing import texts
from fuzzing.case import Case, Surface, require


def surfaces() -> list[Surface]:
    """The surfaces of this module."""
    return [Surface("surface", 2_000, _case, _surface, seconds=60, least=50)]


def _case(rng: random.Random) -> Case:
    count = rng.choice((1, 1, 2, 3))
    predictions = [texts.text(rng, 800) for _ in range(count)]
    references = [rng.choice((texts.text(rng, 400), predictions[n], "", predictions[n][:40])) for n in range(count)]
    if rng.random() < 0.03:
        references = rng.choice((references[:-1], [*references, "x"], [None, *references[1:]], [1.5]))
    return {
        "predictions": predictions,
        "references": references,
        "profile": rng.choice(("standard", "llamafactory")) if rng.random() < 0.98 else "x",
        "language": rng.choice((None, None, None, "en", "zh", "other", "xx", ["en"] * count)),
    }


def _surface(case: Case) -> None:
    from medbench.surface import score

    predictions, references = case["predictions"], case["references"]
    found = score(predictions, references, profile=case["profile"], language=case["language"])
    for name, values in found.per_item.items():
        require(len(values) == len(predictions), f"{name} of {len(values)} items")
        require(all(-1e-9 <= value <= 100 + 1e-6 for value in values), f"{name} is {values}")
    for name, value in (*found.corpus.items(), *((f"floor {n}", v) for n, v in found.floor.items())):
        require(math.isnan(value) or -1e-9 <= value <= 100 + 1e-6, f"{name} is {value}")
    require(found.empty_predictions == sum(not text.strip() for text in predictions), "empty predictions miscounted")
