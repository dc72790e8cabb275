"""Where an imported log goes: as a whole or not at all, and once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import inspect_ai
import inspect_ai.log
import pytest
from inspect_ai.log import EvalError, EvalLog, list_eval_logs, read_eval_log

from medbench.errors import MedbenchError
from medbench.files.directories import held
from medbench.predictions import importing
from medbench.predictions.importing import import_predictions

ROWS = [{"prompt": f"Question {n}?", "output": f"<think>{n}</think> An answer."} for n in range(3)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return str(path)


def imported(file: str, logs: Path | str, model: str = "mine") -> str:
    return import_predictions(file, form="plain", task=None, model=model, log_dir=str(logs)).location


def lies(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if "in" not in path.parts)


def test_the_same_import_again_replaces_its_log(file: str, tmp_path: Path) -> None:
    first, other = imported(file, tmp_path / "logs"), imported(file, tmp_path / "logs", "another")
    before = Path(first).stat().st_ino
    assert imported(file, tmp_path / "logs") == first != other
    assert Path(first).stat().st_ino != before
    assert read_eval_log(first).eval.task_id in first
    assert lies(tmp_path) == ["logs", *sorted(f"logs/{Path(log).name}" for log in (first, other))]
    Path(file).write_text(json.dumps(ROWS[0]) + "\n")
    assert imported(file, tmp_path / "logs") not in (first, other)


@pytest.mark.parametrize("step", ["read_eval_log", "write_eval_log", "put"])
def test_an_import_that_is_interrupted_leaves_no_log(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        os._exit(9)  # as a kill: nothing is tidied up

    child = os.fork()
    if not child:
        monkeypatch.setattr(importing if step == "put" else inspect_ai.log, step, stop)
        imported(file, tmp_path / "logs")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert any(name.endswith(".unfinished") for name in lies(tmp_path))
    assert not (tmp_path / "logs").exists() or not list_eval_logs(str(tmp_path / "logs"))
    log = imported(file, tmp_path / "logs")
    assert lies(tmp_path) == ["logs", f"logs/{Path(log).name}"]


def test_two_of_the_same_import_at_once_are_refused(file: str, tmp_path: Path) -> None:
    log = imported(file, tmp_path / "logs")
    name = read_eval_log(log).eval.task_id
    with held(tmp_path / f"logs.{name}"):
        with pytest.raises(MedbenchError, match="another process is writing"):
            imported(file, tmp_path / "logs")
        imported(file, tmp_path / "logs", "another")


def test_a_log_directory_on_another_machine_gets_the_whole_log(file: str) -> None:
    import fsspec

    log = imported(file, "memory://logs/here")
    assert imported(file, "memory://logs/here") == log
    assert [name.rpartition("/")[2] for name in fsspec.filesystem("memory").ls("/logs/here", detail=False)] == [
        log.rpartition("/")[2]
    ]


def test_a_full_disk_names_the_log_directory(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspect hands on no error: its log says in words that it failed."""
    failed = EvalLog(eval=read_eval_log(imported(file, tmp_path / "other")).eval, status="error")
    failed.error = EvalError(message="OSError(28, 'No space left on device')", traceback="", traceback_ansi="")
    monkeypatch.setattr(inspect_ai, "eval", lambda *_, **__: [failed])
    with pytest.raises(MedbenchError, match=r"the disk of .*/logs is full .*Make room and run the same command again"):
        imported(file, tmp_path / "logs")
    assert lies(tmp_path)[0].startswith("other")
    assert not (tmp_path / "logs").exists()
