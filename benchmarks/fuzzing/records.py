"""Files of rows fuzzed: every format and compression, own sets by their columns, predictions, findings, verdicts."""

from __future__ import annotations

import atexit
import csv
import functools
import io
import random
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fuzzing import texts, values
from fuzzing.case import Case, Surface, require
from fuzzing.rows import FINDINGS, OWN, PREDICTIONS

WORK = Path(tempfile.mkdtemp(prefix="medbench-fuzz-"))
atexit.register(shutil.rmtree, WORK, ignore_errors=True)


def surfaces() -> list[Surface]:
    """The surfaces of this module."""
    return [
        Surface("records", 40_000, _rows_case, _records, least=100),
        Surface("parquet", 2_500, _parquet_case, _records, least=20),
        Surface("xlsx", 2_000, _xlsx_case, _records, least=20),
        Surface("items", 180_000, _item_case, _items, least=100),
        Surface("predictions", 20_000, _predictions_case, _predictions, least=100),
        Surface("findings", 6_000, _findings_case, _findings, least=50),
        Surface("verdicts", 4_000, _verdicts_case, _verdicts, least=50),
    ]


def _file(rng: random.Random, text: str, ending: str, name: str = "own") -> Case:
    data, encoding = values.encoded(rng, text)
    if rng.random() < 0.25:
        data = values.damaged(rng, data)
    data, packed = values.compressed(rng, data)
    if packed and rng.random() < 0.5:
        data = values.damaged(rng, data)
    return {
        "name": f"{name}{ending}{packed}",
        "data": data,
        "encoding": encoding,
        "policy": rng.choice(("error", "skip", "skip")),
    }


def _as_table(rng: random.Random, rows: list[Any], delimiter: str) -> str:
    rows = [row if isinstance(row, dict) else {"question": row} for row in rows]
    written = io.StringIO()
    names = list(dict.fromkeys(str(name) for row in rows for name in row)) or ["question"]
    table = csv.writer(written, delimiter=delimiter, lineterminator=rng.choice(("\n", "\r\n", "\r")))
    try:
        table.writerow(names)
        for row in rows:
            table.writerow([row.get(name) for name in names][: rng.choice((99, 99, 99, 1))])
    except (csv.Error, ValueError, RecursionError):
        return texts.text(rng)
    return written.getvalue()


def _written(rng: random.Random, rows: Any, ending: str) -> str:
    if ending in (".csv", ".tsv"):
        return _as_table(rng, rows if isinstance(rows, list) else [rows], "," if ending == ".csv" else "\t")
    if ending == ".json" or rng.random() < 0.1:
        return values.as_json(
            rng, rng.choice((rows, {"data": rows}, {"k": rows[0]} if isinstance(rows, list) and rows else rows))
        )
    return values.as_json_lines(rng, rows)


def _rows_case(rng: random.Random) -> Case:
    ending = rng.choice(
        (".jsonl", ".jsonl", ".json", ".csv", ".tsv", ".ndjson", ".txt")
        if rng.random() < 0.98
        else ("", ".gz", ".eval")
    )
    text = texts.text(rng) if rng.random() < 0.08 else _written(rng, values.changed(rng, rng.choice(OWN)), ending)
    if rng.random() < 0.0005:
        text = rng.choice(("[", '{"a":', '"', "{", "[{},", "[1e5,")) * 100_000 + text
    return _file(rng, text, ending)


def _records(case: Case) -> None:
    from medbench.errors import BadRow
    from medbench.sources.layout import Columns, item_of
    from medbench.sources.records import BadRows, read_records

    path = WORK / case["name"]
    path.write_bytes(case["data"])
    try:
        columns = ["question", "answer"] if case["policy"] == "skip" and len(case["data"]) % 5 == 0 else None
        bad_rows = BadRows(case["policy"])
        rows = list(read_records(path, bad_rows=bad_rows, encoding=case["encoding"], columns=columns))
    finally:
        path.unlink()
    require(case["policy"] == "skip" or not bad_rows.rows, "a bad row that did not end the reading")
    for row in rows[:20]:
        require(isinstance(row.data, dict) and row.row, "a row without its fields or its place")
        try:
            item_of(row, Columns())
        except BadRow:
            continue


