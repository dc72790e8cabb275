"""Calibration cards: JSON files that say how far a detector, a judge or a metric agrees with people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.files.json_files import Shape, misfit, read_json


def read_card(path: str | Path, kind: str, other: str, command: str, shape: Shape) -> dict[str, Any]:
    """A stored card.

    Args:
        path: the file.
        kind: what its key ``kind`` must say.
        other: what a file of another kind is, e.g. ``no card of a judge``.
        command: what makes one, e.g. ``medbench judge calibrate FILE``.
        shape: what is read of it (`medbench.files.json_files.misfit`).

    Raises:
        MedbenchError: the file is missing, a directory, no JSON, another kind of file, or not whole.
    """
    try:
        card = read_json(path)
    except FileNotFoundError:
        raise MedbenchError(f"{path} does not exist; write one with `{command}`.") from None
    except IsADirectoryError:
        raise MedbenchError(f"{path} is a directory; name the card in it.") from None
    if not isinstance(card, dict) or card.get("kind") != kind:
        raise MedbenchError(f"{path} is {other}: its kind is not {kind!r}.")
    problem = misfit(card, shape)
    if problem:
        raise MedbenchError(f"{path} is no whole card: {problem}; make it again with `{command}`.")
    return card
