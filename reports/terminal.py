"""A section on the terminal, with rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from medbench.reports.logs import Notice
from medbench.reports.page import Section, Table, show
from medbench.reports.text import visible


def _drawn(table: Table, width: int) -> RichTable:
    """A table in so many columns of the terminal: the first cell of a row gives way, numbers are never broken."""
    cells = _cells(table, bounded=True)
    widths = _widths(table, cells)
    # The first column can give way down to eight characters; where that is not enough, only the number that matters
    # keeps its bounds: the report has all of them.
    if sum(widths[1:]) + len(widths) + 8 > width:
        cells = _cells(table, bounded=False)
        widths = _widths(table, cells)
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= width else 1
    left = max(8, width - sum(widths[1:]) - gap * (len(widths) - 1))
    drawn = RichTable(
        title=Text(visible(table.title)),
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        padding=(0, gap, 0, 0),
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        justify: Literal["left", "right"] = "left" if column.unit == "text" else "right"
        if index:
            drawn.add_column(Text(column.name), justify=justify, min_width=widths[index])
        else:
            drawn.add_column(Text(column.name), max_width=min(left, widths[0]), overflow="fold")
    for row in cells:
        drawn.add_row(*[Text(visible(cell)) for cell in row])
    return drawn


def _cells(table: Table, bounded: bool) -> list[list[str]]:
    return [
        [
            _compact(show(cell, column.unit, bounds=bounded or index == table.key))
            for index, (cell, column) in enumerate(zip(row, table.columns, strict=True))
        ]
        for row in table.rows
    ]


def _widths(table: Table, cells: list[list[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip([c.name for c in table.columns], *cells, strict=True)]


def _compact(text: str) -> str:
    """A cell that fits eighty columns beside the others: percent and plus signs once, not at each bound."""
    head, bracket, bounds = text.partition(" [")
    return f"{head}{bracket}{bounds.replace('%', '').replace('+', '')}"


def show_section(section: Section, notices: Sequence[Notice], console: Console | None = None) -> None:
    """Print a section's sentences, tables and notes, then what was left out. Markup in names is shown, not obeyed."""
    console = console or Console(markup=False)
    for sentence in section.findings:
        console.print(Text(visible(sentence)))
    if section.findings:
        console.print()
    for table in section.tables:
        console.print(_drawn(table, console.width))
        console.print()
        if table.note:
            console.print(Text(table.note))
    for note in section.notes:
        console.print(Text(visible(note), style="dim"))
    for notice in notices:
        console.print(Text.assemble(("note:", "yellow"), " ", visible(notice.text)))
