"""How many options of real exams speak of others, and which: counts and texts, by half of the items.

    python benchmarks/anchors.py ../shared/data [--half odd] [--texts]

The rules (`medbench/benchmark/controls/rules/anchors.yaml`) were written while looking at even rows; odd
ones were looked at once, when the rules were done.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from medbench.benchmark.controls.anchors import anchor
from medbench.errors import BadRow
from medbench.sources.items import LETTERS
from medbench.sources.records import Record
from medbench.tasks.cmexam import record_to_item


def option_lists(data: Path) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(source, row from 0, options) of every distinct item."""
    with (data / "cmexam" / "val_even.csv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            try:
                yield "cmexam", number, record_to_item(Record("cmexam", f"row {number}", row)).options
            except BadRow:  # without a key or an option A, as the page leaves them out
                continue
    for number, line in enumerate((data / "medqa" / "us_4_options_test.jsonl").read_text("utf-8").splitlines()):
        yield "medqa", number, tuple(json.loads(line)["options"].values())
    seen = set()
    for line in (data / "outputs" / "outputs.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        choices = row.get("choices") or []
        options = tuple(choices.values() if isinstance(choices, dict) else choices)
        if options and (row["question"], options) not in seen:
            seen.add((row["question"], options))
            yield "outputs", len(seen), options


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--half", type=click.Choice(["all", "even", "odd"]), default="all", show_default=True)
@click.option("--texts", is_flag=True, help="Print every text that was found, with its rule.")
def main(data: Path, half: str, texts: bool) -> None:
    """Count anchored options by source."""
    counts: dict[str, Counter[str]] = {}
    found: Counter[tuple[str, str]] = Counter()
    for source, row, options in option_lists(data):
        if half != "all" and row % 2 != (half == "odd"):
            continue
        count = counts.setdefault(source, Counter())
        letters = LETTERS[: len(options)]
        hits = [(one.rule, text) for k, text in enumerate(options) if (one := anchor(text, letters, letters[k]))]
        count.update(items=1, options=len(options), anchored=len(hits), items_with_one=bool(hits))
        found.update(hits)
    for source, count in counts.items():
        click.echo(
            f"{source}: {count['anchored']} of {count['options']:,} options, in {count['items_with_one']} of "
            f"{count['items']:,} items"
        )
    for rule, number in sorted(Counter(rule for rule, _ in found.elements()).items()):
        click.echo(f"  {rule}: {number}")
    if texts:
        for (rule, text), number in sorted(found.items()):
            click.echo(f"    {number} {rule}: {text}")


if __name__ == "__main__":
    main()
