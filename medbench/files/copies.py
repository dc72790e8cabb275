"""The folder of copies: of what lies elsewhere and was read, and of what is made here to be written elsewhere.

Each copy has a folder of its own with a note of the URL that it stands for, so that artefacts name the URL.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from medbench.errors import without_secrets

_NOTE = ".url"
T = TypeVar("T")


def folder() -> Path:
    """`$MEDBENCH_CACHE`, else `medbench` in the user's cache; copies lie in `places` there."""
    named = os.environ.get("MEDBENCH_CACHE")
    above = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "medbench"
    return above.expanduser().absolute() / "places"


def note(copy: Path, url: str) -> None:
    """Write down beside a copy, which lies in a folder of its own, which URL it stands for."""
    (copy.parent / _NOTE).write_text(without_secrets(url), "utf-8")


def origin(text: str) -> str:
    """The URL that a path in the folder of copies stands for; any other text as it is."""
    if "/places/" not in text or not Path(text).is_relative_to(folder()):
        return text
    for above in Path(text).parents:
        if (above / _NOTE).is_file():
            below = Path(text).relative_to(above).parts[1:]  # the first is the copy's own name
            return "/".join([(above / _NOTE).read_text("utf-8"), *below])
    return text


def origins(value: T) -> T:
    """Settings or inputs with every path of a copy, key or value, as the URL that it stands for."""
    made: Any = value
    if isinstance(value, Mapping):
        made = {origin(key) if isinstance(key, str) else key: origins(one) for key, one in value.items()}
    elif isinstance(value, list | tuple):
        made = [origins(one) for one in value]
    elif isinstance(value, str | Path):
        made = origin(str(value))
    return cast(T, made)
