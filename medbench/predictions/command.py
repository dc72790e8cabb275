"""`medbench import`: predictions that exist already, as scored Inspect logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from medbench import stats
from medbench.errors import MedbenchError
from medbench.files.options import ReadText
from medbench.predictions.formats import FORMATS
from medbench.predictions.importing import import_predictions
from medbench.predictions.tables import COLUMNS
from medbench.private.inspect import parsed_arguments
from medbench.scoring.units import mean_interval
from medbench.sources.records import OnBadRow

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample


@click.command("import")
@click.argument("file", type=ReadText())
@click.option(
    "--format",
    "form",
    metavar="NAME",
    help=f"{', '.join(FORMATS)}. Default: told by the fields of the first row.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="PART=NAME",
    help=f"Which column of a table holds what, e.g. prediction=模型输出; parts: {', '.join(COLUMNS)}.",
)
@click.option("--task", metavar="NAME", help="Benchmark whose scorers judge, e.g. f5. Default: trace statistics alone.")
@click.option("--model", metavar="NAME", help="What the log calls the model. Default: the rows' own field `model`.")
@click.option("--log-dir", default="logs", show_default=True, help="Where the log is written.")
@click.option(
    "--source",
    metavar="FILE",
    type=ReadText(),
    help="The benchmark's items. Default: the items that FILE itself holds.",
)
@click.option(
    "-T", "arguments", multiple=True, metavar="NAME=VALUE", help="The task's own parameters, as in inspect eval."
)
@click.option("--prefilled/--no-prefilled", default=None, help="The prompts ended in an opening think tag, or did not.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of FILE, e.g. gb18030.")
@click.option("--on-bad-row", type=click.Choice(["error", "skip"]), default="error", show_default=True)
def import_command(
    file: str,
    form: str | None,
    columns: tuple[str, ...],
    task: str | None,
    model: str | None,
    log_dir: str,
    source: str | None,
    arguments: tuple[str, ...],
    prefilled: bool | None,
    encoding: str,
    on_bad_row: OnBadRow,
) -> None:
    """Judge the predictions in FILE as a live evaluation would be judged, and write an Inspect log.

    \b
    llamafactory  generated_predictions.jsonl: prompt, predict, label
    lm-eval       --log_samples rows: generated text, or log-likelihoods of the options
    inspect       a log of inspect_evals or any Inspect task (.eval, .json)
    evalscope     predictions/MODEL/SET.jsonl or reviews/MODEL/SET.jsonl
    opencompass   predictions/MODEL/SET.json of a _gen configuration
    helm          scenario_state.json, or display_predictions.json beside instances.json
    csv           columns prediction, and id or prompt or question, reference (also TSV, JSONL, Parquet);
                  other names with --column
    plain         prompt, output: no references, so trace statistics alone

    Multiple-choice benchmarks need their options: files of lm-eval, inspect and helm hold them; for the others name
    the benchmark's own file with --source, whose questions are looked for in the prompts. Several outputs for one
    prompt all count, as in the tool's own mean over rows. What maps to what: docs/from-other-tools.md.
    """
    log = import_predictions(
        file,
        form=form,
        task=task,
        model=model,
        log_dir=log_dir,
        source=source,
        prefilled=prefilled,
        on_bad_row=on_bad_row,
        encoding=encoding,
        task_args=task_arguments(arguments),
        columns=named_columns(columns),
    )
    render(log, Console(markup=False))


def task_arguments(given: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts as Inspect reads those of ``-T``: values as YAML.

    Raises:
        MedbenchError: a text without ``=``.
    """
    for text in given:
        if "=" not in text:
            raise MedbenchError(f"-T takes NAME=VALUE, not {text!r}.")
    return parsed_arguments(tuple(given))


def named_columns(given: Sequence[str]) -> dict[str, str]:
    """``PART=NAME`` texts of ``--column``.

    Raises:
        MedbenchError: a text of another form, or a part named twice.
    """
    named: dict[str, str] = {}
    for text in given:
        part, _, name = text.partition("=")
        if not part or not name:
            raise MedbenchError(f"--column takes PART=NAME, e.g. prediction=output, not {text!r}.")
        if part in named:
            raise MedbenchError(f"--column names two columns for {part}: {named[part]!r} and {name!r}.")
        named[part] = name
    return named


