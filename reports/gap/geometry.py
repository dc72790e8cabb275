"""3b. How the adapters behind the curve lie to each other, from `medbench geometry --out`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, show
from medbench.reports.sources import Sources

_FIGURES = (
    ("cosine", "Cosine", "number"),
    ("column_overlap", "Column spaces", "share"),
    ("column_chance", "by chance", "share"),
    ("row_overlap", "Row spaces", "share"),
    ("row_chance", "by chance", "share"),
    ("sign_conflict", "Signs apart", "share"),
    ("bf16_kept", "bf16 keeps", "share"),
    ("bf16_unchanged", "Unchanged", "share"),
)
_LINES = (("column_overlap", "column spaces"), ("row_overlap", "row spaces"), ("sign_conflict", "signs apart"))


def section(analysis: Analysis, sources: Sources) -> Section:
    """A sentence, a table by kind of module, and the layers of each pair of adapters that was compared."""
    found = Section("geometry", "Geometry of the adapters")
    if not sources.geometry:
        found.missing = (
            "No geometry near the logs. Run `medbench geometry --base B --adapter pt=DIR --adapter sft=DIR --out DIR` "
            "and pass --manifests DIR."
        )
        return found
    for document in sources.geometry:
        pair = " and ".join(document["adapters"])
        found.findings.append(_sentence(pair, document))
        found.tables.append(_table(pair, document))
        if chart := _chart(pair, document["by_weight"]):
            found.charts.append(chart)
    found.notes.append(
        "Overlap: mean squared cosine of the principal angles between the spaces of the updates; by chance: of random "
        "spaces of these ranks. Signs and bf16 (rounded to nearest) are counted on a sample of each weight."
    )
    return found


def _sentence(pair: str, document: Mapping[str, Any]) -> str:
    whole, weights = document["all"], document["weights"]
    mix = " + ".join(f"{weight:g} {name}" for name, weight in weights.items())
    shared = max(
        (whole[f"{space}_overlap"] or 0) - (whole[f"{space}_chance"] or 0) for space in ("column", "row")
    )  # in shares of the angles
    common = "they share directions" if shared > 0.05 else "they share hardly a direction"
    columns, rows, column_chance, row_chance, kept = (
        show(whole[key], "share")
        for key in ("column_overlap", "row_overlap", "column_chance", "row_chance", "bf16_kept")
    )
    return (
        f"{pair}: cosine {show(whole['cosine'], 'number')}, and {common} (columns {columns}, rows {rows}; by chance "
        f"{column_chance} and {row_chance}); bf16 rounded to nearest keeps {kept} of {mix}."
    )


def _table(pair: str, document: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [kind, *[figures[key] for key, _, _ in _FIGURES]]
        for kind, figures in {**document["by_kind"], "all": document["all"]}.items()
    ]
    return Table(f"{pair}, by kind of module", [Column("Module"), *[Column(n, u) for _, n, u in _FIGURES]], rows)


def _chart(pair: str, weights: list[dict[str, Any]]) -> Chart | None:
    """Means over the modules of each layer."""
    series = []
    for key, name in _LINES:
        values: dict[int, list[float]] = defaultdict(list)
        for row in weights:
            if row["layer"] is not None and row[key] is not None:
                values[row["layer"]].append(row[key])
        layers = sorted(values)
        series.append(Series(name, layers, [sum(values[layer]) / len(values[layer]) for layer in layers]))
    if any(len(line.x) < 2 for line in series):
        return None
    summary = f"Overlap of the spaces of {pair}, and values of opposite sign, by layer."
    return Chart("lines", f"{pair}: by layer", "layer", "share", series, summary)
