"""What happens to an audit's directory: two at once, a kill at any point, and files that would not fit in memory."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medbench.errors import BadRow, MedbenchError
from medbench.files import directories
from medbench.files.directories import replace_directory, workplace
from medbench.files.manifest import read_manifest
from medbench.leakage import audit, formats, read_findings
from medbench.sources import records

QUESTION = "Which vitamin deficiency causes scurvy in sailors on long voyages at sea?"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"document {k} {QUESTION if k == 3 else ''}"}) + "\n" for k in range(9))
    )
    return path


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"question": QUESTION, "answer": "Vitamin C"}))
    return path


def test_two_audits_to_one_directory_are_refused(corpus: Path, items: Path, tmp_path: Path) -> None:
    with workplace(tmp_path / "out"), pytest.raises(MedbenchError, match="another process is writing"):
        audit(corpus, items, out=tmp_path / "out")
    audit(corpus, items, out=tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.jsonl", "items.jsonl", "out"]


def test_a_kill_at_any_step_leaves_the_old_or_the_new(
    corpus: Path, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends before the n-th change of a name, for every n: summary, findings and manifest always agree."""
    out = tmp_path / "out"
    audit(corpus, items, out=out)
    (out / "note.txt").write_text("mine")
    old = {path.name: path.read_bytes() for path in out.iterdir()}
    outcomes = []
    for step in range(40):
        seen = [0]

        def counted(call: Any, seen: list[int] = seen, step: int = step) -> Any:
            def ending(*args: Any, **kwargs: Any) -> Any:
                seen[0] += 1
                if seen[0] > step:
                    raise KeyboardInterrupt
                return call(*args, **kwargs)

            return ending

        with monkeypatch.context() as patch:
            for name in ("replace", "rename", "link", "unlink"):
                patch.setattr(os, name, counted(getattr(os, name)))
            patch.setattr(directories, "_exchange", counted(directories._exchange))
            try:
                audit(corpus, items, span=40, out=out)
                outcomes.append("new")
            except KeyboardInterrupt:
                outcomes.append("old" if read_manifest(out)["settings"]["span"] == 50 else "new")
        now = {path.name: path.read_bytes() for path in out.iterdir()}
        if outcomes[-1] == "old":
            assert now == old
        else:
            assert read_manifest(out)["settings"]["span"] == 40
            assert set(now) == set(old)
            assert json.loads(now["summary.json"])["against"]["thresholds"]["span"] == 40
            break
    assert outcomes[-1] == "new"
    assert "old" in outcomes


def test_a_directory_is_replaced_where_names_cannot_be_exchanged(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("medbench.files.directories._exchange", lambda a, b: False)
    for name, content in (("out", "old"), ("new", "new")):
        (tmp_path / name).mkdir()
        for file in ("manifest.json", "summary.json"):
            (tmp_path / name / file).write_text(content)
    replace_directory(tmp_path / "new", tmp_path / "out")
    assert {path.read_text() for path in (tmp_path / "out").iterdir()} == {"new"}
    assert not (tmp_path / "new").exists()


def huge(path: Path, megabytes: int) -> None:
    """A compressed file of one line that compresses to nearly nothing."""
    import zstandard

    piece = b"a" * (1 << 20)
    with open(path, "wb") as sink:
        packer: Any
        if path.suffix == ".zst":
            packer = zstandard.ZstdCompressor().stream_writer(sink)
        else:
            packer = gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1)
        with packer as packed:
            packed.write(b'{"text": "')
            for _ in range(megabytes):
                packed.write(piece)
            packed.write(b'"}\n')


PEAK = """
import resource, sys
from medbench.sources import records
from medbench.files.compressed import open_binary
from medbench.leakage import formats

formats.MAX_RECORD = records.MAX_LINE = 4 << 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_binary(sys.argv[1]) as handle:
    assert list(formats.line_blocks(handle)) == [None]
bad = records.BadRows("skip")
assert list(records.read_records(sys.argv[1], bad_rows=bad)) == [] and len(bad.rows) == 1
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_huge_line_is_refused_in_bounded_memory(
    tmp_path: Path, items: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 MB under a limit of 4 MB for 1 GB under 64 MB, and the same bound for both kinds of compression."""
    path = tmp_path / f"corpus.jsonl{suffix}"
    huge(path, 100)
    run = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 48  # MiB: the 4 that a line may have, a few times over, and 16 of a decompressed piece
    monkeypatch.setattr(formats, "MAX_RECORD", 4 << 20)
    monkeypatch.setattr(records, "MAX_LINE", 4 << 20)
    with pytest.raises(BadRow, match="longer than"):
        audit(path, items)
    with pytest.raises(BadRow, match="longer than 4 MiB"):
        list(records.read_records(path, bad_rows=records.BadRows()))


def test_an_audit_that_did_not_finish_is_not_read(corpus: Path, items: Path, tmp_path: Path) -> None:
    """Where two directories cannot be exchanged, the manifest goes first and comes last."""
    audit(corpus, items, out=tmp_path / "out")
    assert len(list(read_findings(tmp_path / "out"))) >= 1
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(MedbenchError, match="did not finish"):
        list(read_findings(tmp_path / "out"))


def test_a_clean_copy_is_written_by_one_process_at_a_time(corpus: Path, items: Path, tmp_path: Path) -> None:
    with workplace(tmp_path / "clean"), pytest.raises(MedbenchError, match=r"another process is writing .*clean"):
        audit(corpus, items, out=tmp_path / "out", write_clean=tmp_path / "clean")
    audit(corpus, items, out=tmp_path / "out", write_clean=tmp_path / "clean")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "corpus.jsonl", "items.jsonl", "out"]
    assert read_manifest(tmp_path / "clean")["settings"]["counts"][str(corpus)]["removed"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"item_id": ["a"]}, "item_id is"),
        ({"score": 7}, "score is 7, not 0 to 1"),
        ({"score": "0.9"}, "score is '0.9', not a number"),
        ({"corpus_file": {}}, "corpus_file is"),
        ({"record": None}, "record is None"),
    ],
)
def test_what_is_no_finding(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    row = {"corpus_file": "c", "record": 0, "item_id": "i", "field": "question", "signal": "near", "score": 0.9}
    path = tmp_path / "findings.jsonl"
    path.write_text(json.dumps({**row, **changes}) + "\n", "utf-8")
    with pytest.raises(BadRow, match=said):
        list(read_findings(path))