def render(log: EvalLog, console: Console) -> None:
    """Print every score with its 95% interval and floor, the trace statuses, and what was left out."""
    values = score_values(log)
    contexts = contexts_of(log)
    outputs, items = len(log.samples or []), len(_by_item(log))
    size = f"{outputs} predictions" + ("" if outputs == items else f" for {items} prompts")
    table = Table(title=f"{log.eval.task}, {size}", title_justify="left")
    floors = {key for key in values if key.partition("/")[0].endswith("_floor")}
    for column in ("score", "view", "mean", "95% interval", *(("floor",) if floors else ())):
        table.add_column(column, justify="left" if column in ("score", "view") else "right", overflow="fold")
    traced = any(status != "absent" for status in trace_statuses(log))
    for metric, views in distinct_views(values, traced):
        found = [value for value in values[f"{metric}/{views[0]}"] if not math.isnan(value)]
        interval = interval_of(metric, values[f"{metric}/{views[0]}"], contexts)
        floor = values.get(f"{metric}_floor/{views[0]}")
        decimals = 3 if max(found, default=0.0) <= 1 else 2
        table.add_row(
            metric,
            ", ".join(views),
            f"{interval.estimate:.{decimals}f}",
            "-" if math.isnan(interval.low) else f"{interval.low:.{decimals}f} to {interval.high:.{decimals}f}",
            *((f"{np.nanmean(floor):.{decimals}f}" if floor else "",) if floors else ()),
        )
    console.print(table)
    benchmark = (log.eval.metadata or {}).get("benchmark") or {}
    if benchmark.get("judge"):
        line = benchmark.get("judge_line") or "no card was named: how far it agrees with people is not known here"
        console.print(f"judged by {benchmark['judge']}: {line}", markup=False, soft_wrap=True, highlight=False)
    statuses = trace_statuses(log)
    if statuses:
        console.print("traces: " + ", ".join(f"{status} {n}" for status, n in statuses.items()), highlight=False)
    if statuses.get("orphan_close"):
        console.print(
            "note: traces that close without an opening tag usually had it in the prompt; then pass --prefilled, "
            "which also finds those that never close.",
            soft_wrap=True,
        )
    empty = [str(s.metadata["item"]["source"]) for s in log.samples or [] if not s.output.completion.strip()]
    if empty and statuses:  # likelihoods of options have no text
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        console.print(
            f"note: empty outputs: {len(empty)}, for {'; '.join(empty[:3])}{more}", markup=False, soft_wrap=True
        )
    imported = (log.eval.metadata or {})["import"]
    if imported["repeated_prompts"]:
        console.print(
            f"note: prompts with several predictions: {imported['repeated_prompts']}; each prediction counts, and "
            "intervals count prompts.",
            soft_wrap=True,
        )
    left_out = imported["left_out"]
    for problem in left_out[:5]:
        console.print(f"left out: {problem}", markup=False, soft_wrap=True)
    if len(left_out) > 5:
        console.print(f"and {len(left_out) - 5} more, listed in the log's metadata")
    console.print(f"log: {log.location}", markup=False, soft_wrap=True, highlight=False)


def distinct_views(values: dict[str, list[float]], traced: bool) -> list[tuple[str, list[str]]]:
    """(metric, views) in the order to be read: a metric's answer view first, views of equal values in one entry.

    Args:
        values: ``<metric>/<view>`` -> values, floors among them, which are left out.
        traced: whether any output has a trace; without one its view is empty, and says nothing.
    """
    grouped: dict[str, list[list[str]]] = {}
    for key in sorted(values, key=lambda key: not key.endswith("/answer")):
        metric, _, view = key.partition("/")
        if metric.endswith("_floor") or (view == "trace" and not traced):
            continue
        known = grouped.setdefault(metric, [])
        same = next((v for v in known if np.array_equal(values[f"{metric}/{v[0]}"], values[key], equal_nan=True)), None)
        if same is None:
            known.append([view])
        else:
            same.append(view)
    return [(metric, views) for metric, several in grouped.items() for views in several]


def score_values(log: EvalLog) -> dict[str, list[float]]:
    """Score key -> each item's value (its mean over epochs, NaN without one); only keys with a value somewhere."""
    items = _by_item(log)
    values: dict[str, list[float]] = {}
    for index, samples in enumerate(items.values()):
        of_item: dict[str, list[float]] = {}
        for sample in samples:
            for score in (sample.scores or {}).values():
                for key, value in score.as_dict().items():
                    if isinstance(value, int | float) and not math.isnan(value):
                        of_item.setdefault(key, []).append(float(value))
        for key, found in of_item.items():
            values.setdefault(key, [math.nan] * len(items))[index] = sum(found) / len(found)
    return values


def contexts_of(log: EvalLog) -> list[str] | None:
    """The context that each item shares with others, by label; None where every item stands alone."""
    kept = {key: (samples[0].metadata.get("item") or {}) for key, samples in _by_item(log).items()}
    labels = [str(item.get("group") or item.get("context") or key) for key, item in kept.items()]
    return labels if len(set(labels)) < len(labels) else None


def _by_item(log: EvalLog) -> dict[str, list[EvalSample]]:
    """Sample id -> its epochs."""
    items: dict[str, list[EvalSample]] = {}
    for sample in log.samples or []:
        items.setdefault(str(sample.id), []).append(sample)
    return items


def interval_of(metric: str, values: list[float], contexts: list[str] | None = None) -> stats.Interval:
    """The interval that the report gives the same number; values that do not exist (NaN) are left out."""
    known = [n for n, value in enumerate(values) if not math.isnan(value)]
    here = None if contexts is None else [contexts[n] for n in known]
    return mean_interval(metric, [values[n] for n in known], here)


def trace_statuses(log: EvalLog) -> dict[str, int]:
    """How many outputs have which trace status; none where no text was generated (option probabilities)."""
    counts: dict[str, int] = {}
    for sample in log.samples or []:
        if score := (sample.scores or {}).get("trace_statistics"):
            status = (score.metadata or {})["status"]
            counts[status] = counts.get(status, 0) + 1
    return dict(sorted(counts.items(), key=lambda found: -found[1]))
