"""One command in one area: what lies there, what readers take for whole, and what the uninterrupted run left."""

from __future__ import annotations

import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path

from stress.kind import Content, Kind
from stress.process import Ended, Runner


@dataclass(frozen=True)
class Bench:
    """A kind with its inputs, its folder, and what the uninterrupted run left.

    Attributes:
        area: the folder in which the command's place lies.
        steps: the uninterrupted run's file steps below `area`: (CPU seconds, event, path).
        names: relative paths that it left in `area`, with the changing ones counted.
    """

    kind: Kind
    work: Path
    area: Path
    runner: Runner
    ended: Ended
    steps: list[tuple[float, str, str]]
    content: Content
    earlier: Content
    names: dict[str, int]

    @property
    def inputs(self) -> Path:
        return self.work / "inputs"

    @property
    def place(self) -> Path:
        return self.area / "place"

    def command(self) -> list[str]:
        return self.kind.command(self.inputs, self.place)

    def reset(self) -> None:
        """The area as it is before the command: empty, or with the earlier result."""
        reset(self.kind, self.work, self.area)

    def problems_after_kill(self) -> tuple[Content, list[str]]:
        """What readers take for whole now, and what of it is none."""
        try:
            found = self.kind.whole(self.place)
        except Exception as error:
            return {}, [f"a reader takes a half result for whole: {_line(error)}"]
        known = set(self.content.items()) | set(self.earlier.items())
        return found, [
            f"half, and taken for whole: {name}" for name, value in found.items() if (name, value) not in known
        ]

    def problems_at_end(self, ended: Ended) -> list[str]:
        """What is wrong with the result of a resumed run."""
        if ended.rc:
            return [f"exit status {ended.rc}: {ended.said.strip()[-600:]}"]
        try:
            found = self.kind.content(self.place)
        except Exception as error:
            return [f"the result cannot be read: {_line(error)}"]
        told = [
            f"{name} differs from the uninterrupted run's"
            for name, value in self.content.items()
            if found.get(name) != value
        ]
        told += [f"{name} is too much" for name in found if name not in self.content]
        now = names(self.kind, self.area)
        left = {name: count for name, count in now.items() if count != self.names.get(name)}
        gone = [name for name in self.names if name not in now]
        return told + ([f"left behind: {left}"] if left else []) + ([f"missing: {gone}"] if gone else [])


def reset(kind: Kind, work: Path, area: Path) -> None:
    """Empty an area and put the earlier result there, if the kind has one."""
    for path in area.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind.earlier is not None:
        shutil.copytree(work / "earlier", area / "place", symlinks=True)


def prepare(kind: Kind, work: Path, area: Path, runner: Runner) -> Bench:
    """Inputs, the earlier result, and the uninterrupted run.

    Raises:
        RuntimeError: the command fails without being disturbed.
    """
    inputs = work / "inputs"
    if not inputs.exists():
        inputs.mkdir(parents=True)
        kind.prepare(inputs)
    area.mkdir(parents=True, exist_ok=True)
    earlier: Content = {}
    if kind.earlier is not None:
        if not (work / "earlier").exists():
            _must(runner.run(kind.earlier(inputs, work / "earlier")), kind.name)
        reset(kind, work, area)
        earlier = kind.whole(area / "place")
    log = work / "steps.txt"
    for _ in range(2):  # the first one warms caches, and its CPU time is not that of the others
        reset(kind, work, area)
        log.unlink(missing_ok=True)
        watched = {"STRESS_AREA": str(area), "STRESS_STEPS": str(log)}
        ended = runner.run(kind.command(inputs, area / "place"), env=watched)
        _must(ended, kind.name)
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    steps = [(float(cpu), event, str(Path(path).relative_to(area))) for cpu, event, path in rows]
    return Bench(kind, work, area, runner, ended, steps, kind.content(area / "place"), earlier, names(kind, area))


def _must(ended: Ended, what: str) -> None:
    if ended.rc:
        raise RuntimeError(f"medbench {what} fails undisturbed ({ended.rc}):\n{ended.said[-3000:]}")


def names(kind: Kind, area: Path) -> dict[str, int]:
    """Relative paths below an area, those with changing names under one name."""
    found: dict[str, int] = {}
    for path in sorted(area.rglob("*")):
        name = path.relative_to(area)
        shown = str(name.with_name("*" + path.suffix) if kind.unnamed(path.name) else name)
        found[shown] = found.get(shown, 0) + 1
    return found


def listing(area: Path, most: int = 40) -> list[str]:
    """What lies in an area: paths with bytes."""
    found = [f"{p.relative_to(area)} {p.stat().st_size}" for p in sorted(area.rglob("*")) if p.is_file()]
    return found[:most] + ([f"and {len(found) - most} more"] if len(found) > most else [])


def _line(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]} ({Path(last.filename).name}:{last.lineno})"
