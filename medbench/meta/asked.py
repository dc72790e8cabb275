"""How the human columns are named on the command line: facets, raters, scales, labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from medbench.errors import MedbenchError, unknown
from medbench.meta.columns import as_number

_SCALE = re.compile(r"(.+):\s*(-?\d+(?:\.\d+)?)\s*-\s*(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Facet:
    """One thing that people judge.

    Attributes:
        columns: a column per rater, or the one column of all raters.
        scale: least and highest rating, or None: as they come.
        same_as: instead of ratings, whether the column says the same as this one.
    """

    columns: tuple[str, ...]
    scale: tuple[float, float] | None = None
    same_as: str | None = None

    @property
    def name(self) -> str:
        """How it is called in a card."""
        return f"{self.columns[0]} same as {self.same_as}" if self.same_as else ", ".join(self.columns)


@dataclass(frozen=True)
class Labels:
    """How cells become values.

    Attributes:
        numbers: label (casefolded) -> number; empty where ratings are numbers already, or labels have no order.
        names: label (casefolded) -> its spelling, the labels that are allowed; empty: any.
        positive: the labels that count as positive, casefolded; empty: see `at_least`.
        at_least: the value from which a rating counts as positive; None: the middle of the scale.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    positive: tuple[str, ...] = ()
    at_least: float | None = None


def parse_facets(given: Sequence[str], known: Sequence[str], file: object) -> list[Facet]:
    """Facets as named on the command line: ``C``, ``C1,C2`` (raters), ``C:0-2`` (its scale), ``A=B`` (say the same).

    Raises:
        MedbenchError: an unknown column, or a scale whose end is not above its beginning.
    """
    facets = []
    for text in given:
        names, scale, same_as = text, None, None
        if text not in known:
            found = _SCALE.fullmatch(text)
            if found:
                names, scale = found[1], (float(found[2]), float(found[3]))
                if scale[0] >= scale[1]:
                    raise MedbenchError(f"--human {text}: the scale must rise, as in {names}:0-2.")
            elif "=" in text:
                names, _, same_as = (part.strip() for part in text.partition("="))
        columns = (names,) if names in known else tuple(part.strip() for part in names.split(",") if part.strip())
        for name in (*columns, *([same_as] if same_as else [])):
            if name not in known:
                raise MedbenchError(f"{file}: {unknown('column', name, known)}")
        if len(set(columns)) < len(columns):
            raise MedbenchError(f"--human {text}: names a column twice; a rater counts once.")
        facets.append(Facet(columns, scale, same_as))
    return facets


def parse_labels(labels: str | None, positive: str | None) -> Labels:
    """``--labels A=1,B=0`` (numbers) or ``A,B,C`` (all that there are), and ``--positive A[,B]`` or ``>=1``.

    Raises:
        MedbenchError: some labels with a number and some without, or no number after ``>=``.
    """
    numbers, names = {}, {}
    for part in filter(None, (part.strip() for part in (labels or "").split(","))):
        name, equals, number = part.partition("=")
        names[name.strip().casefold()] = name.strip()
        if equals:
            value = as_number(number)
            if value is None:
                raise MedbenchError(f"--labels: {part!r} needs a number after the sign, as in Entailment=1.")
            numbers[name.strip().casefold()] = value
    if numbers and len(numbers) < len(names):
        raise MedbenchError("--labels: give every label a number (A=1,B=0), or none (A,B).")
    if positive is not None and positive.strip().startswith(">="):
        bound = as_number(positive.strip()[2:])
        if bound is None:
            raise MedbenchError(f"--positive {positive}: expected a number after >=, as in >=1.")
        return Labels(numbers, names, at_least=bound)
    wanted = tuple(part.strip().casefold() for part in (positive or "").split(",") if part.strip())
    for name in wanted:
        if names and name not in names:
            raise unknown("label in --positive", name, names.values())
    return Labels(numbers, names, wanted)
