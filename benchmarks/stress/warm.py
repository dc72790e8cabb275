"""A process that has imported what a command needs, and runs it in forks: kills then fall into work, not into imports.

Started as ``python -m stress.warm MODULE...``. Each line of its input is a JSON object: arguments of ``medbench``, more
of the environment, the file for what it says. Each is answered by two lines: the child's process id, its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from stress.hook import sitecustomize


class Warm:
    """Such a process, seen from the driver."""

    def __init__(self, modules: tuple[str, ...], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stress.warm", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**env, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        )

    def start(self, arguments: list[str], env: dict[str, str], said: Path, largest_file: int | None) -> int:
        """Fork a command; returns its process id, which is also its group's."""
        asked = {"arguments": arguments, "env": env, "said": str(said), "largest_file": largest_file}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def status(self) -> int:
        """Wait for the command; its exit status, negative for a signal."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _child(asked: dict[str, Any]) -> None:
    os.setpgid(0, 0)  # killed as a group
    said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, said), (2, said)):
        os.dup2(file, stream)
    os.environ.update(asked["env"])
    if asked["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest_file"], resource.RLIM_INFINITY))
    sitecustomize.install()
    sys.argv = ["medbench", *asked["arguments"]]
    from medbench.cli import main

    main()


def serve() -> None:
    """Answer requests until the input ends."""
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _child(json.loads(line))
            sys.exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
