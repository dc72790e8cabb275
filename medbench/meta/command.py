"""`medbench meta`: what a metric says about what people judge."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import rich.box
from rich.console import Console
from rich.table import Table

from medbench.errors import MedbenchError
from medbench.files.copies import origin
from medbench.files.manifest import write_atomic
from medbench.files.options import ReadText, Write
from medbench.meta.card import load_cards
from medbench.meta.columns import Columns
from medbench.meta.evaluate import FIGURES, Settings
from medbench.meta.line import lines
from medbench.meta.make import Asked, make_card
from medbench.meta.names import LENGTHS, SURFACE_TITLES, title
from medbench.meta.replicate import compare
from medbench.surface.items import PROFILES
from medbench.surface.tokens import LANGUAGES

_HEADINGS = {
    "spearman": "Spearman",
    "kendall": "Kendall",
    "auc": "AUC",
    "pairs": "pairs %",
    "kappa": "kappa",
}
_WIDE = 104  # columns of a terminal that have room for all figures


def _parts(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


@click.command("meta")
@click.argument("file", type=ReadText())
@click.option("--prediction", required=True, metavar="COLUMN", help="What was judged.")
@click.option("--reference", required=True, metavar="COLUMN", help="What the metrics compare it with.")
@click.option(
    "--human",
    multiple=True,
    required=True,
    metavar="C[,C...]",
    help="What people said, a column per rater. Repeated: facets, whose mean counts; C:0-2 gives a scale, A=B is "
    "whether two columns say the same.",
)
@click.option("--group", metavar="COLUMN", help="What belongs together, e.g. the question. Default: equal references.")
@click.option("--rater", metavar="COLUMN", help="Who rated the row, where each row is one rating.")
@click.option("--score", metavar="C[,C...]", help="Columns with other scores, e.g. a judge's.")
@click.option("--labels", metavar="L,...", help="All labels there are (A,B,C), or their numbers (A=1,B=0).")
@click.option("--positive", metavar="L", help="The label(s) that count as positive, or >=NUMBER of a rating.")
@click.option("--name", default="", help="What was judged, as the card's line says it: 'ratings of summaries'.")
@click.option("--source", default="", help="Where the data come from; kept in the card.")
@click.option("--licence", default="", help="Of the data; kept in the card.")
@click.option("--language", type=click.Choice(LANGUAGES), help="Of all rows. Default: detected row by row.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of the file.")
@click.option("--out", type=Write(replace=True), help="Where the card goes: a .json file, or a directory.")
@click.option(
    "--against", metavar="CARD", type=ReadText(), help="Does this file replicate that card (a file, or mslr, kqa)?"
)
@click.option("--profile", type=click.Choice(PROFILES), help="Show one profile. Default: both.")
@click.option("--resamples", default=Settings.resamples, show_default=True, type=click.IntRange(100))
@click.option("--seed", default=Settings.seed, show_default=True, help="Of the bootstrap; kept in the card.")
@click.option("--json", "as_json", is_flag=True, help="Print the card instead of tables.")
@click.pass_context
def command(
    ctx: click.Context,
    file: str,
    prediction: str,
    reference: str,
    human: tuple[str, ...],
    group: str | None,
    rater: str | None,
    score: str | None,
    labels: str | None,
    positive: str | None,
    name: str,
    source: str,
    licence: str,
    language: str | None,
    encoding: str,
    out: Path | None,
    against: str | None,
    profile: str | None,
    resamples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare BLEU-4, ROUGE, length and other scores with what people say of the outputs in FILE.

    FILE is JSONL, JSON, CSV, TSV or Parquet, a row per output or per rating. Prints rank correlations, AUC, how often a
    metric picks the output that people prefer, and the kappa of its best threshold on held-out groups, all with 95%
    intervals clustered by group, beside how far people agree among themselves; --out writes them as a card, whose line
    `medbench metrics`, the leaderboard and the report print beside a surface score (--card FILE).
    """
    earlier = load_cards([against])[0] if against else None
    columns = Columns(prediction, reference, group, rater, _parts(score))
    asked = Asked(columns, human, labels, positive, name, source, licence, language, encoding)
    card, listed = make_card(file, asked, Settings(resamples, seed), _command(ctx))
    console = Console(markup=False)
    if as_json:
        click.echo(json.dumps(card, ensure_ascii=False, indent=1))
    else:
        render(card, [profile] if profile else list(PROFILES), listed, console)
    if earlier is not None and not as_json:
        for text in compare(earlier, card):
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    if out:
        path = _write(card, out, Path(file).name)
        click.echo(f"wrote {origin(str(path))}", err=as_json)


def _command(ctx: click.Context) -> str:
    """The command as it can be run again: files by their names, without where they lay and where the card went."""
    words = ["medbench", "meta", Path(ctx.params["file"]).name]
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        if not isinstance(option, click.Option) or option.name in ("out", "against", "as_json", "profile"):
            continue
        if value is None or value == option.default or value in ((), False):
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [option.opts[0], str(one)]
    return shlex.join(words)


