"""Log-likelihoods of options, as lm-eval keeps them, in the place of an output: they are scored with `mode=logprob`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medbench.errors import MedbenchError
from medbench.predictions.prediction import Prediction
from medbench.scoring.transcript import LIKELIHOODS
from medbench.sources.items import DECISIONS, Item
from medbench.sources.records import BadRows

if TYPE_CHECKING:
    from inspect_ai.dataset import Sample


def by_likelihood(
    likely: Sequence[Prediction], predictions: Sequence[Prediction], task: str | None, args: dict[str, Any] | None
) -> dict[str, Any]:
    """The task's arguments for rows that hold log-likelihoods of options instead of text."""
    if len(likely) != len(predictions):
        other = next(prediction for prediction in predictions if not prediction.options)
        raise other.record.error("resps", f"holds text, and {likely[0].record.row} log-likelihoods: import them apart")
    if task is None:
        raise MedbenchError("log-likelihoods of options say nothing without the items' keys: name the --task.")
    asked = (args or {}).get("mode", "logprob")
    if asked != "logprob":
        raise MedbenchError(f"mode={asked} judges text, and these rows hold log-likelihoods of options: mode=logprob.")
    return {**(args or {}), "mode": "logprob"}


def asked_alike(pairs: Sequence[tuple[Prediction, Sample]], bad_rows: BadRows) -> list[tuple[Prediction, Sample]]:
    """The pairs whose continuations are the item's options: its letters, their texts, or the words of a decision."""
    kept = []
    for prediction, sample in pairs:
        item = Item.from_metadata((sample.metadata or {})["item"])
        asked = [text.strip() for text, _ in prediction.options]
        options = [text.strip() for text in item.options]
        if item.options and asked not in (options, list(item.letters)):
            problem = f"asks for {asked!r:.120}, but the item's options are {options!r:.120}"
            bad_rows.add(prediction.record.error("arguments", f"{problem}, as texts or as letters {item.letters}"))
        elif not item.options and {text.lower() for text in asked} != set(DECISIONS):
            bad_rows.add(
                prediction.record.error("arguments", f"asks for {asked!r:.120}, not for {', '.join(DECISIONS)}")
            )
        else:
            kept.append((prediction, sample))
    return kept


def likelihoods(prediction: Prediction, sample: Sample) -> dict[str, Any]:
    """The options' texts and log-likelihoods, and their log-probabilities among the options."""
    item = Item.from_metadata((sample.metadata or {})["item"])
    names = list(item.letters) or [text.strip().lower() for text, _ in prediction.options]
    texts = dict(zip(names, prediction.options, strict=True))
    highest = max(value for _, value in prediction.options)
    total = highest + math.log(sum(math.exp(value - highest) for _, value in prediction.options))
    return {
        LIKELIHOODS: {option: list(pair) for option, pair in texts.items()},
        "choice_logprobs": {option: value - total for option, (_, value) in texts.items()},
    }
