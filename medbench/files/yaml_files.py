"""Users' YAML files (studies, recipes, mappings, prompt sets): read as plain data, every fault of the file named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medbench.errors import MedbenchError

# A hand-written file is a few KiB. One that is larger is another file, and the parser would take minutes over it.
MOST_BYTES = 1 << 20


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
        raise MedbenchError(f"no {what} {path}.") from None
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
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedbenchError(f"{where} is not valid YAML: {error}") from None
    except ValueError as error:  # such as a date of the 45th of May
        raise MedbenchError(f"{where} is not valid YAML: {error}") from None
    except RecursionError:
        raise MedbenchError(f"{where} is not valid YAML: nested too deeply.") from None
