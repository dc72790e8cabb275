"""Training data: conversations and plain text from the formats people have, tokenized with the labels to learn.

Conversations: alpaca (`instruction, input, output`, optional `system`, `history`), ShareGPT (`conversations` of
`from, value`) and messages (`messages` of `role, content`). Plain text: text files, one document a line, or rows with
`text` (or `content`). Files in every format of `medbench.sources.records`, or hub ids. Records are counted from 0 as a
leakage audit counts them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from medbench.errors import MedbenchError
from medbench.files import places
from medbench.files.manifest import sha256_file
from medbench.sources import hub
from medbench.sources.records import BadRows, Record, hub_records, read_records
from medbench.trainers.recipe import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that the loss leaves out
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Message:
    """One turn: role `system`, `user` or `assistant`, and its text."""

    role: str
    content: str


@dataclass(frozen=True)
class Source:
    """A data set, and its records, to be read once.

    Attributes:
        name: as it was given.
        version: what tells its content from others': ``sha256:...`` of a file, ``owner/name@commit:split`` on the hub.
        records: at most `max_samples` of them.
    """

    name: str
    version: str
    records: Iterator[Record]


_TEXT = re.compile(r"\.(txt|text|md)(\.gz|\.zst)?$", re.IGNORECASE)


def open_source(name: str, *, max_samples: int | None = None, bad_rows: BadRows | None = None) -> Source:
    """A file, here or at a URL, or a hub data set ``owner/name@revision:split`` (by default ``main`` and ``train``).

    Raises:
        MedbenchError: there is no such file, and the name is no hub id; or the hub does not know it.
    """
    path = places.local(name)
    data_set = None if path.exists() else hub.parse(name)
    if data_set:
        data_set = data_set.pinned()
        records = hub_records(data_set.id, split=data_set.split, revision=data_set.revision)
    elif not path.is_file():
        raise MedbenchError(f"dataset {name!r} does not exist: expected a file, or a hub id (owner/name).")
    elif _TEXT.search(name):
        records = _documents(name)
    else:
        records = read_records(name, bad_rows=bad_rows)
    return Source(name, str(data_set) if data_set else f"sha256:{sha256_file(path)}", islice(records, max_samples))


def _documents(name: str) -> Iterator[Record]:
    """The non-blank lines of a text file, as the audit reads them."""
    from medbench.files.compressed import open_binary

    with io.TextIOWrapper(open_binary(name), encoding="utf-8-sig", newline="\n") as lines:
        try:
            for number, line in enumerate((line for line in lines if line.strip()), 1):
                yield Record(name, f"document {number}", {"text": line.rstrip("\r\n")})
        except UnicodeDecodeError as error:
            raise MedbenchError(f"{name} is not UTF-8 ({error.reason}); convert the file.") from None


def to_text(record: Record) -> str:
    """The document of a plain-text row.

    Raises:
        BadRow: the row has neither `text` nor `content`.
    """
    return record.text("text" if "text" in record.data or "content" not in record.data else "content")


def to_messages(record: Record) -> list[Message]:
    """The conversation of a row, in any of the three formats; it ends with an assistant's turn.

    Raises:
        BadRow: no known format, an unknown role, turns out of order, or an empty turn.
    """
    data = record.data
    if "messages" in data or "conversations" in data:
        column = "messages" if "messages" in data else "conversations"
        messages = [_turn(record, column, turn) for turn in _list(record, column)]
        if column == "conversations" and data.get("system"):
            messages.insert(0, Message("system", record.text("system")))
    elif "instruction" in data and "output" in data:
        column = "output"
        messages = [Message("system", record.text("system"))] if data.get("system") else []
        for pair in data.get("history") or []:
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise record.error("history", f"expected pairs of question and answer, found {pair!r:.80}")
            messages += [Message("user", str(pair[0])), Message("assistant", str(pair[1]))]
        parts = [record.text("instruction"), str(data.get("input") or "").strip()]
        messages += [Message("user", "\n".join(part for part in parts if part))]
        messages += [Message("assistant", record.text("output"))]
    else:
        raise record.error(
            None,
            "expected instruction/output (alpaca), conversations (ShareGPT) or messages, found the fields "
            f"{', '.join(map(repr, data)) or 'none'}",
        )
    turns = [message.role for message in messages if message.role != "system"]
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
        raise record.error(column, f"expected user and assistant in turn, ending with assistant; found {turns}")
    return messages


def _list(record: Record, column: str) -> list[Any]:
    value = record.data[column]
    if not isinstance(value, list) or not value:
        raise record.error(column, f"expected a list of turns, found {value!r:.80}")
    return value


def _turn(record: Record, column: str, turn: object) -> Message:
    names = ("role", "content") if column == "messages" else ("from", "value")
    if not isinstance(turn, dict) or not set(names) <= set(turn):
        raise record.error(column, f"expected turns with {names[0]!r} and {names[1]!r}, found {turn!r:.80}")
    role, content = turn[names[0]], turn[names[1]]
    if role not in _ROLES:
        raise record.error(column, f"unknown role {role!r}; known: {', '.join(_ROLES)}")
    if isinstance(content, list):
        content = _joined_parts(record, column, content)
    if not isinstance(content, str) or not content.strip():
        raise record.error(column, f"a turn of {role} is empty")
    return Message(_ROLES[role], content)


def _joined_parts(record: Record, column: str, parts: list[Any]) -> str:
    """The text of a turn given as content parts (``{"type": "text", "text": ...}``), as chat APIs store them."""
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise record.error(
                column, f"a content part is no text (expected {{'type': 'text', 'text': ...}}), found {part!r:.80}"
            )
    return "".join(part["text"] for part in parts)


def tokenize_text(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A document's tokens, ended by the end-of-text token; every one of them is learned."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def tokenize_messages(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    template: Template,
    train_on_prompt: bool,
    mask_history: bool,
) -> tuple[list[int], list[int]]:
    """Tokens of a conversation and their labels (-100 where nothing is learned).

    An assistant's turn is learned with the token that ends it; with `mask_history` only the last one.
    """
    if template == "chat":
        segments = _chat_segments(messages, tokenizer, last_only=mask_history)
    else:
        segments = _chatml_segments(messages, template)
    last = max(index for index, (_, learned) in enumerate(segments) if learned)
    tokens: list[int] = []
    labels: list[int] = []
    for index, (text, learned) in enumerate(segments):
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        keep = train_on_prompt or (learned and (index == last or not mask_history))
        tokens += piece
        labels += piece if keep else [IGNORED] * len(piece)
    return tokens, labels


def _chatml_segments(messages: Sequence[Message], template: Template) -> list[tuple[str, bool]]:
    """(text, learned) pieces in Qwen's ChatML."""
    segments: list[tuple[str, bool]] = []
    final = len(messages) - 1
    for index, message in enumerate(messages):
        content = message.content
        if message.role == "assistant":
            # Qwen3's template drops traces from earlier turns and gives the last turn a block, empty if there is none
            if template == "qwen3" and index != final:
                content = content.rpartition("</think>")[2].lstrip("\n")
            bare = template == "qwen3" and index == final and not content.lstrip().startswith("<think>")
            segments.append(("<|im_start|>assistant\n", False))
            segments.append(((EMPTY_THOUGHT if bare else "") + content + "<|im_end|>", True))
            segments.append(("\n", False))
        else:
            segments.append((f"<|im_start|>{message.role}\n{content}<|im_end|>\n", False))
    return segments


def _chat_segments(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, *, last_only: bool
) -> list[tuple[str, bool]]:
    """(text, learned) pieces of the tokenizer's own chat template, cut where assistant turns begin and end.

    Raises:
        MedbenchError: the template rewrites earlier turns, so that turns cannot be cut apart.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    segments: list[tuple[str, bool]] = []
    done = ""
    for index, message in enumerate(messages):
        if message.role != "assistant" or (last_only and index < len(messages) - 1):
            continue
        prompt = str(tokenizer.apply_chat_template(turns[:index], tokenize=False, add_generation_prompt=True))
        whole = str(tokenizer.apply_chat_template(turns[: index + 1], tokenize=False))
        if not prompt.startswith(done) or not whole.startswith(prompt):
            raise MedbenchError(
                "the tokenizer's chat template rewrites earlier turns, so the parts to learn cannot be told apart; "
                "use template: qwen3 or qwen3_nothink, or mask_history: true."
            )
        segments += [(prompt[len(done) :], False), (whole[len(prompt) :], True)]
        done = whole
    return segments
