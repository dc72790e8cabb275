"""Sweeps by several workers: the same report as one process gives, kills, exit codes, GPUs, Slurm and Ray."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from inspect_ai.log import list_eval_logs, read_eval_log

from medbench.errors import MedbenchError
from medbench.trainers import claims, launch
from medbench.trainers.study import read_study
from medbench.trainers.sweep import command, sweep

ROOT = Path(__file__).resolve().parents[2]

# A task file that brings its model along: a worker is a process of its own, and knows only what the study names.
TASK = """
import os

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi
from inspect_ai.scorer import includes


@modelapi("slow")
class Slow(ModelAPI):
    async def generate(self, input, tools, tool_choice, config):
        import anyio

        if self.model_name.endswith("broken"):
            raise RuntimeError("it is broken")
        await anyio.sleep(float(os.environ.get("SLOW", "0.1")))
        with open(os.environ["GENERATIONS"], "a") as file:
            file.write(f"{self.model_name} {input[-1].text}\\n")
        output = ModelOutput.from_content(self.model_name, "x")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    def max_connections(self):
        return 2


@task
def names(count: int = 8) -> Task:
    samples = [Sample(id=f"item{i}", input=f"What is {i}?", target="x") for i in range(count)]
    return Task(dataset=MemoryDataset(samples), scorer=includes())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "names.py").write_text(TASK)
    monkeypatch.setenv("GENERATIONS", str(tmp_path / "generations"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *models: str, **keys: Any) -> Path:
    document = {"candidates": [{"model": name} for name in models], "tasks": ["names.py"], "max_samples": 2, **keys}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=True)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def generations(folder: Path) -> Counter[str]:
    path = folder / "generations"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def whole(out: Path, runs: int, samples: int) -> None:
    """Assert that a sweep's directory holds each run once, and each of its samples once."""
    logs = [read_eval_log(info) for info in list_eval_logs(str(out / "logs"))]
    assert [log.status for log in logs] == ["success"] * runs
    assert len({(log.eval.model, log.eval.task_id) for log in logs}) == runs
    for log in logs:
        assert Counter(sample.id for sample in log.samples or []) == {f"item{i}": 1 for i in range(samples)}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["runs"] == runs
    assert manifest["logs"] == sorted(Path(log.location).name for log in logs)
    assert len(json.loads((out / "logs" / "logs.json").read_text())) == runs


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_report(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from medbench.provider.loading import MICROLAB
    from medbench.reports.estimates import Options
    from medbench.reports.parquet import write_parquet
    from medbench.reports.report import as_json, build

    document = {
        "base": str(MICROLAB),
        "adapters": {"pt": str(MICROLAB / "pt"), "sft": str(MICROLAB / "sft")},
        "candidates": [{"pt": [0, 0.5, 1], "sft": "1 - pt"}],
        "controls": False,
        "tasks": [{"task": f"medbench/microlab_{name}", "args": {"seed": 0}} for name in ("exam", "open")],
        "decoding": [{"temperature": 0.7, "max_tokens": 16, "seed": 1}],
        "limit": 4,
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(document))
    found = []
    for of in (1, 2, 3):
        out = tmp_path / f"out{of}"
        done: list[str] = []
        for worker in reversed(range(of)):  # so that the logs do not lie in the order of the study
            assert not (out / "manifest.json").exists()
            success, logs = sweep(read_study(path), out, display="none", worker=worker, of=of)
            assert success
            done += [log.eval.task_id for log in logs]
        assert len(set(done)) == len(done) == 6
        assert json.loads((out / "manifest.json").read_text())["workers"] == of
        built = build(str(out), options=Options(resamples=100, seed=1))
        rows = tmp_path / f"{of}.parquet"
        write_parquet(built.study.runs, rows)
        report = {key: value for key, value in as_json(built).items() if key not in ("provenance", "sources")}
        found.append((json.dumps(report, sort_keys=True), pd.read_parquet(rows).drop(columns="log")))
    assert len(found[0][1]) > 1000
    for report_of_others, rows_of_others in found[1:]:
        assert report_of_others == found[0][0]
        pd.testing.assert_frame_equal(rows_of_others, found[0][1])


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_goes_on(folder: Path) -> None:
    path = write(folder, "slow/a", "slow/b")
    process = subprocess.Popen(
        [sys.executable, "-m", "medbench.cli", "sweep", str(path), "--out", "out", "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "SLOW": "0.5"},
    )  # fmt: skip
    wait_for(lambda: generations(folder).total() >= 4 and any(line.startswith("b ") for line in generations(folder)))
    victim = next(record for record in claims.records(folder / "out") if record.worker == 1)
    os.kill(victim.pid, signal.SIGKILL)
    out, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    assert "worker 1: killed (SIGKILL" in said
    assert "started again, 1 of 3" in said
    assert "2 of 2 runs done by 2 workers" in out
    counts = generations(folder)
    assert len(counts) == 16
    # Only what was in flight at the kill (two samples) may be asked again.
    assert counts.total() <= 16 + 2
    whole(folder / "out", runs=2, samples=8)
    told = invoke(path, "--out", "out", "--status").output
    assert told.count("1 of 1 runs, ended") == 2


@pytest.mark.slow
def test_a_killed_launcher_takes_its_workers_along_and_others_go_on(folder: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux ends a process with its parent")
    path = write(folder, "slow/a", "slow/b", "slow/c")
    arguments = [sys.executable, "-m", "medbench.cli", "sweep", str(path), "--out", "out"]
    process = subprocess.Popen([*arguments, "--workers", "2"], env={**os.environ, "SLOW": "0.5"})
    wait_for(lambda: generations(folder).total() >= 3 and len(claims.records(folder / "out")) == 2)
    refused = invoke(path, "--out", "out")
    assert isinstance(refused.exception, MedbenchError)
    assert "All workers of a sweep need the same number of shares" in str(refused.exception)
    process.kill()
    process.wait()
    wait_for(lambda: not any(claims.alive(folder / "out" / claims.FOLDER, r) for r in claims.records(folder / "out")))
    assert "killed or lost" in invoke(path, "--out", "out", "--status").output
    # Another number of workers finds what those had done.
    done = subprocess.run([*arguments, "--workers", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = generations(folder)
    assert len(counts) == 24
    assert counts.total() <= 24 + 2 * 2
    whole(folder / "out", runs=3, samples=8)


@pytest.mark.slow
def test_exit_codes_and_what_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "0")
    path = write(folder, "slow/a", "slow/broken", tasks=[{"task": "names.py", "args": {"count": 1}}])
    failed = invoke(path, "--out", "out", "--workers", "2")
    assert failed.exit_code == launch.FAILED
    assert "1 of 2 runs done by 2 workers" in failed.output
    assert "worker 1: some of its runs failed" in failed.output
    assert "it is broken" in failed.output
    assert not (folder / "out" / "manifest.json").exists()
    path = write(folder, "slow/a", "slow/b", tasks=["nowhere.py"])
    wrong = invoke(path, "--out", "elsewhere", "--workers", "2")
    assert wrong.exit_code == launch.WRONG
    assert wrong.output.count("page nowhere.py does not exist") == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--worker", "0"], "--worker and --of belong together"),
        (["--of", "2"], "--worker and --of belong together"),
        (["--worker", "2", "--of", "2"], "counted from 0, so the last is 1"),
        (["--worker", "0", "--of", "2", "--workers", "2"], "one or the other"),
        (
            ["--out", "s3://bucket/study"],
            "medbench publish DIRECTORY s3://bucket/study",
        ),
    ],
)
def test_options_that_do_not_fit(folder: Path, options: list[str], match: str) -> None:
    found = invoke(write(folder, "slow/a"), "--out", "out", *options)
    assert isinstance(found.exception, MedbenchError)
    assert match in str(found.exception)


def test_a_share_that_is_done_loads_no_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOW", "0")
    path = write(folder, "slow/a", "slow/b", tasks=[{"task": "names.py", "args": {"count": 2}}])
    study = read_study(path)
    assert sweep(study, "out", display="none", worker=0, of=2)[0]
    with monkeypatch.context() as patched:
        patched.setattr("medbench.trainers.sweep._model", lambda candidate: pytest.fail("loaded"))
        success, logs = sweep(study, "out", display="none", worker=0, of=2)
    assert success
    assert [log.eval.model for log in logs] == ["slow/a"]
    # More workers than runs: some have nothing to do, and say that they are done.
    results = [sweep(study, folder / "more", display="none", worker=worker, of=5) for worker in range(5)]
    assert sum(len(logs) for _, logs in results) == 2
    assert all(success for success, _ in results)
    whole(folder / "more", runs=2, samples=2)


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("0,1,2,3", 4, ["0", "1", "2", "3"]),
        ("4,5,7", 2, ["4", "5,7"]),
        ("GPU-1a,MIG-2b", 2, ["GPU-1a", "MIG-2b"]),
        ("3", 2, ["3", "3"]),
        ("0,-1,2", 1, ["0"]),
        ("", 2, [None, None]),
        ("-1", 2, [None, None]),
    ],
)
def test_gpus_are_dealt_as_the_user_may_see_them(
    monkeypatch: pytest.MonkeyPatch, given: str, count: int, expected: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    dealt = [launch.surroundings(number, count, launch.gpus()) for number in range(count)]
    if expected[0] is None:
        # No GPU stays no GPU; the processors are shared instead.
        assert {env["CUDA_VISIBLE_DEVICES"] for env in dealt} == {given}
        assert {env["OMP_NUM_THREADS"] for env in dealt} == {str(max(1, len(os.sched_getaffinity(0)) // count))}
    else:
        assert [env["CUDA_VISIBLE_DEVICES"] for env in dealt] == expected
        assert not any("OMP_NUM_THREADS" in env for env in dealt)


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_is_told_from_a_failure(code: int) -> None:
    assert launch.killed(code)
    assert "SIGKILL" in launch.ended(code)
    assert not launch.killed(1)
    assert launch.ended(1) == "some of its runs failed"


@pytest.mark.slow
def test_the_slurm_file_does_one_share(folder: Path) -> None:
    write(folder, "slow/a", "slow/b", tasks=[{"task": "names.py", "args": {"count": 1}}])
    file = ROOT / "docs" / "sweep.sbatch"
    tool = f"{shlex.quote(sys.executable)} -m medbench.cli"
    given = {**os.environ, "STUDY": "study.yaml", "OUT": "out", "MEDBENCH": tool, "SLOW": "0"}
    slurm = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
    done = subprocess.run(["bash", str(file)], env={**given, **slurm}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs of worker 1 of 2 done" in done.stdout
    assert not (folder / "out" / "manifest.json").exists()
    # An array of that one task alone, as for a worker that failed: it names the number of the whole array.
    slurm |= {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1", "WORKERS": "2"}
    done = subprocess.run(["bash", str(file)], env={**given, **slurm}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole(folder / "out", runs=2, samples=1)
    del given["STUDY"]
    lacking = subprocess.run(["bash", str(file)], env=given, capture_output=True, text=True, check=False)
    assert lacking.returncode != 0
    assert "name the study file" in lacking.stderr


@pytest.mark.slow
def test_workers_on_ray(folder: Path) -> None:
    pytest.importorskip("ray")
    path = write(folder, "slow/a", "slow/b", tasks=[{"task": "names.py", "args": {"count": 2}}])
    environment = {**os.environ, "SLOW": "0"}
    arguments = [sys.executable, "-m", "medbench.cli", "sweep", str(path), "--out", "out", "--workers", "2"]
    done = subprocess.run([*arguments, "--engine", "ray"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs done by 2 workers" in done.stdout
    whole(folder / "out", runs=2, samples=2)
