"""Hashes and commands: what a reader needs to make the numbers again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import simulated_logs as sim

from medbench.reports.estimates import Options
from medbench.reports.provenance import command_of
from medbench.reports.report import build
from medbench.reports.rows import load_study

QUICK = Options(resamples=100)


def logged(directory: Path, name: str, **given: Any) -> None:
    log = sim.log(sim.Candidate(name), "medqa", 6, medbench=False)
    for key, value in given.items():
        setattr(log.eval, key, value)
    sim.write(log, directory, name)


def test_the_log_tells_its_command(tmp_path: Path) -> None:
    logged(
        tmp_path,
        "one",
        task="medqa",
        task_file="tasks/medqa.py",
        model="medbench/DIR",
        model_args={"adapters": ["pt=a:0.3", "sft=b:0.7"], "api_key": "sk-1", "hook": {"no": "value"}},
        task_args={"shuffle": 3, "thinking": "on", "fewshot": 0},
        task_args_passed={"shuffle": 3, "thinking": "on"},
    )
    run = load_study(str(tmp_path)).runs[0]
    assert command_of(run) == (
        "inspect eval tasks/medqa.py@medqa --model medbench/DIR -M adapters=pt=a:0.3,sft=b:0.7 -M 'api_key=(withheld)' "
        "-M 'hook=(withheld)' -T 'shuffle=(withheld)' -T thinking=on "
        "--temperature 0.6 --top-p 0.8"
    )


def test_an_import_and_a_sweep_tell_theirs(tmp_path: Path) -> None:
    logged(
        tmp_path / "import",
        "my model",
        metadata={
            "import": {"file": "my preds.jsonl", "format": "llamafactory"},
            "medbench": {"candidate": "my model"},
        },
    )
    found = command_of(load_study(str(tmp_path / "import")).runs[0])
    assert found == "medbench import 'my preds.jsonl' --format llamafactory --task medqa --model 'my model'"
    sim.write(sim.log(sim.STUDY[1], "medqa", 6), tmp_path / "sweep")
    assert command_of(load_study(str(tmp_path / "sweep")).runs[0]) == "medbench sweep (candidate mix-0.3)"


def test_hashes_of_logs_and_chat_templates_are_shown(tmp_path: Path) -> None:
    for name, template in (("one", "a" * 64), ("two", "b" * 64)):
        log = sim.log(sim.Candidate(name), "medqa", 6)
        for sample in log.samples or []:
            sample.output.metadata = {"chat_template_sha256": template}
        log.eval.metadata["medbench"]["hashes"] = {"pt": "c" * 64}  # type: ignore[index]
        sim.write(log, tmp_path, name)
    section = build(str(tmp_path), options=QUICK, with_items=False).sections[-1]
    table = next(t for t in section.tables if t.title == "Logs in use")
    rows = [dict(zip([c.name for c in table.columns], row, strict=True)) for row in table.rows]
    assert [row["Hashes"] for row in rows] == [
        "chat template aaaaaaaaaaaa, pt cccccccccccc",
        "chat template bbbbbbbbbbbb, pt cccccccccccc",
    ]
    for row in rows:
        digest = hashlib.sha256((tmp_path / str(row["Log"])).read_bytes()).hexdigest()
        assert row["SHA-256"] == digest[:16]
    assert any("2 chat templates (aaaaaaaaaaaa for one; bbbbbbbbbbbb for two)" in s for s in section.findings)
