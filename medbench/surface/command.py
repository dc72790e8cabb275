"""`medbench metrics`: the surface scores of a predictions file, each beside its floor."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import rich.box
from rich.console import Console
from rich.table import Table

from medbench import thinking
from medbench.errors import MedbenchError
from medbench.files.options import ReadText, cards_option
from medbench.meta.card import load_cards
from medbench.meta.line import lines
from medbench.sources.records import BadRows, OnBadRow, Record, read_records
from medbench.surface.corpus import SurfaceScores, score, score_profiles
from medbench.surface.items import METRICS, PROFILES, tokenize
from medbench.surface.tokens import LANGUAGES

# Known names, best first: LLaMA-Factory's generated_predictions.jsonl, then what other tools write.
PREDICTION_COLUMNS = ("predict", "prediction", "response", "output")
REFERENCE_COLUMNS = ("label", "reference", "target", "output")
VIEWS = ("raw", "untagged", "lenient", "answer")
TITLES = {"bleu4": "BLEU-4", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}


@dataclass(frozen=True)
class Row:
    """One prediction with its reference or references, and where it stands in the file."""

    where: str
    prediction: str
    references: tuple[str, ...]
    prefilled: bool


@click.command("metrics")
@click.argument("file", type=ReadText())
@click.option(
    "--references",
    metavar="FILE",
    type=ReadText(),
    help="Read the references from this file instead, in the same order.",
)
@click.option("--prediction", metavar="COLUMN", help=f"Default: the first of {', '.join(PREDICTION_COLUMNS)}.")
@click.option(
    "--reference",
    metavar="COLUMN[,COLUMN]",
    help=f"Default: the first of {', '.join(REFERENCE_COLUMNS)}. A cell may hold a list of several texts.",
)
@click.option("--separator", metavar="TEXT", help="What stands between several references in one cell.")
@click.option("--profile", type=click.Choice(PROFILES), help="One profile. Default: both.")
@click.option("--language", type=click.Choice(LANGUAGES), help="Of all items. Default: detected item by item.")
@click.option("--prefilled", is_flag=True, help="The prompts already held the opening think tag.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of the files, e.g. gb18030.")
@click.option("--on-bad-row", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@cards_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def metrics(
    file: str,
    references: str | None,
    prediction: str | None,
    reference: str | None,
    separator: str | None,
    profile: str | None,
    language: str | None,
    prefilled: bool,
    encoding: str,
    on_bad_row: OnBadRow,
    cards: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print BLEU-4 and ROUGE of the predictions in FILE, with floor, intervals and signature.

    FILE is JSONL, JSON, CSV, TSV or Parquet with a prediction and a reference column; LLaMA-Factory's
    generated_predictions.jsonl needs no options. The floor is what the same predictions score against another
    item's reference. Where predictions hold reasoning traces, every think-tag view is scored.
    """
    known = load_cards(cards)
    bad_rows = BadRows(on_bad_row)
    rows = read_rows(file, references, prediction, reference, separator, bad_rows, encoding, prefilled)
    statuses = Counter(thinking.statistics(row.prediction, prefilled=row.prefilled).status for row in rows)
    views = VIEWS if statuses.keys() - {"absent"} else ("raw",)
    results = score_views(rows, views, profile, language)
    notes = problems(rows, views, bad_rows)
    worth = worth_of(rows, results, known)
    if as_json:
        click.echo(json.dumps(to_json(file, rows, statuses, results, notes, worth), ensure_ascii=False, indent=1))
    else:
        render(results, statuses, notes, Console(markup=False), worth)


def worth_of(
    rows: list[Row], results: dict[str, dict[str, SurfaceScores]], cards: Sequence[dict[str, Any]]
) -> dict[str, list[str]]:
    """Profile -> what people say of its metrics, from the card whose language and reference length fit best."""
    languages = next(iter(next(iter(results.values())).values())).languages
    # The first thousand references say how long they are.
    some = list(zip(rows, languages, strict=True))[:1000]
    sizes = [len(tokenize(row.references[0], language).bleu_words[1]) for row, language in some]
    language = Counter(languages).most_common(1)[0][0]
    return {
        profile: lines(METRICS, profile, cards, language=language, reference=statistics.median(sizes))
        for profile in results
    }


