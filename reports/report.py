"""From logs to a report: read, estimate, arrange; the forms are written by `html`, `markdown` and here (JSON)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.files.manifest import versions
from medbench.reports import leaderboard, provenance
from medbench.reports.browser import Browser, browse
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import SECTIONS, verdict
from medbench.reports.logs import Notice
from medbench.reports.opening import Opening, open_with
from medbench.reports.page import Section, names, plain
from medbench.reports.rows import Study, load_study
from medbench.reports.sources import load_sources

Progress = Callable[[str, int, int], None]


@dataclass
class Report:
    """Everything a form shows.

    Attributes:
        headline: the answer in a few words; `lead` goes on in a sentence or two.
        opening: the whole first screen.
        sections: leaderboard, the gap, provenance.
    """

    headline: str
    lead: list[str]
    opening: Opening
    sections: list[Section]
    notices: list[Notice]
    options: Options
    items: dict[str, list[str]]
    sources: dict[str, str]
    versions: dict[str, str]
    study: Study
    browser: Browser


def build(
    location: str,
    *,
    audit: str | None = None,
    manifests: tuple[str, ...] = (),
    contamination: tuple[str, ...] = (),
    cards: tuple[str, ...] = (),
    options: Options | None = None,
    with_items: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Read all logs below `location` and compute every section.

    Args:
        audit: findings.jsonl of `medbench audit`, or its directory.
        contamination: directories of `medbench contamination`.
        cards: what metrics are worth against people, files of `medbench meta`; none: the cards that ship.
        manifests: further directories in which adapters' manifests are looked for.
        with_items: also read the samples that the item browser shows.
        progress: called with (step, done, total).
    """
    options = options or Options()
    tell = progress or (lambda step, done, total: None)
    study = load_study(location, lambda done, total: tell("reading logs", done, total))
    sources = load_sources(location, audit, manifests, study.notices, contamination, cards)
    analysis = Analysis(study, options)
    parts = (leaderboard.section, *SECTIONS)
    computed = []
    for done, compute in enumerate(parts):
        tell("estimating", done, len(parts))
        computed.append(compute(analysis, sources))
    tell("estimating", len(parts), len(parts))
    by_key = {section.key: section for section in computed}
    # The verdict comes first on the page, the leaderboard right after it.
    order = ["verdict", "leaderboard", *[key for key in by_key if key not in ("verdict", "leaderboard")]]
    hashes = {**provenance.log_hashes(study), **sources.hashes}
    sections = [
        *[by_key[key] for key in order],
        provenance.section(study, sources, options, hashes, location, audit, manifests, contamination, cards),
    ]
    tell("reading items", 0, 1)
    items = browse(study, options.seed) if with_items else Browser()
    tell("reading items", 1, 1)
    opening = open_with(analysis)
    _say_what_is_compared(analysis, by_key["verdict"])
    return Report(
        headline=opening.answer,
        lead=opening.plain,
        opening=opening,
        sections=sections,
        notices=study.notices,
        options=options,
        items={task: table.items for task, table in study.tables.items()},
        sources=hashes,
        versions=versions(),
        study=study,
        browser=items,
    )


def _say_what_is_compared(analysis: Analysis, section: Section) -> None:
    """The verdict begins with the comparison at the top of the page, and says which others follow."""
    if section.missing is not None:
        return
    choice = verdict.decide(analysis)
    accuracy = analysis.estimators[analysis.choice_tasks[0]].estimate("accuracy/answer")
    surface = analysis.estimators[analysis.surface_tasks[0]].estimate("bleu4/raw")
    without = [] if choice is None or surface is None else [n for n in surface.candidates if n not in choice.shared]
    if without:
        section.notes.insert(
            0,
            f"{names(without, 4)} {'has' if len(without) == 1 else 'have'} BLEU-4 on {analysis.surface_tasks[0]} "
            f"and no accuracy on {analysis.choice_tasks[0]}: the choices here are among the others.",
        )
    lacking = [] if choice is None or accuracy is None else [n for n in accuracy.candidates if n not in choice.shared]
    if lacking:
        section.notes.insert(
            0,
            f"{names(lacking, 4)} {'has' if len(lacking) == 1 else 'have'} no BLEU-4 on {analysis.surface_tasks[0]}: "
            "the top of the page compares accuracies with them, the table here without.",
        )
    first = f"accuracy on {analysis.choice_tasks[0]} with BLEU-4 as generated on {analysis.surface_tasks[0]}"
    section.notes.insert(
        0,
        f"The answer at the top of the page compares {first}, and so does the first line here; the others choose by "
        "other metrics, views or tasks.",
    )


