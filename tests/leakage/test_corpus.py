"""Corpora as they lie on disk, in order and out of it."""

from __future__ import annotations

import gzip
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from medbench.errors import MedbenchError
from medbench.leakage import corpus, formats
from medbench.leakage.corpus import Shard, expand, leaves, read, shards
from medbench.leakage.formats import Unreadable

ROWS = [{"id": k, "text": f"文档 {k}", "turns": [{"content": "a"}, {"content": f"b{k}"}]} for k in range(7)]


def everything(shard: Shard) -> tuple[list[tuple[int, Any]], list[Unreadable]]:
    bad: list[Unreadable] = []
    found = [pair for batch in read(shard, bad) for pair in zip(batch.numbers, batch.objects, strict=True)]
    return found, bad


def written(folder: Path, name: str) -> Path:
    path = folder / name
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"
    content: bytes = text.encode()
    if ".json" in name and ".jsonl" not in name:
        content = json.dumps(ROWS, ensure_ascii=False, indent=1).encode()
    if name.endswith(".gz"):
        content = gzip.compress(content)
    elif name.endswith(".zst"):  # two frames, as pzstd writes them
        half = content.index(b"\n", len(content) // 2)
        content = b"".join(zstandard.compress(part) for part in (content[:half], content[half:]))
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.json.gz", "a.parquet"])
def test_every_format_gives_the_same_records(tmp_path: Path, name: str) -> None:
    (shard,) = shards([str(written(tmp_path, name))])
    assert everything(shard) == (list(enumerate(ROWS)), [])


def test_csv_text_and_objects_of_objects(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('q,a\n"two\nlines, quoted",x\ny,z\n', "utf-8-sig")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n  \ntwo")
    (tmp_path / "a.json").write_text(json.dumps({"9": {"q": "x"}, "10": {"q": "[y}"}}))
    (tmp_path / "b.json").write_text('{"q": "x"}\n{"q": "y"}\n')
    found = {Path(s.file).name: [v for _, v in everything(s)[0]] for s in shards(expand([str(tmp_path)])[0])}
    assert found == {
        "a.csv": [{"q": "two\nlines, quoted", "a": "x"}, {"q": "y", "a": "z"}],
        "a.txt": ["one\r", "two"],
        "a.json": [{"q": "x"}, {"q": "[y}"}],
        "b.json": [{"q": "x"}, {"q": "y"}],
    }


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_shards_of_any_size_partition_the_lines(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(size)
    lines = ["" if rng.random() < 0.2 else json.dumps({"t": "字" * rng.randrange(30)}) for _ in range(60)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    monkeypatch.setattr(corpus, "SHARD", size)
    monkeypatch.setattr(formats, "BLOCK", 16)
    found = [value for shard in shards([str(path)]) for _, value in everything(shard)[0]]
    assert found == [json.loads(line) for line in lines if line]


def test_json_array_is_streamed_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"t": "ab" * k, "n": [k, {"deep": "字"}]} for k in range(50)] + [12345, "text", None]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    monkeypatch.setattr(formats, "BLOCK", 5)
    assert everything(shards([str(path)])[0]) == (list(enumerate(rows)), [])


def test_names_of_texts() -> None:
    record = {"a": "x", "empty": "", "turns": [{"role": "user", "n": 3, "content": "y"}]}
    assert list(leaves(record)) == [("a", "x"), ("turns.0.role", "user"), ("turns.0.content", "y")]


@pytest.mark.parametrize(
    ("name", "content", "records", "bad", "problem"),
    [
        ("a.jsonl", b'{"t": "x"}\n{"t": \n{"t": "y"}\n', [0, 2], 1, "not valid JSON"),
        ("a.jsonl", b'{"t": "x"}\n{"t": "\xd6\xd0"}\n', [0], 1, "not UTF-8 (byte 0xd6)"),
        ("a.txt", "中文\n".encode("gb18030"), [], 0, "not UTF-8"),
        ("a.json", b'[{"t": "x"}, {"t": "y"', [0], 1, "not valid JSON from here on"),
        ("a.csv", b"q,a\nx,y\nz\n", [0], 1, "expected 2 columns, found 1"),
        ("a.csv", b'q,a\nx,y\n"never closed\n', [0], 1, "not valid CSV"),
        ("a.csv", b"q,a\nx,y\nx,\xff\nz,w\n", [0, 2], 1, "not UTF-8"),
        ("a.jsonl", b'{"t": "a"}\n' + b"[" * 5000 + b"]" * 5000 + b'\n{"t": "b"}\n', [0, 2], 1, "nested too deeply"),
        ("a.json", b'[{"t": "a"}, ' + b"[" * 5000 + b"]" * 5000 + b"]", [0], 1, "nested too deeply"),
    ],
)
def test_unreadable_records_are_numbered(
    tmp_path: Path, name: str, content: bytes, records: list[int], bad: int, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    found, unreadable = everything(shards([str(tmp_path / name)])[0])
    assert [number for number, _ in found] == records
    assert [one.record for one in unreadable] == [bad]
    assert problem in unreadable[0].problem


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_truncated_compression_keeps_what_was_read_and_says_so(tmp_path: Path, name: str) -> None:
    rng = random.Random(1)
    text = "".join(json.dumps({"t": str(rng.random())}) + "\n" for _ in range(5000)).encode()
    whole = gzip.compress(text) if name.endswith("gz") else zstandard.compress(text)
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    found, unreadable = everything(shards([str(tmp_path / name)])[0])
    assert "cut short" in unreadable[-1].problem
    assert unreadable[-1].record >= len(found)


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_RECORD", 1000)
    monkeypatch.setattr(formats, "BLOCK", 100)
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "before"}\n{"t": "' + "x" * 5000 + '"}\n{"t": "after"}\n')
    parts = [everything(shard) for shard in shards([str(path)])]  # the line begins in the first, and ends in the last
    assert [value["t"] for found, _ in parts for _, value in found] == ["before", "after"]
    assert [(one.record, "MiB" in one.problem) for _, unreadable in parts for one in unreadable] == [(1, True)]


def test_a_corpus_is_cut_so_that_workers_end_together(tmp_path: Path) -> None:
    sizes = {"a.jsonl": 5 * formats.BLOCK, "b.txt": 3 * formats.BLOCK + 1, "c.jsonl": 0}
    for name, size in sizes.items():
        with open(tmp_path / name, "wb") as handle:
            handle.truncate(size)
    cut = shards([str(tmp_path / name) for name in sizes])
    assert len(cut) == 5 + 4 + 1
    for name, size in sizes.items():
        own = [(s.begin, s.end) for s in cut if Path(s.file).name == name]
        assert own[0][0] == 0
        assert own[-1][1] == size
        assert all(one[1] == other[0] for one, other in pairwise(own))
    with open(tmp_path / "a.jsonl", "wb") as handle:
        handle.truncate(corpus.SHARDS * corpus.SHARD * 2)
    assert max(s.end - s.begin for s in shards([str(tmp_path / "a.jsonl")])) == corpus.SHARD


def test_sources_that_are_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "readme.pdf").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for source, message in [
        (tmp_path / "none.jsonl", "does not exist"),
        (tmp_path / "empty", "holds no data file"),
        (tmp_path / "readme.pdf", "unknown format"),
        (tmp_path / "*.csv", "no data file matches"),
    ]:
        with pytest.raises(MedbenchError, match=message):
            expand([str(source)])


def test_folders_and_globs_expand_and_report_what_they_ignore(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.jsonl", "sub/a.txt.gz", "notes.pdf"):
        (tmp_path / name).write_bytes(b"")
    files, ignored = expand([str(tmp_path), f"{tmp_path}/**/*.jsonl"])
    assert files == [str(tmp_path / "b.jsonl"), str(tmp_path / "sub/a.txt.gz")]
    assert ignored == [str(tmp_path / "notes.pdf")]
