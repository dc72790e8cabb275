"""A set of your own, without code: the columns of its file are found by their usual names, or named.

    inspect eval medbench/custom --model MODEL -T source=own.jsonl
    inspect eval medbench/custom --model MODEL -T source=own.csv -T question=stem -T options=A,B,C,D -T answer=key
    inspect eval medbench/custom --model MODEL -T mapping=own.yaml

`own.yaml` holds the same parameters (`name: ward_exam`, `source: own.jsonl`, `question: stem`, ...), its paths relative
to itself, and stands wherever medbench takes the name of a task. A row with options is multiple choice; one whose key
is yes, no or maybe is a decision; one with a reference text, or several that count alike, is free text.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

from inspect_ai import Task, task, task_with

from medbench.benchmark.families import choice_task, decision_task, free_text_task
from medbench.benchmark.page import About, page
from medbench.benchmark.task import Settings, load, user_file
from medbench.errors import MedbenchError, unknown
from medbench.files.yaml_files import read_yaml
from medbench.sources.items import Item, require_options
from medbench.sources.layout import Columns, item_of
from medbench.sources.records import Record

Kind = Literal["auto", "choice", "decision", "free_text"]
KINDS = ("choice", "decision", "free_text")
_NEEDS = {"choice": "options and a key", "decision": "a key that is yes, no or maybe", "free_text": "a reference text"}
_KEYS = re.compile(r"[A-J](?:[\s,;、，]*[A-J])*|\d")
ABOUT = About(items=None, language="en, zh", scores="accuracy or BLEU, ROUGE", version=1)


@task
@page(
    "mode", "shuffle_options", "control", "orders", "rephrased", "fewshot", "fewshot_source", "prompt_language",
    "prompt",
    source="JSON lines, JSON, CSV, TSV, Parquet or a spreadsheet (.xlsx), one item a row",
    fewshot="`fewshot_source`, in the same columns",
)  # fmt: skip
def custom(
    settings: Settings,
    mapping: str | None = None,
    name: str | None = None,
    kind: Kind = "auto",
    question: str | None = None,
    options: str | list[str] | None = None,
    answer: str | None = None,
    context: str | None = None,
    reference: str | list[str] | None = None,
    separator: str | None = None,
    group: str | None = None,
) -> Task:
    """Your own set: multiple choice, decisions or free text, by the columns of its file.

    Args:
        mapping: YAML file with these parameters; what is given beside it wins.
        name: the set's name in logs and reports; its file's name without one.
        kind: `choice`, `decision`, `free_text`, or `auto` (as the first row looks).
        question: column of the question.
        options: column of the options, or one column each joined by commas.
        answer: column of the key: letters, an option's number from 0 or its text, or yes, no, maybe.
        context: column of a text that the question is to be answered from.
        reference: column of the reference text, or several columns joined by commas; a cell may hold a list of texts.
        separator: what stands between several references in one cell, for CSV and spreadsheets, e.g. `||`.
        group: column whose equal values mark items that belong together (one case, one patient).
    """
    own: dict[str, Any] = {
        "name": name, "kind": kind, "question": question, "options": options, "answer": answer, "context": context,
        "reference": reference, "separator": separator, "group": group,
    }  # fmt: skip
    if mapping is not None:
        settings, own = mapped(user_file(mapping), settings, own)
    own = {part: _names(value) for part, value in own.items()}
    if settings.source is None:
        raise MedbenchError("an own set needs its file: -T source=FILE, or -T mapping=FILE.yaml that names it.")
    columns = Columns(**{part: own[part] for part in Columns.__dataclass_fields__})
    called = own["name"] or Path(settings.source).name.partition(".")[0]
    chosen = _Kind(own["kind"])

    loaded = load(None, lambda record: chosen.checked(record, item_of(record, columns)), settings)
    if settings.control is not None and chosen.name != "choice":
        raise MedbenchError(f"control={settings.control} is of multiple choice, and these rows are {chosen.name}.")
    if chosen.name == "decision":
        made = decision_task(loaded, settings, name=called, version=ABOUT.version)
    elif chosen.name == "free_text":
        made = free_text_task(loaded, settings, name=called, version=ABOUT.version)
    else:
        several = any(len(item.answer) > 1 for item in loaded.items)
        made = choice_task(loaded, settings, multiple=several, name=called, version=ABOUT.version)
    return task_with(made, name=called)


def _names(value: object) -> str | None:
    """What names columns, as one text: Inspect reads ``-T options=A,B`` as a list, and ``-T answer=1`` as a number."""
    return ",".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)


class _Kind:
    """What the rows of a set are: as asked for, or as the first row looks; every row must be the same."""

    def __init__(self, asked: str) -> None:
        if asked not in ("auto", *KINDS):
            raise unknown("kind of set", asked, ("auto", *KINDS))
        self.name = "" if asked == "auto" else asked

    def checked(self, record: Record, item: Item) -> Item:
        """The item with nothing but what its kind has.

        Raises:
            BadRow: the row lacks what its kind needs.
        """
        looks = {
            "choice": len(item.options) > 0,
            "decision": not item.options and item.answer != (),
            "free_text": not item.options and not item.answer and item.reference != "",
        }
        before = self.name
        self.name = before or next((kind for kind, fits in looks.items() if fits), "")
        if not self.name:
            raise record.error(
                None,
                "holds neither options, nor a yes/no key, nor a reference text; name the columns with -T options=, "
                f"-T answer= and -T reference= (the row has {', '.join(map(repr, record.data))})",
            )
        if not before and self.name == "free_text" and _KEYS.fullmatch(item.reference):
            raise record.error(
                None,
                f"has no options, and {item.reference!r} reads like a key of options; name their columns with "
                f"-T options= (the row has {', '.join(map(repr, record.data))}), or say -T kind=free_text",
            )
        if self.name == "free_text":
            if not item.reference:
                raise record.error(None, "has no reference text, as other rows have; name its column: -T reference=")
            return dataclasses.replace(item, options=(), answer=())
        if not looks[self.name]:
            raise record.error(None, f"is no {self.name}: expected {_NEEDS[self.name]}")
        if self.name == "choice":
            require_options(record, "options", item.options)
            if not item.answer:
                raise record.error(None, "its key names none of its options; name the column of the key: -T answer=")
        return item


def mapped(path: str, settings: Settings, own: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Settings and own parameters with what a mapping file says, where the user left them as they are.

    Raises:
        MedbenchError: the file is missing or no YAML mapping, or names a parameter that does not exist.
    """
    document = read_yaml(path, "mapping file")
    common = Settings.__dataclass_fields__
    for key in document:
        if key not in own and key not in common:
            raise MedbenchError(f"{path}: {unknown('parameter of medbench/custom', str(key), [*own, *common])}")
    for key in ("options", "reference"):
        if isinstance(document.get(key), list):
            document[key] = ",".join(map(str, document[key]))
    for key, value in document.items():
        plain = isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
        if value is not None and not plain and (key in own or key.endswith("source")):
            raise MedbenchError(f"{path}: {key} is {value!r:.80}; expected a name.")
        if key in own and value is not None:
            document[key] = str(value)  # a column called 1
    for key in ("source", "fewshot_source", "rephrased"):
        if document.get(key) is not None:
            document[key] = str(Path(path).parent / str(document[key]))
    changed = {key: value for key, value in document.items() if key in common and _unset(settings, key)}
    left = {key: document.get(key, value) if value in (None, "auto") else value for key, value in own.items()}
    return dataclasses.replace(settings, **changed), left


def _unset(settings: Settings, key: str) -> bool:
    return bool(getattr(settings, key) == Settings.__dataclass_fields__[key].default)
