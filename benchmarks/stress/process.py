"""A command as a process group of its own: its CPU time as a clock that other work does not move, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stress.warm import Warm

HOOK = Path(__file__).parent / "hook"
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status (negative: the signal), seconds of wall and CPU, and what it said."""

    rc: int
    wall: float
    cpu: float
    said: str


class Runner:
    """Runs ``medbench`` again and again: in a fresh process, or in forks of one that has imported what it needs.

    Args:
        work: a folder for what it says, its temporary files and Inspect's own data.
        modules: what the forks have imported.
    """

    def __init__(self, work: Path, modules: tuple[str, ...]) -> None:
        self._said = work / "said.txt"
        for name in ("tmp", "home"):
            (work / name).mkdir(parents=True, exist_ok=True)
        self._env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
            "TMPDIR": str(work / "tmp"),
            "XDG_DATA_HOME": str(work / "home"),
            "PYTHONPATH": str(HOOK),
        }
        self._warm = Warm(modules, self._env)

    def close(self) -> None:
        """End the process that forks."""
        self._warm.close()

    def run(
        self,
        arguments: list[str],
        *,
        env: dict[str, str] | None = None,
        cold: bool = False,
        kill_at_cpu: float | None = None,
        largest_file: int | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> Ended:
        """Run ``medbench ARGUMENTS``.

        Args:
            env: more of the environment.
            cold: in a fresh process.
            kill_at_cpu: SIGKILL for the whole group once it has used so many seconds of CPU.
            largest_file: bytes from which on writing a file fails (RLIMIT_FSIZE); not where `cold`.
            watch: called every few milliseconds meanwhile.
        """
        begin, used = time.perf_counter(), 0.0
        process = None
        if cold:
            with open(self._said, "wb") as sink:
                process = subprocess.Popen(
                    [str(Path(sys.executable).with_name("medbench")), *arguments],
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env={**self._env, **(env or {})},
                    process_group=0,
                )
            pid = process.pid
        else:
            pid = self._warm.start(arguments, env or {}, self._said, largest_file)
        while not _ended(pid):
            used = max(used, cpu_seconds(pid))
            if kill_at_cpu is not None and used >= kill_at_cpu:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                break
            watch()
            time.sleep(0.01)
        rc = process.wait() if process else self._warm.status()
        return Ended(rc, time.perf_counter() - begin, used, self._said.read_text("utf-8", "replace"))


def _ended(pid: int) -> bool:
    """Whether a process is gone, or dead and not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, of those it waited for, and of its living children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # ended meanwhile
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK + sum(cpu_seconds(int(child)) for child in children)
