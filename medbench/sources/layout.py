"""Items in files of no particular benchmark: which column holds what.

Columns are found by the names that people give them, or are named by the user (`Columns`). Three layouts are known:
instruction tuning (`instruction, input, output`), chat (`messages` or `conversations`: first question and first reply),
and question answering.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from medbench.errors import NoColumn, unknown
from medbench.sources.items import LETTERS, Item
from medbench.sources.records import Record

# Names under which files keep the parts of an item; the first present wins, case does not matter.
NAMES = {
    "question": ("question", "query", "prompt", "problem", "stem", "text", "问题", "题目", "题干", "提问"),
    "options": ("options", "choices", "选项", "备选答案"),
    "answer": ("answer_idx", "final_decision", "answer", "answers", "label", "key", "答案", "正确答案", "标准答案"),
    "context": ("context", "contexts", "passage", "材料", "背景"),
    "reference": (
        "explanation", "long_answer", "output", "response", "reference", "references", "exp",
        "参考答案", "回答", "解析", "解释",
    ),
}  # fmt: skip
_DECISIONS = {"yes": "yes", "no": "no", "maybe": "maybe", "是": "yes", "否": "no", "不是": "no", "不确定": "maybe"}
# Columns of one option each, in lower case.
_LETTERED = re.compile(r"(?:(?:options?|opt|op|choice|选项)[ _.-]?)?([a-z])")
_NUMBERED = re.compile(r"(?:options?|opt|op|choice|选项)[ _.-]?(\d{1,2})")
_HAN = re.compile("[\u3400-\u9fff]")


@dataclass(frozen=True)
class Columns:
    """The columns that the user named; None where they are to be found by `NAMES`.

    Attributes:
        question: what is asked.
        options: one column with all options (a list, a mapping, or lettered lines), or one column for each, joined by
            commas.
        answer: the key: letters, the number of an option from 0, an option's text, or yes, no, maybe.
        context: what the question is to be answered from.
        reference: the reference text: one column, or several joined by commas; a cell may hold a list.
        group: items with the same value here are not independent.
        separator: what stands between several references in one cell of text.
    """

    question: str | None = None
    options: str | None = None
    answer: str | None = None
    context: str | None = None
    reference: str | None = None
    group: str | None = None
    separator: str | None = None

    def value(self, part: str, record: Record) -> object:
        """A part of the item as the row holds it, or None.

        Raises:
            BadRow: the user named a column that the row does not have.
        """
        named = getattr(self, part)
        if named is not None:
            return _named(part, named, record)
        row = {str(key).strip().lower(): value for key, value in record.data.items()}
        found = next((row[name] for name in NAMES.get(part, ()) if row.get(name) not in (None, "", [], {})), None)
        return _without_gaps(record, _one_column_each(row)) or None if found is None and part == "options" else found

    @property
    def given(self) -> bool:
        """Whether the user named any column."""
        return any(getattr(self, field.name) is not None for field in fields(self) if field.name != "separator")


def _named(part: str, named: str, record: Record) -> object:
    names = [named] if named in record.data else [name.strip() for name in named.split(",")]
    for name in names:
        if name not in record.data:
            raise NoColumn(record.file, record.row, None, str(unknown(f"column for {part}", name, record.data)))
    values = {name: record.data[name] for name in names}
    if len(values) == 1:
        return values[names[0]]
    return _without_gaps(record, values) if part == "options" else [v for v in values.values() if v not in (None, "")]


def _one_column_each(row: Mapping[str, object]) -> dict[str, object]:
    """The columns that hold one option each, in order: `A`, `option_a`, `opa`, `选项1` and those after it; or none."""
    for pattern, marks in ((_LETTERED, LETTERS.lower()), (_NUMBERED, [str(n) for n in range(1, len(LETTERS) + 1)])):
        by_mark = {found[1]: name for name in row if (found := pattern.fullmatch(name))}
        names = [by_mark[mark] for mark in marks if mark in by_mark]
        if len(names) > 1 and list(marks[: len(names)]) == [mark for mark in marks if mark in by_mark]:
            return {name: row[name] for name in names}
    return {}


def _numbered(record: Record) -> bool:
    """Whether the options were found in columns that are numbered from 1."""
    row = {str(key).strip().lower(): value for key, value in record.data.items()}
    listed = any(row.get(name) not in (None, "", [], {}) for name in NAMES["options"])
    return not listed and any(_NUMBERED.fullmatch(name) for name in _one_column_each(row))


def _without_gaps(record: Record, options: Mapping[str, object]) -> list[object]:
    """The options of a row; columns that other rows fill and this one does not are the last ones.

    Raises:
        BadRow: one is empty before one that is not, after which letters and numbers would name another option.
    """
    filled = [name for name, value in options.items() if value not in (None, "")]
    empty = next((name for name in options if name not in filled), None)
    if empty is not None and filled and list(options).index(empty) < len(filled):
        raise record.error(None, f"option {empty!r} is empty, and {filled[-1]!r} after it is not")
    return [options[name] for name in filled]


def item_of(record: Record, columns: Columns = Columns()) -> Item:
    """An item from a row in one of the known layouts; parts that the row does not have are empty.

    Raises:
        BadRow: no column holds a question, or a named column is missing.
    """
    if not columns.given and (item := _conversation(record, columns)) is not None:
        return item
    options = _options(columns.value("options", record))
    key = columns.value("answer", record)
    if columns.options is None and str(key).strip().isdecimal() and _numbered(record) and str(key) not in options:
        raise record.error(
            None,
            f"the key {str(key).strip()} could be the option of that number, or be counted from 0; name the columns "
            "with -T options= (then it counts from 0), or write letters",
        )
    answer = _key(key, options)
    references = reference_texts(columns.value("reference", record), columns.separator)
    if not references and not options and not answer:
        references = reference_texts(key, columns.separator)
    group = columns.value("group", record)
    return _item(
        record,
        _text(columns.value("question", record)),
        options=options,
        answer=answer,
        context=_text(columns.value("context", record)),
        references=references,
        group="" if group is None else str(group),
    )


def _conversation(record: Record, columns: Columns) -> Item | None:
    """A row of instruction tuning or chat, or None."""
    row = {str(key).strip().lower(): value for key, value in record.data.items()}
    if "instruction" in row:
        question = "\n".join(part for part in (_text(row.get("instruction")), _text(row.get("input"))) if part)
        return _item(record, question, references=reference_texts(row.get("output"), columns.separator))
    turns = row.get("messages") or row.get("conversations")
    if isinstance(turns, list) and turns:
        told = [turn for turn in turns if isinstance(turn, Mapping)]
        said = [(t.get("role") or t.get("from"), _text(t.get("content") or t.get("value"))) for t in told]
        question = next((text for role, text in said if role in ("user", "human")), "")
        replies = [text for role, text in said if role in ("assistant", "gpt")]
        return _item(record, question, references=reference_texts(next(iter(replies), ""), None))
    return None


def _key(value: object, options: tuple[str, ...]) -> tuple[str, ...]:
    """The answer key as letters or a decision; empty where it is neither."""
    if options and isinstance(value, int | float) and not isinstance(value, bool) and value in range(len(options)):
        value = LETTERS[int(value)]  # MMLU's and others': counted from 0
    if isinstance(value, bool):
        value = "yes" if value else "no"
    key = ",".join(map(str, value)) if isinstance(value, list) else _text(value)
    used = LETTERS[: len(options)]
    if options and re.fullmatch(rf"[{used}](?:[\s,;、，]*[{used}])*", key.upper()):
        return tuple(sorted(set(key.upper()) & set(used)))
    if options and key in options:
        return (LETTERS[options.index(key)],)
    if options and key.isascii() and key.isdigit() and int(key) < len(options):
        return (LETTERS[int(key)],)  # in a table's cell every number is text
    decision = _DECISIONS.get(key.lower())
    return (decision,) if decision and not options else ()


def reference_texts(value: object, separator: str | None) -> tuple[str, ...]:
    """The reference texts in a cell: a list, a list written as JSON, text parted by a separator, or one text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            listed = json.loads(value)
            value = listed if all(isinstance(one, str) for one in listed) else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    several = value if isinstance(value, list) else [_text(value)]
    if separator:
        several = [part for text in several if isinstance(text, str) for part in text.split(separator)]
    return tuple(dict.fromkeys(text.strip() for text in several if isinstance(text, str) and text.strip()))


