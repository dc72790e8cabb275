"""`medbench geometry`: how two adapters lie to each other, before anything is generated.

medbench geometry --base B --adapter pt=DIR:0.3 --adapter sft=DIR:0.7 [--out DIR]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medbench.errors import MedbenchError
from medbench.files.copies import origin
from medbench.files.manifest import sha256_file, write_manifest
from medbench.files.options import Write

if TYPE_CHECKING:
    from medbench.merging.geometry import Counts, Geometry

# Figure -> heading of the table, and what 0 and 1 mean in the drawing.
COLUMNS = {
    "cosine": "cosine",
    "energy_1": "energy {0}",
    "energy_2": "energy {1}",
    "column_overlap": "columns",
    "column_chance": "(chance)",
    "row_overlap": "rows",
    "row_chance": "(chance)",
    "sign_conflict": "signs apart",
    "bf16_kept": "bf16 keeps",
    "bf16_unchanged": "unchanged",
}
PANELS = {
    "cosine": "cosine of the updates",
    "column_overlap": "overlap of the column spaces",
    "row_overlap": "overlap of the row spaces",
    "sign_conflict": "values of opposite sign",
    "bf16_kept": "share of the sum that bf16 keeps",
}


def compare(
    base: str | Path, adapters: Sequence[str], *, any_base: bool = False, sample: int | None = None
) -> tuple[Geometry, dict[str, Any]]:
    """The geometry of two adapters, and what it was made from.

    Args:
        base: a model directory, or a hub id.
        adapters: ``NAME=DIR:WEIGHT`` each, two of them; the weight is 1 where it is left out.
        any_base: accept adapters that record another base's name or cover some layers only.
        sample: values of each weight that are looked at singly.

    Raises:
        MedbenchError: whatever `medbench merge` would refuse.
    """
    from medbench.merging.adapters import WEIGHTS, parse_adapter, read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    from medbench.merging.fitting import fit_adapters
    from medbench.merging.geometry import SAMPLE, geometry
    from medbench.merging.recipe import one_thread_each

    checkpoint = open_checkpoint(base)
    parsed = [parse_adapter(text) for text in adapters]
    weights = {name: 1.0 if weight is None else weight for name, _, weight in parsed}
    # The matrices are small: threads would wait for each other more than they worked.
    with one_thread_each():
        loaded = fit_adapters(checkpoint, [read_adapter(name, path) for name, path, _ in parsed], any_base=any_base)
        found = geometry(checkpoint.tensors, loaded, weights, sample=sample or SAMPLE)
    inputs = {a.name: {"path": str(a.path.resolve()), "sha256": sha256_file(a.path / WEIGHTS)} for a in loaded}
    return found, {"base": str(checkpoint.path.resolve()), **inputs}


def table(found: Geometry, rows: Mapping[str, Counts]) -> list[list[str]]:
    """Heading and rows of text: one for each entry of `rows` (name -> counts), and one for all."""
    heading = ["", *(title.format(*found.names) for title in COLUMNS.values())]
    lines = [heading]
    for name, counts in {**rows, "all": found.total()}.items():
        figures = counts.figures()
        lines.append([name, *(_number(key, figures[key]) for key in COLUMNS)])
    return lines


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if key.startswith("energy") else f"{value:.3f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """A table for the terminal, columns of equal width."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The same table in Markdown."""
    rule = ["---", *["--:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])) + "\n"


def svg(found: Geometry) -> str:
    """One panel a figure: kinds of modules down, layers across, each cell a weight with its number as a tooltip."""
    from medbench.merging.geometry import rows_of

    rows = [row for row in rows_of(found) if row["layer"] is not None]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    layers = sorted({row["layer"] for row in rows})
    cell, left, top = 16, 110, 26
    high = top + cell * len(kinds) + 24
    width = left + cell * max(len(layers), 12) + 20
    parts = []
    for panel, (key, title) in enumerate(PANELS.items()):
        y = panel * high
        parts.append(f'<text x="4" y="{y + 16}" font-weight="bold">{escape(title)}</text>')
        for at, kind in enumerate(kinds):
            parts.append(f'<text x="{left - 6}" y="{y + top + cell * at + 12}" text-anchor="end">{escape(kind)}</text>')
        for row in rows:
            x, down = left + cell * layers.index(row["layer"]), y + top + cell * kinds.index(row["kind"])
            value = row[key]
            label = f"{row['weight']}: " + ("-" if value is None else f"{value:.3f}")
            parts.append(
                f'<rect x="{x}" y="{down}" width="{cell - 1}" height="{cell - 1}" fill="{_colour(value)}">'
                f"<title>{escape(label)}</title></rect>"
            )
        for layer in layers[:: max(1, len(layers) // 8)]:
            x = left + cell * layers.index(layer)
            parts.append(f'<text x="{x}" y="{y + top + cell * len(kinds) + 13}">{layer}</text>')
    scale = "layers across; white 0, blue 1, red -1"
    height = high * len(PANELS) + 20
    parts.append(f'<text x="4" y="{height - 6}">{scale}</text>')
    names = " and ".join(found.names)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="11" role="img"><title>{escape(f"How {names} lie to each other")}</title>'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _colour(value: float | None) -> str:
    if value is None:
        return "#dddddd"
    far = (8, 81, 156) if value >= 0 else (165, 15, 21)
    share = min(1.0, abs(value))
    return "#" + "".join(f"{round(255 + (end - 255) * share):02x}" for end in far)


def write(found: Geometry, inputs: dict[str, Any], out: Path, *, any_base: bool) -> None:
    """OUT/geometry.json (all figures; the report reads it), geometry.md (by weight), geometry.svg, manifest.json."""
    from medbench.files.directories import new_directory
    from medbench.merging.geometry import rows_of

    document = {
        "adapters": list(found.names),
        "weights": dict(found.weights),
        "all": found.total().figures(),
        "by_kind": {kind: counts.figures() for kind, counts in found.by_kind().items()},
        "by_weight": rows_of(found),
        "sampled_values": found.total().sampled,
        "left_out": found.alone,
    }
    with new_directory(out, 1 << 22) as staging:
        (staging / "geometry.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        (staging / "geometry.md").write_text(markdown(table(found, found.by_weight)), "utf-8")
        (staging / "geometry.svg").write_text(svg(found), "utf-8")
        write_manifest(
            staging, "geometry", settings={"weights": dict(found.weights), "any_base": any_base}, inputs=inputs
        )


@click.command()
@click.option("--base", required=True, help="Model directory or Hugging Face id that the adapters were trained on.")
@click.option("--adapter", "adapters", multiple=True, required=True, help="NAME=DIR or NAME=DIR:WEIGHT, twice.")
@click.option("--any-base", is_flag=True, help="Accept adapters that record another base's name, or other layers.")
@click.option("--sample", type=click.IntRange(min=1), default=None, help="Values of each weight to look at singly.")
@click.option("--out", type=Write(replace=True), default=None, help="Folder for the table, the drawing, JSON.")
def geometry_command(
    base: str, adapters: tuple[str, ...], any_base: bool, sample: int | None, out: Path | None
) -> None:
    """How two adapters lie to each other: angles, common subspaces, signs, and what bf16 would lose of their sum."""
    if len(adapters) != 2:
        raise MedbenchError(f"geometry compares two adapters: give --adapter NAME=DIR twice (it was {len(adapters)}).")
    found, inputs = compare(base, adapters, any_base=any_base, sample=sample)
    click.echo(aligned(table(found, found.by_kind())))
    sampled, weights = found.total().sampled, ", ".join(f"{name} {value:g}" for name, value in found.weights.items())
    click.echo(
        f"overlap: mean squared cosine of the principal angles (chance: of random subspaces); signs and bf16, at "
        f"{weights}, on {sampled:,} sampled values"
    )
    if found.alone:
        click.echo(
            f"left out: {len(found.alone)} weights that not both adapters change by low rank, e.g. {found.alone[0]}"
        )
    if out is not None:
        write(found, inputs, out, any_base=any_base)
        click.echo(f"wrote {origin(str(out))}")
