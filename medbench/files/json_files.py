"""JSON documents that users hand over (cards, manifests, summaries): read as plain data, checked for their shape."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError

# What a document must hold: a type (`float` takes whole numbers, too); a dictionary of required keys (the key `ANY`
# stands for all values); a list of one shape, or of one for each of its members; a tuple of alternatives; None.
Shape = object
ANY = "*"


def read_json(path: str | Path) -> object:
    """The document that a file holds.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file; the caller knows what makes one.
        MedbenchError: it is no JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:  # also of text that is not UTF-8
        raise MedbenchError(f"{path} is not valid JSON ({error}).") from None
    except RecursionError:
        raise MedbenchError(f"{path} is not valid JSON (nested too deeply).") from None


def misfit(value: object, shape: Shape, at: str = "") -> str | None:
    """Where a document is not of a shape, and what stands there (``overall.n is 'x', not a number``); else None."""
    if isinstance(shape, tuple):
        found = [misfit(value, one, at) for one in shape]
        return None if None in found else found[0]
    if isinstance(shape, dict):
        return _misfit_of_keys(value, shape, at)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _told(value, "a list", at)
        if len(shape) > 1 and len(value) != len(shape):
            return _told(value, f"a list of {len(shape)}", at)
        shapes = shape if len(shape) > 1 else shape * len(value)
        pairs = enumerate(zip(value, shapes, strict=True))
        return next((why for n, (one, own) in pairs if (why := misfit(one, own, f"{at}[{n}]"))), None)
    if shape is None:
        return None if value is None else _told(value, "null", at)
    if shape in (int, float):
        fits = isinstance(value, int if shape is int else (int, float)) and not isinstance(value, bool)
        name = "a whole number" if shape is int else "a number"
        finite = not isinstance(value, float) or math.isfinite(value)
        return None if fits and finite else _told(value, name, at)
    kind, name = (str, "text") if shape is str else (dict, "an object")
    return None if isinstance(value, kind) else _told(value, name, at)


def _misfit_of_keys(value: object, shape: dict[str, Any], at: str) -> str | None:
    if not isinstance(value, dict):
        return _told(value, "an object", at)
    prefix = f"{at}." if at else ""
    for key, inner in shape.items():
        if key == ANY:
            inside = ((name, one) for name, one in value.items())
        elif key not in value:
            return f"{prefix}{key} is missing"
        else:
            inside = ((name, value[name]) for name in (key,))
        for name, one in inside:
            if why := misfit(one, inner, f"{prefix}{name}"):
                return why
    return None


def _told(value: object, expected: str, at: str) -> str:
    return f"{at or 'it'} is {value!r:.60}, not {expected}"
