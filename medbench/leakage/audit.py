"""The audit from end to end: items, index, shards, findings on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from medbench.errors import BadRow, MedbenchError
from medbench.files import places
from medbench.files.compressed import open_binary
from medbench.files.directories import replace_directory, workplace
from medbench.files.manifest import NAME, open_atomic, sha256_file, write_atomic, write_manifest
from medbench.leakage import clean
from medbench.leakage import corpus as corpora
from medbench.leakage import engine as engines
from medbench.leakage import index as indexes
from medbench.leakage.against import load
from medbench.leakage.duplicates import duplicates
from medbench.leakage.findings import (
    DUPLICATES,
    FINDINGS,
    SUMMARY,
    UNCHECKED,
    Findings,
    Tally,
    flagged_records,
    read_findings,
)
from medbench.leakage.formats import lines
from medbench.leakage.index import Index, Thresholds
from medbench.leakage.kernel.text import SHINGLE
from medbench.sources import hub
from medbench.sources.items import Item
from medbench.sources.records import BadRows, OnBadRow

_STATE = ".shards"
_LISTED = 100  # unreadable records named in the summary; all of them are in unchecked.jsonl


def audit(
    corpus: str | Path | Iterable[str | Path | Mapping[str, Any]],
    against: str | Path | Iterable[str | Path | Item | Mapping[str, Any]],
    *,
    threshold: float = 0.8,
    containment: float = 0.8,
    span: int = 50,
    contained_units: int = 10,
    near: int = 200,
    edited: float = 0.7,
    simplify: bool = False,
    method: str = "exact",
    engine: str = "local",
    jobs: int = 1,
    address: str | None = None,
    on_bad_row: OnBadRow = "error",
    within: bool = False,
    write_clean: str | Path | None = None,
    out: str | Path | None = None,
) -> Findings:
    """Look for test items in a training corpus, exactly, and report every place with its evidence.

    Args:
        corpus: files, folders, globs or hub ids (see `corpus`), or records themselves, as mappings: these are written
            to `records.jsonl` beside the findings, which name that file.
        against: task names, logs, files, ``task=FILE``, or items (see `against.load`); one string may list several,
            separated by commas.
        threshold: Jaccard similarity above which a text is a near-duplicate of an item, 0-1.
        containment, span, contained_units, near, edited: see `index.Thresholds`.
        simplify: treat traditional Chinese characters as their simplified ones.
        method: ``exact``; ``minhash`` also runs MinHash LSH and reports what it misses.
        engine: ``local`` or ``ray``; both give the same bytes.
        jobs: worker processes.
        address: a running Ray cluster; None starts a local one.
        on_bad_row: end with the first record that cannot be read, or leave it out, count and list it.
        within: also look for duplicates inside the corpus (see `duplicates`), written to `duplicates.jsonl`.
        write_clean: directory for a copy of the corpus without its flagged records (see `clean.write_clean`).
        out: directory for the artefact; None keeps it in a temporary one while the result lives. A run that was
            killed continues there with the shards it had not finished.

    Raises:
        MedbenchError: bad settings, an unknown source, an unreadable or empty corpus.
    """
    thresholds = Thresholds(
        jaccard=threshold, containment=containment, span=span, contained_units=contained_units, near=near, edited=edited
    )
    bad_items = BadRows(on_bad_row)
    keep = tempfile.TemporaryDirectory(prefix="medbench-audit-") if out is None else None
    directory = Path(keep.name) / "findings" if keep else Path(out)  # type: ignore[arg-type]
    names = [str(corpus)] if isinstance(corpus, str | Path) else _named(corpus, directory)
    files, ignored = corpora.expand(names)
    if write_clean is not None:  # before the scan, which may take hours
        if Path(write_clean).resolve() == directory.resolve():
            raise MedbenchError(f"--write-clean and --out are both {write_clean}; each needs a directory of its own.")
        clean.destinations(files, write_clean)
    shards = corpora.shards(files)
    sources = load(against, bad_items)
    index = indexes.build(sources, thresholds, simplify=simplify)

    settings = {
        **dataclasses.asdict(thresholds), "simplify": simplify, "shingle": SHINGLE, "on_bad_row": on_bad_row
    }  # fmt: skip
    with workplace(directory) as work:
        state = _state(work, index, shards, method)
        todo = [(number, shard) for number, shard in enumerate(shards) if not (state / f"{number}.jsonl").exists()]
        for number, content in engines.run(index, todo, method=method, engine=engine, jobs=jobs, address=address):
            if on_bad_row == "error":
                _raise_first_unreadable(shards[number], content)
            write_atomic(state / f"{number}.jsonl", content)
        new = work / "new"  # complete before anything earlier is replaced
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        summary = _merge(new, state, shards, index, bad_items, method)
        summary |= {"ignored_files": ignored, "shared_sources": shared_sources(files, sources)}
        summary |= _acted_on(new, files, thresholds, within=within, write_clean=write_clean, simplify=simplify)
        _finish(new, summary, settings, files, sources)
        replace_directory(new, directory, (FINDINGS, UNCHECKED, DUPLICATES, SUMMARY, NAME, _STATE))
        shutil.rmtree(work)
    return Findings(directory, summary, keep)


def _acted_on(
    new: Path,
    files: Sequence[str],
    thresholds: Thresholds,
    *,
    within: bool,
    write_clean: str | Path | None,
    simplify: bool,
) -> dict[str, Any]:
    """Duplicates inside the corpus, and the corpus without what was found, as far as they are asked for."""
    told: dict[str, Any] = {}
    repeated: set[tuple[str, int]] = set()
    if within:
        repeated = _duplicates(new, files, thresholds.jaccard, simplify)
        told["duplicates"] = len(repeated)
    if write_clean is not None:
        flagged = flagged_records(read_findings(new)) | repeated
        told["clean"] = {"directory": str(write_clean), "files": clean.write_clean(files, flagged, write_clean)}
    return told


def _finish(
    new: Path,
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    files: Sequence[str],
    sources: Sequence[tuple[str, Sequence[Item]]],
) -> None:
    write_atomic(new / SUMMARY, json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    write_manifest(
        new,
        "findings",
        settings=settings,
        inputs={
            **{file: places.sha256(file) for file in files if places.is_file(file)},
            **{f"items of {name}": _hash_ids(item.id for item in items) for name, items in sources},
        },
        counts={key: summary[key] for key in ("findings", "items", "records", "leaking")},
    )


def _named(corpus: Iterable[str | Path | Mapping[str, Any]], directory: Path) -> list[str]:
    """Files of a corpus given as several: records become one, in the audit's directory."""
    names: list[str] = []
    records: list[bytes] = []
    for one in corpus:
        if isinstance(one, str | Path):
            names.append(str(one))
        elif isinstance(one, Mapping):
            records.append(json.dumps(dict(one), ensure_ascii=False, default=str).encode("utf-8", "replace"))
        else:
            raise MedbenchError(
                f"a corpus is paths or records (mappings like {{'text': ...}}), not {type(one).__name__} {one!r:.80}."
            )
    if records:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / "records.jsonl", b"\n".join(records) + b"\n")
        names.append(str(directory / "records.jsonl"))
    return names


