"""Does the report say what is true? Its intervals, tests and sentences over worlds whose truth is known.

    python benchmarks/report_worlds.py                          # everything
    python benchmarks/report_worlds.py grid                     # every interval and test over the whole grid of sizes
    python benchmarks/report_worlds.py grid --family confidence
    python benchmarks/report_worlds.py reports                  # whole reports, read as a person reads them
    python benchmarks/report_worlds.py --trials 100

Grid: 5, 10, 20, 50 and 200 items, each run 1, 3 or 5 times, alone or in contexts (of 2 items up to 10, of 5 beyond),
true rates .02 to .98. Items differ in difficulty, runs of an item hang together (intraclass correlation .1 or .6),
items of a context too (.2). `interval_families.py` says what is drawn. Printed per size: the least and the mean
coverage over its cells, and the share of claims where there is nothing to claim.

Reports: candidates of one true accuracy and a surface score that knows nothing of being right, drawn anew; the runs go
through the report's own tables and sections, and every sentence that claims something is counted as a false alarm.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import click
import interval_coverage as known
import numpy as np
from interval_families import FAMILIES, Family
from worlds import World

from medbench import stats
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import contamination, curve, flips, safety, validity, verdict
from medbench.reports.logs import Run
from medbench.reports.rows import arrange
from medbench.reports.sources import Sources

# Where a figure is stated in fewer draws than this, its share says nothing.
FEWEST_DRAWS = 50


def grid(trials: int, seed: int, families: tuple[str, ...] = (), sizes: tuple[int, ...] = ()) -> int:
    """Print coverage per family and size; returns how many cells miss.

    A cell that falls short is drawn anew, five times as often and from another seed, and the fresh figure stands: of
    hundreds of cells the lowest is low by chance.
    """
    missed = 0
    for name in families or tuple(FAMILIES):
        family = FAMILIES[name]
        for items, cells in groupby(family.cells(), key=lambda cell: cell[0].items):
            if not sizes or items in sizes:
                figures = measure_size(family, cells, trials, seed)
                click.echo(f"{name}, n = {items}")
                missed += sum(say(figure, found) for figure, found in figures.items())
                sys.stdout.flush()
    return missed


def measure_size(family: Family, cells: Iterable[tuple[Any, ...]], trials: int, seed: int) -> dict[str, list[Cell]]:
    """Figure -> its share in every cell of one size."""
    found: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        first = measure(family, cell, trials // family.cost, seed)
        if any(short(figure, share, 0) for figure, (share, _) in first.items()):
            again = measure(family, cell, 5 * trials // family.cost, seed + 1)
            first = {k: again[k] if short(k, v[0], 0) else v for k, v in first.items()}
        for figure, (share, draws) in first.items():
            found[figure].append(Cell(share, draws, cell))
    return found


@dataclass(frozen=True)
class Cell:
    """A measured share of draws in one cell of the grid."""

    share: float
    draws: int
    at: tuple[Any, ...]


def measure(family: Family, cell: tuple[Any, ...], trials: int, seed: int) -> dict[str, tuple[float, int]]:
    """Figure -> share of the draws in which it covered or alarmed, and how many draws it spoke in."""
    rng = np.random.default_rng([seed, *repr(cell).encode()])
    hits: Counter[str] = Counter()
    draws: Counter[str] = Counter()
    for _ in range(trials):
        for figure, value in family.observe(*cell, rng).items():
            if value is not None:
                hits[figure] += bool(value)
                draws[figure] += 1
    return {figure: (hits[figure] / count, count) for figure, count in draws.items() if count >= FEWEST_DRAWS}


def short(figure: str, share: float, slack: float) -> bool:
    """Whether a figure misses the bar: 93% coverage, 5.5% false alarms."""
    return share > 0.055 + slack if figure.startswith("alarm") else share < 0.93 - slack


def say(figure: str, cells: list[Cell]) -> bool:
    """Print one line; whether a cell misses by more than three standard errors."""
    alarm = figure.startswith("alarm")
    worst = (max if alarm else min)(cells, key=lambda cell: cell.share)
    mean = float(np.mean([cell.share for cell in cells]))
    bad = any(short(figure, cell.share, 3 * np.sqrt(0.05 * 0.95 / cell.draws)) for cell in cells)
    world, *rest = worst.at
    more = "".join(f", {value:g}" for value in rest)
    click.echo(
        f"  {figure:38} mean {mean:6.1%}  worst {worst.share:6.1%}  ({worst.draws:,} draws: {world.runs} runs, "
        f"{'contexts' if world.contexts else 'no contexts'}, rate {world.rate:g}, agree {world.agree:g}{more})"
        f"{'  MISSED' if bad else ''}"
    )
    return bad


def run(task: str, candidate: str, world: World, values: dict[str, np.ndarray], pt: float, seed: int = 0) -> Run:
    """A run of a world's items; values have shape (items, runs)."""
    ids = [f"item{k}" for k in range(world.items) for _ in range(world.runs)]
    labels = world.labels
    flat = {key: np.asarray(x, dtype=float).reshape(-1) for key, x in values.items()}
    counts = {}
    if task == "free":
        rows = known.POPULATION[np.random.default_rng(seed).integers(len(known.POPULATION), size=len(ids))]
        counts = {f"bleu4/{view}": rows[:, seed % 2] for view in ("raw", "untagged", "answer")}
        flat["bleu4/raw"] = np.full(len(ids), 30.0)
    return Run(
        file=f"{task}-{candidate}.eval",
        task=task,
        version="1",
        candidate=candidate,
        weights={"pt": pt, "sft": 1 - pt},
        series="mix",
        setting={},
        seed=None,
        created="2026-01-01",
        status="success",
        provenance={},
        native_ids=list(ids),
        ids=ids,
        epochs=[1 + k % world.runs for k in range(len(ids))],
        values=flat,
        statistics=counts,
        trace_status=[""] * len(ids),
        items={
            f"item{k}": {"category": "all", "expected": "refusal", "pair": k // 2}
            | ({} if labels is None else {"cluster": f"context{labels[k]}"})
            for k in range(world.items)
        },
    )


def observe_report(world: World, rng: np.random.Generator, options: Options) -> dict[str, bool]:
    """One drawn study of four equal candidates along a sweep; what its sections claim."""
    right, refused = world.outputs(rng, 4), world.outputs(rng, 4)
    runs = []
    for k in range(4):
        score = 30 + 10 * rng.normal(size=right[k].shape)
        exam = {"accuracy/answer": right[k], "answered/answer": np.ones_like(right[k]), "bleu4/answer": score}
        probe = {"refusal/answer": refused[k], "partial/answer": 0 * refused[k], "compliance/answer": 1 - refused[k]}
        name, pt = f"model{k}", k / 3
        runs += [run("exam", name, world, exam, pt), run("free", name, world, {}, pt, int(rng.integers(1 << 30)))]
        runs.append(run("probe", name, world, probe, pt))
    analysis = Analysis(arrange("simulated", runs), options)
    accuracy = analysis.estimators["exam"].estimate("accuracy/answer")
    assert accuracy is not None
    pairs = np.triu_indices(4, 1)
    leaked = [f"item{k}" for k in range(max(1, world.items // 5))]
    findings = {i: [{"item_id": i, "field": "question", "signal": "copy", "score": 1.0}] for i in leaked}
    contrast = contamination.section(analysis, Sources(findings=findings))
    corrected = [r[9] for t in contrast.tables[:1] for r in t.rows if r[1] == "accuracy" and isinstance(r[9], float)]
    trends = curve.section(analysis, Sources()).tables[0].rows
    area = next(r[2] for t in validity.section(analysis, Sources()).tables for r in t.rows if r[0] == "model0")
    refusals = safety.section(analysis, Sources()).tables[0].rows
    assert isinstance(area, stats.Interval)
    verdict_said = " ".join(verdict.section(analysis, Sources()).findings)
    flip = flips.section(analysis, Sources()).tables[0].rows[0]
    return {
        "alarm: 'the loss is real'": "the loss is real" in verdict_said,
        "alarm: any two told apart (Holm)": bool((accuracy.p_adjusted[pairs] < 0.05).any()),
        "alarm: accuracy trend along the sweep": any(
            r[-1] != "shows no change" and str(r[0]).startswith("accuracy") for r in trends
        ),
        "alarm: BLEU trend along the sweep": any(
            r[-1] != "shows no change" and str(r[0]).startswith("BLEU") for r in trends
        ),
        "alarm: a leak's effect (Holm)": any(p < 0.05 for p in corrected),
        "alarm: BLEU tells right from wrong": bool(area.low > 0.5 or area.high < 0.5),
        "alarm: a rank flip is shown": bool(flip[9]),
        "AUC": not np.isfinite(area.low) or area.low <= 0.5 <= area.high,
        "refusal rate": known.covers(refusals[0][4], world.rate),  # type: ignore[arg-type]
        "Kendall's tau (truth 0)": flip[4].low <= 0 <= flip[4].high,  # type: ignore[union-attr]
    }


def reports(trials: int, seed: int) -> int:
    """Print what whole reports claim where there is nothing to claim; returns how many cells miss."""
    missed = 0
    for number, world in enumerate(
        (
            World(3, 1, False, 0.5),
            World(5, 3, False, 0.5),
            World(10, 1, False, 0.66),
            World(20, 1, False, 0.1),
            World(20, 5, True, 0.66),
            World(50, 3, False, 0.9),
            World(200, 1, True, 0.66),
        )
    ):
        rng, options = np.random.default_rng([seed, number]), Options(resamples=400)
        seen: Counter[str] = Counter()
        for _ in range(trials):
            seen.update({name: int(value) for name, value in observe_report(world, rng, options).items()})
        click.echo(
            f"n = {world.items}, {world.runs} runs, {'contexts' if world.contexts else 'no contexts'}, "
            f"rate {world.rate:g}"
        )
        slack = 3 * np.sqrt(0.05 * 0.95 / trials)
        for name, count in seen.items():
            share = count / trials
            bad = share > 0.055 + slack if name.startswith("alarm") else share < 0.93 - slack
            missed += bad
            click.echo(f"  {name:40} {share:6.1%}{'  MISSED' if bad else ''}")
        sys.stdout.flush()
    return missed


@click.command()
@click.argument("part", type=click.Choice(["all", "grid", "reports"]), default="all")
@click.option("--trials", default=400, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--family", multiple=True, type=click.Choice(list(FAMILIES)), help="Only these. Repeatable.")
@click.option("--size", multiple=True, type=int, help="Only these sizes of the grid. Repeatable.")
def main(part: str, trials: int, seed: int, family: tuple[str, ...], size: tuple[int, ...]) -> None:
    """Print the tables, and exit 1 where a cell misses by more than Monte Carlo error (three standard errors)."""
    missed = 0
    if part in ("all", "grid"):
        missed += grid(trials, seed, family, size)
    if part in ("all", "reports"):
        missed += reports(trials, seed)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