def as_json(report: Report) -> dict[str, Any]:
    """The report for machines: every number unrounded, and the sample ids behind each task's numbers."""
    return {
        "kind": "medbench-report",
        "headline": report.headline,
        "lead": report.lead,
        "opening": plain(report.opening),
        "options": asdict(report.options),
        "notices": [asdict(notice) for notice in report.notices],
        "sections": [plain(section) for section in report.sections if section.key != "provenance"],
        "provenance": [plain(section) for section in report.sections if section.key == "provenance"],
        "items": report.items,
        "sources": report.sources,
        "versions": report.versions,
    }


def differences(stored: object, fresh: object, path: str = "report") -> list[str]:
    """Where two JSON reports differ: other keys, other text, or numbers apart by more than 1e-9 relative."""
    if isinstance(stored, dict) and isinstance(fresh, dict):
        found = [f"{path}.{key}: only in one of the two" for key in sorted(stored.keys() ^ fresh.keys())]
        return found + [
            d for key in stored if key in fresh for d in differences(stored[key], fresh[key], f"{path}.{key}")
        ]
    if isinstance(stored, list) and isinstance(fresh, list):
        if len(stored) != len(fresh):
            return [f"{path}: {len(stored)} entries stored, {len(fresh)} recomputed"]
        return [
            d for i, (a, b) in enumerate(zip(stored, fresh, strict=True)) for d in differences(a, b, f"{path}[{i}]")
        ]
    if isinstance(stored, int | float) and isinstance(fresh, int | float) and not isinstance(stored, bool):
        close = abs(stored - fresh) <= 1e-9 * max(1.0, abs(stored), abs(fresh))
        return [] if close else [f"{path}: {stored} stored, {fresh} recomputed"]
    return [] if stored == fresh else [f"{path}: {stored!r} stored, {fresh!r} recomputed"]


def check(
    directory: Path,
    location: str,
    audit: str | None,
    manifests: tuple[str, ...],
    progress: Progress | None,
    contamination: tuple[str, ...] = (),
    cards: tuple[str, ...] = (),
) -> list[str]:
    """Recompute a stored report from its logs, with its own options, and list what differs.

    Raises:
        MedbenchError: the directory holds no report.
    """
    file = directory / "report.json"
    if not file.exists():
        raise MedbenchError(f"{file}: no such file. --check compares with a report that `medbench report --out` wrote.")
    stored = json.loads(file.read_text("utf-8"))
    if stored.get("kind") != "medbench-report":
        raise MedbenchError(f"{file} is not a medbench report; expected the report.json of `medbench report`.")
    options = Options(**stored["options"])
    fresh = build(
        location,
        audit=audit,
        manifests=manifests,
        contamination=contamination,
        cards=cards,
        options=options,
        with_items=False,
        progress=progress,
    )
    compared = ("headline", "opening", "options", "notices", "sections", "items")
    again = json.loads(json.dumps(as_json(fresh)))
    found = [d for key in compared for d in differences(stored[key], again[key], key)]
    # Files may have moved since: one at a new path is the same if any of its name had that content.
    known: dict[str, set[str]] = defaultdict(set)
    for path, digest in stored["sources"].items():
        known[Path(path).name].add(digest)
    for path, digest in again["sources"].items():
        before = {stored["sources"][path]} if path in stored["sources"] else known.get(Path(path).name, {digest})
        if digest not in before:
            found.append(f"{path}: content changed since the report was written")
    return found
