"""The file of `-T rephrased=FILE`: questions in other words, by the id of their item."""

from __future__ import annotations

import json
from pathlib import Path

from medbench.errors import MedbenchError
from medbench.sources.records import read_records


def read_rephrased(file: str, encoding: str = "utf-8") -> dict[str, str]:
    """Item id -> question.

    Args:
        file: rows with `id` (the sample id of a log) and `question`, in any format that `read_records` takes; or one
            JSON object of id -> question.

    Raises:
        MedbenchError: the file is missing or of another form, or names an item twice.
        BadRow: a row without one of the two.
    """
    found: dict[str, str] = {}
    if Path(file).suffix.lower() == ".json" and Path(file).is_file():
        whole = _object(file, encoding)
        if whole is not None:
            return whole
    for record in read_records(file, encoding=encoding):
        key = str(record.value("id")).strip()
        if key in found:
            raise record.error("id", f"{key!r} has a question already; give one a file")
        found[key] = record.text("question")
    return found


def _object(file: str, encoding: str) -> dict[str, str] | None:
    """One object of id -> question; None for any other JSON, which may be rows."""
    try:
        whole = json.loads(Path(file).read_text(encoding))
    except UnicodeDecodeError as error:
        raise MedbenchError(f"{file} is not in {encoding} ({error.reason}); name another with -T encoding=.") from None
    except json.JSONDecodeError:
        return None
    if not isinstance(whole, dict) or not all(isinstance(value, str) for value in whole.values()):
        return None
    empty = next((key for key, value in whole.items() if not value.strip()), None)
    if empty is not None:
        raise MedbenchError(f"{file}: the question of {empty!r} is empty.")
    return {key.strip(): value.strip() for key, value in whole.items()}