def shared_sources(files: Sequence[str], against: Sequence[tuple[str, Sequence[Item]]]) -> list[dict[str, str]]:
    """Sources that stand on both sides: the same path, the same bytes, or the same hub id.

    A test set from a source that is also trained on is not held out, whatever the overlap found.

    Args:
        files: the corpus's files and hub ids.
        against: the names under which items were given, and the items.
    """
    shared = []
    for name, items in against:
        test = Path(name.partition("=")[2] or name)
        published = {hub.id_in(item.source) for item in items}
        for file in files:
            data_set = None if Path(file).is_file() else hub.parse(file)
            if file == name:
                how = "same name"
            elif data_set:
                if data_set.id not in published:
                    continue
                how = "same hub id"
            elif not (test.is_file() and Path(file).is_file()):
                continue
            elif test.resolve() == Path(file).resolve():
                how = "same file"
            elif test.stat().st_size == Path(file).stat().st_size and sha256_file(test) == sha256_file(file):
                how = "same content"
            else:
                continue
            shared.append({"corpus_file": file, "against": name, "how": how})
    return shared


def _duplicates(directory: Path, files: Sequence[str], threshold: float, simplify: bool) -> set[tuple[str, int]]:
    found = set()
    with open_atomic(directory / DUPLICATES) as handle:
        for row in duplicates(files, threshold=threshold, simplify=simplify):
            found.add((row["corpus_file"], row["record"]))
            handle.write(orjson.dumps(row) + b"\n")
    return found