def read_rows(
    file: str,
    references: str | None,
    prediction: str | None,
    reference: str | None,
    separator: str | None,
    bad_rows: BadRows,
    encoding: str,
    prefilled: bool,
) -> list[Row]:
    """The predictions of a file with their references, from the same file or from another one.

    Texts are kept as they stand, white space at their ends included: BLEU over characters counts it. A row is
    `prefilled` if the flag is set or its `prompt` ends inside a trace.

    Raises:
        MedbenchError: columns missing, predictions and references of different counts, no usable row.
        BadRow: a row without text in its columns, unless `bad_rows` skips it.
    """
    if references is not None and bad_rows.policy == "skip":
        raise MedbenchError("--on-bad-row skip would pair the wrong rows when the references come from another file.")
    records = list(read_records(file, bad_rows=bad_rows, encoding=encoding))
    others = records if references is None else list(read_records(references, bad_rows=bad_rows, encoding=encoding))
    if len(records) != len(others):
        raise MedbenchError(
            f"{file} holds {len(records)} predictions and {references} {len(others)} references; "
            "they must have one row an item, in the same order."
        )
    hyp_column = _column(records, prediction, PREDICTION_COLUMNS, "prediction", file)
    ref_columns = _columns(others, reference, references or file)
    # named twice it is meant: references scored as predictions show the floor of a data set
    if references is None and hyp_column in ref_columns and not (prediction and reference):
        raise MedbenchError(
            f"{file}: predictions and references cannot both be column {hyp_column!r}; "
            "name them with --prediction and --reference, or the references' own file with --references."
        )
    rows = []
    for record, other in zip(records, others, strict=True):
        texts = _references(other, ref_columns, separator, bad_rows)
        if _has_text(record, hyp_column, bad_rows) and texts:
            prompt = record.data.get("prompt")
            opened = isinstance(prompt, str) and thinking.split(prompt).status == "unterminated"
            rows.append(Row(record.row, record.data[hyp_column], texts, prefilled or opened))
    if not rows:
        raise MedbenchError(f"{file}: no row can be used; the first problem: {bad_rows.listed()[0]}")
    return rows


def _column(records: list[Record], given: str | None, known: Iterable[str], what: str, file: str) -> str:
    columns = list(dict.fromkeys(name for record in records for name in record.data))
    if given is not None:
        if given not in columns:
            raise MedbenchError(f"{file} has no column {given!r} for the {what}s; it has {', '.join(columns)}.")
        return given
    for name in known:
        if name in columns:
            return name
    raise MedbenchError(
        f"{file} has no {what} column: expected one of {', '.join(known)}; it has {', '.join(columns)}. "
        f"Name the column with --{what}."
    )


def _columns(records: list[Record], given: str | None, file: str) -> list[str]:
    """The column of the references, or the several that were named."""
    whole = given is None or any(given in record.data for record in records)
    names = [given] if whole else [name.strip() for name in (given or "").split(",")]
    return [_column(records, name, REFERENCE_COLUMNS, "reference", file) for name in names]


def _references(record: Record, columns: Sequence[str], separator: str | None, bad_rows: BadRows) -> tuple[str, ...]:
    """The references of a row, white space kept; empty where it has none, which `bad_rows` then knows.

    Of several columns, those that are empty say nothing.
    """
    cells = [record.data.get(column) for column in columns]
    if len(columns) > 1:
        cells = [cell for cell in cells if cell not in (None, "")]
    texts = [text for cell in cells for text in (cell if isinstance(cell, list) else [cell])]
    if separator:
        texts = [part for text in texts for part in (text.split(separator) if isinstance(text, str) else [text])]
    said = tuple(text for text in texts if isinstance(text, str))
    if said and len(said) == len(texts):
        return said
    found = "missing" if not texts or cells == [None] else f"{cells!r:.80}"
    bad_rows.add(
        record.error(
            ", ".join(columns),
            f'expected text or a list of texts, found {found}; an answer that is empty is written ""',
        )
    )
    return ()


def _has_text(record: Record, column: str, bad_rows: BadRows) -> bool:
    value = record.data.get(column)
    if isinstance(value, str):
        return True
    found = "missing" if value is None else f"{type(value).__name__} {value!r:.80}"
    bad_rows.add(record.error(column, f'expected text, found {found}; an answer that is empty is written ""'))
    return False


def score_views(
    rows: list[Row], views: Iterable[str], profile: str | None, language: str | None
) -> dict[str, dict[str, SurfaceScores]]:
    """Scores by profile and view."""
    texts = [thinking.views(row.prediction, prefilled=row.prefilled) for row in rows]
    references = [row.references for row in rows]
    results: dict[str, dict[str, SurfaceScores]] = {}
    for view in views:
        predictions = [text[view] for text in texts]
        if profile is None:
            scored = score_profiles(predictions, references, language=language)
        else:
            scored = {profile: score(predictions, references, profile=profile, language=language)}
        for name, scores in scored.items():
            results.setdefault(name, {})[view] = scores
    return results


