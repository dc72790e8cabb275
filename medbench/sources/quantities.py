"""Answers that are a quantity: a number, a date, or weeks and days; how they are written, and when two agree."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Literal

Kind = Literal["number", "date", "weeks_days"]
KINDS: tuple[Kind, ...] = ("number", "date", "weeks_days")


@dataclass(frozen=True)
class Quantity:
    """One quantity.

    Attributes:
        kind: which of the three.
        value: of a number; days of a date (its ordinal) and of weeks and days.
        percent: the number is written with a percent sign.
    """

    kind: Kind
    value: float
    percent: bool = False

    def __str__(self) -> str:
        if self.kind == "date":
            return date.fromordinal(int(self.value)).strftime("%m/%d/%Y")
        if self.kind == "weeks_days":
            return f"{int(self.value) // 7} weeks {int(self.value) % 7} days"
        return f"{self.value:.12g}{'%' if self.percent else ''}"


def agrees(stated: Quantity, key: Quantity, limits: tuple[float, float] | None) -> bool:
    """Whether a stated quantity counts as the key.

    Args:
        limits: the lowest and highest number that count; None where the number must be the key itself.

    MedCalc-Bench's own rules (`evaluation/evaluate.py`, `check_correctness`): a decimal counts within its limits, both
    included; any other number when it equals the key after Python's rounding to a whole number; a date on the same
    day; weeks and days when both are equal. One thing more than there: a number written with a percent sign counts
    when it, or its hundredth, is within the limits; there it is always divided by 100.
    """
    if stated.kind != key.kind:
        return False
    if stated.kind != "number":
        return stated.value == key.value
    readings = [stated.value, stated.value / 100] if stated.percent else [stated.value]
    if limits is None:
        return any(round(value) == key.value for value in readings)
    return any(min(limits) <= value <= max(limits) for value in readings)


_WEEKS_DAYS = re.compile(
    r"(?<![\d.])(?P<weeks>\d{1,2})\s*(?:(?:weeks?|wks?|w|周)[\s,'\")+&，和-]{0,4}|[\s,'\")+&，]{1,4})"
    r"(?:and\s)?[('\"\s]{0,3}"
    r"(?P<days>\d)\s*(?:days?|d\b|天)?(?![\d.])",
    re.IGNORECASE,
)
_WEEKS = re.compile(r"(?<![\d.])(?P<weeks>\d{1,2})\s*(?:weeks?|wks?|周)", re.IGNORECASE)
_DAYS = re.compile(r"(?<![\d.])(?P<days>\d{1,3})\s*(?:days?|天)", re.IGNORECASE)


def find_weeks_days(text: str) -> tuple[Quantity, tuple[int, int]] | None:
    """Weeks and days, as "(17 weeks, 4 days)", "17 weeks and 4 days", "17w4d", "17+4" or "(17, 4)"; or one of both."""
    match = _WEEKS_DAYS.search(text)
    if match:
        return Quantity("weeks_days", 7 * int(match["weeks"]) + int(match["days"])), match.span()
    match = _WEEKS.search(text)
    if match:
        return Quantity("weeks_days", 7 * int(match["weeks"])), match.span()
    match = _DAYS.search(text)
    return (Quantity("weeks_days", int(match["days"])), match.span()) if match else None


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<!\d)(?P<month>\d{1,2})\s?/\s?(?P<day>\d{1,2})\s?/\s?(?P<year>\d{4}|\d{2})(?!\d)",
        r"(?<!\d)(?P<year>\d{4})\s?[-年]\s?(?P<month>\d{1,2})\s?[-月]\s?(?P<day>\d{1,2})(?!\d)",
        rf"{_MONTH}\s?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s?(?P<year>\d{{4}})(?!\d)",
        rf"(?<!\d)(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?{_MONTH},?\s(?P<year>\d{{4}})(?!\d)",
    )
)


def find_date(text: str) -> tuple[Quantity, tuple[int, int]] | None:
    """The first date, as month/day/year, year-month-day, or with the month's name; years of two digits are 20xx."""
    found = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            month = match["month"]
            number = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
            year = int(match["year"]) + (2000 if len(match["year"]) == 2 else 0)
            try:
                found.append((match.span(), date(year, number, int(match["day"])).toordinal()))
            except ValueError:  # 13/40/2024
                continue
    if not found:
        return None
    span, ordinal = min(found)
    return Quantity("date", ordinal), span


def parse_key(text: str) -> Quantity | None:
    """A key as MedCalc-Bench writes it: ``25.238``, ``06/12/2024`` or ``('17 weeks', '4 days')``; None for others."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return Quantity("number", number) if math.isfinite(number) else None
    for find in (find_date, find_weeks_days):
        found = find(text)
        if found is not None:
            return found[0]
    return None
