"""What a report is made of, before it has a form: sentences, tables and charts that hold numbers, not text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from medbench.stats import Interval

# text: as it is; rate: 0-1, shown as percent; points: a difference of rates, shown in percentage points; score: 0-100,
# also a rate that stands beside scores; change: a difference of scores; share: a ratio shown as percent; p: a p-value;
# count: an integer; number: any other, e.g. AUC.
UNITS = ("text", "rate", "points", "score", "change", "share", "p", "count", "number")


@dataclass(frozen=True)
class Column:
    """A table column.

    Attributes:
        name, unit, help: its heading, the unit its cells are shown in, and what it means.
        bar: whether its intervals are drawn, on one axis for all such columns of the table.
        mark: a value that is drawn on that axis, e.g. chance.
        key: whether it is the number that matters: on a phone it stands beside the row's name.
    """

    name: str
    unit: str = "text"
    help: str = ""
    bar: bool = False
    mark: float | None = None
    key: bool = False

    def __post_init__(self) -> None:
        assert self.unit in UNITS, self.unit


Cell = str | float | int | Interval | None


@dataclass(frozen=True)
class Table:
    """Rows of cells: text, a number, an `Interval`, or None for what does not exist. Sorted by the estimate.

    `open` keeps a long table from being folded away.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    open: bool = False

    @property
    def key(self) -> int:
        """The column of the number that matters: the one marked so, else the first with bars, else the first number."""
        order = [
            *[i for i, column in enumerate(self.columns) if column.key],
            *[i for i, column in enumerate(self.columns) if column.bar],
            *[i for i, column in enumerate(self.columns) if column.unit not in ("text", "count")],
            *[i for i, column in enumerate(self.columns) if column.unit == "count"],
        ]
        return order[0] if order else -1


@dataclass(frozen=True)
class Series:
    """Points of one line or one set of bars; `low` and `high` are its band, where there is one.

    `marks` are values that the points of a ``choice`` chart are compared with, `mark_name` what they are.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marks: Sequence[float] = ()
    mark_name: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart: ``lines`` over a numeric x, ``ranges`` (a dot with its interval per label, one row each), ``stack``
    (signed bars per label), ``scatter``, or ``choice`` (a row per label, a panel per series, each with its own axis).

    `summary` says in a sentence what it shows, for those who do not see it.
    """

    kind: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    summary: str
    reference: float | None = None


@dataclass
class Section:
    """One part of the report.

    Attributes:
        key: its anchor, and its name in the JSON.
        findings: plain sentences computed from the numbers, the most important first.
        missing: in one line, what data is lacking and how to get it, where the section has none.
        notes: how to read it, in small print.
    """

    key: str
    title: str
    findings: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: str | None = None


def show(cell: Cell, unit: str, *, bounds: bool = True) -> str:
    """A cell as text: rates in percent, p-values to three digits, an en dash for nothing.

    Bounds stand in brackets, in the unit of the estimate before them.
    """
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Interval):
        text = show(cell.estimate, unit)
        if not math.isfinite(cell.estimate):
            return text
        if not bounds or not (math.isfinite(cell.low) and math.isfinite(cell.high)):
            return text
        low, high = (show(bound, unit).removesuffix("%") for bound in (cell.low, cell.high))
        return f"{text} [{low}, {high}]"
    if not math.isfinite(cell):
        return "–"
    if unit == "rate":
        return f"{100 * cell:.1f}%"
    if unit == "share":
        return f"{_rounded(100 * cell, 0)}%"
    if unit == "points":
        return _signed(100 * cell)
    if unit == "change":
        return _signed(cell)
    if unit == "score":
        return _rounded(cell, 1)
    if unit == "p":
        return "<0.001" if cell < 0.001 else f"{cell:.3f}"
    if unit == "count":
        return f"{int(cell):,}"
    return _rounded(cell, 2)


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _signed(value: float) -> str:
    """With its sign, but for what rounds to nothing."""
    return "0.0" if round(value, 1) == 0 else f"{value:+.1f}".replace("-", "−")


def span(interval: Interval | Sequence[float], unit: str) -> str:
    """An interval's bounds in words: ``1.2 to 3.4``."""
    return f"{show(float(interval[1]), unit)} to {show(float(interval[2]), unit)}"


def p_text(value: float) -> str:
    """A p-value in a sentence: ``p = 0.012``, ``p < 0.001``."""
    text = show(value, "p")
    return f"p {text[0]} {text[1:]}" if text.startswith("<") else f"p = {text}"


def names(items: Sequence[str], most: int = 4) -> str:
    """A list in prose: ``a, b and c``; ``a, b, c, d and 5 more``."""
    items = list(items)
    if len(items) > most:
        return f"{', '.join(items[:most])} and {len(items) - most} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def plain(value: object) -> object:
    """Values for JSON: NaN and infinities become null, dataclasses and named tuples become objects."""
    if isinstance(value, Interval):
        return {"estimate": plain(value.estimate), "low": plain(value.low), "high": plain(value.high)}
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
