"""One output of a predictions file, before it is joined to a benchmark's item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medbench.sources.items import LETTERS
from medbench.sources.records import Record


@dataclass(frozen=True)
class Prediction:
    """One output, with what the file says of the item it answers.

    Attributes:
        record: the row it was read from.
        output: the output as generated; a trace that the tool keeps apart is put back in tags.
        prompt: the prompt as the model was given it, or None.
        label: the reference text or key in the file, or None.
        item_row: the item in a layout that the benchmark reads, or None.
        item_id: the item's content-derived id, or None.
        options: what each option was asked as, without the space before it, and its log-likelihood; in order, empty
            where the output is text.
        shown: the option texts in the order in which the model saw them, where the file says so.
        repeats: further outputs for the same prompt, in the file's order.
    """

    record: Record
    output: str
    prompt: str | None = None
    label: str | None = None
    item_row: dict[str, Any] | None = None
    item_id: str | None = None
    options: tuple[tuple[str, float], ...] = ()
    shown: tuple[str, ...] = ()
    repeats: tuple[Prediction, ...] = ()


def raw_text(record: Record, field: str) -> str:
    """A text field as it stands: white space counts in what a model wrote, and an empty output is an output.

    Raises:
        BadRow: it is missing or no text.
    """
    value = record.value(field)
    if not isinstance(value, str):
        raise record.error(field, f"expected text, found {type(value).__name__}")
    return value


def inner(value: object, *names: str) -> object:
    """A field of a field of a JSON object; None where one of them is missing or no object."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def choice_row(question: str, options: Sequence[str], key: str) -> dict[str, Any] | None:
    """A multiple-choice item as `question, options {A: ...}, answer_idx`, which MedQA's page and own sets read."""
    if not question or len(options) < 2 or not key:
        return None
    return {"question": question, "options": dict(zip(LETTERS, options, strict=False)), "answer_idx": key}


def text_row(question: str, reference: str | None) -> dict[str, Any] | None:
    """A free-text item as `instruction, input, output`; None without a question or a reference."""
    return {"instruction": question, "input": "", "output": reference} if question and reference else None


def message_text(record: Record, field: str, content: object) -> str:
    """The text of a chat message's content as Inspect and evalscope store it: text, or a list of parts.

    A reasoning part is put back in tags at its place, as `medbench.scoring.transcript.raw_text` does.

    Raises:
        BadRow: it is neither.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise record.error(field, f"expected text or a list of parts, found {type(content).__name__}")
    texts = []
    for part in content:
        if part.get("type") == "text":
            texts.append(str(part.get("text") or ""))
        elif part.get("type") == "reasoning":
            kept = part.get("summary") if part.get("redacted") else part.get("reasoning") or part.get("summary")
            texts.append(in_tags(str(kept or "")))
    return "".join(texts)


def in_tags(trace: str) -> str:
    """A trace that a tool keeps apart, as it stands in front of the answer; nothing for an empty one."""
    stripped = trace.strip("\n")
    return f"<think>\n{stripped}\n</think>\n\n" if trace.strip() else ""


# What stands around a user's turn in prompts of common chat templates; LLaMA-Factory drops the special tokens of some.
_TURNS = (
    ("<|im_start|>user\n", "<|im_end|>"),
    ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
    ("<｜User｜>", "<｜Assistant｜>"),
    ("[INST]", "[/INST]"),
    ("\nuser\n", "\nassistant\n"),
    ("\nHuman: ", "\nAssistant:"),
)


def user_turn(prompt: str) -> str:
    """What the user said last in a rendered prompt; the prompt itself where no known chat template is found."""
    text = f"\n{prompt}"
    for begins, ends in _TURNS:
        said, place = None, 0
        while (start := text.find(begins, place)) != -1 and (end := text.find(ends, start + len(begins))) != -1:
            said, place = text[start + len(begins) : end], end + len(ends)
        if said is not None:
            return said.strip()
    return prompt.strip()
