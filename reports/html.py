"""The report as one HTML file that asks for nothing else: styles, script, charts and items are inside."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from medbench.reports import glossary, svg
from medbench.reports.page import Cell, Column, Table, show
from medbench.reports.report import Report
from medbench.reports.text import visible
from medbench.stats import Interval

_TEMPLATES = Path(__file__).parent / "templates"
# Longer tables are folded away until asked for, on paper too.
_OPEN_ROWS = 14


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        draw=svg.draw,
        show=show,
        sort_key=sort_key,
        axis=axis_of,
        interval=Interval,
        numeric=_is_numeric,
        embed=embed,
        open_rows=_OPEN_ROWS,
        long=_is_long,
        prose=prose,
        fresh=set,
        term=glossary.anchor_of,
        terms=glossary.TERMS,
    )
    return environment


def render(report: Report, title: str = "medbench report") -> str:
    """The page. Nothing in it comes from elsewhere, and its policy lets only its own script and styles run."""
    style = (_TEMPLATES / "report.css").read_text("utf-8")
    script = (_TEMPLATES / "report.js").read_text("utf-8")
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    template = _environment().get_template("report.html.j2")
    page = template.render(
        report=report, title=title, style=Markup(style), script=Markup(script), policy=Markup(policy)
    )
    # Whatever field it came from: no control character and no direction mark stays in the page.
    return visible(page)


def embed(value: object) -> Markup:
    """JSON inside a <script> element: no character that could end the element or start a comment in it."""
    text = json.dumps(_visible(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def prose(text: str, seen: set[str]) -> Markup:
    """A sentence with what stands in backquotes as code, and the first use of a term linked to the glossary.

    Everything in it is escaped; an odd backquote stays itself. `seen`: the terms that are linked already.
    """
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return _linked(text, seen)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 else _linked(piece, seen) for i, piece in enumerate(pieces)
    )


def _linked(text: str, seen: set[str]) -> Markup:
    return Markup("").join(
        Markup('<a class="term" href="#g-{}">{}</a>').format(anchor, piece) if anchor else escape(piece)
        for piece, anchor in glossary.parts(text, seen)
    )


def _visible(value: object) -> object:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): _visible(item) for key, item in value.items()}
    return [_visible(item) for item in value] if isinstance(value, list) else value


def sort_key(cell: Cell) -> str:
    """What a cell is sorted by in the browser: the estimate's number, or the text."""
    value = cell.estimate if isinstance(cell, Interval) else cell
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return repr(float(value)) if math.isfinite(value) else ""


def _is_long(cell: Cell) -> bool:
    """Whether a cell holds words that want more room than a narrow column gives."""
    return isinstance(cell, str) and len(cell) > 24


def _is_numeric(column: Column) -> bool:
    return column.unit != "text"


def axis_of(table: Table) -> svg.BarAxis | None:
    """The axis that all drawn intervals of a table share; None where nothing is drawn."""
    drawn = [(i, column) for i, column in enumerate(table.columns) if column.bar]
    cells = [row[i] for i, _ in drawn for row in table.rows]
    bounds = [bound for cell in cells if isinstance(cell, Interval) for bound in (cell.low, cell.high)]
    if not any(math.isfinite(bound) for bound in bounds):
        return None
    mark = next((column.mark for _, column in drawn if column.mark is not None), None)
    return svg.BarAxis(bounds, drawn[0][1].unit in ("rate", "share"), mark)


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode()}"
