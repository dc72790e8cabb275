"""The leaderboard in a terminal: nothing cut off, whatever its width and the names."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from medbench.reports.page import Column, Section, Table
from medbench.reports.terminal import show_section
from medbench.stats import Interval


@pytest.mark.parametrize("width", [80, 160])
def test_numbers_are_whole_and_names_give_way(width: int) -> None:
    name = "organisation/a-model-with-a-very-long-name-7b-instruct [bold]"
    columns = [Column("Candidate"), Column("Score", "rate"), *[Column(f"Rate {i}", "rate") for i in range(4)]]
    table = Table("Accuracy", columns, [[name, Interval(0.657, 0.601, 0.708), 1.0, 0.5, 0.25, 0.125]])
    written = io.StringIO()
    show_section(
        Section("leaderboard", "Leaderboard", tables=[table]), [], Console(file=written, width=width, no_color=True)
    )
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = written.getvalue()
    assert all(number in text for number in ("65.7% [60.1, 70.8]", "100.0%", "50.0%", "25.0%", "12.5%"))
    first_column = lines[2].index("65.7%")
    assert "".join("".join(line[:first_column] for line in lines[2:]).split()) == "".join(name.split())


@pytest.mark.parametrize(("width", "bounded"), [(80, False), (200, True)])
def test_where_there_is_no_room_the_number_that_matters_keeps_its_bounds(width: int, bounded: bool) -> None:
    columns = [Column("Candidate"), Column("Score", "rate", key=True), *[Column(f"Rate {i}", "rate") for i in range(4)]]
    row = ["a model of some name", Interval(0.657, 0.601, 0.708), *[Interval(0.5, 0.451, 0.549)] * 4]
    written = io.StringIO()
    console = Console(file=written, width=width, no_color=True)
    show_section(Section("leaderboard", "Leaderboard", tables=[Table("Accuracy", columns, [row])]), [], console)
    text = written.getvalue()
    assert "65.7% [60.1, 70.8]" in text
    assert "50.0%" in text
    assert ("[45.1, 54.9]" in text) == bounded
    assert max(map(len, text.splitlines())) <= width
