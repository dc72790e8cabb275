"""lm-eval's `--log_samples` rows: `doc`, `target`, `arguments`, `resps`.

A row of its `multiple_choice` tasks holds no text but the log-likelihood of every option: the likeliest option is then
what the model answers (`mode=logprob`).
"""

from __future__ import annotations

from medbench.predictions.prediction import Prediction
from medbench.sources.items import LETTERS
from medbench.sources.records import Record


def read(record: Record) -> Prediction:
    """One row. The response before any filter is judged."""
    doc = record.data.get("doc")
    if not isinstance(doc, dict):
        raise record.error("doc", f"expected the item as an object, found {type(doc).__name__}")
    responses = record.data.get("resps")
    if not isinstance(responses, list) or not responses:
        raise record.error("resps", "missing or empty; write the file with --log_samples")
    target = record.data.get("target")
    label = None if target is None else str(target)
    requests = _requests(record)
    prompt = requests[0][0] if requests else None
    likelihoods = [_likelihood(response) for response in responses]
    if all(one is not None for one in likelihoods):
        asked = [continuation for _, continuation in requests]
        if len(asked) != len(likelihoods) or None in asked:
            raise record.error("arguments", f"expected one continuation for each of {len(likelihoods)} log-likelihoods")
        options = tuple((str(text).removeprefix(" "), value) for text, value in zip(asked, likelihoods, strict=True))
        if label is not None and label.isdigit() and int(label) < min(len(options), len(LETTERS)):
            label = LETTERS[int(label)]
        return Prediction(record, "", prompt, label, doc, options=options)  # type: ignore[arg-type]
    while len(responses) == 1 and isinstance(responses[0], list):
        responses = responses[0]
    if not responses or not all(isinstance(response, str) for response in responses):
        raise record.error("resps", "holds neither one generated text nor the log-likelihood of every option")
    if len(responses) > 1:
        raise record.error("resps", f"holds {len(responses)} responses to one prompt; run lm-eval with repeats: 1")
    return Prediction(record, responses[0], prompt, label, doc)


def _likelihood(response: object) -> float | None:
    """The log-likelihood in ``[["-12.5", "False"]]``, as lm-eval writes one request's response; None for text."""
    while isinstance(response, list) and len(response) == 1:
        response = response[0]
    if not isinstance(response, list) or len(response) != 2 or str(response[1]) not in ("True", "False"):
        return None
    try:
        return float(response[0])
    except (TypeError, ValueError):
        return None


def _requests(record: Record) -> list[tuple[str, str | None]]:
    """(prompt, continuation) of every request: ``{"gen_args_0": {"arg_0": ..., "arg_1": ...}}``, or lists of lists.

    The continuation is None where the second argument holds settings of a generation.
    """
    arguments = record.data.get("arguments")
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    requests: list[tuple[str, str | None]] = []
    for request in arguments if isinstance(arguments, list) else []:
        parts = list(request.values()) if isinstance(request, dict) else request
        parts = parts if isinstance(parts, list) else [parts]
        if parts and isinstance(parts[0], str):
            second = parts[1] if len(parts) > 1 and isinstance(parts[1], str) else None
            requests.append((parts[0], second))
    return requests
