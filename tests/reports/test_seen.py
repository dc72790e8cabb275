"""The section on leaks seen from the model: joined by sample id, quarters and AUC against their definitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medbench.errors import MedbenchError
from medbench.reports.estimates import Analysis
from medbench.reports.gap import seen
from medbench.reports.page import Interval, Section
from medbench.reports.sources import Sources, load_sources


def written(directory: Path, rows: list[dict[str, object]], **summary: object) -> Path:
    directory.mkdir()
    (directory / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {"test": "options", "against": "orders", "p": 0.0001, "p_holm": 0.0006}
    known = {"model": "medbench/m", "task": "t", "items": {"items": len(rows)}, "results": [result], "leak_shown": []}
    (directory / "summary.json").write_text(json.dumps({**known, **summary}))
    return directory


def section(analysis: Analysis, sources: Sources) -> Section:
    return seen.section(analysis, sources)


def test_accuracy_of_the_highest_quarter_is_joined_by_sample_id(analysis: Analysis, tmp_path: Path) -> None:
    task, table = next((t, x) for t, x in analysis.study.tables.items() if x.has("accuracy/answer"))
    rng = np.random.default_rng(0)
    scores = {item: float(value) for item, value in zip(table.items, rng.normal(size=len(table.items)), strict=True)}
    # In another order than the logs, with an item that no log has, and without the last score
    rows = [{"item_id": item, "min_k": scores[item]} for item in reversed(table.items)] + [{"item_id": "x", "min_k": 9}]
    rows[0]["min_k"] = None
    directory = written(tmp_path / "c", rows, leak_shown=["options/orders"])
    sources = load_sources(analysis.study.location, None, (), [], (str(directory),))
    found = section(analysis, sources)
    assert "1 of 1 tests show that the model has read the set" in found.findings[0]
    row = next(row for row in found.tables[0].rows if row[0] == task and row[3] == table.candidates[0])
    known = table.items[:-1]
    ordered = sorted(known, key=lambda item: -scores[item])
    means = dict(zip(table.items, table.item_means("accuracy/answer")[0], strict=True))
    border = np.quantile([scores[item] for item in known], 0.75)
    top = [means[item] for item in ordered if scores[item] >= border]
    rest = [means[item] for item in ordered if scores[item] < border]
    assert (row[4], row[6]) == (len(top), len(rest))
    assert row[5].estimate == pytest.approx(100 * np.mean(top))  # type: ignore[union-attr]
    assert row[7].estimate == pytest.approx(100 * np.mean(rest))  # type: ignore[union-attr]
    assert row[5].low < row[5].estimate < row[5].high  # type: ignore[union-attr]
    assert str(directory / "items.jsonl") in sources.hashes


def test_scores_stand_beside_the_corpus_findings(analysis: Analysis, tmp_path: Path) -> None:
    table = next(x for x in analysis.study.tables.values() if x.has("accuracy/answer"))
    leaked = table.items[:10]
    rows = [{"item_id": item, "codec": float(item in leaked)} for item in table.items]
    sources = load_sources(analysis.study.location, None, (), [], (str(written(tmp_path / "c", rows)),))
    sources.findings = {item: [{"field": "question"}] for item in leaked} | {table.items[20]: [{"field": "context"}]}
    found = section(analysis, sources)
    beside = next(table for table in found.tables if "findings in the corpus" in table.title)
    assert beside.rows[0][3] == 10
    area = beside.rows[0][-1]
    assert isinstance(area, Interval)
    assert area.estimate == 1.0
    assert area.low < 0.9


def test_ties_and_what_is_missing(analysis: Analysis, tmp_path: Path) -> None:
    assert seen.highest(np.array([0.0] * 9 + [1.0, 2.0, np.nan])).tolist() == [False] * 9 + [True, True, False]
    assert not seen.highest(np.zeros(10)).any()
    assert "medbench contamination" in (section(analysis, Sources()).missing or "")
    directory = written(tmp_path / "c", [{"item_id": "nowhere", "min_k": 1.0}])
    sources = load_sources(analysis.study.location, None, (), [], (str(directory),))
    assert any("join by sample id" in sentence for sentence in section(analysis, sources).findings)
    with pytest.raises(MedbenchError, match="no such file"):
        load_sources(analysis.study.location, None, (), [], (str(tmp_path),))
    (directory / "summary.json").write_text("{}")
    with pytest.raises(MedbenchError, match="was not written by"):
        load_sources(analysis.study.location, None, (), [], (str(directory),))
