"""OpenCompass' `predictions/MODEL/DATASET.json`: an object of rows with `origin_prompt`, `prediction`, `gold`."""

from __future__ import annotations

from typing import Any

from medbench.predictions.prediction import Prediction
from medbench.sources.records import Record


def read(record: Record) -> Prediction:
    """One row of a `_gen` configuration.

    The file keeps the rendered prompt and the key, but not the options: choice benchmarks need ``--source``.

    Raises:
        BadRow: several outputs, a row of a `_ppl` configuration, which holds no output, or another kind of prompt.
    """
    prediction = record.value("prediction")
    if any(name.startswith("label: ") for name in record.data) or "pred_label" in record.data:
        raise record.error("prediction", "chosen by perplexity, and no output; run the configuration that ends in _gen")
    if isinstance(prediction, list):
        raise record.error("prediction", f"holds {len(prediction)} outputs of one prompt; run it with num_return 1")
    if not isinstance(prediction, str):
        raise record.error("prediction", f"expected text, found {type(prediction).__name__}")
    prompt = _prompt(record)
    gold = record.data.get("gold")
    label = gold if isinstance(gold, str) and gold else None
    return Prediction(record, prediction, prompt, label)


def _prompt(record: Record) -> str:
    """The prompt: text, or the turns of a chat, ``[{"role": "HUMAN", "prompt": ...}]``."""
    origin: Any = record.value("origin_prompt")
    if isinstance(origin, str):
        return origin
    turns = origin if isinstance(origin, list) else []
    texts = [turn.get("prompt") if isinstance(turn, dict) else turn for turn in turns]
    said = [text for text in texts if isinstance(text, str)]
    if not said or len(said) < len(texts):
        raise record.error("origin_prompt", f"expected text or a list of turns, found {origin!r:.80}")
    return "\n".join(said)
