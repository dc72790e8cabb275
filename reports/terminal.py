"""A section on the terminal, with rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from medbench.reports.logs import Notice
from medbench.reports.page import Section, show


def _compact(text: str) -> str:
    """A cell that fits eighty columns beside the others: percent and plus signs once, not at each bound."""
    head, bracket, bounds = text.partition(" [")
    return f"{head}{bracket}{bounds.replace('%', '').replace('+', '')}"


def show_section(section: Section, notices: Sequence[Notice], console: Console | None = None) -> None:
    """Print a section's tables, sentences and notes, then what was left out. Markup in names is shown, not obeyed."""
    console = console or Console()
    for table in section.tables:
        drawn = RichTable(
            title=escape(table.title),
            title_justify="left",
            title_style="bold",
            header_style="dim",
            box=None,
            padding=(0, 2, 0, 0),
            pad_edge=False,
        )
        rows = [
            [_compact(show(cell, c.unit)) for cell, c in zip(row, table.columns, strict=True)] for row in table.rows
        ]
        for index, column in enumerate(table.columns):
            # Headings and the candidates' names may be broken over lines; numbers are not.
            widest = max((len(row[index]) for row in rows), default=0) if index else None
            drawn.add_column(
                escape(column.name), justify="left" if column.unit == "text" else "right", min_width=widest
            )
        for row in rows:
            drawn.add_row(*[escape(cell) for cell in row])
        console.print(drawn)
        console.print()
        if table.note:
            console.print(escape(table.note))
    for sentence in section.findings:
        console.print(escape(sentence))
    for note in section.notes:
        console.print(f"[dim]{escape(note)}[/dim]")
    for notice in notices:
        console.print(f"[yellow]note:[/yellow] {escape(notice.text)}")
