"""7d. Loss curves of the adapters (the paper's Figures 1-2), from their manifests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, show
from medbench.reports.sources import Sources


def section(analysis: Analysis, sources: Sources) -> Section:
    """One chart per trained adapter: training and evaluation loss by step."""
    found = Section("training", "Training")
    rows: list[list[Cell]] = []
    for path, manifest in sorted(sources.manifests.items()):
        curves = loss_curves(manifest)
        if not curves:
            continue
        name = Path(path).parent.name
        settings = manifest.get("settings") or {}
        stage = str(settings.get("stage") or manifest.get("stage") or manifest.get("kind") or "")
        rows.append(
            [name, stage, *[_last(curves.get(kind)) for kind in ("train", "eval")], _perplexity(curves.get("eval"))]
        )
        series = [
            Series(
                {"train": "training loss", "eval": "evaluation loss"}[kind],
                [x for x, _ in points],
                [y for _, y in points],
            )
            for kind, points in curves.items()
        ]
        last = _last(curves.get("eval") or curves.get("train"))
        found.charts.append(
            Chart(
                "lines", f"{name}: loss by step", "step", "loss", series, f"{name} ends at loss {show(last, 'number')}."
            )
        )
        called = name if stage in ("", name) else f"{name} ({stage})"
        found.findings.append(f"{called} ends at {_ends(curves)}.")
    if not rows:
        found.missing = "No adapter manifests with loss curves near the logs; pass --manifests DIR of `medbench train`."
        return found
    found.tables.append(
        Table(
            "Final losses",
            [
                Column("Adapter"),
                Column("Stage"),
                Column("Training loss", "number"),
                Column("Evaluation loss", "number"),
                Column("Evaluation perplexity", "number"),
            ],
            rows,
        )
    )
    return found


Curve = list[tuple[float, float]]


def loss_curves(manifest: dict[str, Any]) -> dict[str, Curve]:
    """Training and evaluation loss by step, from a manifest.

    Read are `log_history` as transformers' Trainer keeps it, and `loss_curve`, pairs of step and training loss.
    """
    curves: dict[str, Curve] = {"train": [], "eval": []}
    for entry in manifest.get("log_history") or []:
        for kind, key in (("train", "loss"), ("eval", "eval_loss")):
            if key in entry:
                curves[kind].append((float(entry["step"]), float(entry[key])))
    for kind, key in (("train", "loss_curve"), ("eval", "eval_loss_curve")):
        curves[kind] += [(float(step), float(loss)) for step, loss in manifest.get(key) or []]
    return {kind: kept for kind, points in curves.items() if (kept := [p for p in points if math.isfinite(p[1])])}


def _last(points: Curve | None) -> float | None:
    return points[-1][1] if points else None


def _perplexity(points: Curve | None) -> float | None:
    return math.exp(points[-1][1]) if points and points[-1][1] < 50 else None


def _ends(curves: dict[str, Curve]) -> str:
    names = {"train": "training loss", "eval": "evaluation loss"}
    return " and ".join(f"{names[kind]} {show(points[-1][1], 'number')}" for kind, points in curves.items())