def _parquet_case(rng: random.Random) -> Case:
    import pyarrow
    import pyarrow.parquet

    rows = values.changed(rng, rng.choice(OWN), rng.choice((0, 1, 2)))
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    written = io.BytesIO()
    try:
        table = pyarrow.Table.from_pylist(rows or [{"question": "q"}])
        if rng.random() < 0.3:
            table = table.append_column("when", pyarrow.array([rng.choice(_moments(pyarrow))] * len(table)))
        pyarrow.parquet.write_table(table, written, compression=rng.choice(("none", "snappy", "zstd")))
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError, UnicodeError, RecursionError):
        pyarrow.parquet.write_table(pyarrow.table({"question": ["q"], "answer": [1]}), written)
    data = written.getvalue()
    data = data if rng.random() < 0.3 else values.damaged(rng, data)
    return {"name": "own.parquet", "data": data, "encoding": "utf-8", "policy": rng.choice(("error", "skip"))}


@functools.cache
def _moments(pyarrow: Any) -> list[Any]:
    """Scalars that Parquet holds and Python has no room for, among them dates before the year 1."""
    return [
        pyarrow.scalar(2**62, pyarrow.timestamp("us")), pyarrow.scalar(-(2**40), pyarrow.timestamp("s")),
        pyarrow.scalar(3, pyarrow.duration("ns")),
        pyarrow.scalar(b"\xff\x00", pyarrow.binary()), pyarrow.scalar(1.5, pyarrow.float16()),
        pyarrow.scalar(2**31 - 1, pyarrow.date32()),
        pyarrow.scalar(7, pyarrow.timestamp("ns")), pyarrow.scalar(0, pyarrow.timestamp("s", "No/Where")),
    ]  # fmt: skip


@functools.cache
def _workbook() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.worksheets[0]
    for row in (["question", "A", "B", "key", "when"], ["Q?", "a", 2, "B", 1.5], ["R?", True, None, "A", "=1+1"]):
        sheet.append(row)
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def _xlsx_case(rng: random.Random) -> Case:
    """A workbook damaged as bytes, or as one of the XML files in it."""
    data = _workbook()
    if rng.random() < 0.3:
        data = values.damaged(rng, data)
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            members = {name: book.read(name) for name in book.namelist()}
        name = rng.choice(["xl/worksheets/sheet1.xml"] * 4 + list(members))
        members[name] = values.damaged(rng, members[name], rng.choice((0, 1, 1, 2)))
        if rng.random() < 0.3:
            members[name] = members[name].replace(
                rng.choice((b"1", b"A", b"r=", b"t=", b"s=")), rng.choice((b"", b"x", b"-9", b"99999999"))
            )
        if rng.random() < 0.05:
            del members[name]
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as book:
            for member, content in members.items():
                book.writestr(member, content)
        data = written.getvalue()
    return {"name": "own.xlsx", "data": data, "encoding": "utf-8", "policy": rng.choice(("error", "skip"))}


_NAMED = (
    "question",
    "options",
    "answer",
    "stem",
    "A,B,C",
    "选项",
    "答案",
    "A",
    "key",
    "",
    ",",
    "group",
    "messages",
    "QUESTION",
)


def _item_case(rng: random.Random) -> Case:
    rows = values.changed(rng, rng.choice(OWN))
    row = rng.choice(rows) if isinstance(rows, list) and rows else {"question": rows}
    named = {
        part: rng.choice(_NAMED) for part in ("question", "options", "answer", "context", "group") if rng.random() < 0.3
    }
    return {"row": row if isinstance(row, dict) else {"question": row}, "named": named if rng.random() < 0.6 else {}}


