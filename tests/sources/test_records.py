from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from medbench.errors import BadRow, MedbenchError
from medbench.sources.records import BadRows, Record, convert, read_records

ROWS = [{"question": "发热的病因？", "n": 1}, {"question": 'a "quoted", text\nin two lines', "n": 2}]


def rows(path: Path, **options: object) -> list[dict[str, object]]:
    return [record.data for record in read_records(path, **options)]  # type: ignore[arg-type]


@pytest.fixture
def jsonl() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def test_the_same_rows_from_every_format(tmp_path: Path, jsonl: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl)
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(jsonl))
    (tmp_path / "lines.json").write_bytes(jsonl)
    (tmp_path / "array.json").write_text(json.dumps(ROWS))
    (tmp_path / "array.jsonl").write_text(json.dumps(ROWS))
    (tmp_path / "pretty.jsonl").write_text(json.dumps(ROWS, indent=2))
    (tmp_path / "data.json").write_text(json.dumps({"data": ROWS}))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert rows(path) == ROWS, path.name


def test_csv_keeps_line_numbers_over_multi_line_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question,n\n"two\nlines",1\nshort\nlast,3\n')
    bad = BadRows("skip")
    found = list(read_records(path, bad_rows=bad))
    assert [(record.row, record.data["question"]) for record in found] == [("line 2", "two\nlines"), ("line 5", "last")]
    assert bad.listed() == [f"{path}, line 4: expected 2 columns (question, n), found 1"]


def test_object_of_objects_keeps_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "pubmed.json"
    path.write_text(json.dumps({"123": {"QUESTION": "Q"}}))
    assert rows(path) == [{"_key": "123", "QUESTION": "Q"}]


def test_a_broken_line_is_named_or_counted(tmp_path: Path, jsonl: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl + b'{"question": "cut\n[1]\n' + jsonl)
    with pytest.raises(BadRow, match=r"a\.jsonl, line 3: not valid JSON"):
        rows(path)
    bad = BadRows("skip")
    assert rows(path, bad_rows=bad) == ROWS * 2
    assert [problem.row for problem in bad.rows] == ["line 3", "line 4"]


def test_another_encoding_is_recognised_and_named(tmp_path: Path) -> None:
    path = tmp_path / "gb.csv"
    path.write_bytes("Question,Answer\n上消化道出血可单纯表现为呕血,A\n".encode("gb18030"))
    with pytest.raises(MedbenchError, match=r"not utf-8.*-T encoding=gb18030"):
        rows(path)
    assert rows(path, encoding="gb18030") == [{"Question": "上消化道出血可单纯表现为呕血", "Answer": "A"}]
    path.write_text("Question,Answer\n上消化道出血可单纯表现为呕血,A\n", "utf-8")
    with pytest.raises(MedbenchError, match=r"not ascii.*-T encoding=utf-8"):
        rows(path, encoding="ascii")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.json", b" \n", "holds no rows"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16-le"), "looks like utf-16-le: say so \\(-T encoding=utf-16-le"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16-be"), "looks like utf-16-be"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "reads as utf-16: say so \\(-T encoding=utf-16"),
        ("a.jsonl", bytes(range(200)), "it is no text file"),
        ("a.jsonl.zst", b"not zstandard", "damaged or cut short"),
        ("a.xyz", b"{}", "unknown format"),
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b"[" * 200_000, "nested too deeply"),
        ("a.jsonl", b'{"a":' * 200_000, "line 1: not valid JSON .nested too deeply"),
        ("a.jsonl", b'[1, 2\n{"a": 1}\n', "line 1: not valid JSON"),
        ("a.jsonl", b'{"a": "\\ud83d\\ude00"}\n{"a": "\\uD83D"}', "line 2: holds half of a character"),
        ("a.json", b'[{"a": 1}, {"a": "\\ud83d"}]', "record 2: holds half of a character"),
        ("a.json", b'"text"', "expected a JSON array"),
        ("a.csv", b"q,q\n1,2\n", "same name"),
        ("a.csv", b"question;A;B\n1;2;3\n", "separated by ';'; save it with commas"),
        ("a.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-20], "damaged or cut short"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MedbenchError, match=message):
        rows(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match="does not exist"):
        rows(tmp_path / "no.jsonl")
    with pytest.raises(MedbenchError, match="is a folder"):
        rows(tmp_path)


def test_fields_are_checked_by_name() -> None:
    record = Record("f.jsonl", "line 7", {"question": " ", "answer": 3})
    with pytest.raises(BadRow, match=r"f\.jsonl, line 7, field 'question': empty"):
        record.text("question")
    with pytest.raises(BadRow, match="field 'answer': expected text, found int 3"):
        record.text("answer")
    with pytest.raises(BadRow, match="field 'options': missing; the row has 'question', 'answer'"):
        record.text("options")
    with pytest.raises(BadRow, match="field 'options': missing; the row has"):
        record.value("options")
    with pytest.raises(BadRow, match="field 'n': missing: its value is null"):
        Record("f", "line 1", {"n": None}).value("n")


def test_convert_hands_over_what_it_refuses() -> None:
    records = [Record("f", f"line {n}", {"n": n}) for n in (1, 2, 3)]

    def odd(record: Record) -> int:
        if record.data["n"] % 2 == 0:
            raise record.error("n", "even")
        return int(record.data["n"])

    bad = BadRows("skip")
    assert convert(records, odd, bad) == [1, 3]
    assert bad.listed() == ["f, line 2, field 'n': even"]
    with pytest.raises(BadRow):
        convert(records, odd, BadRows())
    with pytest.raises(MedbenchError, match="on_bad_row"):
        BadRows("ignore")  # type: ignore[arg-type]


def test_utf_16_without_its_mark_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nQ?,A\n", "utf-8")
    with pytest.raises(MedbenchError, match=r"is not utf-16 \(UTF-16 stream does not start with BOM\)"):
        rows(path, encoding="utf-16")


def test_a_sheet_with_a_cell_beyond_its_end(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.worksheets[0].append(["question", "answer"])
    book.worksheets[0].append(["Q?", "A"])
    path = tmp_path / "a.xlsx"
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    members[sheet] = members[sheet].replace(b'"A1:B2"', b'"A1:B99999999"').replace(b'<row r="2"', b'<row r="99999999"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(MedbenchError, match="cells beyond row 1,048,576"):
        rows(path)
