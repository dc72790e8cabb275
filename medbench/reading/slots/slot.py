"""One place where an output's form says that an answer stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """A slot with its content.

    Attributes:
        start: of what was stated, in the text as given.
        end: of what was stated.
        letters: in the order stated.
        slot: ``record``, ``final`` or ``leading``.
        rule: the name of the rule that found it.
        either: several are named and none is settled on.
    """

    start: int
    end: int
    letters: tuple[str, ...]
    slot: str
    rule: str
    either: bool = False
