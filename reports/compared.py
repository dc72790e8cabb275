"""Who was compared on what, in plain sentences from the logs alone: base, PT, SFT, their merges, or just models."""

from __future__ import annotations

from collections import Counter

from medbench.reports.estimates import Analysis
from medbench.reports.page import names

_ROLES = {
    "base": "The base model, without adapters",
    "pt": "PT is domain pretraining (the base trained on to continue medical text)",
    "sft": "SFT is instruction tuning (the base trained on questions and their answers)",
    "merge": "A merge adds a weighted sum of both trainings to the base",
}


def sentences(analysis: Analysis) -> list[str]:
    """One sentence per kind of candidate, one for models of unknown make, and one for the tasks."""
    study = analysis.study
    kinds: dict[str, list[str]] = {kind: [] for kind in (*_ROLES, "other")}
    for name in study.candidates:
        kinds[kind_of(study.weights.get(name))].append(name)
    said = [
        f"{text}: {_with_weights(kinds[kind], study.weights, kind)}." for kind, text in _ROLES.items() if kinds[kind]
    ]
    other = kinds["other"]
    if other:
        much = "One model" if len(other) == 1 else f"{len(other)} models"
        said.append(f"{much}: {names(other, 4)}. Their logs do not say how they were trained.")
    return [*said, *_tasks(analysis)]


def kind_of(weights: dict[str, float] | None) -> str:
    """``base``, ``pt``, ``sft`` or ``merge``; ``other`` where the log tells no weights, or of other adapters."""
    if not weights or set(weights) - {"pt", "sft"}:
        return "other"
    pt, sft = weights.get("pt", 0.0), weights.get("sft", 0.0)
    if pt and sft:
        return "merge"
    return "pt" if pt else "sft" if sft else "base"


def _with_weights(candidates: list[str], weights: dict[str, dict[str, float]], kind: str) -> str:
    """Names, each with the weights that its own name does not tell; many merges by their range."""
    if kind == "base":
        return names(candidates, 3)
    if kind == "merge" and len(candidates) > 3:
        spans = []
        for key in ("pt", "sft"):
            values = [weights[name].get(key, 0.0) for name in candidates]
            spans.append(f"{key.upper()} {min(values):g} to {max(values):g}")
        return f"{len(candidates)} candidates, weights {' and '.join(spans)}"
    told = []
    for name in candidates:
        mine = ", ".join(f"{key.upper()} weight {value:g}" for key, value in weights[name].items() if value)
        told.append(f"{name} ({mine})")
    return names(told, 3)


def _tasks(analysis: Analysis) -> list[str]:
    study = analysis.study
    probes = set(analysis.probe_tasks)
    choice = set(analysis.choice_tasks)
    parts = []
    for task, table in study.tables.items():
        what = "right or wrong" if task in choice else "refusals" if task in probes else "likeness to a reference text"
        parts.append(f"{task} ({len(table.items):,} items, {what})")
    settings = Counter(table.setting_name for table in study.tables.values())
    alike = f" Outputs were made at {next(iter(settings))}." if len(settings) == 1 else ""
    return [f"All on the same questions: {names(parts, 5)}.{alike}"] if parts else []
