"""`medbench plan`: how many items, or runs of each, an evaluation needs before it is started."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import click
import numpy as np

from medbench import stats
from medbench.errors import MedbenchError, unknown

# Items shown beside the needed number: how far a set that one may have reaches.
_SIZES = (100, 200, 500, 1273, 3000)
_RUNS = (1, 3, 5)


@dataclass(frozen=True)
class Cost:
    """What one output takes, from a pilot's logs: seconds of the run's time and tokens."""

    seconds: float
    tokens: float

    def of(self, outputs: float) -> str:
        """Minutes and tokens of so many outputs, in words."""
        tokens = self.tokens * outputs
        amount = f"{tokens / 1e6:.1f} million" if tokens >= 1e6 else f"{tokens / 1e3:.0f} thousand"
        return f"{self.seconds * outputs / 60:,.0f} min, {amount} tokens"


@click.command("plan")
@click.argument("pilot", required=False)
@click.option("--task", help="The pilot's task; by default its first accuracy task.")
@click.option("--first", help="A candidate of the pilot.")
@click.option("--second", help="The candidate to compare with it.")
@click.option("--rates", help="Without a pilot: guessed accuracies of both, as 0.66,0.69.")
@click.option(
    "--flips", type=click.FloatRange(0, 1), help="Share of items that only one of the two gets right, if known."
)
@click.option(
    "--difference", type=click.FloatRange(0, 100, min_open=True), help="Points to show; by default the guess's."
)
@click.option(
    "--margin", type=click.FloatRange(0, 100, min_open=True), help="Points within which equals shall be shown."
)
@click.option("--power", default=0.8, show_default=True, type=click.FloatRange(0.05, 0.999))
@click.option("--context-size", default=1.0, show_default=True, help="Items that share a context, on average.")
@click.option("--context-correlation", default=0.2, show_default=True, help="How much such items hang together, 0-1.")
def plan(
    pilot: str | None,
    task: str | None,
    first: str | None,
    second: str | None,
    rates: str | None,
    flips: float | None,
    difference: float | None,
    margin: float | None,
    power: float,
    context_size: float,
    context_correlation: float,
) -> None:
    """Items and runs needed to show a difference between two candidates on the same items.

    PILOT: eval logs of both candidates on some items; without it give --rates.
    """
    cost: Cost | None = None
    if pilot is not None:
        spread, gap, told, cost = _from_pilot(pilot, task, first, second)
        click.echo(told)
    elif rates:
        one, two = _two_rates(rates)
        spread, gap = stats.guessed_spread(one, two, flips), abs(two - one)
        design = 1 + (context_size - 1) * context_correlation
        spread = stats.PairSpread(spread.between, spread.within, max(1.0, design))
        click.echo(f"Guessed: {one:.1%} against {two:.1%}; {_flips_text(spread, gap)}.")
    else:
        raise MedbenchError("give a directory of pilot logs, or guessed accuracies: medbench plan --rates 0.66,0.69")
    wanted = difference / 100 if difference is not None else gap
    if wanted > 0:
        click.echo(f"\nTo show {100 * wanted:.1f} points at {power:.0%} power (two-sided, 5%):")
        for runs in _RUNS if spread.within else (1,):
            _line(stats.items_for(spread, wanted, runs, power), runs, cost)
    else:
        click.echo("\nThe two are equal so far: name the points to show with --difference, or a --margin.")
    if margin is not None:
        click.echo(f"\nTo show two equals to be as good as each other, give or take {margin:g} points:")
        for runs in _RUNS if spread.within else (1,):
            _line(stats.items_for_equivalence(spread, margin / 100, runs, power), runs, cost)
    reach = ", ".join(f"{n:,}: {100 * stats.shown_by(spread, n, 1, power):.1f}" for n in _SIZES)
    click.echo(f"\nPoints that so many items show, one run each: {reach}.")
    if spread.within == 0:
        click.echo("Nothing here says what another run of an item changes: more runs are counted as no help.")


def _line(items: int, runs: int, cost: Cost | None) -> None:
    outputs = items * runs
    what = f"{items:,} items x {runs} run{'s' if runs > 1 else ''}"
    price = f"   ({cost.of(2 * outputs)} for both)" if cost else ""
    click.echo(f"  {what:26} {outputs:>8,} outputs of each candidate{price}")


def _two_rates(text: str) -> tuple[float, float]:
    try:
        one, two = (float(part) for part in text.split(","))
    except ValueError:
        raise MedbenchError(f"--rates takes two accuracies in 0-1, as 0.66,0.69; got {text!r}.") from None
    return one, two


def _flips_text(spread: stats.PairSpread, gap: float) -> str:
    share = spread.variance(1) / spread.design + gap**2
    text = f"about {share:.0%} of items flip between them"
    return text if spread.design == 1 else f"{text}, contexts make each item count as {1 / spread.design:.2f}"


def _from_pilot(
    location: str, task: str | None, first: str | None, second: str | None
) -> tuple[stats.PairSpread, float, str, Cost | None]:
    from medbench.reports.estimates import Analysis, Options
    from medbench.reports.rows import load_study

    analysis = Analysis(load_study(location), Options(resamples=100))
    if not analysis.choice_tasks:
        raise MedbenchError(f"{location}: no accuracy task in these logs, so there is no rate to plan for.")
    task = task or analysis.choice_tasks[0]
    if task not in analysis.choice_tasks:
        raise unknown("accuracy task", task, analysis.choice_tasks)
    table = analysis.study.tables[task]
    names = [name for name in (first, second) if name] or table.candidates[:2]
    for name in names:
        if name not in table.candidates:
            raise unknown("candidate", name, table.candidates)
    if len(names) < 2:
        names += [name for name in table.candidates if name not in names][:1]
    if len(names) < 2:
        raise MedbenchError(f"{location}: {task} has one candidate, {names[0]}; a paired plan needs two, or --rates.")
    values = [table.values["accuracy/answer"][table.candidates.index(name)] for name in names]
    known = np.isfinite(values[0]).any(axis=1) & np.isfinite(values[1]).any(axis=1)
    clusters = None if table.clusters is None else table.clusters[known]
    spread = stats.pilot_spread(values[0][known], values[1][known], clusters)
    means = [float(np.nanmean(side[known], axis=1).mean()) for side in values]
    gap = means[1] - means[0]
    told = (
        f"Pilot: {task}, {int(known.sum()):,} items; {names[0]} {means[0]:.1%}, {names[1]} {means[1]:.1%}; "
        f"{_flips_text(spread, gap)}. The pilot's own difference is uncertain: plan for the one that matters to you."
    )
    return spread, abs(gap), told, _cost([run.file for name in names for run in table.runs[name]])


def _cost(files: list[str]) -> Cost | None:
    """Seconds and tokens of one output, from the logs' headers; None where they do not say."""
    from inspect_ai.log import read_eval_log

    seconds = tokens = outputs = 0.0
    for file in files:
        header = read_eval_log(file, header_only=True)
        done = header.results.completed_samples if header.results else 0
        started, ended = header.stats.started_at, header.stats.completed_at
        if not (done and started and ended):
            return None
        seconds += (datetime.fromisoformat(str(ended)) - datetime.fromisoformat(str(started))).total_seconds()
        tokens += sum(usage.total_tokens for usage in header.stats.model_usage.values())
        outputs += done
    return Cost(seconds / outputs, tokens / outputs) if outputs else None
