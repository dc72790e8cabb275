"""Loaded by the Python of a stressed command (PYTHONPATH): counts its file steps, or kills it before one of them.

A step is an open for writing, a rename, a link, a removal or a new folder below ``STRESS_AREA``. With ``STRESS_STEPS``
each is written there as a line (CPU seconds so far, event, path); with ``STRESS_KILL_AT=N`` the process group ends with
SIGKILL before the N-th (from 0). Only the command's own process counts, not its workers.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _path(given: Any, folder: Any = -1) -> str:
    """A path as the command named it, made absolute."""
    if isinstance(given, int):
        return ""
    text = os.fsdecode(given)
    if isinstance(folder, int) and folder >= 0 and not os.path.isabs(text):
        text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
    return os.path.abspath(text)


def _of(event: str, args: tuple[Any, ...]) -> str:
    if event == "open":
        return _path(args[0]) if isinstance(args[2], int) and args[2] & _WRITES else ""
    if event in ("os.rename", "os.link"):
        return _path(args[1], args[3])
    return _path(args[0], args[-1] if event in ("os.remove", "os.rmdir") else -1)


def install() -> None:
    """Watch the steps of this process, as the environment says."""
    area = os.environ.pop("STRESS_AREA", "")
    log, kill_at = os.environ.pop("STRESS_STEPS", ""), int(os.environ.pop("STRESS_KILL_AT", "-1"))
    if not area:
        return
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if log else -1
    own, seen = os.getpid(), 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in _EVENTS or os.getpid() != own:
            return
        try:
            path = _of(event, args)
        except (OSError, TypeError, ValueError):
            return
        if not path.startswith(area):
            return
        if seen == kill_at:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        seen += 1
        if sink >= 0:
            os.write(sink, f"{time.process_time():.3f}\t{event}\t{path}\n".encode())

    sys.addaudithook(hook)


install()
