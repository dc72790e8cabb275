"""The report as one HTML file that asks for nothing else: styles, script, charts and items are inside."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from medbench.reports import svg
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
        bar=_bar,
        numeric=_is_numeric,
        embed=embed,
        open_rows=_OPEN_ROWS,
        code=code,
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
    return template.render(
        report=report, title=visible(title), style=Markup(style), script=Markup(script), policy=Markup(policy)
    )


def embed(value: Any) -> Markup:
    """JSON inside a <script> element: no character that could end the element or start a comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def code(text: str) -> Markup:
    """A sentence with what stands in backquotes as code; everything in it escaped. An odd backquote stays itself."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def sort_key(cell: Cell) -> str:
    """What a cell is sorted by in the browser: the estimate's number, or the text."""
    value = cell.estimate if isinstance(cell, Interval) else cell
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return repr(float(value)) if math.isfinite(value) else ""


def _is_numeric(column: Column) -> bool:
    return column.unit != "text"


def _bar(table: Table, index: int, cell: Cell) -> Markup:
    """The interval of a cell drawn on its column's common axis."""
    cells = [row[index] for row in table.rows]
    known = [c for c in cells if isinstance(c, Interval) and all(math.isfinite(x) for x in c)]
    if not isinstance(cell, Interval) or cell not in known:
        return Markup("")
    return svg.interval_bar(cell.low, cell.estimate, cell.high, min(c.low for c in known), max(c.high for c in known))


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode()}"
