"""`medbench report` and `medbench leaderboard`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from medbench.errors import MedbenchError
from medbench.files import places
from medbench.files.options import ReadText, cards_option
from medbench.reports.estimates import Analysis, Options
from medbench.reports.report import Progress

_SHOWN_AFTER_SECONDS = 2.0


@click.command("report")
@click.argument("logdir")
@click.option(
    "--out",
    required=True,
    metavar="PATH",
    help="Directory for report.html, .md, .json and rows.parquet.",
)
@click.option(
    "--audit", metavar="FINDINGS", type=ReadText(), help="findings.jsonl of `medbench audit`, or its directory."
)
@click.option(
    "--contamination",
    multiple=True,
    type=ReadText(),
    metavar="DIR",
    help="Directory of `medbench contamination`. Repeatable.",
)
@cards_option
@click.option(
    "--manifests",
    multiple=True,
    type=ReadText(),
    metavar="DIR",
    help="Directory of adapters, for their loss curves. Repeatable.",
)
@click.option(
    "--resamples", default=Options.resamples, show_default=True, type=click.IntRange(100), help="Bootstrap resamples."
)
@click.option("--seed", default=Options.seed, show_default=True, help="Seed of everything random; kept in the report.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    help="Points of accuracy that do not matter to you: says which candidates are as good as which.",
)
@click.option("--title", default="medbench report", show_default=True)
@click.option(
    "--check", "checking", is_flag=True, help="Recompute the report in --out and compare; exit 1 on a difference."
)
def report(
    logdir: str,
    out: str,
    audit: str | None,
    contamination: tuple[str, ...],
    cards: tuple[str, ...],
    manifests: tuple[str, ...],
    resamples: int,
    seed: int,
    margin: float | None,
    title: str,
    checking: bool,
) -> None:
    """Report how far surface metrics mislead, from the eval logs in LOGDIR alone.

    LOGDIR: a directory of .eval or .json logs, or any fsspec URL of one.
    """
    from medbench.reports.write import make

    if checking:
        _check(places.local(out), logdir, audit, manifests, contamination, cards)
        return
    with places.staged(out, replace=True) as made, _progress() as tell:
        built, rows = make(
            logdir,
            made,
            audit=audit,
            manifests=manifests,
            contamination=contamination,
            cards=cards,
            margin=margin,
            resamples=resamples,
            seed=seed,
            title=title,
            progress=tell,
        )
    click.echo(built.headline)
    for sentence in built.lead:
        click.echo(sentence)
    for notice in built.notices:
        click.echo(f"note: {notice.text}", err=True)
    click.echo(f"wrote {out.rstrip('/')}/report.html, report.md, report.json and {rows:,} rows in rows.parquet")


def _check(
    out: Path,
    logdir: str,
    audit: str | None,
    manifests: tuple[str, ...],
    contamination: tuple[str, ...],
    cards: tuple[str, ...],
) -> None:
    """Print what differs between a report and its logs, and exit with 1 where something does."""
    from medbench.reports.report import check

    with _progress() as tell:
        found = check(out, logdir, audit, manifests, tell, contamination, cards)
    for line in found[:50]:
        click.echo(line)
    if found:
        click.echo(f"{len(found)} differences between {out / 'report.json'} and its logs.", err=True)
        sys.exit(1)
    click.echo(f"{out / 'report.json'}: every number recomputed, none differs.")


@click.command("leaderboard")
@click.argument("logdir")
@click.option("--resamples", default=Options.resamples, show_default=True, type=click.IntRange(100))
@click.option("--seed", default=Options.seed, show_default=True)
@cards_option
def leaderboard(logdir: str, resamples: int, seed: int, cards: tuple[str, ...]) -> None:
    """Show the leaderboard of the eval logs in LOGDIR: intervals, open ranks, and groups that are tied."""
    from medbench.meta.card import load_cards
    from medbench.reports import leaderboard as board
    from medbench.reports import terminal
    from medbench.reports.rows import load_study
    from medbench.reports.sources import Sources

    sources = Sources(cards=load_cards(cards))
    with _progress() as tell:
        study = load_study(logdir, lambda done, total: tell("reading logs", done, total))
        section = board.section(Analysis(study, Options(resamples=resamples, seed=seed)), sources)
    if section.missing:
        raise MedbenchError(f"{logdir}: {section.missing}")
    terminal.show_section(section, study.notices)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A progress bar on the terminal, shown only for work that takes longer than two seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:<14}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True, markup=False), transient=True)
    tasks: dict[str, int] = {}
    started, shown = time.monotonic(), False

    def tell(step: str, done: int, total: int) -> None:
        nonlocal shown
        if not shown and time.monotonic() - started > _SHOWN_AFTER_SECONDS:
            bar.start()
            shown = True
        if step not in tasks:
            tasks[step] = bar.add_task(step, total=total)
        bar.update(tasks[step], completed=done, total=total)  # type: ignore[arg-type]

    try:
        yield tell
    finally:
        if shown:
            bar.stop()
