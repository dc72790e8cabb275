"""What people say of a surface score stands once beside its table, in every form of the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from medbench.cli import cli
from medbench.meta.card import shipped
from medbench.meta.line import lines
from medbench.reports import html, leaderboard, markdown
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import floor
from medbench.reports.report import build, check
from medbench.reports.sources import Sources
from medbench.reports.write import write


def own_card(path: Path) -> Path:
    card = json.loads(json.dumps(shipped()[0])) | {"name": "our <own> ratings"}
    path.write_text(json.dumps(card), "utf-8")
    return path


def test_each_surface_table_of_the_leaderboard_has_its_line_once(analysis: Analysis) -> None:
    section = leaderboard.section(analysis, Sources())
    tables = [table for table in section.tables if table.title.startswith(("BLEU-4", "ROUGE-L"))]
    assert tables
    for table in tables:
        metric = "bleu4" if table.title.startswith("BLEU-4") else "rougeL"
        assert table.note.count("What people say: ") == 1
        assert lines([metric], "standard")[0] in table.note
    others = [table for table in section.tables if table not in tables]
    assert others
    assert not any("What people say" in table.note for table in others)


def test_the_floor_tables_say_it_for_the_profile_that_they_show(analysis: Analysis) -> None:
    for table in floor.section(analysis, Sources()).tables:
        profile = "llamafactory" if "paper's profile" in table.title else "standard"
        assert lines(["bleu4", "rougeL", "rouge1", "rouge2"], profile)[0] in table.note


@pytest.mark.slow
def test_a_named_card_takes_the_place_of_the_shipped_ones(study_logs: Path, tmp_path: Path) -> None:
    card = own_card(tmp_path / "card.json")
    built = build(str(study_logs), cards=(str(card),), options=Options(resamples=100), with_items=False)
    page, text = html.render(built), markdown.render(built)
    assert "our &lt;own&gt; ratings" in page
    assert "our <own> ratings" not in page
    assert "our &lt;own&gt; ratings" in text
    assert 'href="#g-people"' in page
    assert str(card) in built.sources
    write(built, tmp_path / "report", settings={})
    assert check(tmp_path / "report", str(study_logs), None, (), None, cards=(str(card),)) == []
    assert check(tmp_path / "report", str(study_logs), None, (), None) != []


@pytest.mark.parametrize("command", ["leaderboard", "report"])
def test_a_card_that_is_none_is_refused_before_the_logs_are_read(
    study_logs: Path, tmp_path: Path, command: str
) -> None:
    out = ["--out", str(tmp_path / "out")] if command == "report" else []
    done = CliRunner().invoke(cli, [command, str(study_logs), "--card", str(tmp_path / "none.json"), *out])
    assert "does not exist; write one with `medbench meta FILE`" in str(done.exception)
    assert not (tmp_path / "out").exists()
