"""Claims: the same worker twice, other numbers of shares, kills, other machines, and a claim that is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from medbench.errors import MedbenchError
from medbench.trainers import claims
from medbench.trainers.claims import Record, claimed, complete, read, records


def never() -> None:
    raise AssertionError("the claim was lost")


def hold(out: Path, worker: int, of: int) -> None:
    """Take a claim, and give it back after use; raises where it cannot be had."""
    with claimed(out, Record(worker, of, "study"), lost=never):
        pass


def test_a_worker_runs_once_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path, Record(0, 2, "study"), lost=never):
        with pytest.raises(MedbenchError, match=rf"worker 0 of 2 of this sweep is running in .*{os.getpid()} on "):
            hold(tmp_path, 0, 2)
        hold(tmp_path, 1, 2)
    hold(tmp_path, 0, 2)


@pytest.mark.parametrize(("running", "asked"), [((0, 2), (0, 1)), ((0, 1), (1, 2)), ((1, 3), (0, 2))])
def test_all_workers_share_alike(tmp_path: Path, running: tuple[int, int], asked: tuple[int, int]) -> None:
    with claimed(tmp_path, Record(*running, "study"), lost=never):
        with pytest.raises(MedbenchError, match="All workers of a sweep need the same number of shares"):
            hold(tmp_path, *asked)
        # The sweep's state is that of those who run.
        assert [(record.worker, record.of) for record in records(tmp_path)] == [running]
    hold(tmp_path, *asked)
    # Whoever was refused holds nothing.
    hold(tmp_path, *running)


KILLED = """
import sys, time
from pathlib import Path
from medbench.trainers.claims import Record, claimed
with claimed(Path(sys.argv[1]), Record(0, 2, "study"), lost=lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_workers_claim_is_free_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(MedbenchError, match=f"process {process.pid} on"):
        hold(tmp_path, 0, 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Its record says that it runs; the lock says that it does not.
    assert [record.ended for record in records(tmp_path)] == [None]
    written = claims.path_of(tmp_path / claims.FOLDER, Record(0, 2, "study"), "json")
    half = written.with_name(f".{written.name}.x1y2")  # its next record, had it been killed while it wrote that
    half.touch()
    hold(tmp_path, 0, 1)
    assert not half.exists()
    hold(tmp_path, 0, 2)


def elsewhere(out: Path, record: Record) -> Path:
    """The record of a worker of another machine, whose lock cannot be seen here."""
    path = claims.path_of(out / claims.FOLDER, record, "json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(replace(record, host="node7 1a2b3c4d", pid=4, token="theirs", started="then"))))
    return path


def test_another_machine_is_gone_once_its_lease_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE", 0.6)
    monkeypatch.setattr(claims, "BEAT", 0.1)
    elsewhere(tmp_path, Record(0, 2, "study"))
    begin = time.monotonic()
    hold(tmp_path, 0, 2)
    assert time.monotonic() - begin > 0.4


@pytest.mark.parametrize("asked", [(0, 2), (0, 1)])
def test_another_machine_that_beats_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[int, int]
) -> None:
    monkeypatch.setattr(claims, "LEASE", 60.0)
    monkeypatch.setattr(claims, "BEAT", 0.1)
    path = elsewhere(tmp_path, Record(0, 2, "study"))
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(MedbenchError, match="process 4 on node7, since then"):
            hold(tmp_path, *asked)
    finally:
        stop.set()
        thread.join()


def test_a_worker_that_was_taken_over_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.05)
    lost = threading.Event()

    def work() -> None:
        with claimed(tmp_path, Record(0, 2, "study"), lost=lost.set):
            elsewhere(tmp_path, Record(0, 2, "study"))
            assert lost.wait(30)
            raise KeyboardInterrupt  # what `lost` brings about in a sweep

    with pytest.raises(MedbenchError, match="process 4 on node7, since then has taken its runs over"):
        work()
    found = read(claims.path_of(tmp_path / claims.FOLDER, Record(0, 2, ""), "json"))
    assert found is not None
    assert found.token == "theirs"


def test_a_sweep_is_complete_when_every_worker_says_so_and_its_logs_are_there(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for worker in (0, 1):
        (tmp_path / "logs" / f"{worker}.eval").write_text("")
        assert complete(tmp_path, 2, "study") is None
        with claimed(tmp_path, Record(worker, 2, "study"), lost=never) as claim:
            claim.end(True, [f"{worker}.eval"])
    found = complete(tmp_path, 2, "study")
    assert found is not None
    assert [record.logs for record in found] == [["0.eval"], ["1.eval"]]
    assert complete(tmp_path, 2, "another study") is None
    (tmp_path / "logs" / "1.eval").unlink()
    assert complete(tmp_path, 2, "study") is None
