"""Predictions files of other harnesses, one output a row, before they are joined to a benchmark's items.

`FORMATS` names the layouts. A row of lm-eval's `multiple_choice` tasks holds no text but the log-likelihood of every
option: the likeliest option is then what the model answers (`mode=logprob`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medbench.errors import MedbenchError, unknown
from medbench.items import LETTERS
from medbench.records import BadRows, Record, convert, read_records

# Where an imported output's metadata keeps option -> (its text, the log-likelihood of that text).
LIKELIHOODS = "option_loglikelihoods"


@dataclass(frozen=True)
class Prediction:
    """One output, with what the file says of the item it answers.

    Attributes:
        record: the row it was read from.
        output: the output as generated.
        prompt: the prompt as the model was given it, or None.
        label: the reference text or key in the file, or None.
        item_row: the item in the benchmark's own format, or None.
        item_id: the item's content-derived id, or None.
        options: what each option was asked as, without the space before it, and its log-likelihood; in order, empty
            where the output is text.
    """

    record: Record
    output: str
    prompt: str | None = None
    label: str | None = None
    item_row: dict[str, Any] | None = None
    item_id: str | None = None
    options: tuple[tuple[str, float], ...] = ()


def _llamafactory(record: Record) -> Prediction:
    """`generated_predictions.jsonl`: `prompt`, `predict`, `label`."""
    prompt = _raw(record, "prompt") if "prompt" in record.data else None
    label = _raw(record, "label")
    row = {"instruction": user_turn(prompt), "input": "", "output": label} if prompt else None
    return Prediction(record, _raw(record, "predict"), prompt, label, row)


def _lm_eval(record: Record) -> Prediction:
    """`--log_samples` rows: `doc`, `target`, `arguments`, `resps`. The response before any filter is judged."""
    doc = record.data.get("doc")
    if not isinstance(doc, dict):
        raise record.error("doc", f"expected the item as an object, found {type(doc).__name__}")
    responses = record.data.get("resps")
    if not isinstance(responses, list) or not responses:
        raise record.error("resps", "missing or empty; write the file with --log_samples")
    target = record.data.get("target")
    label = None if target is None else str(target)
    requests = _lm_eval_requests(record)
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
    if not all(isinstance(response, str) for response in responses):
        raise record.error("resps", "holds neither one generated text nor the log-likelihood of every option")
    if len(responses) > 1:
        raise record.error("resps", f"holds {len(responses)} responses to one prompt; run lm-eval with repeats: 1")
    return Prediction(record, responses[0], prompt, label, doc)


def _likelihood(response: Any) -> float | None:
    """The log-likelihood in ``[["-12.5", "False"]]``, as lm-eval writes one request's response; None for text."""
    while isinstance(response, list) and len(response) == 1:
        response = response[0]
    if not isinstance(response, list) or len(response) != 2 or str(response[1]) not in ("True", "False"):
        return None
    try:
        return float(response[0])
    except (TypeError, ValueError):
        return None


def _lm_eval_requests(record: Record) -> list[tuple[str, str | None]]:
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


def _csv(record: Record) -> Prediction:
    """Columns `prediction`; optional `id` (medbench's item id), `prompt`, `question`, `reference`."""
    prompt = _raw(record, "prompt") if record.data.get("prompt") else None
    question = _raw(record, "question") if record.data.get("question") else prompt
    label = _raw(record, "reference") if record.data.get("reference") else None
    row = {"instruction": question, "input": "", "output": label} if question and label else None
    return Prediction(record, _raw(record, "prediction"), prompt or question, label, row, record.data.get("id") or None)


def _plain(record: Record) -> Prediction:
    """`prompt`, `output`, and nothing to judge the output by."""
    return Prediction(record, _raw(record, "output"), _raw(record, "prompt"))


def _raw(record: Record, field: str) -> str:
    """A text field as it stands: white space counts in what a model wrote, and an empty output is an output."""
    value = record.value(field)
    if not isinstance(value, str):
        raise record.error(field, f"expected text, found {type(value).__name__}")
    return value


# name -> (fields that tell the format, how a row is read)
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Record], Prediction]]] = {
    "llamafactory": (("predict", "label"), _llamafactory),
    "lm-eval": (("doc", "resps"), _lm_eval),
    "csv": (("prediction",), _csv),
    "plain": (("prompt", "output"), _plain),
}

# The last user turn in prompts of common chat templates; LLaMA-Factory drops the special tokens of some.
_TURNS = [
    re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL),
    re.compile(r"<\|start_header_id\|>user<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", re.DOTALL),
    re.compile(r"<｜User｜>(.*?)<｜Assistant｜>", re.DOTALL),
    re.compile(r"\[INST\](.*?)\[/INST\]", re.DOTALL),
    re.compile(r"(?:^|\n)user\n(.*?)\nassistant\n", re.DOTALL),
    re.compile(r"(?:^|\n)Human: (.*?)\nAssistant:", re.DOTALL),
]


def user_turn(prompt: str) -> str:
    """What the user said last in a rendered prompt; the prompt itself where no known chat template is found."""
    for turn in _TURNS:
        turns = turn.findall(prompt)
        if turns:
            return str(turns[-1]).strip()
    return prompt.strip()


def detect_format(file: str, encoding: str) -> str:
    """The format of a predictions file by the fields of its first row.

    Raises:
        MedbenchError: it is none of `FORMATS`.
    """
    bad_rows = BadRows("skip")
    first = next(iter(read_records(file, bad_rows=bad_rows, encoding=encoding)), None)
    if first is None and bad_rows.rows:
        raise bad_rows.rows[0]
    fields = set(first.data) if first else set()
    for name, (required, _) in FORMATS.items():
        if fields >= set(required):
            return name
    raise MedbenchError(
        f"{file}: unknown format; its first row has {', '.join(sorted(fields)) or 'no fields'}. Known: "
        + "; ".join(f"{name} ({', '.join(required)})" for name, (required, _) in FORMATS.items())
        + "."
    )


def read_predictions(file: str, form: str, bad_rows: BadRows, encoding: str = "utf-8") -> list[Prediction]:
    """The predictions of a file, in order.

    lm-eval writes one row per filter; rows of one item with the same response are one prediction.

    Raises:
        MedbenchError: an unknown format, an unreadable file, or no usable row.
        BadRow: a row with a missing field, or two predictions for one prompt, unless `bad_rows` skips them.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    records = read_records(file, bad_rows=bad_rows, encoding=encoding)
    kept: dict[str, Prediction] = {}
    for prediction in convert(records, FORMATS[form][1], bad_rows):
        data = prediction.record.data
        identity = (data.get("doc_id"), prediction.item_row if form == "lm-eval" else None)
        key = json.dumps(
            [prediction.item_id or prediction.prompt or prediction.record.row, identity, prediction.label],
            ensure_ascii=False,
            default=str,
        )
        first = kept.setdefault(key, prediction)
        same = (first.output, first.options) == (prediction.output, prediction.options)
        if first is prediction or (form == "lm-eval" and same):
            continue
        bad_rows.add(prediction.record.error(None, f"a second prediction for the prompt of {first.record.row}"))
    if not kept:
        reason = f"; the first problem: {bad_rows.listed()[0]}" if bad_rows.rows else ""
        raise MedbenchError(f"{file}: no row can be used{reason}")
    return list(kept.values())
