"""The paper's Table 1: which data went where, how it was cleaned, and what the audit found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medbench.errors import BadRow, MedbenchError
from medbench.files.manifest import read_manifest

_FIELDS = ("name", "size", "type", "split", "cleaning")


def data_table(manifest: str | Path) -> list[dict[str, str]]:
    """Rows of Table 1 from a YAML list of data sets.

    Each entry has ``name, size, type, split, cleaning`` and may name ``findings``, the directory of an audit (relative
    to the manifest), whose counts become the last column.

    Raises:
        MedbenchError: as `read_data_sets`; an audit's directory is none.
    """
    path = Path(manifest)
    rows = []
    for entry in read_data_sets(path):
        found = _found(path.parent, entry.get("findings"))
        rows.append({**{field: str(entry[field]) for field in _FIELDS}, "findings": found})
    return rows


def read_data_sets(path: Path) -> list[dict[str, Any]]:
    """The entries of such a list, checked; audits need not exist yet.

    Raises:
        MedbenchError: the file is missing or no list.
        BadRow: an entry lacks one of the five.
    """
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise MedbenchError(f"{path} does not exist; it lists data sets with {', '.join(_FIELDS)}.") from None
    except yaml.YAMLError as error:
        raise MedbenchError(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(entries, list) or not entries:
        raise MedbenchError(f"{path}: expected a list of data sets with {', '.join(_FIELDS)}.")
    for number, entry in enumerate(entries, 1):
        for field in _FIELDS:
            if not isinstance(entry, dict) or entry.get(field) in (None, ""):
                raise BadRow(str(path), f"entry {number}", field, "missing")
    return entries


def _found(folder: Path, findings: object) -> str:
    if not findings:
        return "not audited"
    counts = read_manifest(folder / str(findings))["counts"]
    return f"{counts['leaking']['items']} items in {counts['leaking']['records']} records"


def to_markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as a Markdown table."""
    header = [*_FIELDS, "findings"]
    cells = [[row[field].replace("|", "\\|") for field in header] for row in rows]
    titles = [title.capitalize() for title in header]
    return "\n".join("| " + " | ".join(line) + " |" for line in [titles, ["---"] * len(titles), *cells]) + "\n"
