"""The report as Markdown, for a pull request or a model card: verdict, leaderboard, and one table per section."""

from __future__ import annotations

import re

from medbench.reports import glossary
from medbench.reports.page import Section, Table, show
from medbench.reports.report import Report
from medbench.reports.text import visible

# A model card is read in one go: longer tables are cut, and say so.
_MOST_ROWS = 12
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!$])")
# At the start of a line these would make a list, a heading of the line above, or a quotation.
_AT_START = re.compile(r"^(\s*)(?:([-+=>])|(\d+)([.)]))")


def render(report: Report) -> str:
    """Markdown with everything that came from logs escaped."""
    opening = report.opening
    parts = [f"# {escape(report.headline)}", *[sentence(text) for text in report.lead]]
    if opening.sure:
        parts += ["## How sure is that?", "\n".join(f"- {sentence(text)}" for text in opening.sure)]
    parts += ["## What was compared", "\n".join(f"- {sentence(text)}" for text in opening.compared)]
    if report.notices:
        parts.append("## Left out or to be read with care")
        parts.append("\n".join(f"- {sentence(notice.text)}" for notice in report.notices))
    shown = [section for section in report.sections if section.missing is None]
    for section in shown:
        parts += _section(section)
    lacking = [
        section for section in report.sections if section.missing is not None and section.missing not in report.lead
    ]
    if lacking:
        parts.append("## Not in these logs")
        parts.append("\n".join(f"- **{escape(s.title)}**: {sentence(s.missing or '')}" for s in lacking))
    parts.append("## Glossary")
    parts.append("\n".join(f"- **{heading}**: {escape(text)}" for heading, _, text in glossary.TERMS.values()))
    return visible("\n\n".join(parts)) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {section.title}"]
    parts += [sentence(text) for text in section.findings]
    parts += [_table(table) for table in section.tables]
    parts += [f"<small>{sentence(note)}</small>" for note in section.notes]
    return parts


def sentence(text: str) -> str:
    """A sentence with what stands in backquotes as code, all else escaped. An odd backquote stays itself."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    pieces = [f"`{' '.join(part.split())}`" if i % 2 else _escaped(part) for i, part in enumerate(parts)]
    return _AT_START.sub(_unlisted, "".join(pieces))


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
    return _AT_START.sub(_unlisted, _escaped(" ".join(text.split())))


def _unlisted(found: re.Match[str]) -> str:
    space, sign, number, mark = found.groups()
    return f"{space}\\{sign}" if sign else f"{space}{number}\\{mark}"


def _escaped(text: str) -> str:
    flat = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An address in a name is no link.
    return _SPECIAL.sub(r"\\\1", flat).replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
