"""The report as Markdown, for a pull request or a model card: verdict, leaderboard, and one table per section."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medbench.reports.page import Section, Table, show
from medbench.reports.report import Report

# A model card is read in one go: longer tables are cut, and say so.
_MOST_ROWS = 12
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!])")


def render(report: Report) -> str:
    """Markdown with everything that came from logs escaped."""
    parts = [f"# {escape(report.headline)}", *[sentence(text) for text in report.lead]]
    parts.append("\n".join(f"- **{escape(n)}**: {escape(value)} ({escape(small)})" for n, value, small in report.facts))
    if report.notices:
        parts.append("## Left out or to be read with care")
        parts.append("\n".join(f"- {sentence(notice.text)}" for notice in report.notices))
    shown = [section for section in report.sections if section.missing is None]
    for section in shown:
        parts += _section(section, report.lead)
    lacking = [
        section for section in report.sections if section.missing is not None and section.missing not in report.lead
    ]
    if lacking:
        parts.append("## Not in these logs")
        parts.append("\n".join(f"- **{escape(s.title)}**: {sentence(s.missing or '')}" for s in lacking))
    return "\n\n".join(parts) + "\n"


def _section(section: Section, lead: Sequence[str]) -> list[str]:
    parts = [f"## {section.title}"]
    parts += [sentence(text) for text in section.findings if text not in lead]
    parts += [_table(table) for table in section.tables]
    parts += [f"<small>{sentence(note)}</small>" for note in section.notes]
    return parts


def sentence(text: str) -> str:
    """A sentence with what stands in backquotes as code, all else escaped. An odd backquote stays itself."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return "".join(f"`{' '.join(part.split())}`" if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _table(table: Table) -> str:
    lines = [
        f"**{escape(table.title)}**",
        "",
        _row([escape(column.name) for column in table.columns]),
        _row(["---" if column.unit == "text" else "---:" for column in table.columns]),
    ]
    for row in table.rows[:_MOST_ROWS]:
        lines.append(_row([escape(show(c, column.unit)) for c, column in zip(row, table.columns, strict=True)]))
    if len(table.rows) > _MOST_ROWS:
        lines += ["", f"{len(table.rows) - _MOST_ROWS} more rows are in report.html and report.json."]
    if table.note:
        lines += ["", escape(table.note)]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    flat = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", flat)
