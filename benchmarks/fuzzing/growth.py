"""How the time of every pure text function and reader grows: no more than with the length of what it reads.

Each is timed on texts made of one repeated piece, chosen to be what a regular expression or a loop stumbles over. All
pieces are tried at 4,096 and 16,384 characters; those that grow there faster than the 1.25th power,
and the `SLOWEST` of
every function,
are carried on to a megabyte. Over the last two doublings time may grow with at most the 1.3rd power of
the length, and a megabyte may take at most `SECONDS_PER_MB`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzzing.case import OutOfTime, time_limit
from medbench.errors import MedbenchError

FIRST = (1 << 12, 1 << 14)  # characters
LENGTHS = tuple(1 << power for power in range(16, 21))
SUSPECT_POWER, MOST_POWER = 1.25, 1.3
SLOWEST = 2
SECONDS_PER_MB = 60.0
# Below this a doubling is as much noise as growth.
TELLING_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Growth:
    """One function on one kind of text.

    Attributes:
        function: its name.
        pattern: the text's.
        length: of the longest text timed, in characters.
        seconds: for that text.
        power: how time grows: log2 of the ratio of times per doubling over the last two; 0 where it is too short.
    """

    function: str
    pattern: str
    length: int
    seconds: float
    power: float

    @property
    def per_mb(self) -> float:
        """Seconds for a megabyte (2**20 characters), if it goes on as it grew."""
        return self.seconds * (LENGTHS[-1] / self.length) ** max(1.0, self.power)

    def line(self) -> str:
        """One line of the report."""
        grown = f"power {self.power:4.2f} at {self.length:,}"
        return f"{self.function:32} {self.per_mb:8.2f} s/MB  {grown}  on {self.pattern!r}"

    @property
    def fails(self) -> bool:
        """Whether it grows too fast or takes too long."""
        return self.power > MOST_POWER or self.per_mb > SECONDS_PER_MB


def patterns() -> dict[str, Callable[[int], str]]:
    """Name -> a text of a given length."""
    from fuzzing.growth_texts import PIECES, PREFIXED

    def repeated(piece: str) -> Callable[[int], str]:
        return lambda length: (piece * (length // len(piece) + 1))[:length]

    def prefixed(start: str, piece: str, end: str) -> Callable[[int], str]:
        return lambda length: start + (piece * (length // len(piece) + 1))[:length] + end

    found = {piece.encode("unicode_escape").decode()[:40]: repeated(piece) for piece in PIECES}
    for start, piece, end in PREFIXED:
        name = "{} {} … {}".format(*(part.encode("unicode_escape").decode()[:24] for part in (start, piece, end)))
        found[name] = prefixed(start, piece, end)
    found["random printable"] = lambda length: "".join(random.Random(length).choices(_PRINTABLE, k=length))
    found["random words"] = lambda length: " ".join(random.Random(length).choices(_WORDS, k=length // 5))[:length]
    return found


_PRINTABLE = "".join(map(chr, range(32, 127))) + "\n答案是不对的。，：（）“”"
_WORDS = [
    "the",
    "answer",
    "is",
    "not",
    "correct",
    "B",
    "A",
    "C",
    "D",
    "because",
    "option",
    "would",
    "be",
    "yes",
    "no",
    "maybe",
    "A.",
    "(B)",
    "C)",
    "answer:",
    "wrong",
    "if",
    "however",
    "but",
    "so",
    "therefore",
    "1.",
    "25.2",
    "=",
    "mg/dl",
    "<think>",
    "</think>",
    "**",
    "```",
    "I",
    "can't",
    "sorry",
    "\n",
    "\n\n",
    "答案",
    "是",
    "正确",
    "错误",
    "选项",
    "不",
    "因此",
]


def grow(function: Callable[[str], object], make: Callable[[int], str], names: tuple[str, str]) -> Growth:
    """Time `function` on ever longer texts up to a megabyte, or until one shows what it is."""
    times: list[tuple[int, float]] = []
    for length in LENGTHS:
        times.append((length, _seconds(function, make(length))))
        if times[-1][1] > SECONDS_PER_MB or (times[-1][1] > 1.0 and _power(times) > 1.7):
            break
    growth = Growth(*names, times[-1][0], times[-1][1], _power(times))
    if growth.fails and times[-1][1] < SECONDS_PER_MB:  # another process may have been in the way: once more
        again = [(length, min(seconds, _seconds(function, make(length)))) for length, seconds in times[-3:]]
        growth = Growth(*names, again[-1][0], again[-1][1], _power(again))
    return growth


def _power(times: list[tuple[int, float]]) -> float:
    if len(times) < 3 or times[-1][1] < TELLING_SECONDS:
        return 0.0
    (short, fast), (long, slow) = times[-3], times[-1]
    return math.log(slow / max(fast, 1e-6)) / math.log(long / short)


def _seconds(function: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    try:
        with time_limit(4 * SECONDS_PER_MB):
            function(text)
    except OutOfTime:
        return 4 * SECONDS_PER_MB
    except Exception:
        pass
    return time.process_time() - start


def _screened(function: Callable[[str], object], made: dict[str, Callable[[int], str]]) -> list[str]:
    """The patterns on which a function is slow, or seems to grow too fast."""
    seconds: dict[str, float] = {}
    suspect: list[str] = []
    for label, make in made.items():
        short, long = (make(length) for length in FIRST)
        fast, seconds[label] = _seconds(function, short), _seconds(function, long)
        growing = (FIRST[1] / FIRST[0]) ** SUSPECT_POWER
        if seconds[label] > growing * fast and seconds[label] > 0.004:
            fast, seconds[label] = min(fast, _seconds(function, short)), min(seconds[label], _seconds(function, long))
            if seconds[label] > growing * fast:
                suspect.append(label)
    slowest = sorted(seconds, key=lambda label: -seconds[label])[:SLOWEST]
    return list(dict.fromkeys([*suspect, *slowest]))


def measure(only: str | None = None) -> Iterator[Growth]:
    """Every function on the patterns that are hardest for it."""
    from fuzzing.growth_functions import functions

    made = patterns()
    for name, function in functions().items():
        if only is None or only in name:
            with contextlib.suppress(MedbenchError):  # what it loads on its first call is none of its growth
                function("The answer is <answer>B</answer>.")
            for label in _screened(function, made):
                yield grow(function, made[label], (name, label))


def report(only: str | None, file: Path | None) -> int:
    """Print the worst pattern of every function, and all that grow too fast; 1 if there are any."""
    worst: dict[str, Growth] = {}
    failed: list[Growth] = []
    for growth in measure(only):
        if growth.function not in worst:
            for done in list(worst.values())[-1:]:
                print(done.line(), flush=True)
        if growth.function not in worst or growth.per_mb > worst[growth.function].per_mb:
            worst[growth.function] = growth
        if growth.fails:
            failed.append(growth)
            print(f"FAULT {growth.line()}", flush=True)
    for done in list(worst.values())[-1:]:
        print(done.line())
    print(f"{len(worst)} functions on {len(patterns())} patterns; {len(failed)} grow too fast")
    if file is not None:
        rows = [dataclasses.asdict(growth) | {"per_mb": growth.per_mb} for growth in worst.values()]
        file.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return int(bool(failed))
