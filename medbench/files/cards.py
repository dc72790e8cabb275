"""Calibration cards: JSON files that say how far a detector, a judge or a metric agrees with people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError


def read_card(path: str | Path, kind: str, other: str, command: str) -> dict[str, Any]:
    """A stored card.

    Args:
        path: the file.
        kind: what its key ``kind`` must say.
        other: what a file of another kind is, e.g. ``no card of a judge``.
        command: what makes one, e.g. ``medbench judge calibrate FILE``.

    Raises:
        MedbenchError: the file is missing, a directory, no JSON, or another kind of file.
    """
    try:
        card: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise MedbenchError(f"{path} does not exist; write one with `{command}`.") from None
    except IsADirectoryError:
        raise MedbenchError(f"{path} is a directory; name the card in it.") from None
    except ValueError as error:  # also of text that is not UTF-8
        raise MedbenchError(f"{path} is not valid JSON ({error}).") from None
    if not isinstance(card, dict) or card.get("kind") != kind:
        raise MedbenchError(f"{path} is {other}: its kind is not {kind!r}.")
    return card
