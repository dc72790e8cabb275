"""What a kind of stressed command has to say about itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a finished place holds, by name: digests of contents that do not change from run to run.
Content = dict[str, str]


@dataclass(frozen=True)
class Kind:
    """One command: how it is called, and how its result is read.

    Attributes:
        name: the command.
        modules: what a process may have imported before the command starts.
        about: the input in one line.
        prepare: writes the inputs into a folder.
        command: arguments of ``medbench`` for (inputs, place); the same call resumes.
        content: everything at a finished place, read as its users would; fails where something is missing.
        whole: the part of a place, in whatever state, that its readers take for finished.
        earlier: arguments that put an earlier good result there first; None where the place must be new.
        unnamed: file names of a finished place that change from run to run.
    """

    name: str
    about: str
    modules: tuple[str, ...]
    prepare: Callable[[Path], None]
    command: Callable[[Path, Path], list[str]]
    content: Callable[[Path], Content]
    whole: Callable[[Path], Content]
    earlier: Callable[[Path, Path], list[str]] | None = None
    unnamed: Callable[[str], bool] = lambda name: False


def digest(value: Any) -> str:
    """A short digest of bytes, or of a JSON value."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def files(place: Path, names: Iterable[str]) -> dict[str, str]:
    """Digests of some files."""
    return {name: digest((place / name).read_bytes()) for name in names}


def steady(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without what differs between two runs of one command."""
    return {key: value for key, value in manifest.items() if key not in ("created", "command")}
