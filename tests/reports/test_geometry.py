"""The report's section on the adapters' geometry, from the files of `medbench geometry`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medbench.reports.estimates import Analysis
from medbench.reports.gap import geometry
from medbench.reports.sources import load_sources

FIGURES = {
    "cosine": 0.02, "energy_1": 3.0, "energy_2": 4.0, "column_overlap": 0.31, "column_chance": 0.01,
    "row_overlap": 0.02, "row_chance": 0.01, "sign_conflict": 0.5, "bf16_kept": 0.39, "bf16_unchanged": 0.8,
}  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    rows = [{"weight": f"model.layers.{n}.q_proj.weight", "kind": "q_proj", "layer": n, **FIGURES} for n in range(3)]
    document = {
        "adapters": ["pt", "sft"], "weights": {"pt": 0.3, "sft": 0.7}, "all": FIGURES, "by_kind": {"q_proj": FIGURES},
        "by_weight": rows, **changes,
    }  # fmt: skip
    (folder / "geometry.json").write_text(json.dumps(document))
    (folder / "manifest.json").write_text(json.dumps({"kind": "geometry"}))
    return folder


def test_the_section_says_what_the_file_holds(analysis: Analysis, study_logs: Path, tmp_path: Path) -> None:
    notices: list[Any] = []
    folder = write(tmp_path / "geometry")
    sources = load_sources(str(study_logs), None, (str(folder),), notices)
    found = geometry.section(analysis, sources)
    assert not notices
    assert "they share directions" in found.findings[0]
    assert "39" in found.findings[0]
    assert "0.3 pt + 0.7 sft" in found.findings[0]
    assert [row[0] for row in found.tables[0].rows] == ["q_proj", "all"]
    assert [list(line.x) for line in found.charts[0].series] == [[0, 1, 2]] * 3
    assert str(folder / "geometry.json") in sources.hashes


def test_without_the_file_or_with_a_damaged_one(analysis: Analysis, study_logs: Path, tmp_path: Path) -> None:
    notices: list[Any] = []
    assert "medbench geometry" in str(
        geometry.section(analysis, load_sources(str(study_logs), None, (), notices)).missing
    )
    folder = write(tmp_path / "bad")
    (folder / "geometry.json").write_text('{"adapters": []}')
    sources = load_sources(str(study_logs), None, (str(folder),), notices)
    assert geometry.section(analysis, sources).missing
    assert "cannot be read" in notices[0].text