def _item(
    record: Record,
    question: str,
    *,
    references: tuple[str, ...],
    options: tuple[str, ...] = (),
    answer: tuple[str, ...] = (),
    context: str = "",
    group: str = "",
) -> Item:
    if not question:
        raise record.error(None, f"no question found; the row has {', '.join(map(repr, record.data)) or 'no fields'}")
    language = "zh" if _HAN.search(question) else "en"
    return Item(
        question=question,
        language=language,
        options=options,
        answer=answer,
        context=context,
        reference=next(iter(references), ""),
        more_references=references[1:],
        source=f"{record.file}, {record.row}",
        group=group,
    )


def _text(value: object) -> str:
    if isinstance(value, dict):  # the hub's PubMedQA nests its paragraphs
        value = value.get("contexts", "")
    if isinstance(value, list):
        return "\n".join(part.strip() for part in value if isinstance(part, str))
    return value.strip() if isinstance(value, str) else ""


def _options(value: object) -> tuple[str, ...]:
    """Option texts in order, without their letters."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except ValueError:
            return ()
    if isinstance(value, str):
        return _unlabelled([line.strip() for line in re.split(r"\\n|\n", value) if line.strip()])
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        texts = [one.get("value", one.get("text")) if isinstance(one, dict) else one for one in value]
        return tuple(str(text).strip() for text in texts if text is not None)
    return ()


def _unlabelled(lines: list[str]) -> tuple[str, ...]:
    """Option lines without their letters, where all carry the letters in order ("K channel" alone is no label)."""
    found = [re.match(r"\(?([A-Z])(?:[.．、:：)）]\s*|\s+)", line) for line in lines]
    labels = "".join(label[1] for label in found if label)
    if labels != LETTERS[: len(lines)]:
        return tuple(lines)
    return tuple(line[label.end() :] for line, label in zip(lines, found, strict=True) if label)
