"""The test side's sources: registered tasks, eval logs, data files, items."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medbench.benchmark import catalog
from medbench.errors import BadRow, MedbenchError, no_file
from medbench.files import places
from medbench.sources.items import Item
from medbench.sources.layout import item_of
from medbench.sources.records import BadRows, Record, convert, read_records


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
    path = places.local(name)
    name = str(path) if places.is_remote(name) else name
    if catalog.is_mapping(name) or path.suffix == ".py":
        return _task_items(name, "", bad_rows)
    if path.is_file():
        if path.suffix == ".eval" or (path.suffix == ".json" and _is_log(path)):
            return _log_items(path)
        return convert(read_records(path, bad_rows=bad_rows), item_of, bad_rows)
    task, _, file = name.partition("=")
    file = str(places.local(file)) if file else ""
    if file and not Path(file).is_file():
        raise MedbenchError(f"--against {name}: {no_file(file)}")
    if not file and ("/" in name.removeprefix("medbench/") or path.suffix):
        raise MedbenchError(f"--against {name}: neither an existing file nor the name of a task.")
    return _task_items(task.removeprefix("medbench/"), file, bad_rows)


def _task_items(task: str, file: str, bad_rows: BadRows) -> list[Item]:
    """Items of a task, through Inspect's registry: the core knows no benchmark by name."""
    settings = {"source": file, "on_bad_row": bad_rows.policy} if file else {}
    catalog.check(task)
    own = catalog.is_mapping(task)
    try:
        created = catalog.make(task, settings)
    except MedbenchError as error:
        cause = error.__cause__ or error  # what the task raised, before Inspect's hints were added
        hint = "" if own else f"Here: --against {task}=FILE."
        if isinstance(cause, BadRow):
            hint = "--on-bad-row skip leaves such rows out and lists them."
        told = str(cause) if str(cause).endswith("?") else f"{str(cause).rstrip('.')}."
        raise MedbenchError(f"--against {task}: {told} {hint}".rstrip()) from error
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
