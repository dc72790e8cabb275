"""The study's chain on a tiny real instance: the micro-lab as base, a few items and steps of everything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "studies" / "smollm2" / "run.py"
MICROLAB = ROOT / "medbench" / "data" / "microlab"


def command(data: Path, out: Path, *more: str) -> list[str]:
    words = [sys.executable, str(RUN), "--data", str(data), "--out", str(out), "--base", str(MICROLAB), "--trial"]
    return [*words, *more]


def run(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data, out, *more), capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def killed_at(data: Path, out: Path, sign: Path, after: float = 0.0) -> None:
    """Run the chain until a file or directory appears, wait, and kill it and its commands without notice."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    chain = subprocess.Popen(
        command(data, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=env
    )
    end = time.monotonic() + 240
    while not any(sign.parent.glob(sign.name)) and chain.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(after)
    assert chain.poll() is None, f"the chain ended before {sign} was there"
    os.killpg(chain.pid, signal.SIGKILL)
    chain.wait()


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study that was killed in every kind of step, and then went through."""
    out = tmp_path_factory.mktemp("study") / "out"
    killed_at(shared_data, out, out / "data" / "corpus")  # while the data are written
    killed_at(shared_data, out, out / "steps" / "audit.json", 1.0)
    killed_at(shared_data, out, out / "pt" / "run.json")  # begun, without a checkpoint
    killed_at(shared_data, out, out / "sft" / "checkpoint-2" / "trainer_state.json")  # with one
    killed_at(shared_data, out, out / "sweeps" / "answers" / "logs" / "*.eval", 0.2)
    done = run(shared_data, out)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield out
    shutil.rmtree(out)


def test_every_step_is_finished_once(finished: Path) -> None:
    assert (finished / "report" / "report.html").stat().st_size > 50_000
    # Every run of every sweep once, with all its samples: 13 candidates, 3 settings, 7 candidates x 2 tasks, twice.
    for name, runs in (("answers", 13), ("sampling", 3), ("probes", 14), ("exams", 14)):
        logs = [read_eval_log(info) for info in list_eval_logs(str(finished / "sweeps" / name / "logs"))]
        assert [log.status for log in logs] == ["success"] * runs
        assert all(len({sample.id for sample in log.samples or []}) == len(log.samples or []) == 6 for log in logs)


def test_training_went_on_where_it_was(finished: Path) -> None:
    manifests = {stage: json.loads((finished / stage / "manifest.json").read_text()) for stage in ("pt", "sft")}
    assert manifests["pt"]["resumed_from"] is None
    assert manifests["sft"]["resumed_from"] == "checkpoint-2"
    for made in manifests.values():
        assert made["leakage_audit"]["flagged"] == 0
        assert max(entry["step"] for entry in made["log_history"]) == 4


def test_nothing_is_done_again(finished: Path, shared_data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    again = run(shared_data, finished)
    assert again.returncode == 0
    assert again.stdout.count(": done") == 10
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_other_settings_are_not_mixed_in(finished: Path, shared_data: Path) -> None:
    words = [word for word in command(shared_data, finished) if word != "--trial"]
    refused = subprocess.run(words, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "step 'prepare' was begun with another settings" in refused.stderr


def test_trained_text_and_tested_items_are_apart(finished: Path) -> None:
    tested = json.loads((finished / "data" / "tested" / "pubmedqa.json").read_text())
    trained = [json.loads(line) for line in (finished / "data" / "corpus" / "pt.jsonl").read_text().splitlines()]
    assert len(tested) == 6
    assert not tested.keys() & {row["pubid"] for row in trained}


def test_dry_run_tells_the_cost(shared_data: Path, tmp_path: Path) -> None:
    told = run(shared_data, tmp_path / "out", "--dry-run", "--tokens-per-second", "1000")
    assert told.returncode == 0, told.stderr
    # 14 runs of 6 items
    assert any(line.split()[0] == "exams" and line.split()[-1] == "84" for line in told.stdout.splitlines())
    assert "disk: about" in told.stdout
    assert "time: about" in told.stdout
    assert not (tmp_path / "out").exists()


def test_missing_data_are_named(tmp_path: Path) -> None:
    refused = run(tmp_path / "nothing", tmp_path / "out")
    assert refused.returncode == 2
    assert "nothing: it must be the folder of the published files, and lacks medqa/us_4_options_test" in refused.stderr
