"""A cleaned corpus is the corpus without the flagged records, and nothing else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from medbench.errors import MedbenchError
from medbench.files.manifest import read_manifest
from medbench.leakage import formats
from medbench.leakage.clean import write_clean

LINES = b'\xef\xbb\xbf{"t": "a"}\r\n\n{ "t":"b" }\n{broken\n{"t": "\xe5\xad\x97"}'


def cleaned(tmp_path: Path, name: str, content: bytes, *flagged: int) -> bytes:
    (tmp_path / "in").mkdir(exist_ok=True)
    source = tmp_path / "in" / name
    source.write_bytes(content)
    counts = write_clean([str(source)], {(str(source), k) for k in flagged}, tmp_path / "out")
    assert counts[str(source)]["removed"] == len(flagged)
    assert read_manifest(tmp_path / "out")["settings"]["counts"] == counts
    return (tmp_path / "out" / name).read_bytes()


def test_lines_are_copied_byte_by_byte(tmp_path: Path) -> None:
    assert cleaned(tmp_path, "a.jsonl", LINES) == LINES
    assert cleaned(tmp_path, "a.jsonl", LINES, 1) == LINES.replace(b'{ "t":"b" }\n', b"")
    assert cleaned(tmp_path, "a.txt", LINES, 0, 3) == b'\n{ "t":"b" }\n{broken\n'


def test_compressed_lines(tmp_path: Path) -> None:
    wanted = LINES.replace(b'{ "t":"b" }\n', b"")
    assert gzip.decompress(cleaned(tmp_path, "a.jsonl.gz", gzip.compress(LINES), 1)) == wanted
    packed = cleaned(tmp_path, "a.jsonl.zst", zstandard.compress(LINES), 1)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == wanted


def test_csv_keeps_quoting_and_rows_over_several_lines(tmp_path: Path) -> None:
    content = 'q,a\r\n"two\r\nlines","x"\r\n\r\ny ,z\r\n"字",w'.encode("utf-8-sig")
    assert cleaned(tmp_path, "a.csv", content) == content
    assert cleaned(tmp_path, "a.csv", content, 0) == content.replace(b'"two\r\nlines","x"\r\n', b"")
    assert cleaned(tmp_path, "a.csv", content, 1) == content.replace(b"y ,z\r\n", b"")


def test_csv_rows_that_cannot_be_read_are_kept_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_RECORD", 100)
    content = b"q,a\nx,y\n\xff,z\nlong," + b"z" * 300 + b"\nu,v\nlast,w\n"
    assert cleaned(tmp_path, "a.csv", content) == content
    assert cleaned(tmp_path, "a.csv", content, 3) == content.replace(b"u,v\n", b"")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9]),
        ("a.csv.zst", zstandard.compress(b"q,a\nx,y\n")[:-3]),
        ("a.json", b'[{"t": "a"}, {"t'),
        ("a.parquet", b"PAR1"),
    ],
)
def test_a_damaged_file_is_named_and_its_earlier_copy_stays(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"earlier")
    with pytest.raises(MedbenchError, match=f"{name}, which cannot be read to its end"):
        cleaned(tmp_path, name, content)
    assert (tmp_path / "out" / name).read_bytes() == b"earlier"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.parametrize(
    ("content", "flagged", "expected"),
    [
        (b'[{"t": 1.50}, {"t": "b"}, {"t": "\\u5b57"}]', (1,), b'[{"t": 1.50},\n{"t": "\\u5b57"}]\n'),
        (b'{"a": {"t": 1}, "b": {"t": 2}}', (0,), b'{"b": {"t": 2}}\n'),
        (b'[{"t": "a"}]', (0,), b"[]\n"),
        (b'{"t": "a"}\n{"t": "b"}\n', (0,), b'{"t": "b"}\n'),
    ],
)
def test_json_elements_keep_their_own_text(
    tmp_path: Path, content: bytes, flagged: tuple[int, ...], expected: bytes
) -> None:
    assert cleaned(tmp_path, "a.json", content, *flagged) == expected


def test_parquet_keeps_schema_metadata_and_compression(tmp_path: Path) -> None:
    schema = pyarrow.schema([("t", pyarrow.large_string()), ("n", pyarrow.int8())], metadata={"made": "by hand"})
    table = pyarrow.table({"t": list("abcdef"), "n": range(6)}, schema=schema)
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.parquet"
    pyarrow.parquet.write_table(table, source, row_group_size=2, compression="zstd")
    write_clean([str(source)], {(str(source), 0), (str(source), 3)}, tmp_path / "out")
    copy = pyarrow.parquet.read_table(tmp_path / "out" / "a.parquet")
    assert copy.equals(table.take([1, 2, 4, 5]))
    assert copy.schema.equals(schema, check_metadata=True)
    assert (
        pyarrow.parquet.ParquetFile(tmp_path / "out" / "a.parquet").metadata.row_group(0).column(0).compression
        == "ZSTD"
    )


def test_folders_keep_their_layout(tmp_path: Path) -> None:
    files = []
    for name in ("one/a.jsonl", "two/a.jsonl"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"t": name}) + "\n")
        files.append(str(path))
    write_clean(files, {(files[0], 0)}, tmp_path / "out")
    assert (tmp_path / "out/one/a.jsonl").read_text() == ""
    assert json.loads((tmp_path / "out/two/a.jsonl").read_text()) == {"t": "two/a.jsonl"}


def test_the_corpus_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    with pytest.raises(MedbenchError, match="is where the corpus lies"):
        write_clean([str(path)], set(), tmp_path)
    with pytest.raises(MedbenchError, match="copies files"):
        write_clean(["owner/name"], set(), tmp_path / "out")


def test_what_a_killed_run_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    half = tmp_path / ".out.unfinished" / "new" / "a.jsonl"
    half.parent.mkdir(parents=True)
    (tmp_path / "out").mkdir()
    half.write_bytes(b"half")
    (tmp_path / "out" / "notes").write_bytes(b"mine")
    assert cleaned(tmp_path, "a.jsonl", LINES) == LINES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jsonl", "manifest.json", "notes"]


def test_no_earlier_copy_is_replaced_before_all_are_complete(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for name, content in (("a.jsonl", LINES), ("b.json", b'[{"t": "a"}, {"t')):
        (tmp_path / "in" / name).write_bytes(content)
        (tmp_path / "out" / name).write_bytes(b"earlier")
    with pytest.raises(MedbenchError, match=r"b\.json, which cannot be read to its end"):
        write_clean([str(tmp_path / "in" / name) for name in ("a.jsonl", "b.json")], set(), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "a.jsonl": b"earlier",
        "b.json": b"earlier",
    }


def test_a_corpus_file_named_as_the_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"[]")
    with pytest.raises(MedbenchError, match=r"rename the corpus file manifest\.json"):
        write_clean([str(tmp_path / "manifest.json")], set(), tmp_path / "out")
