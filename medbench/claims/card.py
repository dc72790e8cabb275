"""A judge's card: how far its verdicts agree with people's, and what it does where people do not differ.

Figures and hashes, no text. An interval is `[estimate, low, high]`, None for what the data cannot determine.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any, overload

import numpy as np

from medbench import __version__, stats
from medbench.claims import checks
from medbench.claims.files import Labelled
from medbench.claims.verdicts import CONTRADICTED, ENTAILED, LABELS, MUST_HAVE, Verdict
from medbench.errors import MedbenchError
from medbench.files.cards import read_card
from medbench.stats import Interval

KIND = "claim-judge-card"


@dataclass(frozen=True)
class Rounds:
    """What a judge said when it was asked otherwise; None where it was not.

    Attributes:
        floor: on `checks.swapped` cases.
        again: the same cases a second time.
        reversed: the same cases with the texts and labels in the other order.
    """

    floor: Sequence[Verdict] | None = None
    again: Sequence[Verdict] | None = None
    reversed: Sequence[Verdict] | None = None


def make(
    rows: Sequence[Labelled],
    verdicts: Sequence[Verdict],
    judge: str,
    *,
    rounds: Rounds | None = None,
    sources: Mapping[str, str] | None = None,
    how: str = "",
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The card of a judge.

    Args:
        rows: labelled claims; those without a majority are counted, and left out.
        verdicts: the judge's, one per row.
        judge: its name.
        rounds: for floor and consistency.
        sources: file name -> SHA-256 of what the labels were read from.
        how: how the verdicts came about, in a clause (e.g. ``threshold fitted to the other questions``).
        facts: more to be kept, e.g. the threshold.

    Raises:
        MedbenchError: no claim has both a label and a verdict.
    """
    rounds = rounds or Rounds()
    known = [(row, v) for row, v in zip(rows, verdicts, strict=True) if row.label and v.label is not None]
    if not known:
        raise MedbenchError(f"{judge} gave no verdict on any labelled claim{_because(verdicts)}.")
    cases = [row.case for row in rows]
    swapped = checks.swapped(rows)
    return {
        "kind": KIND,
        "medbench": __version__,
        "judge": judge,
        "how": how,
        **(facts or {}),
        "sources": dict(sources or {}),
        "n": len(known),
        "questions": len({row.case.question for row, _ in known}),
        "raters": len({rater for row in rows for rater in row.raters}),
        "no_majority": sum(row.label is None for row in rows),
        "unscored": dict(Counter(v.reason for v in verdicts if v.label is None).most_common()),
        "agreement": agreement([(row.case.question, str(row.label), str(v.label)) for row, v in known]),
        "auc": _auc(known),
        "confusion": _confusion(known),
        "people": people(rows),
        "rates": _rates(known),
        "floor": None if rounds.floor is None else plain(checks.floor(swapped, rounds.floor)),
        "length": plain(checks.length_slope(rows, verdicts)),
        "repeated": None if rounds.again is None else plain(checks.consistency(cases, verdicts, rounds.again)),
        "reordered": None if rounds.reversed is None else plain(checks.consistency(cases, verdicts, rounds.reversed)),
    }


