"""Users' YAML files (studies, recipes, mappings, prompt sets): read as plain data, every fault of the file named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medbench.errors import MedbenchError, no_file

# A hand-written file is a few KiB. One that is larger is another file.
MOST_BYTES = 1 << 20
# What people write is less than ten levels deep; libyaml's own recursion ends with the process.
MOST_LEVELS = 50
Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def read_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        path: the file.
        what: what it is called in errors, e.g. ``study file``.

    Raises:
        MedbenchError: there is no such file, it is too large, not UTF-8, not valid YAML, or holds no mapping.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise no_file(path, what) from None
    except OSError as error:
        raise MedbenchError(f"{what} {path!s:.200} cannot be read ({error.strerror}).") from None
    if len(data) > MOST_BYTES:
        raise MedbenchError(f"{what} {path} has {len(data):,} bytes; expected a YAML file of at most {MOST_BYTES:,}.")
    document = parse_yaml(data, f"{what} {path}")
    if not isinstance(document, dict):
        raise MedbenchError(f"{what} {path}: expected keys and values (key: value), found {type(document).__name__}.")
    return document


def parse_yaml(text: str | bytes, where: str) -> object:
    """YAML as plain values.

    Raises:
        MedbenchError: it is not valid, or nested too deeply; begins with `where`.
    """
    return load_yaml(text, where, Loader)


def load_yaml(text: str | bytes, where: str, loader: type[yaml.SafeLoader]) -> object:
    """As `parse_yaml`, by a loader of one's own that is made from `Loader`.

    Raises:
        MedbenchError: it is not valid, or nested more than `MOST_LEVELS` deep; begins with `where`.
    """
    try:
        if _too_deep(text):
            raise MedbenchError(f"{where} is not valid YAML: nested too deeply (over {MOST_LEVELS} levels).")
        return yaml.load(text, loader)
    # Beside its own errors: a date of the 45th of May, text that is not UTF-8, an alias of what holds it, a bad tag.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise MedbenchError(f"{where} is not valid YAML: {error}") from None


def _too_deep(text: str | bytes) -> bool:
    depth = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_LEVELS:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return False
