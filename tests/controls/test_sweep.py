"""`cue_controls:` of a study's task: another axis of a sweep, from the file to the report's section."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medbench.errors import MedbenchError
from medbench.provider.loading import MICROLAB
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import controls
from medbench.reports.rows import load_study
from medbench.reports.sources import Sources
from medbench.trainers.study import Study, read_study
from medbench.trainers.study_plan import plan
from medbench.trainers.sweep import sweep

EXAM = {"task": "medbench/microlab_exam", "args": {"facts": "held_back"}}


def study(tmp_path: Path, *tasks: object, **more: object) -> Study:
    document = {
        "base": str(MICROLAB),
        "adapters": {"pt": str(MICROLAB / "pt"), "sft": str(MICROLAB / "sft")},
        "candidates": [{"pt": 0, "sft": 1}],
        "controls": False,
        "tasks": list(tasks),
        **more,
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(document), "utf-8")
    return read_study(file)


def test_a_task_runs_as_it_is_and_under_each_control(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("{}", "utf-8")
    wanted = ["options_only", {"control": "reorder", "orders": 2}, {"control": "rephrase", "rephrased": "r.jsonl"}]
    found = study(tmp_path, {**EXAM, "cue_controls": wanted}, "medbench/microlab_open")
    given = [dict(run.task_args) for run in found.runs]
    assert given == [
        {"facts": "held_back"},
        {"facts": "held_back", "control": "options_only"},
        {"facts": "held_back", "control": "reorder", "orders": 2},
        {"facts": "held_back", "control": "rephrase", "rephrased": str(tmp_path / "r.jsonl")},
        {},
    ]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("option_only", "unknown cue control of medbench/microlab_exam 'option_only'. Did you mean options_only"),
        ([3], "expected a name"),
        ([{"control": "reorder", "order": 2}], "unknown setting of a cue control of .* 'order'. Did you mean orders"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, wanted: object, message: str) -> None:
    with pytest.raises(MedbenchError, match=message):
        study(tmp_path, {**EXAM, "cue_controls": wanted})


def test_a_control_that_the_task_lacks_is_refused_before_anything_runs(tmp_path: Path) -> None:
    found = study(tmp_path, {"task": "medbench/microlab_open", "cue_controls": ["options_only"]})
    with pytest.raises(MedbenchError, match="control"):
        plan(found, tmp_path / "out", None)


def test_a_sweep_over_controls_becomes_the_reports_section(tmp_path: Path) -> None:
    wanted = ["options_only", {"control": "reorder", "orders": 2}]
    found = study(tmp_path, {**EXAM, "cue_controls": wanted}, limit=6, decoding=[{"temperature": 0, "max_tokens": 60}])
    lines = plan(found, tmp_path / "out", None)
    assert "1 tasks, 2 times under a cue control" in lines
    assert "  medbench/microlab_exam under reorder: 12 generations a run" in lines
    success, _ = sweep(found, tmp_path / "out", display="none")
    assert success
    read = load_study(str(tmp_path / "out" / "logs"))
    assert list(read.tables) == ["microlab_exam"]
    assert {c.control: c.table.values["accuracy/answer"].shape for c in read.controls["microlab_exam"]} == {
        "options_only": (1, 6, 1),
        "reorder": (1, 6, 2),
    }
    section = controls.section(Analysis(read, Options(resamples=100)), Sources())
    assert [len(table.rows) for table in section.tables] == [2, 1]
    assert section.tables[1].rows[0][1] == 3  # the exam as it is, and two orders
