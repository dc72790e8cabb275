"""`medbench audit`: the command line of the leakage audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medbench.errors import DISK_FULL, MedbenchError
from medbench.files.options import Read, Write
from medbench.leakage.audit import audit as run_audit
from medbench.leakage.findings import Findings
from medbench.leakage.table import data_table, read_data_sets, to_markdown

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("corpus", nargs=-1, required=True)
@click.option("--against", required=True, help="Task names, eval logs, files, or task=FILE; separated by commas.")
@click.option(
    "--threshold", default=0.8, show_default=True, help="Jaccard similarity above which a text is a near-duplicate."
)
@click.option(
    "--containment", default=0.8, show_default=True, help="Share of a field's shingles from which it is embedded."
)
@click.option("--span", default=50, show_default=True, help="Units of one unbroken common run that is worth reporting.")
@click.option("--contained-units", default=10, show_default=True, help="Shorter fields are not reported as embedded.")
@click.option(
    "--near", default=200, show_default=True, help="Units around a field within which options and answer count."
)
@click.option(
    "--edited",
    default=0.7,
    show_default=True,
    help="Share of a field, weighted by rarity, from which an edited copy is reported; 0 looks for none.",
)
@click.option("--simplify", is_flag=True, help="Treat traditional Chinese characters as their simplified ones.")
@click.option(
    "--method",
    type=click.Choice(["exact", "minhash"]),
    default="exact",
    show_default=True,
    help="minhash also runs MinHash LSH and reports what it misses.",
)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Worker processes.")
@click.option("--address", default=None, help="A running Ray cluster; without it --engine ray starts a local one.")
@click.option("--on-bad-row", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@click.option("--within", is_flag=True, help="Also look for duplicates inside the corpus.")
@click.option("--data-sets", type=Read(), help="YAML list of data sets: print the paper's Table 1.")
@click.option("--write-clean", type=Write(replace=True), help="Directory for the corpus without flagged records.")
@click.option("--out", type=Write(replace=True), required=True, help="Directory of the findings.")
def audit(
    corpus: tuple[str, ...],
    against: str,
    threshold: float,
    containment: float,
    span: int,
    contained_units: int,
    near: int,
    edited: float,
    simplify: bool,
    method: str,
    engine: str,
    jobs: int,
    address: str | None,
    on_bad_row: str,
    within: bool,
    data_sets: Path | None,
    write_clean: Path | None,
    out: Path,
) -> None:
    """Find test items in a training CORPUS: files, folders, globs, fsspec URLs, hub ids.

    Every finding names the corpus record, the item, what of it leaked and how it shows, with the text of both sides.

    \b
    medbench audit zh_train.jsonl --against zh_valid.jsonl,cmexam=val.csv --out findings
    """
    if data_sets is not None:
        read_data_sets(data_sets)  # before the scan, which may take hours
    try:
        findings = run_audit(
            list(corpus),
            against,
            threshold=threshold,
            containment=containment,
            span=span,
            contained_units=contained_units,
            near=near,
            edited=edited,
            simplify=simplify,
            method=method,
            engine=engine,
            jobs=jobs,
            address=address,
            on_bad_row=on_bad_row,  # type: ignore[arg-type]
            within=within,
            write_clean=write_clean,
            out=out,
        )
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise MedbenchError(
            f"no space is left on the device for {error.filename or out} ({error.strerror}). Findings that {out} held "
            "before are as they were. Make room and run the same command again: it goes on where it stopped."
        ) from error
    _print(findings)
    if data_sets is not None:
        click.echo(to_markdown(data_table(data_sets)))


def _print(findings: Findings) -> None:
    from rich.console import Console
    from rich.table import Table

    summary = findings.summary
    unchecked = summary["unchecked"]
    read = sum(total["records"] for total in summary["corpus"].values()) - unchecked["records_unreadable"]
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{summary['leaking']['items']} of {summary['against']['items']} items leak, "
        f"in {summary['leaking']['records']} of {read} records (public contexts not counted)."
    )
    sources = summary["against"]["sources"]
    if len(sources) > 1:
        for name, items in sources.items():
            console.print(f"  {name}: {summary['leaking_by_source'].get(name, 0)} of {items} items")
    if summary["by_field_and_signal"]:
        table = Table(box=None)
        for column in ("what leaked", "signal"):
            table.add_column(column)
        for column in ("findings", "items", "records"):
            table.add_column(column, justify="right")
        for row in summary["by_field_and_signal"]:
            table.add_row(*(str(row[name]) for name in ("field", "signal", "findings", "items", "records")))
        console.print(table)
    _print_missed(console, summary)
    not_checked = {
        "fields of items of fewer than 5 units (words, or Chinese characters)": unchecked["item_fields_too_short"],
        "records of fewer than 5 units": unchecked["records_too_short"],
        "unreadable records": unchecked["records_unreadable"],
    }
    if any(not_checked.values()):
        told = ", ".join(f"{count} {what}" for what, count in not_checked.items() if count)
        console.print(f"Not checked: {told}; listed in unchecked.jsonl.")
    if summary["ignored_files"]:
        ignored = summary["ignored_files"]
        console.print(f"Left out: {len(ignored)} files of other formats (summary.json lists them), e.g. {ignored[0]}.")
    for pair in summary["shared_sources"]:
        console.print(f"{pair['corpus_file']} is also a source of the items ({pair['against']}: {pair['how']}).")
    if "minhash" in summary:
        sketch = summary["minhash"]
        near = sketch["right"] + len(sketch["missed"])
        console.print(
            f"MinHash LSH proposed {sketch['proposed']} pairs, {sketch['right']} of them near-duplicates, "
            f"and missed {len(sketch['missed'])} of {near}."
        )
    if "duplicates" in summary:
        console.print(f"{summary['duplicates']} records repeat an earlier one (duplicates.jsonl).")
    for file, counts in summary.get("clean", {}).get("files", {}).items():
        console.print(f"{file}: {counts['removed']} records removed, {counts['kept']} kept")
    console.print(f"{len(findings)} findings with their evidence in {findings.directory}/findings.jsonl")


def _print_missed(console: Console, summary: Mapping[str, Any]) -> None:
    """Which signal alone would have missed how many of the leaks, and which of them only one tells of."""
    if not summary["leaks"]:
        return
    missed = ", ".join(f"{name} {n}" for name, n in summary["missed_by"].items() if name != "edited")
    leaks = f"{summary['leaks']} leak{'s' if summary['leaks'] > 1 else ''}"
    console.print(f"Of {leaks} (an item in a record) each signal alone would have missed: {missed}.")
    only = ", ".join(f"{name} {n}" for name, n in summary["told_by_one_signal"].items() if n)
    if only:
        console.print(f"Told by one signal alone: {only}.")
