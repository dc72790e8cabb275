"""Nothing breaks it: kill -9 and full disks against `medbench sweep, train, merge, audit, report, import`.

    make stress STRESS="kill disk --only merge --moments 20 --seed 0"

Each command runs once undisturbed. Then it is killed (its process group, with SIGKILL) at random moments of its CPU
time and before single file steps, and the same command is called again: the result must be that of the undisturbed
run, nothing lost, twice or left behind, and between the two no reader may take a half result for a whole one. The same
with a disk that has too little room, where the command must say so and keep an earlier result.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from medbench.files.manifest import versions
from stress.disks import fills
from stress.kills import kills
from stress.kinds import KINDS
from stress.process import Runner
from stress.trial import prepare


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(["kill", "disk"]))
@click.option("--only", multiple=True, type=click.Choice(list(KINDS)), help="Commands; all without.")
@click.option("--moments", default=20, show_default=True, help="Random moments a command.")
@click.option("--steps", default=10, show_default=True, help="File steps a command.")
@click.option("--seed", default=0, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/stress"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Default: stress.json in --work.")
def main(
    parts: tuple[str, ...], only: tuple[str, ...], moments: int, steps: int, seed: int, work: Path, out: Path | None
) -> None:
    """Kill commands and fill disks; exit 1 where anything broke."""
    work = work.resolve()
    out = out or work / "stress.json"
    rows: list[dict[str, Any]] = []
    begin = time.perf_counter()
    for name in only or KINDS:
        for row in _rows(name, parts or ("kill", "disk"), (moments, steps), seed, work / name):
            rows.append(row)
            click.echo(_told(row))
            document = {
                "seed": seed, "moments": moments, "versions": versions(), "seconds": round(time.perf_counter() - begin),
                "commands": {kind.name: kind.about for kind in KINDS.values()}, "rows": rows,
            }  # fmt: skip
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")
    click.echo("\n".join(table(rows)))
    sys.exit(any(row["problems"] for row in rows))


def _rows(
    name: str, parts: tuple[str, ...], counts: tuple[int, int], seed: int, work: Path
) -> Iterator[dict[str, Any]]:
    kind = KINDS[name]
    runner = Runner(work, kind.modules)
    if "kill" in parts:
        shutil.rmtree(work / "area", ignore_errors=True)
        bench = prepare(kind, work, work / "area", runner)
        ended = bench.ended
        click.echo(f"{name}: {ended.wall:.1f} s, {ended.cpu:.1f} s of CPU, {len(bench.steps)} file steps undisturbed")
        yield from kills(bench, *counts, seed)
    if "disk" in parts:
        yield from fills(kind, work, runner)
    runner.close()


def _told(row: dict[str, Any]) -> str:
    """A row in a line."""
    where = next(f"{key} {row[key]}" for key in ("step", "cpu_seconds", "free_bytes", "how") if key in row)
    return f"{row['command']}, {row['how']}, {where}: {'; '.join([row['outcome'], *row['problems']])}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The Markdown table of docs/reliability.md."""
    lines = ["| command | what was done | times | as uninterrupted afterwards |", "|---|---|---|---|"]
    for name in KINDS:
        for how, shown in (
            ("moment", "killed at a random moment"),
            ("file step", "killed before a file step"),
            ("disk", "too little room"),
        ):
            found = [row for row in rows if (row["command"], row["how"]) == (name, how)]
            if how == "disk":
                found = [row for row in found if row.get("exit_status")]
            done = [row for row in found if not row["outcome"].startswith("ended before")]
            if done:
                lines.append(f"| `{name}` | {shown} | {len(done)} | {sum(not row['problems'] for row in done)} |")
    return lines


if __name__ == "__main__":
    main()
