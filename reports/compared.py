"""Who was compared on what, in plain sentences from the logs alone: base, PT, SFT, their merges, or just models."""

from __future__ import annotations

from collections import Counter

from medbench.reports.estimates import Analysis
from medbench.reports.page import names

_ROLES = {
    "base": "The base model, as it was before any training here",
    "pt": "PT is domain pretraining (the base trained further on medical text)",
    "sft": "SFT is instruction tuning (the base trained on questions and their answers)",
    "merge": "A merge adds both trainings to the base, each times its weight (1 is the whole of it, 0.5 half)",
}

_ASKED = {
    "choice": "Questions with a right answer",
    "text": "Questions with a reference text, with which the words of an answer are compared",
    "probe": "Prompts that show whether a model refuses what it should, and only that",
    "other": "Prompts whose outputs are judged for something else, such as shown reasoning",
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
        one = len(other) == 1
        much, whose = ("One model", "Its log does") if one else (f"{len(other)} models", "Their logs do")
        said.append(f"{much}: {names(other, 4)}. {whose} not say how {'it was' if one else 'they were'} trained.")
    return [*said, *_tasks(analysis)]


def of_kind(analysis: Analysis, kind: str) -> list[str]:
    """Candidates of a kind, in the study's order; `kind` as in `kind_of`."""
    return [name for name in analysis.study.candidates if kind_of(analysis.study.weights.get(name)) == kind]


def kind_of(weights: dict[str, float] | None) -> str:
    """``base``, ``pt``, ``sft`` or ``merge``; ``other`` where the log tells no weights, or of other adapters."""
    if not weights or set(weights) - {"pt", "sft"}:
        return "other"
    pt, sft = weights.get("pt", 0.0), weights.get("sft", 0.0)
    if pt and sft:
        return "merge"
    return "pt" if pt else "sft" if sft else "base"


def _with_weights(candidates: list[str], weights: dict[str, dict[str, float]], kind: str) -> str:
    """Names, each with its weights where the name does not tell them; many merges by their range."""
    if kind == "base":
        return names(candidates, 3)
    if kind == "merge" and len(candidates) > 3:
        spans = []
        for key in ("pt", "sft"):
            values = [weights[name].get(key, 0.0) for name in candidates]
            spans.append(f"{key.upper()} {min(values):.3g} to {max(values):.3g}")
        return f"{len(candidates)} candidates, weights {' and '.join(spans)}"
    told = []
    for name in candidates:
        mine = {key: value for key, value in weights[name].items() if value}
        said = all(f"{key}={value:g}" in name for key, value in mine.items())
        words = ", ".join(f"{key.upper()} weight {value:.3g}" for key, value in mine.items())
        told.append(name if said else f"{name} ({words})")
    return names(told, 6)


def _tasks(analysis: Analysis) -> list[str]:
    """What was asked, by what the answers are judged for: a task's name alone tells a newcomer nothing."""
    study = analysis.study
    probes, choice, texts = set(analysis.probe_tasks), set(analysis.choice_tasks), set(analysis.surface_tasks)
    kinds: dict[str, list[str]] = {kind: [] for kind in _ASKED}
    for task, table in study.tables.items():
        kind = "choice" if task in choice else "probe" if task in probes else "text" if task in texts else "other"
        also = ", also compared with a reference text" if task in choice and task in texts else ""
        asked, all_of_them = len(table.candidates), len(study.candidates)
        some = f", {asked} of {all_of_them} candidates" if asked < all_of_them else ""
        kinds[kind].append(f"{task} ({len(table.items):,}{also}{some})")
    said = [f"{text}: {names(kinds[kind], 4)}." for kind, text in _ASKED.items() if kinds[kind]]
    settings = Counter(table.setting_name for table in study.tables.values())
    alike = f" Outputs were made at {next(iter(settings))}." if len(settings) == 1 else ""
    everyone = all(len(table.candidates) == len(study.candidates) for table in study.tables.values())
    first = (
        "All were asked the same items." if everyone else "Not all were asked everything; of a task, the same items."
    )
    return [f"{first} {' '.join(said)}{alike}"] if said else []
