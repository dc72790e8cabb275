"""What an output states: the result of every reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["answer", "abstain", "ambiguous"]


@dataclass(frozen=True)
class Extraction:
    """What an output states.

    Attributes:
        status: ``answer``, ``abstain`` (none is stated) or ``ambiguous`` (several are, or none is settled on).
        letters: sorted letters, or ``("yes",)``, ``("no",)``, ``("maybe",)``; empty unless `status` is ``answer``.
        span: start and end of the characters that decided, in the text as given; None where nothing did.
        reason: empty for an answer; otherwise ``no_response``, ``no_answer_found``, ``refused``, ``undecided``,
            ``none_of_the_options``, ``outside_options``, ``only_rejections``, ``options_repeated`` or
            ``several_answers``.
        rule: the name of the rule that decided; empty where none did.
        rejected: sorted letters that are said to be wrong, where only rejections are found.
        slot: where the answer stood: ``record``, ``final``, ``leading`` or ``sentence``; empty where nowhere.
    """

    status: Status
    letters: tuple[str, ...] = ()
    span: tuple[int, int] | None = None
    reason: str = ""
    rule: str = ""
    slot: str = ""
    rejected: tuple[str, ...] = ()