def problems(rows: list[Row], views: Iterable[str], bad_rows: BadRows) -> list[str]:
    """What a reader of the figures must know: rows left out, and empty texts, which score 0."""
    notes = [f"left out: {problem}" for problem in bad_rows.listed()]
    for what in ("prediction", "reference"):
        empty = [row.where for row in rows if not any(text.strip() for text in _written(row, what))]
        if empty:
            notes.append(f"{len(empty)} of {len(rows)} {what}s are empty and score 0: {_few(empty)}")
    marks = [row.where for row in rows if any(text.strip().lower() == "nan" for text in row.references)]
    if marks:
        notes.append(
            f"{len(marks)} of {len(rows)} references read 'nan', pandas' mark for a missing text: {_few(marks)}"
        )
    if "answer" in views:
        cut = sum(
            bool(row.prediction.strip()) and not thinking.split(row.prediction, prefilled=row.prefilled).answer.strip()
            for row in rows
        )
        if cut:
            notes.append(f"{cut} of {len(rows)} predictions hold a trace and no answer; view answer scores them 0")
    return notes


def _written(row: Row, what: str) -> tuple[str, ...]:
    return row.references if what == "reference" else (row.prediction,)


def _few(places: list[str]) -> str:
    return ", ".join(places[:5]) + (", ..." if len(places) > 5 else "")


def _figures(scores: SurfaceScores) -> dict[str, dict[str, float | None]]:
    figures = {}
    for metric in METRICS:
        own, floor, above = scores.interval[metric], scores.floor_interval[metric], scores.above_floor[metric]
        values = {
            "score": own.estimate,
            "low": own.low,
            "high": own.high,
            "floor": floor.estimate,
            "floor_low": floor.low,
            "floor_high": floor.high,
            "above_floor": above.estimate,
            "above_floor_low": above.low,
            "above_floor_high": above.high,
        }
        figures[metric] = {name: None if math.isnan(value) else value for name, value in values.items()}
    return figures


def to_json(
    file: str,
    rows: list[Row],
    statuses: Counter[thinking.Status],
    results: dict[str, dict[str, SurfaceScores]],
    notes: list[str],
    worth: dict[str, list[str]],
) -> dict[str, Any]:
    """The figures as plain values; what cannot be computed (the floor of one item) is null."""
    return {
        "file": file,
        "items": len(rows),
        "traces": dict(statuses),
        "notes": notes,
        "profiles": {
            name: {
                "signature": next(iter(by_view.values())).signature,
                "views": {view: _figures(scores) for view, scores in by_view.items()},
                "people": worth[name],
            }
            for name, by_view in results.items()
        },
    }


def render(
    results: dict[str, dict[str, SurfaceScores]],
    statuses: Counter[thinking.Status],
    notes: list[str],
    console: Console,
    worth: dict[str, list[str]],
) -> None:
    """Print one table a profile, what people say of its metrics, its signature, and the notes."""
    for name, by_view in results.items():
        first = next(iter(by_view.values()))
        title = f"{name} profile, {len(first.languages)} items, 0-100 with 95% intervals"
        table = Table(title=title, title_justify="left", box=rich.box.SIMPLE, padding=(0, 1, 0, 0))
        for column in ("view", "metric", "score", "floor", "above floor"):
            table.add_column(column, justify="left" if column in ("view", "metric") else "right")
        for view, scores in by_view.items():
            for metric, figures in _figures(scores).items():
                table.add_row(
                    view if metric == METRICS[0] else "",
                    TITLES[metric],
                    _cell(figures["score"], figures["low"], figures["high"]),
                    _cell(figures["floor"], figures["floor_low"], figures["floor_high"]),
                    _cell(figures["above_floor"], figures["above_floor_low"], figures["above_floor_high"]),
                    end_section=metric == METRICS[-1],
                )
        console.print(table)
        for metric, views in at_floor(by_view).items():
            console.print(
                f"At the floor: {TITLES[metric]}, view {', '.join(views)}: answers to other questions score as much, "
                "within the interval.",
                soft_wrap=True,
            )
        for sentence in worth[name]:
            console.print(f"What people say: {sentence}", markup=False, highlight=False, soft_wrap=True)
        for key, value in first.signature.items():
            console.print(f"  {key}: {value}", style="dim", markup=False, highlight=False, soft_wrap=True)
        console.print()
    if statuses.keys() - {"absent"}:
        console.print("traces: " + ", ".join(f"{status} {count}" for status, count in statuses.most_common()))
    for note in notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)


def at_floor(by_view: dict[str, SurfaceScores]) -> dict[str, list[str]]:
    """Metric -> the views under which its score cannot be told from its floor."""
    found = {
        metric: [view for view, scores in by_view.items() if scores.above_floor[metric].low <= 0] for metric in METRICS
    }
    return {metric: views for metric, views in found.items() if views}


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.1f}, {high:.1f}]"
