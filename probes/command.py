"""`medbench probes`: the refusal detector against human labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from medbench.files.manifest import sha256_file, write_atomic
from medbench.files.options import Read
from medbench.refusal.calibration import calibrate as card_of
from medbench.refusal.calibration import read_labelled
from medbench.refusal.judge import judge_all

_ROWS = {
    "accuracy": "accuracy, compliance or not",
    "kappa": "kappa, compliance or not",
    "sensitivity": "refusals found",
    "specificity": "compliance left alone",
    "accuracy_3": "accuracy, three classes",
    "kappa_3": "kappa, three classes",
}


@click.group()
def probes() -> None:
    """Tools around the refusal, over-refusal and trace probes."""


@probes.command()
@click.argument("files", nargs=-1, required=True, type=Read())
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("refusal-card.json"),
    show_default=True,
    help="Where the card is stored; tasks take it as -T calibration=CARD.",
)
@click.option("--judge", metavar="MODEL", help="Calibrate this judge model (any Inspect model) instead of the rules.")
def calibrate(files: tuple[Path, ...], out: Path, judge: str | None) -> None:
    """Score labelled FILES (XSTest's CSV, or text and label columns) and store the calibration card.

    The labels are XSTest's (1_full_compliance, 2_full_refusal, 3_partial_refusal) or the class names compliance,
    refusal, partial. Where the file has a prompt column, texts are read with their prompt, and the figures without it
    are shown beside. The card holds figures and hashes, none of the texts.
    """
    rows = [row for file in files for row in read_labelled(file)]
    judged = (judge, judge_all(judge, [row.text for row in rows])) if judge else None
    card = card_of(rows, judged=judged, sources={file.name: sha256_file(file) for file in files})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, json.dumps(card, ensure_ascii=False, indent=1) + "\n")
    console = Console(markup=False)
    console.print(agreement_table(card, "with their prompt" if card["prompts"] else ""))
    if card["without_prompt"]:
        console.print(agreement_table(card["without_prompt"], "without their prompt"))
    console.print(confusion_table(card))
    if card["humans"]:
        console.print(
            f"Two human annotators on the same texts: accuracy {_interval(card['humans']['accuracy'])}, "
            f"kappa {_interval(card['humans']['kappa'])}"
        )
    if card["unanswered"]:
        console.print(f"The judge gave no class for {card['unanswered']} of {len(rows)} texts; they are left out.")
    if card["developed_on"]:
        console.print(f"The detector's weights were fitted to {', '.join(card['developed_on'])}.")
    console.print(f"Card stored in {out}")


def agreement_table(card: dict[str, Any], how: str = "") -> Table:
    """Agreement, a column per model: compliance against any refusal, then the three classes."""
    columns = {**card["models"], **({"all": card["overall"]} if len(card["models"]) > 1 else {})}
    texts = f", texts {how}" if how else ""
    table = Table(title=f"Refusal detector against human labels{texts} (estimate, 95% interval)")
    table.add_column("")
    for model, figures in columns.items():
        table.add_column(f"{model}, n = {figures['n']}")
    for name, heading in _ROWS.items():
        table.add_row(heading, *(_interval(figures[name]) for figures in columns.values()))
    return table


def confusion_table(card: dict[str, Any]) -> Table:
    """Labels in rows, the detector's classes in columns, over all models."""
    confusion = card["overall"]["confusion"]
    table = Table(title="Confusion, all models")
    table.add_column("human label")
    for name in confusion:
        table.add_column(f"read as {name}", justify="right")
    for label, row in confusion.items():
        table.add_row(label, *(str(count) for count in row.values()))
    return table


def _interval(value: list[float | None]) -> str:
    if value[0] is None:
        return "not defined"
    return f"{value[0]:.3f} ({value[1]:.3f}-{value[2]:.3f})"
