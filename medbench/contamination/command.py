"""`medbench contamination`: leaks seen from the model alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medbench.files.options import Write

if TYPE_CHECKING:
    from medbench.contamination.run import Findings, Say

NAMES = {
    "exchangeability": "order of the set (exchangeability)",
    "order": "each item after the one before it",
    "options": "order of options",
    "min_k": "Min-K%++",
    "codec": "CoDeC",
    "completion": "verbatim second half",
}


@click.command("contamination")
@click.option("--model", required=True, help="An Inspect model whose provider returns prompt log-probabilities.")
@click.option("-M", "model_args", multiple=True, metavar="NAME=VALUE", help="Argument of the model; repeatable.")
@click.option("--model-base-url", help="Address of the model's endpoint.")
@click.option("--task", required=True, help="Task name, task=FILE, eval log or file of items, in its published order.")
@click.option("--reference", metavar="MODEL", help="A model that has not seen the set; every score is less its own.")
@click.option("--controls", metavar="TASK|FILE", help="Items like those of the set that the model cannot have seen.")
@click.option("--tests", metavar="NAME,...", help="Only these of exchangeability,order,options,min_k,codec,completion.")
@click.option("--limit", type=click.IntRange(1), help="The first so many items of the set.")
@click.option("--variants", default=11, show_default=True, type=click.IntRange(1), help="Other option orders per item.")
@click.option("--contexts", default=5, show_default=True, type=click.IntRange(1), help="Other items to read it after.")
@click.option("--shards", default=50, show_default=True, type=click.IntRange(2), help="Runs of items to shuffle.")
@click.option("--permutations", default=25, show_default=True, type=click.IntRange(1), help="Random orders per shard.")
@click.option("--seed", default=0, show_default=True, help="Of every random choice.")
@click.option("--on-bad-row", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@click.option("--out", type=Write(replace=True), help="Directory for items.jsonl, summary.json, manifest.json.")
def command(
    model: str,
    model_args: tuple[str, ...],
    model_base_url: str | None,
    task: str,
    reference: str | None,
    controls: str | None,
    tests: str | None,
    limit: int | None,
    variants: int,
    contexts: int,
    shards: int,
    permutations: int,
    seed: int,
    on_bad_row: str,
    out: Path | None,
) -> None:
    """Ask a model itself whether it has read a test set: no training data is needed, only log-probabilities.

    \b
    medbench contamination --model medbench/MODEL --task medqa=us_4_options_test.jsonl --out contamination
    """
    from medbench.contamination.run import contamination
    from medbench.contamination.scoring import TESTS, Plan

    plan = Plan(
        tests=tuple(name.strip() for name in tests.split(",") if name.strip()) if tests else TESTS,
        variants=variants,
        contexts=contexts,
        shards=shards,
        permutations=permutations,
        seed=seed,
    )
    with _progress() as say:
        findings = contamination(
            model,
            task,
            model_args=_arguments(model_args),
            base_url=model_base_url,
            reference=reference,
            controls=controls,
            limit=limit,
            plan=plan,
            on_bad_row=on_bad_row,  # type: ignore[arg-type]
            out=out,
            say=say,
        )
    _print(findings, out)


def _arguments(given: tuple[str, ...]) -> dict[str, Any]:
    from medbench.errors import MedbenchError
    from medbench.files.yaml_files import parse_yaml

    parsed = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise MedbenchError(f"-M {text}: expected NAME=VALUE, e.g. -M dtype=float32.")
        parsed[name] = parse_yaml(value, f"-M {name}")  # as Inspect reads them
    return parsed


def _print(findings: Findings, out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from medbench.contamination.run import largest_reasons
    from medbench.contamination.tests import LEVEL

    console = Console(markup=False, highlight=False, soft_wrap=True)
    judged = findings.judged
    console.print(verdict(findings))
    table = Table(box=None)
    for name in ("test", "against"):
        table.add_column(name)
    for name in ("rows", "effect", "p", "p (Holm)"):
        table.add_column(name, justify="right")
    table.add_column("not checked")
    for result, adjusted in zip(judged.results, judged.adjusted, strict=True):
        numbers = (f"{result.effect:+.2f}", f"{result.p:.4f}", f"{adjusted:.4f}")
        shown = ["–" if "nan" in number else number for number in numbers]
        table.add_row(NAMES[result.test], result.against, f"{result.rows:,}", *shown, largest_reasons(result))
    console.print(table)
    for result in judged.results:
        if "p_reference_implementation" in result.extra:
            p = result.extra["p_reference_implementation"]
            console.print(f"Exchangeability as tatsu-lab/test_set_contamination computes it: p = {p:.4f}.")
        if result.test == "codec" and result.against == "variants" and "share" in result.extra:
            low, high = 100 * result.extra["share_low"], 100 * result.extra["share_high"]
            console.print(
                f"CoDeC's score: {100 * result.extra['share']:.0f}% of items are less likely after another item "
                f"(95% interval {low:.0f} to {high:.0f}; the paper suspects above 80)."
            )
    if findings.reference is not None:
        console.print(
            f"Every score is less that of {findings.reference}. Such p-values are not calibrated as those without a "
            "reference are, and may see less (docs/contamination.md)."
        )
    if findings.left_out:
        console.print(f"Left out: {len(findings.left_out)} rows that hold no item, e.g. {findings.left_out[0]}")
    console.print(
        f"p is one-sided; a leak counts as shown where Holm's p is at most {LEVEL}. No sign is no proof of absence: "
        "docs/contamination.md says how many copies these tests need."
    )
    if out is not None:
        console.print(
            f"Scores of {len(findings.items):,} items in {out / 'items.jsonl'}; in a report: --contamination {out}"
        )


def verdict(findings: Findings) -> str:
    """In a sentence: which tests show that the model has seen the set."""
    judged, subject = findings.judged, f"{findings.model} and {findings.task} ({len(findings.items):,} items)"
    if judged.shown:
        names = ", ".join(dict.fromkeys(NAMES[result.test] for result in judged.shown))
        return f"{subject}: the model has seen the set, by {names}."
    made = sum(result.p == result.p for result in judged.results)
    return f"{subject}: none of {made} tests shows that the model has seen the set."


@contextmanager
def _progress() -> Iterator[Say]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<14}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        running = bar.add_task("", total=None)
        yield lambda step, done, total: bar.update(running, description=step, completed=done, total=total)
