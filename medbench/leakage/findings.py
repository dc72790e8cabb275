"""What an audit found, as files and as plain values; and how it joins to scores and to training records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medbench.errors import MedbenchError
from medbench.files import places
from medbench.files.json_files import misfit
from medbench.files.manifest import NAME
from medbench.leakage.severity import SIGNALS
from medbench.sources.records import read_records

FINDINGS, SUMMARY, UNCHECKED = "findings.jsonl", "summary.json", "unchecked.jsonl"
DUPLICATES = "duplicates.jsonl"
# Abstracts are public and cited everywhere: finding one is no leak of the question that was asked about it.
HARMLESS = frozenset({"context"})


@dataclass(frozen=True)
class Findings:
    """The findings of one audit, in the order (corpus_file, record, item_id, field, signal); iterated from disk.

    Attributes:
        directory: where `findings.jsonl`, `summary.json`, `unchecked.jsonl` and `manifest.json` lie.
        summary: the content of `summary.json`.
    """

    directory: Path
    summary: dict[str, Any]
    _keep: TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from read_findings(self.directory)  # a generator of this object: a temporary directory lives as long

    def __len__(self) -> int:
        return int(self.summary["findings"])


# What is read of a finding, by whoever reads it.
_SHAPE = {"corpus_file": str, "record": int, "item_id": str, "field": str, "signal": str, "score": float}


def read_findings(source: str | Path, *, needed: Collection[str] = tuple(_SHAPE)) -> Iterator[dict[str, Any]]:
    """Rows of a `findings.jsonl`, named itself or by its directory.

    Args:
        source: the file, or the directory that an audit wrote.
        needed: the fields that a row must have; those that it has beyond them must be of their kind, too.

    Raises:
        MedbenchError: there is no such file, it is not UTF-8, or the audit that writes the directory did not finish.
        BadRow: a line is no finding.
    """
    path = places.local(source)
    if (path / SUMMARY).is_file() and not (path / NAME).is_file():
        raise MedbenchError(f"{path} holds an audit that did not finish (no {NAME}): run the same command again.")
    path = path / FINDINGS if path.is_dir() else path
    if not path.is_file():
        raise MedbenchError(f"{path} does not exist; make it with medbench audit CORPUS --against ITEMS --out DIR.")
    if not path.stat().st_size:  # that nothing was found is a result, too
        return
    for record in read_records(path):
        present = {name: shape for name, shape in _SHAPE.items() if name in needed or name in record.data}
        problem = misfit(record.data, present)
        if problem is None and not 0 <= record.data.get("score", 0) <= 1:
            problem = f"score is {record.data['score']}, not 0 to 1"
        if problem:
            raise record.error(None, f"not a finding of medbench audit: {problem}")
        yield dict(record.data)


def flagged_records(
    findings: Iterable[Mapping[str, Any]], *, ignore_fields: Iterable[str] = HARMLESS
) -> set[tuple[str, int]]:
    """(corpus_file, 0-based record) of every record with a finding, other than in the fields to ignore."""
    ignored = frozenset(ignore_fields)
    return {(row["corpus_file"], row["record"]) for row in findings if row["field"] not in ignored}


def joined(
    findings: Iterable[Mapping[str, Any]], ids: Sequence[str], *, ignore_fields: Iterable[str] = HARMLESS
) -> dict[str, dict[str, float]]:
    """The highest score of each signal for each sample id, to split scores into clean and contaminated.

    Args:
        findings: rows of `findings.jsonl`.
        ids: the sample ids of an eval log; an id without findings gets an empty mapping.
        ignore_fields: fields that make no item contaminated.

    Returns:
        ``{id: {signal: score}}``, scores 0-1, one entry for every distinct id in the order given. An item is
        contaminated under a signal at threshold t where the score is at least t (``any`` holds the highest of all).
    """
    ignored = frozenset(ignore_fields)
    flags: dict[str, dict[str, float]] = {identifier: {} for identifier in ids}
    for row in findings:
        scores = flags.get(row["item_id"])
        if scores is None or row["field"] in ignored:
            continue
        for signal in (row["signal"], "any"):
            scores[signal] = max(scores.get(signal, 0.0), float(row["score"]))
    return flags


class Tally:
    """Counts of findings, built row by row so that findings need not fit in memory."""

    def __init__(self) -> None:
        self.findings = 0
        self._by: dict[tuple[str, str], list[Any]] = {}
        self._items: dict[str, None] = {}
        self._leaking: set[str] = set()
        self._records = 0
        self._leaking_records = 0
        self._last: tuple[str, int] | None = None
        self._last_leaking: tuple[str, int] | None = None
        self._leaks = 0
        self._missed: Counter[str] = Counter()
        self._only: Counter[str] = Counter()
        self._pair: tuple[str, int, str] | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one finding; rows come ordered by record."""
        self.findings += 1
        cell = self._by.setdefault((row["field"], row["signal"]), [0, set(), 0, None])
        record = (row["corpus_file"], row["record"])
        cell[0] += 1
        cell[1].add(row["item_id"])
        if cell[3] != record:
            cell[2], cell[3] = cell[2] + 1, record
        self._items[row["item_id"]] = None
        if record != self._last:
            self._records, self._last = self._records + 1, record
        if row["field"] not in HARMLESS:
            pair = (*record, row["item_id"])
            if pair != self._pair:  # what a finding says of its signals is the same in all of record and item
                self._pair = pair
                self._leaks += 1
                self._missed.update(row["missed_by"])
                if row["only"]:
                    self._only[row["only"]] += 1
            self._leaking.add(row["item_id"])
            if record != self._last_leaking:
                self._leaking_records, self._last_leaking = self._leaking_records + 1, record

    def summary(self, sources: Mapping[str, str]) -> dict[str, Any]:
        """The counts as plain values; `leaking` and what follows leave out what only repeats a public context.

        `leaks` are pairs of record and item; `missed_by` says how many of them each signal by itself misses, and
        `told_by_one_signal` how many no other signal tells of (see `severity.missed_by`).

        Args:
            sources: of each item id, the name of the source it came from.
        """
        return {
            "findings": self.findings,
            "items": len(self._items),
            "records": self._records,
            "leaking": {"items": len(self._leaking), "records": self._leaking_records},
            "leaks": self._leaks,
            "missed_by": {signal: self._missed[signal] for signal in SIGNALS},
            "told_by_one_signal": {signal: self._only[signal] for signal in SIGNALS},
            "leaking_by_source": dict(sorted(Counter(sources[item] for item in self._leaking).items())),
            "by_field_and_signal": [
                {"field": name, "signal": signal, "findings": cell[0], "items": len(cell[1]), "records": cell[2]}
                for (name, signal), cell in sorted(self._by.items())
            ],
        }
