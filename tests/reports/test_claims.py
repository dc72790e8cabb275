"""Free text judged claim by claim in the leaderboard: ranked, with its floor, its judge and that judge's card."""

from __future__ import annotations

from pathlib import Path

import pytest
from claim_world import ANSWERS, ITEMS, said, written

from medbench.predictions.importing import import_predictions
from medbench.reports import leaderboard
from medbench.reports.estimates import Analysis, Options
from medbench.reports.rows import load_study
from medbench.reports.sources import Sources

pytestmark = pytest.mark.slow  # reports and logs of whole studies


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claims")
    items = written(folder / "items.jsonl", ITEMS)
    good = written(folder / "good.jsonl", [{"question": q, "prediction": a} for q, a in ANSWERS.items()])
    bad = written(folder / "bad.jsonl", [{"question": q, "prediction": "Ask your doctor."} for q in ANSWERS])
    rows = said(a="entailed", b="neutral", c="contradicted", d="entailed")
    verdicts = written(folder / "v.jsonl", rows)
    for name, file, args in (
        ("good", good, {}),
        ("bad", bad, {}),
        ("replayed", good, {"verdicts": verdicts}),
    ):
        import_predictions(
            file, form="csv", task="kqa", model=name, log_dir=str(folder / "logs"), source=items, task_args=args
        )
    return folder / "logs"


def test_the_leaderboard_ranks_comprehensiveness_beside_its_floor(logs: Path) -> None:
    section = leaderboard.section(Analysis(load_study(str(logs)), Options(resamples=200)), Sources())
    table = next(table for table in section.tables if table.title.startswith("Comprehensiveness on kqa"))
    names = [column.name for column in table.columns]
    assert names == ["Candidate", "Score", "Ranks", "Tied", "Floor", "Contradicted", "Per answer", "Judged"]
    assert [row[0] for row in table.rows] == ["good", "bad"]
    assert table.rows[0][1].estimate == 0.75  # type: ignore[union-attr]
    assert table.rows[0][4].estimate == 0  # type: ignore[union-attr]
    assert "Judged by lexical. Its card: lexical on 222 claims" in table.note


def test_what_another_judge_counted_is_not_ranked_with_it(logs: Path) -> None:
    section = leaderboard.section(Analysis(load_study(str(logs)), Options(resamples=200)), Sources())
    table = next(table for table in section.tables if table.title.startswith("Comprehensiveness on kqa"))
    assert "Not ranked, because decoded or asked in another way: replayed" in table.note
    assert "judged by verdict" in table.note
