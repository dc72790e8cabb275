"""Time, memory and size of a report over 50 logs of 1,273 samples with 2,000 resamples, on one core; then its use.

    python benchmarks/report.py --logs DIR            # generates the logs once (minutes), then measures
    python benchmarks/report.py --logs DIR --candidates 25
    python benchmarks/report.py --logs DIR --page     # only opens and sorts the page that is there

The page is opened in Chromium, where there is one, and every column of every table is sorted once: measured is the time
from the click until the next frame is on the screen, with all tables unfolded. 100 ms is felt as at once (RAIL).

The logs hold 25 candidates on a multiple-choice task with reference explanations and on a free-text task, every sample
with the five views, both profiles, floors and BLEU statistics that medbench's scorers log. The report runs as a process
of its own: peak memory is that of the whole command, imports included.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import chromium
import click
import numpy as np
import simulated_logs as sim

LIMITS = {"seconds": 60.0, "gigabytes": 2.0, "megabytes of HTML": 10.0}
PAGE_LIMITS = {"ms to open": 2000.0, "ms a sort, median": 100.0, "ms a sort, worst": 100.0}
# A frame may be due at once; the second one after the click is surely painted with the new order.
SORTS = """(async () => {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await frame();
  const found = [];
  for (const button of document.querySelectorAll("table.sortable thead button")) {
    // A reader clicks where the page has come to rest: scrolling paints too, and is not what is measured.
    button.scrollIntoView({ behavior: "instant" });
    await new Promise((done) => setTimeout(done, 100));
    await frame();
    const started = performance.now();
    button.click();
    await frame();
    await frame();
    found.push([performance.now() - started, button.closest("table").tBodies[0].rows.length]);
  }
  return found;
})()"""


def generate(directory: Path, candidates: int, items: int) -> None:
    """One log per candidate and task. Existing ones are kept, so that an interrupted run goes on."""
    for index in range(candidates):
        share = index / max(1, candidates - 1)
        candidate = sim.Candidate(f"mix-{share:.3f}", round(share, 4), round(1 - share, 4))
        for task in ("medqa", "f5"):
            name = f"{task}_{index:02d}"
            if not (directory / f"{name}.eval").exists():
                sim.write(sim.log(candidate, task, items), directory, name)


@click.command()
@click.option("--logs", type=click.Path(path_type=Path), required=True)
@click.option("--candidates", default=25, show_default=True)
@click.option("--items", default=1273, show_default=True)
@click.option("--resamples", default=2000, show_default=True)
@click.option("--page", "page_only", is_flag=True, help="Only open and sort the page of the last run.")
def main(logs: Path, candidates: int, items: int, resamples: int, page_only: bool) -> None:
    """Generate the logs where they are missing, write a report, open it, and compare with the limits."""
    out = logs.parent / f"{logs.name}-report"
    missed = 0
    if not page_only:
        generate(logs, candidates, items)
        click.echo(f"{2 * candidates} logs x {items:,} samples, {resamples:,} resamples, one core")
        missed += compare(write_report(logs, out, resamples), LIMITS)
    if chromium.PROGRAM is None:
        click.echo("no Chromium here: the page was not opened (apt-get install chromium)")
    else:
        missed += compare(use_page(out / "report.html"), PAGE_LIMITS)
    sys.exit(missed > 0)


def compare(measured: dict[str, float], limits: dict[str, float]) -> int:
    """Print each number beside its limit; returns how many miss it."""
    for name, value in measured.items():
        verdict = "" if name not in limits else f"  limit {limits[name]:g}  "
        verdict += "" if name not in limits else "ok" if value < limits[name] else "MISSED"
        click.echo(f"{name:20} {value:8.2f}{verdict}")
    return sum(value >= limits.get(name, float("inf")) for name, value in measured.items())


def write_report(logs: Path, out: Path, resamples: int) -> dict[str, float]:
    """Run the command in a process of its own, on one core."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "medbench.cli", "report", str(logs), "--out", str(out)]
    command += ["--resamples", str(resamples)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    started = time.perf_counter()
    subprocess.run(["taskset", "-c", "0", *command], check=True, env=environment, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds of wall time": wall,
        "seconds": used.ru_utime + used.ru_stime,
        "gigabytes": used.ru_maxrss / 2**20,
        "megabytes of HTML": (out / "report.html").stat().st_size / 1e6,
    }


def use_page(file: Path) -> dict[str, float]:
    """Open the page and sort every column of every table."""
    with chromium.Page() as page:
        page.open(file)
        opened = page.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
        sorts = np.array(page.run(SORTS))
    click.echo(f"{len(sorts)} columns sorted, in tables of up to {int(sorts[:, 1].max()):,} rows")
    return {
        "ms to open": opened,
        "ms a sort, median": float(np.median(sorts[:, 0])),
        "ms a sort, worst": float(sorts[:, 0].max()),
    }


if __name__ == "__main__":
    main()
