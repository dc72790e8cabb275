"""The file of judged outputs: which columns hold what, and which rows cannot be used and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from medbench.errors import MedbenchError, unknown
from medbench.sources.records import BadRows, Record, read_records

# How tables write that there is nothing; "none" may be a label ("harm: none"), and is no blank.
_BLANK = frozenset({"", "nan", "na", "n/a"})


@dataclass(frozen=True)
class Columns:
    """Which column holds what.

    Attributes:
        prediction, reference: the texts that are compared.
        group: what is resampled and held out together, and within which outputs are compared; None: the reference.
        rater: who judged the row, where each row is one rating; None: a row holds all ratings of its output.
        scores: columns with scores of other metrics or judges.
    """

    prediction: str
    reference: str
    group: str | None = None
    rater: str | None = None
    scores: tuple[str, ...] = ()

    def check(self, known: Sequence[str], file: str | Path) -> None:
        """Raises MedbenchError for a column that the file lacks, with the nearest names."""
        for name in (self.prediction, self.reference, self.group, self.rater, *self.scores):
            if name is not None and name not in known:
                raise MedbenchError(f"{file}: {unknown('column', name, known)}")


@dataclass
class LeftOut:
    """Rows that are not used, by reason.

    Attributes:
        rows: reason -> names of the rows, e.g. ``line 12``.
    """

    rows: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, row: str) -> None:
        """Keep a row for the list."""
        self.rows.setdefault(reason, []).append(row)

    def counts(self) -> dict[str, int]:
        """Reason -> how many rows."""
        return {reason: len(rows) for reason, rows in self.rows.items()}

    def listed(self, most: int = 8) -> list[str]:
        """One line a reason: how many rows, and which."""
        return [
            f"left out, {reason}: {counted(len(rows), 'row')} ({few(rows, most)})" for reason, rows in self.rows.items()
        ]


@dataclass
class Judged:
    """The rows that can be used.

    Attributes:
        rows: the records, in the file's order.
        predictions, references: their texts.
        groups: shape (n,), integers from 0; group_names: what they stand for.
        raters: the rater of each row, or None.
        left_out: rows that are not here.
        read: rows of the file, those left out included.
        notes: what a reader of the figures must know.
    """

    rows: list[Record]
    predictions: list[str]
    references: list[str]
    groups: np.ndarray
    group_names: list[str]
    raters: list[str] | None
    left_out: LeftOut
    read: int
    notes: list[str]


def read_rows(file: str | Path, encoding: str = "utf-8") -> tuple[list[Record], LeftOut]:
    """All rows of a file in any format of `medbench.sources.records`; malformed ones are left out and listed.

    Raises:
        MedbenchError: no row can be read.
    """
    bad = BadRows("skip")
    rows = list(read_records(file, bad_rows=bad, encoding=encoding))
    left_out = LeftOut()
    for problem in bad.rows:
        left_out.add(problem.problem, problem.row)
    if not rows:
        raise MedbenchError(f"{file}: no row can be read; the first problem: {bad.listed()[0]}")
    return rows, left_out


def names_of(rows: Sequence[Record]) -> list[str]:
    """The columns of a file, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.data))


def select(rows: Sequence[Record], left_out: LeftOut, columns: Columns) -> Judged:
    """The rows that hold both texts, a group and a rater. Texts are kept as they stand; an empty one scores 0.

    Raises:
        MedbenchError: no row is left.
    """
    read = len(rows) + sum(left_out.counts().values())
    kept: list[Record] = []
    group_of: list[str] = []
    for row in rows:
        reason = _unusable(row, columns)
        if reason:
            left_out.add(reason, row.row)
            continue
        kept.append(row)
        group_of.append(str(row.data[columns.group or columns.reference]).strip())
    if not kept:
        raise MedbenchError(f"{rows[0].file}: no row can be used. {'; '.join(left_out.listed())}")
    names, groups = np.unique(np.array(group_of, dtype=object).astype(str), return_inverse=True)
    return Judged(
        rows=kept,
        predictions=[row.data[columns.prediction] for row in kept],
        references=[row.data[columns.reference] for row in kept],
        groups=groups.astype(np.int64),
        group_names=[str(name) for name in names],
        raters=[str(row.data[columns.rater]).strip() for row in kept] if columns.rater else None,
        left_out=left_out,
        read=read,
        notes=[],
    )


def empty_texts(judged: Judged, used: np.ndarray) -> list[str]:
    """A note for empty predictions or references among the rows that are used: they score 0."""
    notes = []
    for what, texts in (("prediction", judged.predictions), ("reference", judged.references)):
        empty = [row.row for row, text, here in zip(judged.rows, texts, used, strict=True) if here and not text.strip()]
        if empty:
            notes.append(f"{what} empty, which scores 0, in {counted(len(empty), 'row')} ({few(empty)})")
    return notes


def _unusable(row: Record, columns: Columns) -> str:
    for what, name in (("prediction", columns.prediction), ("reference", columns.reference)):
        value = row.data.get(name)
        if not isinstance(value, str):
            return f"no {what}" if is_blank(value) else f"{what} is no text"
    for what, column in (("group", columns.group), ("rater", columns.rater)):
        if column is not None and is_blank(row.data.get(column)):
            return f"no {what}"
    return ""


def score_column(judged: Judged, name: str) -> np.ndarray:
    """A column of scores, shape (n,), NaN where there is none; what is no number is noted.

    Raises:
        MedbenchError: no row holds a number.
    """
    values = np.full(len(judged.rows), np.nan)
    strange: list[tuple[str, Any]] = []
    for i, row in enumerate(judged.rows):
        value = row.data.get(name)
        number = as_number(value)
        if number is not None:
            values[i] = number
        elif not is_blank(value):
            strange.append((row.row, value))
    if not np.isfinite(values).any():
        raise MedbenchError(f"{judged.rows[0].file}: column {name!r} holds no number in any row that can be used.")
    blank = int(np.sum(~np.isfinite(values))) - len(strange)
    if blank:
        judged.notes.append(f"{name}: {counted(blank, 'row')} without a score")
    if strange:
        judged.notes.append(f"{name}: {counted(len(strange), 'value')} no number: {named_values(strange)}")
    return values


def as_number(value: object) -> float | None:
    """A finite number, or None; ``+1`` and ``" 2 "`` are numbers, ``true`` is none."""
    if isinstance(value, bool) or not isinstance(value, str | bytes | SupportsFloat):
        return None
    try:
        number = float(value.strip()) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def is_blank(value: object) -> bool:
    """Whether a cell holds nothing: empty, null, NaN, or a mark such as ``n/a``."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and value.strip().casefold() in _BLANK


def named_values(strange: Sequence[tuple[str, Any]], most: int = 4) -> str:
    """Odd values with where they stand: ``'?' (2: line 4, line 9)``."""
    counts = Counter(str(value)[:40] for _, value in strange)
    parts = []
    for value, count in counts.most_common(most):
        where = [row for row, other in strange if str(other)[:40] == value]
        parts.append(f"{value!r} ({count}: {few(where, 3)})")
    more = len(counts) - most
    return ", ".join(parts) + (f" and {more} other values" if more > 0 else "")


def few(rows: Sequence[str], most: int = 5) -> str:
    """Names of rows, long lists cut with how many more there are."""
    return ", ".join(rows[:most]) + (f" and {len(rows) - most} more" if len(rows) > most else "")


def counted(count: int, noun: str) -> str:
    """``1 row``, ``1,273 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