def _items(case: Case) -> None:
    from medbench.sources.items import Item
    from medbench.sources.layout import Columns, item_of
    from medbench.sources.records import Record

    item = item_of(Record("own.jsonl", "line 1", case["row"]), Columns(**case["named"]))
    require(item.question, "an item without a question")
    require(all(isinstance(option, str) for option in item.options), "an option that is no text")
    require(Item.from_metadata(item.to_metadata()).id == item.id, "an item that does not come back from its metadata")
    require(len(item.id) >= 16, f"id {item.id!r}")


def _predictions_case(rng: random.Random) -> Case:
    form = rng.choice(list(PREDICTIONS))
    ending = rng.choice((".jsonl", ".json", ".csv" if form == "csv" else ".jsonl"))
    rows = values.changed(rng, PREDICTIONS[form])
    if form == "opencompass" and isinstance(rows, list) and ending == ".json":
        rows = {str(number): row for number, row in enumerate(rows)}
    text = _written(rng, rows, ending)
    case = _file(rng, text, ending)
    case["form"] = rng.choice((form, form, None, rng.choice(list(PREDICTIONS))))
    case["columns"] = {"prediction": rng.choice(("prediction", "output", "predict", "x"))} if rng.random() < 0.1 else {}
    case["beside"] = values.as_json(rng, values.changed(rng, [{"id": "id0", **_instance()}], rng.choice((0, 1))))
    return case


def _instance() -> dict[str, Any]:
    state: dict[str, Any] = PREDICTIONS["helm"][0]["request_states"][0]["instance"]
    return state


def _predictions(case: Case) -> None:
    from medbench.predictions.formats import detect_format, read_predictions
    from medbench.sources.records import BadRows

    path = WORK / case["name"]
    path.write_bytes(case["data"])
    beside = WORK / "instances.json"
    beside.write_text(case["beside"], "utf-8", errors="replace")
    try:
        form = case["form"] or ("csv" if case["columns"] else detect_format(str(path), case["encoding"]))
        found = read_predictions(str(path), form, BadRows(case["policy"]), case["encoding"], case["columns"])
    finally:
        path.unlink()
        beside.unlink()
    require(found, "no prediction and no error")
    for one in found:
        require(isinstance(one.output, str), "an output that is no text")
        require(one.prompt is None or isinstance(one.prompt, str), "a prompt that is no text")
        require(one.label is None or isinstance(one.label, str), "a label that is no text")
        require(all(isinstance(text, str) for text, _ in one.options), "an option that is no text")


def _findings_case(rng: random.Random) -> Case:
    return _file(rng, values.as_json_lines(rng, values.changed(rng, FINDINGS)), ".jsonl", "findings") | {
        "policy": "error"
    }


def _findings(case: Case) -> None:
    from medbench.leakage.findings import flagged_records, joined, read_findings

    path = WORK / "findings.jsonl"
    path.write_bytes(case["data"])
    try:
        rows = list(read_findings(path))
    finally:
        path.unlink()
    flagged_records(rows)
    scores = joined(rows, ["0123456789abcdef", "other"])
    require(all(0 <= score <= 1 for signals in scores.values() for score in signals.values()), "a score beyond 0-1")


_JUDGED = [
    {"question": "Q?", "claim": "C.", "answer": "A.", "verdict": "entailed", "judge": "j", "raw": "r", "score": 0.5},
    {
        "question": "Q?",
        "statement": "C.",
        "result": "A.",
        "label_1": "Entailment",
        "label_2": "Neutral",
        "category": "Must_have",
    },
    {"question": "Q?", "claim": "C.", "label_is_entails": "True", "label_is_contradict": "False"},
    {"question": "Q?", "claim": "C.", "majority": "Contradiction"},
]


def _verdicts_case(rng: random.Random) -> Case:
    ending = rng.choice((".jsonl", ".json", ".csv"))
    return _file(rng, _written(rng, values.changed(rng, [rng.choice(_JUDGED)] * 2), ending), ending)


def _verdicts(case: Case) -> None:
    from medbench.claims.files import read_verdicts

    path = WORK / case["name"]
    path.write_bytes(case["data"])
    try:
        found = read_verdicts(path, encoding=case["encoding"])
    finally:
        path.unlink()
    require(found.rows and found.judges, "no rows and no error")
