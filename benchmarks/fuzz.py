"""A million awkward inputs to everything that reads what others wrote: no end but a result or a `MedbenchError`.

    python benchmarks/fuzz.py --inputs 1000000 --seed 17          # about an hour of one core
    python benchmarks/fuzz.py --inputs 2000 --only choice
    python benchmarks/fuzz.py --replay choice:17:1234             # one input again, made smaller, with its traceback
    python benchmarks/fuzz.py --growth                            # how time grows with length, per function

Every input is made from ``SURFACE:SEED:NUMBER`` alone. Real model outputs in ``../shared/data`` are among what is
changed, where they are; without them an input of the same number is another one. Figures: docs/reliability.md.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import random
import sys
import time
from pathlib import Path

# Warnings and telemetry of the libraries below would bury what is looked for.
os.environ.setdefault("INSPECT_DISPLAY", "none")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from fuzzing.case import Case, Surface, attempt, smaller
from fuzzing.surfaces import SURFACES


def main() -> int:
    """Run what was asked for; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all surfaces, by their shares")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--only", action="append", choices=list(SURFACES), help="this surface alone; repeatable")
    parser.add_argument("--replay", metavar="SURFACE:SEED:NUMBER")
    parser.add_argument("--growth", action="store_true", help="time against length instead")
    parser.add_argument("--function", help="with --growth: functions whose name holds this")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    if options.growth:
        from fuzzing.growth import report

        return report(options.function, options.json)
    if options.replay:
        return replay(options.replay)
    chosen = [SURFACES[name] for name in options.only or SURFACES]
    total = sum(surface.share for surface in chosen)
    rows = []
    for surface in chosen:
        count = max(surface.least, round(options.inputs * surface.share / total))
        rows.append(fuzz(surface, options.seed, count))
        print(
            "{surface:14} {inputs:>9,} inputs {refused:>9,} refused {faults:>4} faults {seconds:8.1f} s".format(
                **rows[-1]
            ),
            flush=True,
        )
    print(f"{'all':14} {sum(row['inputs'] for row in rows):>9,} inputs, {sum(row['faults'] for row in rows)} faults")
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "surfaces": rows}, indent=1) + "\n", "utf-8")
    return int(any(row["faults"] for row in rows))


def case_of(surface: Surface, seed: int, number: int) -> Case:
    """The input of a number."""
    return surface.make(random.Random(f"{surface.name}:{seed}:{number}"))


def fuzz(surface: Surface, seed: int, count: int) -> dict[str, object]:
    """So many inputs to one surface; each new fault is printed with the name by which it is replayed."""
    ends: collections.Counter[str] = collections.Counter()
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    # The first of a process loads what the surface needs.
    attempt(dataclasses.replace(surface, seconds=600.0), case_of(surface, seed, 0))
    slowest, started = (0.0, -1), time.process_time()
    for number in range(count):
        case = case_of(surface, seed, number)
        began = time.process_time()
        end, fault = attempt(surface, case)
        slowest = max(slowest, (time.process_time() - began, number))
        ends[end] += 1
        if fault:
            key = (fault.place, fault.kind.split(":")[0])
            seen[key] += 1
            if seen[key] == 1:
                print(f"FAULT {surface.name}:{seed}:{number} at {fault.place}: {fault.kind}", flush=True)
    for (place, kind), times in seen.items():
        print(f"      {kind} at {place}: {times} times", flush=True)
    return {
        "surface": surface.name,
        "inputs": count,
        "results": ends["result"],
        "refused": ends["refused"],
        "faults": sum(seen.values()),
        "seconds": round(time.process_time() - started, 1),
        "slowest": round(slowest[0], 3),
        "slowest_input": f"{surface.name}:{seed}:{slowest[1]}",
    }


def replay(name: str) -> int:
    """One input again: as small as it can be made, and its traceback."""
    surface_name, seed, number = name.split(":")
    surface = SURFACES[surface_name]
    case = case_of(surface, int(seed), int(number))
    end, fault = attempt(surface, case)
    if fault is None:
        print(f"{name}: {end}\n{case!r:.3000}")
        return 0
    print(f"{fault.trace}\n{smaller(surface, case, fault)!r:.6000}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
