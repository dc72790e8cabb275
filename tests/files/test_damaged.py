"""Damaged files, wherever they are read: cut short, empty, one byte changed. Named, and never a traceback.

A changed byte that no format can notice (a letter of a text in a .zst without a checksum) reads as another letter.
"""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from medbench.errors import MedbenchError
from medbench.leakage import audit
from medbench.predictions.formats import detect_format, read_predictions
from medbench.sources.records import BadRows, read_records

ROWS = [
    {"id": str(n), "prompt": f"Question {n}?", "prediction": f"An answer of {n * n} words.", "reference": f"{n}"}
    for n in range(400)
]
ITEMS = [{"question": "Which vitamin deficiency causes scurvy in sailors at sea?", "answer": "Vitamin C"}]


def lines() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstandard_of(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def table(kind: str) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(ROWS), sink, compression=kind, row_group_size=50, write_page_checksum=True
    )
    return sink.getvalue()


def spreadsheet() -> bytes:
    from openpyxl import Workbook

    book, sink = Workbook(), io.BytesIO()
    sheet = book.active
    assert sheet is not None
    for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]:
        sheet.append(row)
    book.save(sink)
    return sink.getvalue()


WHOLE: dict[str, Callable[[], bytes]] = {
    "rows.jsonl.gz": lambda: gzip.compress(lines()),
    "rows.jsonl.zst": lambda: zstandard_of(lines()),
    "rows.json.gz": lambda: gzip.compress(json.dumps(ROWS).encode()),
    "rows.parquet": lambda: table("zstd"),
    "snappy.parquet": lambda: table("snappy"),
    "rows.xlsx": spreadsheet,
}


def read_as_records(path: Path) -> int:
    return len(list(read_records(path)))


def read_as_predictions(path: Path) -> int:
    return len(read_predictions(str(path), detect_format(str(path), "utf-8"), BadRows(), "utf-8", None))


def read_as_corpus(path: Path) -> int:
    return int(next(iter(audit(str(path), ITEMS).summary["corpus"].values()))["records"])


READERS = {"records": read_as_records, "predictions": read_as_predictions, "corpus": read_as_corpus}
CASES = [(name, reader) for name in WHOLE for reader in READERS if not (name.endswith(".xlsx") and reader == "corpus")]


@pytest.mark.parametrize(("name", "reader"), CASES)
def test_a_file_that_is_cut_short_or_empty_is_named(tmp_path: Path, name: str, reader: str) -> None:
    path, whole = tmp_path / name, WHOLE[name]()
    path.write_bytes(whole)
    assert READERS[reader](path) == len(ROWS)
    sizes = [0, 1, 3, 8, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1]
    for size in sizes:
        path.write_bytes(whole[:size])
        with pytest.raises(MedbenchError, match=name):
            READERS[reader](path)


@pytest.mark.parametrize(("name", "reader"), CASES)
def test_a_file_with_a_changed_byte_is_named_or_read_without_a_crash(tmp_path: Path, name: str, reader: str) -> None:
    path, whole = tmp_path / name, WHOLE[name]()
    draw = random.Random(name + reader)
    noticed = 0
    for _ in range(30):
        at = draw.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << draw.randrange(8))]) + whole[at + 1 :])
        told = name
        try:
            READERS[reader](path)
        except MedbenchError as error:
            told = str(error)
            noticed += 1
        assert name in told, at
    assert noticed > 15
