"""A full disk: the same command in a small file system of its own with less and less room, then with enough."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stress.kind import Kind
from stress.process import Runner
from stress.trial import Bench, listing, prepare

LEVELS = (0.0, 0.05, 0.3, 0.6, 0.9)  # of the room that the command needs
_SIZE = "900m"
# What a message must offer: room to make, another place, or the same command again.
_ADVICE = re.compile(r"make room|free some space|another --?out|another place|empty the directory", re.I)


@contextmanager
def small_disk(where: Path) -> Iterator[Path | None]:
    """A file system in memory; None where this user may not mount one."""
    where.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(where)], capture_output=True)
    try:
        yield where if made.returncode == 0 else None
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", str(where)], check=True)


def fills(kind: Kind, work: Path, runner: Runner) -> Iterator[dict[str, Any]]:
    """A row per level: the message, what lay there afterwards, and how the run with room ended."""
    with small_disk(work / "disk") as disk:
        if disk is None:
            yield {
                "command": kind.name,
                "how": "disk",
                "outcome": "not tried: no small disk can be mounted",
                "problems": [],
            }
            return
        bench = prepare(kind, work, disk / "area", runner)
        bench.reset()
        needed = _needed(bench, disk)
        for level in LEVELS:
            yield _one(bench, disk, int(level * needed), needed)


def _free(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


def _needed(bench: Bench, disk: Path) -> int:
    """The most bytes that the uninterrupted command holds beyond what lay there."""
    before, least = _free(disk), _free(disk)

    def watch() -> None:
        nonlocal least
        least = min(least, _free(disk))

    bench.runner.run(bench.command(), watch=watch)
    return before - least


def _fill(disk: Path, free: int) -> None:
    """A ballast file that leaves `free` bytes, in whole pages."""
    size = _free(disk) - free
    with open(disk / "ballast", "wb") as sink:
        os.posix_fallocate(sink.fileno(), 0, max(4096, size // 4096 * 4096))


def _one(bench: Bench, disk: Path, free: int, needed: int) -> dict[str, Any]:
    bench.reset()
    _fill(disk, free)
    ended = bench.runner.run(bench.command())
    row: dict[str, Any] = {
        "command": bench.kind.name, "how": "disk", "free_bytes": free, "needed_bytes": needed,
        "exit_status": ended.rc, "message": ended.said.strip()[-500:],
    }  # fmt: skip
    problems = []
    if ended.rc:
        problems = _message_problems(ended.rc, ended.said, bench)
        row["lay_there"] = listing(bench.area)
        seen, half = bench.problems_after_kill()
        row["whole_to_a_reader"] = sorted(seen)
        problems += half
        lost = [name for name in bench.earlier if name not in seen]
        problems += [f"the earlier good result is gone: {lost}"] if lost else []
    (disk / "ballast").unlink()
    again = bench.runner.run(bench.command())
    problems += bench.problems_at_end(again)
    fine = "told, and as uninterrupted once there was room" if ended.rc else "the room was enough"
    return row | {"outcome": "broken" if problems else fine, "problems": problems}


def _message_problems(rc: int, said: str, bench: Bench) -> list[str]:
    """What a full disk's message lacks."""
    told = said.rpartition("medbench: ")[2] if "medbench: " in said else ""
    missing = {
        "a traceback": "Traceback (most recent call last)" not in said,
        f"exit status {rc}, not 2": rc == 2,
        "no message of medbench's": bool(told),
        "the place is not named": str(bench.area) in told,
        "it does not say what to do": bool(_ADVICE.search(told)),
    }
    return [what for what, fine in missing.items() if not fine] and [
        *(what for what, fine in missing.items() if not fine), f"said: {said.strip()[-400:]}"
    ]  # fmt: skip
