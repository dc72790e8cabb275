"""evalscope's `predictions/MODEL/SET.jsonl` and `reviews/MODEL/SET.jsonl`.

A prediction holds the output with its trace apart, a review the key and the text that was scored. Neither holds the
options: choice benchmarks need ``--source``.
"""

from __future__ import annotations

from typing import Any

from medbench.predictions.prediction import Prediction, inner, message_text, text_row, user_turn
from medbench.sources.records import Record


def read(record: Record) -> Prediction:
    """A row of either file: `index, model_output, messages`, or `index, target, messages, sample_score`.

    Raises:
        BadRow: it holds no output, or several.
    """
    listed = record.data.get("messages")
    messages = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    prompts = [message_text(record, "messages", one.get("content")) for one in messages if one.get("role") == "user"]
    prompt = prompts[-1] if prompts else None
    target = record.data.get("target")
    label = None
    if target:
        label = "".join(map(str, target)) if isinstance(target, list) else str(target)
    row = text_row(user_turn(prompt), label) if prompt else None
    return Prediction(record, _output(record, messages), prompt, label, row)


def _output(record: Record, messages: list[dict[str, Any]]) -> str:
    """The output as generated: a prediction's first choice, or the assistant's last message of a review."""
    if "model_output" in record.data:
        output = record.value("model_output")
        choices = inner(output, "choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            count = len(choices) if isinstance(choices, list) else 0
            raise record.error("model_output", f"holds {count} choices; expected one")
        return message_text(record, "model_output", inner(choices[0], "message", "content"))
    said = [one for one in messages if one.get("role") == "assistant"]
    if said:
        return message_text(record, "messages", said[-1].get("content"))
    prediction = inner(record.data, "sample_score", "score", "prediction")
    if not isinstance(prediction, str):
        raise record.error("sample_score", "holds no `prediction`; import the file under predictions/ instead")
    return prediction
