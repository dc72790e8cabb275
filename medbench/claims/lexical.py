"""The offline baseline: a claim counts as entailed where the answer holds enough of its words.

No model, no network, the same verdict every time. It cannot tell a claim from its denial, so it never says
contradicted; its card (`medbench judge calibrate`) says what its "entailed" is worth beside physicians.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np

from medbench.claims.verdicts import ENTAILED, NEUTRAL, Case, Verdict

NAME = "lexical"
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?|[\u3400-\u9fff\uf900-\ufaff]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[。！？；\n]+")
_ENDINGS = (
    "ations", "ation", "ments", "ment", "ingly", "edly", "ings", "ing", "ies", "ied", "ers", "ed", "es", "ly", "s", "e",
)  # fmt: skip
_STEM = 3  # letters that must be left of a word
_FUNCTION_WORDS = frozenset(
    """
    a about after also an and any are as at be because been before being both but by can could did do does during
    each for from had has have he her his i if in into is it its just may might more most no not of on or other our
    per she should so some such than that the their them then there these they this those to very via was we were
    what when which while who whom will with would you your yours
    """.split()  # noqa: SIM905
)


class Lexical:
    """The baseline as a judge.

    Attributes:
        threshold: least score of an entailed claim; None takes the shipped one.
    """

    name = NAME

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = shipped_threshold() if threshold is None else threshold

    async def verdict(self, case: Case) -> Verdict:
        """Entailed or neutral, with the score."""
        return self.look_up(case)

    def look_up(self, case: Case) -> Verdict:
        """Entailed or neutral, with the score, without waiting."""
        found = overlap(case.claim, case.answer)
        return Verdict(ENTAILED if found >= self.threshold else NEUTRAL, "", self.name, score=found)


def overlap(claim: str, answer: str) -> float:
    """0-1: the share of a claim's words that the answer holds, averaged with the share in its best sentence.

    The sentence counts because an answer to another question also holds many words somewhere. A claim without any word
    of content has 0.
    """
    wanted = words(claim)
    if not wanted:
        return 0.0
    whole, sentences = _read(answer)
    best = max((len(wanted & sentence) for sentence in sentences), default=0)
    return (len(wanted & whole) + best) / (2 * len(wanted))


def words(text: str) -> frozenset[str]:
    """Words of content without their endings, numbers, and pairs of Chinese characters."""
    found: set[str] = set()
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if word > "\u3400":
            found.update(word[start : start + 2] for start in range(max(1, len(word) - 1)))
        elif word not in _FUNCTION_WORDS:
            found.add(_stem(word))
    return frozenset(found)


def _stem(word: str) -> str:
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= _STEM), "")
    return word[: len(word) - len(ending)]


@lru_cache(maxsize=256)
def _read(answer: str) -> tuple[frozenset[str], tuple[frozenset[str], ...]]:
    """The words of an answer, whole and by sentence: its claims are judged one after the other."""
    return words(answer), tuple(words(sentence) for sentence in _SENTENCE.split(answer) if sentence.strip())


def shipped_threshold() -> float:
    """The threshold that the package ships, fitted to the labels of its card's source."""
    card = json.loads(files("medbench.claims").joinpath("lexical_card.json").read_text("utf-8"))
    return float(card["threshold"])


def fitted_threshold(scores: Sequence[float], entailed: Sequence[bool]) -> float:
    """The threshold that calls as many claims entailed as people do: midway between two scores.

    Chosen over the threshold of the highest kappa, which moves with every question left out (docs/claims.md).
    """
    x = np.unique(np.asarray(scores, dtype=float))
    cuts = np.concatenate([[x[0] - 0.01], (x[1:] + x[:-1]) / 2, [x[-1] + 0.01]])
    said = (np.asarray(scores)[None] >= cuts[:, None]).sum(axis=1)
    return float(cuts[np.argmin(np.abs(said - int(np.sum(entailed))))])


def held_out(cases: Sequence[Case], entailed: Sequence[bool]) -> list[Verdict]:
    """The baseline's verdict on every claim, with a threshold fitted to the other questions alone."""
    scores = np.array([overlap(case.claim, case.answer) for case in cases])
    questions = np.array([case.question for case in cases])
    truth = np.asarray(entailed, dtype=bool)
    thresholds = {q: fitted_threshold(scores[questions != q], truth[questions != q]) for q in np.unique(questions)}
    return [Lexical(thresholds[case.question]).look_up(case) for case in cases]
