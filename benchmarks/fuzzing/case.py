"""What every fuzzed surface shares: seeded cases, a limit on time, and what counts as an acceptable outcome.

An input ends in a result or in a `MedbenchError`. Anything else is a fault: another exception, a result that breaks an
invariant (`Broken`), or no end within the surface's time (`OutOfTime`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from medbench.errors import MedbenchError

Case = dict[str, Any]


class OutOfTime(BaseException):
    """A call took longer than it may; no code under test may catch it by accident."""


class Broken(AssertionError):
    """A result came back that breaks an invariant."""


@dataclasses.dataclass(frozen=True)
class Surface:
    """One thing that reads what others wrote.

    Attributes:
        name: what `--only` and `--replay` call it.
        share: inputs of a million.
        make: an input from a seeded generator; plain values, so that it can be shown and made smaller.
        run: reads it; what it lets through is a fault unless it is a `MedbenchError`.
        seconds: that one input may take.
        least: inputs that even a short run gives it.
    """

    name: str
    share: int
    make: Callable[[random.Random], Case]
    run: Callable[[Case], None]
    seconds: float = 20.0
    least: int = 1


@dataclasses.dataclass(frozen=True)
class Fault:
    """What one input brought to light.

    Attributes:
        kind: the exception's name and text, cut short.
        place: the last line of this project that it came from.
        trace: the traceback.
    """

    kind: str
    place: str
    trace: str


def attempt(surface: Surface, case: Case) -> tuple[str, Fault | None]:
    """How an input ended (``result`` or ``refused``), or the fault."""
    try:
        with time_limit(surface.seconds):
            surface.run(case)
    except MedbenchError as error:
        if not str(error).strip():
            return "refused", Fault("MedbenchError without a text", _place(error), traceback.format_exc())
        return "refused", None
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "fault", Fault(f"SystemExit {error.code}", _place(error), traceback.format_exc())
    except BaseException as error:
        return "fault", Fault(f"{type(error).__name__}: {error!s:.160}", _place(error), traceback.format_exc())
    return "result", None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    foreign = ("site-packages", "/lib/python", "<")
    own = [frame for frame in frames if not any(part in frame.filename for part in foreign)]
    last = (own or frames or [traceback.FrameSummary("?", 0, "?")])[-1]
    return f"{'/'.join(last.filename.split('/')[-2:])}:{last.name}"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End what runs inside with `OutOfTime` after so many seconds of wall time (main thread only)."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"still running after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def require(holds: object, what: str) -> None:
    """Raise `Broken` unless an invariant holds."""
    if not holds:
        raise Broken(what)


def smaller(surface: Surface, case: Case, fault: Fault, tries: int = 400) -> Case:
    """The input with every stretch of its texts left out that the fault does not need (greedy, bounded)."""
    case = dict(case)
    for name in [name for name, value in case.items() if isinstance(value, str | bytes)]:
        step = max(1, len(case[name]) // 2)
        while step and tries > 0:
            start = 0
            while start < len(case[name]) and tries > 0:
                tries -= 1
                shorter = {**case, name: case[name][:start] + case[name][start + step :]}
                found = attempt(surface, shorter)[1]
                if found and (found.place, found.kind.split(":")[0]) == (fault.place, fault.kind.split(":")[0]):
                    case = shorter
                else:
                    start += step
            step //= 2
    return case