def agreement(pairs: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Agreement of two labellings, clustered by question.

    Args:
        pairs: (question, people's label, the judge's label).

    Returns:
        `accuracy` and `kappa` over the three labels; per label `kappa` (this one or not), `found` (share of people's
        that the judge gives too), `right` (share of the judge's that people give too) and counts.
    """
    questions = [question for question, _, _ in pairs]
    truth, said = [label for _, label, _ in pairs], [label for _, _, label in pairs]
    found: dict[str, Any] = {
        "accuracy": plain(stats.rate([float(a == b) for a, b in zip(truth, said, strict=True)], questions)),
        "kappa": plain(stats.cohen_kappa(truth, said, clusters=questions)),
    }
    for label in LABELS:
        a, b = [one == label for one in truth], [one == label for one in said]
        found[label] = {
            "kappa": plain(stats.cohen_kappa(a, b, clusters=questions)),
            "found": plain(_among(a, b, questions)),
            "right": plain(_among(b, a, questions)),
            "people": sum(a),
            "judge": sum(b),
        }
    return found


def _among(of: Sequence[bool], hit: Sequence[bool], questions: Sequence[str]) -> Interval:
    here = [number for number, one in enumerate(of) if one]
    return stats.rate([float(hit[number]) for number in here], [questions[number] for number in here])


def people(rows: Sequence[Labelled]) -> list[dict[str, Any]]:
    """The agreement of every two raters on the claims that both labelled, as for a judge."""
    raters = sorted({rater for row in rows for rater in row.raters})
    found = []
    for first, second in combinations(raters, 2):
        pairs = [
            (row.case.question, str(row.raters[first]), str(row.raters[second]))
            for row in rows
            if row.raters.get(first) and row.raters.get(second)
        ]
        if pairs:
            found.append({"raters": [first, second], "n": len(pairs), **agreement(pairs)})
    return found


def _auc(known: Sequence[tuple[Labelled, Verdict]]) -> list[float | None] | None:
    """Of a graded judge: how well its score tells the claims that people call entailed."""
    if any(verdict.score is None for _, verdict in known):
        return None
    scores = np.array([verdict.score for _, verdict in known], dtype=float)
    questions = [row.case.question for row, _ in known]
    return plain(stats.auc(scores, [row.label == ENTAILED for row, _ in known], np.array(questions)))


def _confusion(known: Sequence[tuple[Labelled, Verdict]]) -> dict[str, dict[str, int]]:
    counts = Counter((row.label, verdict.label) for row, verdict in known)
    return {label: {said: counts[label, said] for said in LABELS} for label in LABELS}


def _rates(known: Sequence[tuple[Labelled, Verdict]]) -> dict[str, dict[str, Any]]:
    """What a judge's errors do to the rates that it counts: its own beside people's."""
    must = [(row, verdict) for row, verdict in known if row.case.importance == MUST_HAVE]
    found = {}
    for name, label, rows in (("must_have_entailed", ENTAILED, must), ("contradicted", CONTRADICTED, known)):
        questions = [row.case.question for row, _ in rows]
        found[name] = {
            "judge": plain(stats.rate([float(verdict.label == label) for _, verdict in rows], questions)),
            "people": plain(stats.rate([float(row.label == label) for row, _ in rows], questions)),
        }
    return found


def _because(verdicts: Sequence[Verdict]) -> str:
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.label is None)
    return f" ({', '.join(f'{count} {reason}' for reason, count in reasons.most_common())})" if reasons else ""


@overload
def plain(value: Interval) -> list[float | None]: ...
@overload
def plain(value: object) -> object: ...
def plain(value: object) -> object:
    """Named tuples as dictionaries, intervals as three numbers to four digits, NaN as None."""
    if isinstance(value, Interval):
        return [round(float(x), 4) if math.isfinite(x) else None for x in value]
    if hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    return value


def line(card: Mapping[str, Any]) -> str:
    """The card in one sentence, for tables."""
    kappa, entailed = card["agreement"]["kappa"], card["agreement"][ENTAILED]
    against = card["agreement"][CONTRADICTED]
    among = [pair["kappa"][0] for pair in card["people"] if pair["kappa"][0] is not None]
    beside = f", people among themselves {min(among):.2f} to {max(among):.2f}" if among else ""
    missed = (
        f"; it gives {against['judge']} of the {card['n']} claims as contradicted, people {against['people']}"
        if against["people"]
        else ""
    )
    told = f"; finds {100 * entailed['found'][0]:.0f}% of what people call entailed" if entailed["people"] else ""
    floor = f"; answers to other questions earn {100 * card['floor']['entailed'][0]:.1f}%" if card.get("floor") else ""
    return (
        f"{card['judge']} on {card['n']} claims of {card['questions']} questions: kappa {shown(kappa)}{beside}"
        f"{told}{missed}{floor}."
    )


def shown(value: Sequence[float | None]) -> str:
    """``0.42 [0.30, 0.54]``."""
    if value[0] is None:
        return "not defined"
    bounds = f" [{value[1]:.2f}, {value[2]:.2f}]" if value[1] is not None and value[2] is not None else ""
    return f"{value[0]:.2f}{bounds}"


def lexical_card() -> dict[str, Any]:
    """The shipped card of the lexical baseline."""
    card: dict[str, Any] = json.loads(files("medbench.claims").joinpath("lexical_card.json").read_text("utf-8"))
    return card


_INTERVAL = [(float, None)] * 3
# What is read of a card.
_SHAPE = {
    "judge": str,
    "n": int,
    "questions": int,
    "people": [{"kappa": _INTERVAL}],
    "agreement": {
        "kappa": _INTERVAL,
        ENTAILED: {"found": _INTERVAL, "people": int},
        CONTRADICTED: {"judge": int, "people": int},
    },
    "floor": (None, {"entailed": _INTERVAL}),
}


def load(path: str | Path) -> dict[str, Any]:
    """A stored card.

    Raises:
        MedbenchError: the file is missing, no JSON, or another kind of file.
    """
    return read_card(path, KIND, "no card of a judge", "medbench judge calibrate FILE", _SHAPE)