def _hash_ids(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _state(directory: Path, index: Index, shards: Sequence[corpora.Shard], method: str) -> Path:
    """The folder of finished shards, emptied if it belongs to another run."""
    described: list[Any] = [dataclasses.asdict(index.thresholds), index.simplify, index.ids, index.against, method]
    for shard in shards:
        described.append(dataclasses.asdict(shard))
        if places.is_file(shard.file):
            described.append(places.version(shard.file))
    digest = hashlib.sha256(json.dumps(described).encode() + index.target_hash.tobytes()).hexdigest()
    state = directory / _STATE
    if not (state / digest).exists():
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        (state / digest).touch()
    return state


def _raise_first_unreadable(shard: corpora.Shard, content: bytes) -> None:
    bad = orjson.loads(content.split(b"\n", 1)[0])["unreadable"]
    if not bad:
        return
    before = 0
    if shard.begin:
        with open_binary(shard.file) as handle:
            before = sum(map(len, lines(handle, 0, shard.begin)))
    raise BadRow(
        shard.file,
        f"record {before + bad[0]['record']}",
        None,
        f"{bad[0]['problem']}. --on-bad-row skip leaves such records out and lists them.",
    )


def _merge(
    directory: Path, state: Path, shards: Sequence[corpora.Shard], index: Index, bad_items: BadRows, method: str
) -> dict[str, Any]:
    """Write findings and unchecked records in corpus order; the summary of both."""
    tally = Tally()
    totals: dict[str, dict[str, int]] = {}
    unreadable: list[str] = []
    sketch: dict[str, Any] = {"proposed": 0, "right": 0, "missed": []}
    with open_atomic(directory / FINDINGS) as findings, open_atomic(directory / UNCHECKED) as unchecked:
        for identifier, name, units in index.unchecked:
            row = {"item_id": identifier, "field": name, "reason": f"no {SHINGLE} units in a row ({units} in all)"}
            unchecked.write(orjson.dumps(row) + b"\n")
        for number, shard in enumerate(shards):
            with open(state / f"{number}.jsonl", "rb") as handle:
                header = orjson.loads(handle.readline())
                total = totals.setdefault(shard.file, dict.fromkeys(("records", "bytes", "too_short", "unreadable"), 0))
                first = total["records"]
                total["records"] += header["records"]
                total["bytes"] += header["bytes"]
                total["too_short"] += len(header["short"])
                total["unreadable"] += len(header["unreadable"])
                for key, value in header.get("minhash", {}).items():
                    if key == "missed":
                        value = [[shard.file, first + record, identifier] for record, identifier in value]
                    sketch[key] += value
                reasons = [(record, f"no {SHINGLE} units in a row") for record in header["short"]]
                reasons += [(bad["record"], bad["problem"]) for bad in header["unreadable"]]
                for record, reason in sorted(reasons):
                    row = {"corpus_file": shard.file, "record": first + record, "reason": reason}
                    unchecked.write(orjson.dumps(row) + b"\n")
                unreadable += [
                    f"{shard.file}, record {first + b['record']}: {b['problem']}" for b in header["unreadable"]
                ]
                for line in handle:
                    row = orjson.loads(line)
                    row["record"] += first
                    tally.add(row)
                    findings.write(orjson.dumps(row) + b"\n")
        records = sum(total["records"] for total in totals.values())
        if not records:
            raise MedbenchError(f"the corpus is empty: no record in {', '.join(totals)}.")
        if records == len(unreadable):
            raise MedbenchError(
                f"none of the {records:,} records of the corpus could be read; the first: {unreadable[0]}."
            )
    return {
        **tally.summary(dict(zip(index.ids, index.against, strict=True))),
        **({"minhash": sketch} if method == "minhash" else {}),
        "against": indexes.describe(index),
        "corpus": totals,
        "unchecked": {
            "item_fields_too_short": len(index.unchecked),
            "records_too_short": sum(total["too_short"] for total in totals.values()),
            "records_unreadable": len(unreadable),
            "unreadable": unreadable[:_LISTED],
            "items_unreadable": bad_items.listed(),
        },
    }
