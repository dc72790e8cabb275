"""What the report reads beside the logs: audit findings, and the manifests of adapters, checkpoints and probes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.files.json_files import read_json
from medbench.files.manifest import NAME, sha256_file
from medbench.leakage.findings import read_findings
from medbench.meta.card import load_cards
from medbench.reports.logs import Notice
from medbench.sources.records import read_records


@dataclass
class Sources:
    """Files beside the logs.

    Attributes:
        findings: sample id -> the audit's findings for it; None where no audit was given.
        seen: per `medbench contamination` directory its summary, and sample id -> the item's scores.
        geometry: what `medbench geometry` wrote, found beside its manifest.
        manifests: path -> content of manifests found beside the logs or named.
        cards: what metrics are worth against people (`medbench meta`); None: the cards that ship.
        hashes: path -> SHA-256 of every file read here.
    """

    findings: dict[str, list[dict[str, Any]]] | None = None
    audit_summary: dict[str, Any] = field(default_factory=dict)
    seen: list[tuple[dict[str, Any], dict[str, dict[str, Any]]]] = field(default_factory=list)
    geometry: list[dict[str, Any]] = field(default_factory=list)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    cards: tuple[dict[str, Any], ...] | None = None
    hashes: dict[str, str] = field(default_factory=dict)


def load_sources(
    location: str,
    audit: str | None,
    manifests: tuple[str, ...],
    notices: list[Notice],
    contamination: tuple[str, ...] = (),
    cards: tuple[str, ...] = (),
) -> Sources:
    """Read audit findings (a file or `medbench audit`'s directory), contamination tests, cards, and near manifests.

    Raises:
        MedbenchError: a named file is missing or not what it should be.
    """
    sources = Sources()
    if audit is not None:
        _load_audit(Path(audit), sources)
    for directory in contamination:
        _load_seen(Path(directory), sources)
    if cards:
        sources.cards = load_cards(cards)
        sources.hashes |= {path: sha256_file(path) for path in cards if Path(path).is_file()}
    near = Path(location)
    roots = [Path(path) for path in manifests]
    for root in roots:
        if not root.exists():
            raise MedbenchError(f"{root}: no such file or directory. --manifests takes adapter or study directories.")
    if near.is_dir():
        roots.append(near.parent if near.name == "logs" else near)
    for root in roots:
        for path in sorted([root] if root.is_file() else root.rglob(NAME)):
            try:
                manifest = _object(path)
                # A report beside the logs is no source of the next one.
                if manifest.get("kind") == "report":
                    continue
                sources.manifests[str(path)] = manifest
                sources.hashes[str(path)] = sha256_file(path)
                if manifest.get("kind") == "geometry":
                    _load_geometry(path.with_name("geometry.json"), sources)
            except (MedbenchError, OSError) as error:
                notices.append(Notice("manifest", f"{path} cannot be read ({error}); what it describes is not shown."))
    return sources


def _object(file: Path) -> dict[str, Any]:
    found = read_json(file)
    if not isinstance(found, dict):
        raise MedbenchError(f"{file} holds {type(found).__name__}, not a JSON object.")
    return found


def _load_geometry(file: Path, sources: Sources) -> None:
    document = _object(file)
    if not {"adapters", "weights", "all", "by_kind", "by_weight"} <= document.keys():
        raise MedbenchError(f"{file} is not what medbench geometry writes")
    sources.geometry.append(document)
    sources.hashes[str(file)] = sha256_file(file)


def _load_seen(directory: Path, sources: Sources) -> None:
    rows, summary = directory / "items.jsonl", directory / "summary.json"
    for file in (rows, summary):
        if not file.is_file():
            raise MedbenchError(f"{file}: no such file. --contamination takes a directory of `medbench contamination`.")
        sources.hashes[str(file)] = sha256_file(file)
    scores = {str(record.data.get("item_id")): dict(record.data) for record in read_records(rows)}
    found = _object(summary)
    if "leak_shown" not in found or "None" in scores:
        raise MedbenchError(f"{directory} was not written by `medbench contamination`: it lacks item_id or leak_shown.")
    sources.seen.append((found, scores))


def _load_audit(path: Path, sources: Sources) -> None:
    file = path / "findings.jsonl" if path.is_dir() else path
    if not file.exists():
        raise MedbenchError(
            f"{file}: no such file. --audit takes the findings.jsonl that `medbench audit --out DIR` wrote."
        )
    findings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_findings(file, needed=("item_id",)):
        findings[row["item_id"]].append(row)
    sources.findings = dict(findings)
    sources.hashes[str(file)] = sha256_file(file)
    manifest = file.with_name(NAME)
    if manifest.exists():
        sources.manifests[str(manifest)] = _object(manifest)
        sources.hashes[str(manifest)] = sha256_file(manifest)
    summary = file.with_name("summary.json")
    if summary.exists():
        sources.audit_summary = _object(summary)
        sources.hashes[str(summary)] = sha256_file(summary)
