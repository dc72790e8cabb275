"""The test side's sources: registered tasks, eval logs, data files, items."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medbench.errors import BadRow, MedbenchError, unknown
from medbench.items import LETTERS, Item
from medbench.records import BadRows, Record, convert, read_records

# Columns under which files keep the parts of an item; the first present wins, case does not matter.
_COLUMNS = {
    "question": ("question", "query", "prompt", "problem", "text"),
    "options": ("options", "choices"),
    "key": ("answer_idx", "final_decision", "answer", "label"),
    "context": ("context", "contexts", "passage"),
    "reference": ("explanation", "long_answer", "output", "response", "reference", "exp"),
}
_DECISIONS = ("yes", "no", "maybe")
_HAN = re.compile("[\u3400-\u9fff]")


def load(
    against: str | Path | Iterable[str | Path | Item | Mapping[str, Any]], bad_rows: BadRows | None = None
) -> list[tuple[str, list[Item]]]:
    """The items of each source, under the name by which it was given.

    Args:
        against: task names, eval logs, data files or ``task=FILE`` (that task, read from a local file in its
            publisher's format), in a list or separated by commas; or items themselves, also as rows (see `item_of`).
        bad_rows: what to do with rows that hold no item.

    Raises:
        MedbenchError: an unknown task (with the nearest names), an unreadable file, a source without items.
    """
    bad_rows = bad_rows or BadRows()
    given: Sequence[Any] = [against] if isinstance(against, str | Path) else list(against)
    items = [one for one in given if isinstance(one, Item)]
    rows = [Record("items", f"row {n}", dict(one)) for n, one in enumerate(given, 1) if isinstance(one, Mapping)]
    items += convert(rows, item_of, bad_rows)
    sources = [("items", items)] if items else []
    for text in (str(one) for one in given if not isinstance(one, Item | Mapping)):
        for name in (
            [text] if text and Path(text).exists() else [part.strip() for part in text.split(",") if part.strip()]
        ):
            found = _source(name, bad_rows)
            if not found:
                raise MedbenchError(f"{name} holds no test item.")
            sources.append((name, found))
    if not sources:
        raise MedbenchError("nothing to audit against: name a task, a log or a file of test items.")
    return sources


def _source(name: str, bad_rows: BadRows) -> list[Item]:
    path = Path(name)
    if path.is_file():
        if path.suffix == ".eval" or (path.suffix == ".json" and _is_log(path)):
            return _log_items(path)
        return convert(read_records(path, bad_rows=bad_rows), item_of, bad_rows)
    task, _, file = name.partition("=")
    if file and not Path(file).is_file():
        raise MedbenchError(f"--against {name}: {file} does not exist.")
    if not file and ("/" in name.removeprefix("medbench/") or path.suffix):
        raise MedbenchError(f"--against {name}: neither an existing file nor the name of a task.")
    return _task_items(task.removeprefix("medbench/"), file, bad_rows)


def _task_items(task: str, file: str, bad_rows: BadRows) -> list[Item]:
    """Items of a registered task, through Inspect's registry: the core knows no benchmark by name."""
    from inspect_ai._util.registry import registry_create, registry_find, registry_info, registry_lookup

    if registry_lookup("task", f"medbench/{task}") is None:
        found = registry_find(lambda info: info.type == "task" and info.name.startswith("medbench/"))
        raise unknown("task", task, [registry_info(one).name.removeprefix("medbench/") for one in found])
    settings = {"source": file, "on_bad_row": bad_rows.policy} if file else {}
    try:
        created = registry_create("task", f"medbench/{task}", **settings)
    except MedbenchError as error:
        cause = error.__cause__ or error  # what the task raised, before Inspect's hints were added
        hint = f"Here: --against {task}=FILE."
        if isinstance(cause, BadRow):
            hint = "--on-bad-row skip leaves such rows out and lists them."
        raise MedbenchError(f"--against {task}: {str(cause).rstrip('.')}. {hint}") from error
    metadata = (created.metadata or {}).get("benchmark", {})
    bad_rows.rows += [BadRow(f"--against {task}", "left out", None, row) for row in metadata.get("left_out", [])]
    return _sample_items(task, (sample.metadata for sample in created.dataset))


def _log_items(path: Path) -> list[Item]:
    from inspect_ai.log import read_eval_log_samples

    samples = read_eval_log_samples(str(path), all_samples_required=False)
    return list({item.id: item for item in _sample_items(str(path), (s.metadata for s in samples))}.values())


def _is_log(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as handle:
        return re.match(r'\s*\{\s*"version"\s*:\s*\d+\s*,\s*"status"', handle.read(200)) is not None


def _sample_items(name: str, metadata: Iterable[Mapping[str, Any] | None]) -> list[Item]:
    """Items kept in sample metadata, where every medbench task puts them."""
    found = [values["item"] for values in metadata if values and "item" in values]
    if not found:
        raise MedbenchError(f"{name}: no sample keeps its item in its metadata; audit against the data file instead.")
    return [Item.from_metadata(values) for values in found]


def item_of(record: Record) -> Item:
    """An item from a row in one of the common layouts.

    Instruction tuning (`instruction, input, output`), chat (`messages` or `conversations`: first question and first
    reply), and question answering (columns of `_COLUMNS`; options as a mapping, a list, or one string of lettered
    lines).

    Raises:
        BadRow: no column holds a question.
    """
    row = {str(key).strip().lower(): value for key, value in record.data.items()}
    if "instruction" in row:
        question = "\n".join(part for part in (_text(row.get("instruction")), _text(row.get("input"))) if part)
        return _item(record, question, reference=_text(row.get("output")))
    turns = row.get("messages") or row.get("conversations")
    if isinstance(turns, list) and turns:
        said = [(t.get("role") or t.get("from"), _text(t.get("content") or t.get("value"))) for t in turns]
        question = next((text for role, text in said if role in ("user", "human")), "")
        return _item(record, question, reference=next((t for role, t in said if role in ("assistant", "gpt")), ""))
    value = {
        part: next((row[c] for c in columns if row.get(c) not in (None, "", [], {})), None)
        for part, columns in _COLUMNS.items()
    }
    options = _options(value["options"])
    number = value["key"]
    if options and type(number) is int and 0 <= number < len(options):  # MMLU's and others': counted from 0
        number = LETTERS[number]
    key = _text(number)
    answer: tuple[str, ...] = ()
    if options and re.fullmatch(r"[A-Ja-j](?:[\s,;、，]*[A-Ja-j])*", key):
        answer = tuple(sorted(c for c in key.upper() if c in LETTERS[: len(options)]))
    elif options and key in options:
        answer = (LETTERS[options.index(key)],)
    elif key.lower() in _DECISIONS:
        answer = (key.lower(),)
    reference = _text(value["reference"]) or ("" if options or answer else key)
    return _item(record, _text(value["question"]), options, answer, _text(value["context"]), reference)


def _item(
    record: Record,
    question: str,
    options: tuple[str, ...] = (),
    answer: tuple[str, ...] = (),
    context: str = "",
    reference: str = "",
) -> Item:
    if not question:
        raise record.error(None, f"no question found; the row has {', '.join(map(repr, record.data)) or 'no fields'}")
    return Item(
        question=question,
        language="zh" if _HAN.search(question) else "en",
        options=options,
        answer=answer,
        context=context,
        reference=reference,
        source=f"{record.file}, {record.row}",
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):  # the hub's PubMedQA nests its paragraphs
        value = value.get("contexts", "")
    if isinstance(value, list):
        return "\n".join(part.strip() for part in value if isinstance(part, str))
    return value.strip() if isinstance(value, str) else ""


def _options(value: Any) -> tuple[str, ...]:
    """Option texts in order, without their letters."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except ValueError:
            return ()
    if isinstance(value, str):
        lines = [line.strip() for line in re.split(r"\\n|\n", value) if line.strip()]
        return tuple(re.sub(r"^[A-J](?:[.．、:：)）]\s*|\s+)", "", line) for line in lines)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        texts = [one.get("value", one.get("text")) if isinstance(one, dict) else one for one in value]
        return tuple(str(text).strip() for text in texts if text is not None)
    return ()
