"""`medbench audit`: a corpus of four files with the micro-lab's exam planted in it, and the corpus cleaned."""

from __future__ import annotations

import json
from pathlib import Path

from stress.kind import Content, Kind, digest, files, steady

_COPIES = 40  # of the demo's corpus, each with its own words among the lab's


def _prepare(inputs: Path) -> None:
    from medbench.provider.loading import MICROLAB
    from medbench.trainers.microlab.demo import demo_plan

    plan = demo_plan(inputs / "demo", lab=MICROLAB)
    corpus = inputs / "corpus"
    corpus.mkdir()
    for file in sorted(plan["corpus"].glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        (corpus / file.name).write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")
        with open(corpus / f"more-{file.name}", "w", encoding="utf-8") as sink:
            for copy in range(_COPIES):
                for number, row in enumerate(rows):
                    text = " ".join(str(value) for value in row.values())
                    words = text.split()
                    words = words[(copy + number) % 7 :: 2] + words[:: 2 + copy % 3]
                    sink.write(json.dumps({"id": f"{copy}-{number}", "text": " ".join(words)}) + "\n")


def _command(inputs: Path, place: Path) -> list[str]:
    return [*_earlier(inputs, place), "--span", "40", "--write-clean", f"{place}-clean"]


def _earlier(inputs: Path, place: Path) -> list[str]:
    return ["audit", str(inputs / "corpus"), "--against", "microlab_exam", "--out", str(place)]


def _content(place: Path) -> Content:
    clean = place.with_name(f"{place.name}-clean")
    return {"findings": _findings(place), "clean": _clean(clean)}


def _findings(place: Path) -> str:
    from medbench.files.manifest import read_manifest
    from medbench.leakage import read_findings

    read_findings(place)
    manifest = steady(read_manifest(place))
    summary = json.loads((place / "summary.json").read_text("utf-8"))
    assert (
        summary["findings"]
        == manifest["counts"]["findings"]
        == len((place / "findings.jsonl").read_bytes().splitlines())
    )
    summary.pop("clean", None)
    return digest([files(place, ("findings.jsonl", "unchecked.jsonl")), summary, manifest])


def _clean(place: Path) -> str:
    from medbench.files.manifest import read_manifest

    manifest = steady(read_manifest(place))
    return digest([files(place, sorted(path.name for path in place.glob("*.jsonl"))), manifest["settings"]["counts"]])


def _whole(place: Path) -> Content:
    found = {}
    clean = place.with_name(f"{place.name}-clean")
    if (place / "manifest.json").exists():
        found["findings"] = _findings(place)
    if (clean / "manifest.json").exists():
        found["clean"] = _clean(clean)
    return found


KIND = Kind(
    "audit",
    "a corpus of four JSON lines files with planted exam items, against that exam; the corpus cleaned",
    ("medbench.leakage.command", "medbench.leakage.audit", "medbench.benchmark.catalog", "inspect_ai"),
    _prepare,
    _command,
    _content,
    _whole,
    _earlier,
)