def _write(card: dict[str, Any], out: Path, name: str) -> Path:
    path = out if out.suffix == ".json" else out / f"{Path(name).name.split('.')[0]}-card.json"
    if path.is_dir():
        raise MedbenchError(
            f"--out {path} is a directory; name a file in it, or a directory without .json in its name."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(card, ensure_ascii=False, indent=1) + "\n")
    return path


def render(card: dict[str, Any], profiles: list[str], listed: list[str], console: Console) -> None:
    """Print what was compared, a table a profile, the humans' agreement, and what was left out."""
    human, groups, rows = card["human"], card["groups"], card["rows"]
    say = lambda text, style=None: console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)  # noqa: E731
    say(f"{card['name']}: {rows['used']} of {rows['read']} rows in {groups['count']} groups ({groups['by']})")
    say(f"people: {human['target']}; positive: {human['positive']} ({human['positives']} of {rows['used']})")
    say("")
    for table in _tables(card, profiles, console.width):
        console.print(table)
    shown = card["profiles"][profiles[0]]["metrics"]["bleu4"]
    if shown["pairs"]["count"]:
        say(
            f"pairs %: of {shown['pairs']['count']:,} pairs in a group of which people prefer one, the share in which "
            "that one scores higher, ties half; a coin: 50. kappa: of positive or not with the best threshold of the "
            f"other groups, {groups['held_out']} held out.",
            "dim",
        )
    for line in agreement_lines(card):
        say(line)
    for profile in profiles:
        for text in lines(list(SURFACE_TITLES), profile, [card]):
            say(f"{profile} profile. {text}")
    for note in dict.fromkeys([*card["notes"], *listed]):
        say(f"note: {note}")


def _tables(card: dict[str, Any], profiles: list[str], width: int) -> list[Table]:
    """A table a profile, and one of lengths and other scores; in a narrow terminal without Kendall."""
    wide = width >= _WIDE
    names = [*LENGTHS, *[name for name in card["other"] if name not in LENGTHS]]
    parts = [(f"{profile} profile", card["profiles"][profile]["metrics"]) for profile in profiles]
    parts.append(("length and other scores", {name: card["other"][name] for name in names}))
    tables = []
    for heading, metrics in parts:
        about = f"{100 * card['settings']['confidence']:.0f}% intervals clustered by group"
        table = Table(
            title=f"{heading}, {about}",
            title_justify="left",
            box=rich.box.SIMPLE,
            padding=(0, 1 + wide, 0, 0),
            pad_edge=False,
        )
        table.add_column("metric", overflow="fold")
        shown = [name for name in FIGURES if wide or name != "kendall"]
        for name in shown:
            table.add_column(_HEADINGS[name], justify="right", no_wrap=True)
        for metric, figures in metrics.items():
            cells = [_cell(figures[name], 100 if name == "pairs" else 1, tight=not wide) for name in shown]
            table.add_row(title(metric), *cells, end_section=metric.endswith("_recall"))
        tables.append(table)
    return tables


def _cell(figure: dict[str, Any], scale: float = 1, tight: bool = False) -> str:
    if figure["estimate"] is None:
        return "-"
    text = _number(figure["estimate"], scale)
    bounds = figure["interval"]
    comma = "," if tight else ", "
    return text if bounds is None else f"{text} [{_number(bounds[0], scale)}{comma}{_number(bounds[1], scale)}]"


def _number(value: float, scale: float = 1) -> str:
    """``.55``, ``-.07``, 55 in percent: as papers of the field write coefficients."""
    if scale == 100:
        return f"{100 * value:.0f}"
    text = f"{value:.2f}"
    return "0" if float(text) == 0 else text.replace("0.", ".", 1)


def agreement_lines(card: dict[str, Any]) -> list[str]:
    """How far the people agree among themselves, a line a panel."""
    lines = []
    for panel in card["agreement"]:
        head = f"people on {panel['of']}"
        if "why" in panel:
            lines.append(f"{head}: {panel['why']}")
            continue
        head += f" ({panel['judged_by_several']} outputs of {panel['groups']} groups judged by several)"
        # Of two values all levels say the same.
        alphas = {figure["estimate"]: (level, figure) for level, figure in reversed(panel["alpha"].items())}
        parts = [f"alpha {level} {_cell(figure)}" for level, figure in reversed(alphas.values())]
        known = [entry["kappa"] for entry in panel["kappa"] if entry["kappa"]["estimate"] is not None]
        if len(known) == 1:
            parts.append(f"kappa {_cell(known[0])}")
        elif known:
            spread = sorted(figure["estimate"] for figure in known)
            parts.append(f"kappa of two {_number(spread[0])} to {_number(spread[-1])}")
        rest = panel["one_against_others"]
        if rest:
            told = [f"Spearman {_cell(rest['spearman'])}", f"AUC {_cell(rest['auc'])}"]
            told += [f"pairs {_cell(rest['pairs'], 100)}%"] if rest["pairs"]["estimate"] is not None else []
            parts.append(f"one against the others: {', '.join(told)}")
        lines.append(f"{head}: {'; '.join(parts)}")
    return lines
