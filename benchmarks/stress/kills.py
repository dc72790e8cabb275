"""Kill -9 of a command's process group at moments spread over its run, then the same command again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from stress.trial import Bench, listing

IMPORTS = 0.8  # seconds of CPU in which no command has imported all it needs
_TRIES = 6  # a command may end before the moment comes: its CPU time varies


def kills(bench: Bench, moments: int, steps: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row per kill: `moments` at random CPU times, and before `steps` file steps.

    Of the random times a fifth lie before the first change below the area, in a fresh process that is importing; the
    others between that change and the end, one in each equal part. The steps are spread likewise.
    """
    draw = random.Random(f"{seed}/{bench.kind.name}")
    first = bench.steps[0][0]
    early = moments // 5
    late = moments - early
    for _ in range(early):
        yield _one(bench, cpu=draw.uniform(0.05, IMPORTS), cold=True)
    spans = [
        (first + k * (bench.ended.cpu - first) / late, first + (k + 1) * (bench.ended.cpu - first) / late)
        for k in range(late)
    ]
    for span in spans:
        yield _one(bench, cpu=draw.uniform(*span))
    count = len(bench.steps)
    chosen = sorted({int((k + draw.random()) * count / min(steps, count)) for k in range(min(steps, count))})
    for step in chosen:
        yield _one(bench, step=step)


def _one(
    bench: Bench,
    *,
    cpu: float | None = None,
    step: int | None = None,
    cold: bool = False,
) -> dict[str, Any]:
    env = {} if step is None else {"STRESS_AREA": str(bench.area), "STRESS_KILL_AT": str(step)}
    for _ in range(_TRIES if step is None else 1):
        bench.reset()
        ended = bench.runner.run(bench.command(), env=env, cold=cold, kill_at_cpu=cpu)
        if ended.rc == -9:
            break
        cpu = cpu and 0.8 * cpu
    row: dict[str, Any] = {"command": bench.kind.name, "how": "moment" if step is None else "file step"}
    if step is None:
        row |= {"cpu_seconds": round(cpu or 0.0, 3), "of_cpu_seconds": round(bench.ended.cpu, 3), "importing": cold}
    else:
        row |= {"step": step, "of_steps": len(bench.steps), "before": " ".join(bench.steps[step][1:])}
    if ended.rc != -9:
        return row | {"outcome": f"ended before the kill ({ended.rc})", "problems": []}
    lay = listing(bench.area)
    seen, problems = bench.problems_after_kill()
    again = bench.runner.run(bench.command())
    problems += bench.problems_at_end(again)
    row |= {
        "killed_after_seconds": round(ended.wall, 2),
        "lay_there": lay,
        "whole_to_a_reader": sorted(seen),
        "resumed": {"exit_status": again.rc, "seconds": round(again.wall, 2)},
        "outcome": "as uninterrupted" if not problems else "broken",
        "problems": problems,
    }
    return row
