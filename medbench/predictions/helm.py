"""HELM's run folders: `scenario_state.json`, or `display_predictions.json` with the `instances.json` beside it.

`per_instance_stats.json` holds scores and no outputs; these two files hold what was scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medbench.errors import BadRow, MedbenchError
from medbench.predictions.prediction import Prediction, choice_row, in_tags, text_row
from medbench.sources.items import LETTERS
from medbench.sources.records import BadRows, Record, read_records


def records(file: str, bad_rows: BadRows, encoding: str) -> Iterator[Record]:
    """One row per request: `instance`, `output` and `thinking`, `prompt`, `shown`, `model`.

    Perturbed instances are other questions than the benchmark's, and are handed to `bad_rows`.

    Raises:
        MedbenchError: `per_instance_stats.json` itself, or no `instances.json` beside the displayed predictions.
        BadRow: a request that failed, or asked for each option apart.
    """
    instances: dict[str, Any] = {}
    for record in read_records(file, bad_rows=bad_rows, encoding=encoding):
        if "request_states" in record.data:
            yield from _states(file, record, bad_rows)
        elif "stats" in record.data and "predicted_text" not in record.data:
            raise MedbenchError(f"{file} holds scores and no outputs: name the scenario_state.json beside it.")
        else:
            instances = instances or _instances(file, encoding)
            name = str(record.data.get("instance_id"))
            if record.data.get("perturbation"):
                bad_rows.add(_perturbed(file, record.row, name))
            elif name not in instances:
                bad_rows.add(record.error("instance_id", f"{name!r} is not in the instances.json beside it"))
            else:
                thinking = record.data.get("thinking_text")
                found = {"instance": instances[name], "output": record.data.get("predicted_text"), "thinking": thinking}
                # the adapter shows a choice's references in their own order; free text has nothing to choose from
                yield Record(file, record.row, found)


def _instances(file: str, encoding: str) -> dict[str, Any]:
    beside = Path(file).with_name("instances.json")
    if not beside.is_file():
        raise MedbenchError(f"{file}: the questions are in instances.json, which is not beside it.")
    return {str(row.data.get("id")): row.data for row in read_records(beside, encoding=encoding)}


def _states(file: str, whole: Record, bad_rows: BadRows) -> Iterator[Record]:
    adapter = whole.data.get("adapter_spec")
    adapter = adapter if isinstance(adapter, dict) else {}
    method = str(adapter.get("method"))
    if method.startswith("multiple_choice_separate"):
        raise MedbenchError(
            f"{file}: {method} asks for each option apart and generates nothing; run HELM with "
            "method=multiple_choice_joint."
        )
    states = whole.data["request_states"]
    for number, state in enumerate(states if isinstance(states, list) else [], 1):
        row = f"request {number}"
        try:
            found, problem = _request(state)
        except (KeyError, TypeError, AttributeError):
            bad_rows.add(BadRow(file, row, None, "not a request of HELM: it lacks instance, request or result"))
            continue
        if found["instance"].get("perturbation"):
            bad_rows.add(_perturbed(file, row, str(found["instance"].get("id"))))
        elif problem:
            bad_rows.add(BadRow(file, row, "result", problem))
        else:
            found["model"] = adapter.get("model")
            yield Record(file, row, {name: value for name, value in found.items() if value is not None})


def _request(state: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What one request asked and was answered, and why it has no one output ("" where it has).

    Raises:
        KeyError, TypeError, AttributeError: it is not laid out as HELM writes one.
    """
    instance, result = state["instance"], state.get("result") or {}
    completions = list(result.get("completions") or [])
    prompt = state["request"].get("prompt") or "\n".join(
        str(message["content"]) for message in state["request"].get("messages") or []
    )
    found = {
        "instance": {**instance},
        "prompt": str(prompt),
        "shown": list((state.get("output_mapping") or {}).values()),
    }
    if not result.get("success") or len(completions) != 1:
        return found, str(result.get("error") or f"{len(completions)} completions; expected one")
    thinking = (completions[0].get("thinking") or {}).get("text")
    return {**found, "output": completions[0].get("text"), "thinking": thinking}, ""


def _perturbed(file: str, row: str, name: str) -> BadRow:
    return BadRow(file, row, "perturbation", f"instance {name} is a perturbed one, another question than the item's")


def read(record: Record) -> Prediction:
    """The output with its trace, and the item from HELM's references, of which those tagged `correct` are the key."""
    instance: Any = record.value("instance")
    try:
        question = str(instance["input"]["text"])
        references = [(str(one["output"]["text"]), "correct" in one["tags"]) for one in instance["references"]]
    except (KeyError, TypeError) as error:
        raise record.error("instance", f"expected input and references, as HELM writes them ({error!r})") from None
    output = record.value("output")
    if not isinstance(output, str):
        raise record.error("output", f"expected text, found {type(output).__name__}")
    trace = record.data.get("thinking")
    said = (in_tags(trace) if isinstance(trace, str) else "") + output
    right = [text for text, correct in references if correct]
    shown = tuple(str(text) for text in record.data.get("shown") or ())
    if not shown and len(right) < len(references):  # wrong references are there to be chosen from
        shown = tuple(text for text, _ in references)
    label = _letters(shown, right) if shown else (right[0] if right else "")
    item = choice_row(question, shown, label) if shown else text_row(question, label)
    return Prediction(record, said, record.data.get("prompt") or question, label or None, item, shown=shown)


def _letters(options: Sequence[str], right: Sequence[str]) -> str:
    return "".join(letter for letter, text in zip(LETTERS, options, strict=False) if text in right)
