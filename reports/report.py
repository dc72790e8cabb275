"""From logs to a report: read, estimate, arrange; the forms are written by `html`, `markdown` and here (JSON)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.manifest import versions
from medbench.reports import leaderboard, provenance
from medbench.reports.browser import Browser, browse
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import SECTIONS, verdict
from medbench.reports.gap.labels import common_candidates
from medbench.reports.logs import Notice
from medbench.reports.page import Section, names, plain, show
from medbench.reports.rows import Study, load_study
from medbench.reports.sources import load_sources

Progress = Callable[[str, int, int], None]


@dataclass
class Report:
    """Everything a form shows.

    Attributes:
        headline: the verdict in a few words; `lead` goes on in a sentence or two.
        facts: (name, value, small print) shown large beside the headline.
        sections: leaderboard, the gap, provenance.
    """

    headline: str
    lead: list[str]
    facts: list[tuple[str, str, str]]
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
    options: Options | None = None,
    with_items: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Read all logs below `location` and compute every section.

    Args:
        audit: findings.jsonl of `medbench audit`, or its directory.
        contamination: directories of `medbench contamination`.
        manifests: further directories in which adapters' manifests are looked for.
        with_items: also read the samples that the item browser shows.
        progress: called with (step, done, total).
    """
    options = options or Options()
    tell = progress or (lambda step, done, total: None)
    study = load_study(location, lambda done, total: tell("reading logs", done, total))
    sources = load_sources(location, audit, manifests, study.notices, contamination)
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
        provenance.section(study, sources, options, hashes, location, audit, manifests, contamination),
    ]
    tell("reading items", 0, 1)
    items = browse(study, options.seed) if with_items else Browser()
    tell("reading items", 1, 1)
    headline, lead, facts = _headline(analysis, by_key["verdict"], by_key["leaderboard"])
    return Report(
        headline=headline,
        lead=lead,
        facts=facts,
        sections=sections,
        notices=study.notices,
        options=options,
        items={task: table.items for task, table in study.tables.items()},
        sources=hashes,
        versions=versions(),
        study=study,
        browser=items,
    )


def as_json(report: Report) -> dict[str, Any]:
    """The report for machines: every number unrounded, and the sample ids behind each task's numbers."""
    return {
        "kind": "medbench-report",
        "headline": report.headline,
        "lead": report.lead,
        "options": asdict(report.options),
        "notices": [asdict(notice) for notice in report.notices],
        "sections": [plain(section) for section in report.sections if section.key != "provenance"],
        "provenance": [plain(section) for section in report.sections if section.key == "provenance"],
        "items": report.items,
        "sources": report.sources,
        "versions": report.versions,
    }


def differences(stored: Any, fresh: Any, path: str = "report") -> list[str]:
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
        options=options,
        with_items=False,
        progress=progress,
    )
    compared = ("headline", "options", "notices", "sections", "items")
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


def _headline(
    analysis: Analysis, section: Section, ranking: Section
) -> tuple[str, list[str], list[tuple[str, str, str]]]:
    study = analysis.study
    facts = [
        ("Candidates", str(len(study.candidates)), names(study.candidates, 3)),
        ("Tasks", str(len(study.tables)), names([f"{t} ({len(x.items):,})" for t, x in study.tables.items()], 4)),
    ]
    if section.missing is not None:
        # Without a surface metric there is no gap, but the leaderboard may know who is best.
        return "What these logs can and cannot say", [section.missing, *ranking.findings[:2]], facts
    accuracy_task, surface_task = analysis.choice_tasks[0], analysis.surface_tasks[0]
    accuracy = analysis.estimators[accuracy_task].estimate("accuracy/answer")
    surface = analysis.estimators[surface_task].estimate("bleu4/raw")
    choice = verdict.chosen_regret(analysis, accuracy, surface) if accuracy and surface else None
    if choice is None:
        return "What these logs can and cannot say", section.findings, facts
    by_surface, by_accuracy, loss = choice
    assert accuracy is not None
    assert surface is not None
    if verdict.tells_none_apart(surface, common_candidates(analysis, accuracy, surface)):
        return "BLEU-4 tells no candidate from another", section.findings[:2], facts
    pair = accuracy.difference(by_surface, by_accuracy)
    facts.insert(
        0,
        (
            "Regret",
            f"{verdict.points(loss.estimate)} points",
            f"accuracy lost by choosing with BLEU-4; 95% interval {verdict.points(loss.low)} to "
            f"{verdict.points(loss.high)}, n = {accuracy.n:,}",
        ),
    )
    if by_surface == by_accuracy:
        return f"BLEU-4 and accuracy choose the same: {by_surface}", section.findings[:2], facts
    facts.insert(
        1,
        (
            "Paired p",
            show(pair.p, "p"),
            f"{by_surface} against {by_accuracy} on {accuracy_task}, this pair alone: "
            f"{'exact McNemar' if accuracy.clusters is None else 'paired by item, clustered'}",
        ),
    )
    doubt = "" if loss.low > 0 else "; no loss is shown"
    return f"BLEU-4 chooses {by_surface}, accuracy {by_accuracy}{doubt}", section.findings[:2], facts
