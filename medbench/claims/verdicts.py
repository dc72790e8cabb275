"""What a judge may say of a claim: three labels, or nothing, and then why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from medbench.errors import MedbenchError

ENTAILED, NEUTRAL, CONTRADICTED = "entailed", "neutral", "contradicted"
LABELS = (ENTAILED, NEUTRAL, CONTRADICTED)
# Spellings of published files, in lower case.
SPELLINGS = {
    **{label: label for label in LABELS},
    "entailment": ENTAILED,
    "entails": ENTAILED,
    "contradiction": CONTRADICTED,
    "contradicts": CONTRADICTED,
}
# Why a claim has no verdict.
REASONS = {
    "failed": "the judge's call failed",
    "refused": "the judge refused to judge",
    "outside_form": "the judge's reply names no verdict, or several",
    "missing": "the verdict file says nothing of this claim",
    "other_answer": "the verdict file judges another answer to this question",
    "unknown_label": "the verdict file holds a label that is none of the three",
    "tied": "the jury is divided",
}
MUST_HAVE, NICE_TO_HAVE = "must_have", "nice_to_have"
# What a jury that is divided says: nothing, or that the claim is neither entailed nor contradicted.
TIES = ("unscored", NEUTRAL)


@dataclass(frozen=True)
class Case:
    """One claim to be judged.

    Attributes:
        question: what was asked.
        claim: what a good answer says (K-QA's hypothesis).
        answer: what was answered (K-QA's premise).
        importance: `MUST_HAVE` or `NICE_TO_HAVE`.
    """

    question: str
    claim: str
    answer: str
    importance: str = MUST_HAVE


@dataclass(frozen=True)
class Verdict:
    """What a judge, or a jury, says of one claim.

    Attributes:
        label: one of `LABELS`, or None where there is no verdict.
        reason: one of `REASONS` where there is none, else "".
        judge: who said it.
        raw: the reply as it was made, "" where there is none.
        score: 0-1, how far the claim is entailed, from judges that grade; None from others.
        jury: the single verdicts that a jury's is made of.
    """

    label: str | None
    reason: str = ""
    judge: str = ""
    raw: str = ""
    score: float | None = None
    jury: tuple[Verdict, ...] = ()

    def __post_init__(self) -> None:
        if self.label is None and self.reason not in REASONS:
            raise ValueError(
                f"a verdict that is missing has one of {', '.join(REASONS)} as reason, not {self.reason!r}"
            )
        if self.label is not None and self.label not in LABELS:
            raise ValueError(f"a verdict is one of {', '.join(LABELS)}, not {self.label!r}")


def spelled(text: object) -> str | None:
    """The label that a file's word stands for; None for any other word."""
    return SPELLINGS.get(str(text).strip().lower())


def majority(verdicts: Sequence[Verdict], tie: str = "unscored") -> Verdict:
    """A jury's verdict: the label that more than half of those who gave one gave.

    Jurors without a verdict abstain; where none has one, the jury has none either, for the commonest of their reasons.

    Args:
        verdicts: one per juror; a single one is returned as it is.
        tie: one of `TIES`: what stands where no label has more than half.

    Raises:
        MedbenchError: an empty jury, or another `tie`.
    """
    if tie not in TIES:
        raise MedbenchError(f"a divided jury is {' or '.join(TIES)} (-T tie=), not {tie!r}.")
    if not verdicts:
        raise MedbenchError("a jury needs at least one judge.")
    if len(verdicts) == 1:
        return verdicts[0]
    jury, name = tuple(verdicts), jury_name([verdict.judge for verdict in verdicts])
    given = Counter(verdict.label for verdict in verdicts if verdict.label is not None)
    if not given:
        reason = Counter(verdict.reason for verdict in verdicts).most_common(1)[0][0]
        return Verdict(None, reason, name, jury=jury)
    label, votes = given.most_common(1)[0]
    if 2 * votes > given.total():
        return Verdict(label, judge=name, jury=jury)
    if tie == NEUTRAL:
        return Verdict(NEUTRAL, judge=name, jury=jury)
    return Verdict(None, "tied", name, jury=jury)


def jury_name(judges: Sequence[str]) -> str:
    """What a jury is called: its judges' names."""
    return " + ".join(judges)


def counted(reasons: Sequence[str]) -> str:
    """``3 missing, 1 tied``, commonest first; empty for none."""
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in Counter(reasons).most_common())
