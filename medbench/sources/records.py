"""Rows of the files people have: JSON lines, JSON, CSV, TSV and Parquet, also as .gz and .zst; spreadsheets; hub sets.

Rows are streamed where the format allows it (JSON documents are read whole). A row that cannot be read is named by
file and row; `BadRows` decides whether it ends the reading or is counted and listed.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from medbench.advice import install
from medbench.errors import BadRow, LeftOut, MedbenchError, no_file
from medbench.files import parquet, places
from medbench.files.compressed import DAMAGED, open_binary

OnBadRow = Literal["error", "skip"]
T = TypeVar("T")

_COMPRESSION = (".gz", ".zst")
MAX_LINE = 64 << 20  # characters of a line of JSON; a longer one is refused by its number, so that memory stays bounded
_SHEET_ROWS = 1 << 20  # of a spreadsheet, by its format
_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}


@dataclass(frozen=True)
class Record:
    """One row: where it came from, and its fields."""

    file: str
    row: str
    data: dict[str, Any]

    def error(self, field: str | None, problem: str) -> BadRow:
        """The error for this row, to be raised by whoever finds a field wanting."""
        return BadRow(self.file, self.row, field, problem)

    def value(self, field: str) -> object:
        """A field of any type.

        Raises:
            BadRow: it is missing; says which fields the row has.
        """
        if field not in self.data:
            raise self.error(field, f"missing; the row has {', '.join(map(repr, self.data)) or 'no fields'}")
        if self.data[field] is None:
            raise self.error(field, "missing: its value is null")
        found: object = self.data[field]
        return found

    def text(self, field: str, *, empty_ok: bool = False) -> str:
        """A field that must be a string, stripped.

        Raises:
            BadRow: it is missing, no string, or empty while `empty_ok` is False.
        """
        value = self.value(field)
        if not isinstance(value, str):
            raise self.error(field, f"expected text, found {type(value).__name__} {value!r:.80}")
        if not value.strip() and not empty_ok:
            raise self.error(field, "empty")
        return value.strip()


@dataclass
class BadRows:
    """What to do with rows that cannot be used: end with the first (`error`), or leave out, count and list (`skip`)."""

    policy: OnBadRow = "error"
    rows: list[BadRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.policy not in ("error", "skip"):
            raise MedbenchError(f"on_bad_row must be 'error' or 'skip', not {self.policy!r}.")

    def add(self, problem: BadRow) -> None:
        """Raise `problem`, or keep it for the list of what was left out. `LeftOut` rows never raise."""
        if self.policy == "error" and not isinstance(problem, LeftOut):
            raise problem
        self.rows.append(problem)

    def listed(self) -> list[str]:
        """One line per row left out, for a log or a summary."""
        return [str(row) for row in self.rows]


def convert(records: Iterable[Record], to: Callable[[Record], T], bad_rows: BadRows) -> list[T]:
    """`to` of every record, with the rows it refuses handed to `bad_rows`."""
    converted = []
    for record in records:
        try:
            converted.append(to(record))
        except BadRow as problem:
            bad_rows.add(problem)
    return converted


def read_records(
    source: str | Path,
    *,
    bad_rows: BadRows | None = None,
    encoding: str = "utf-8",
    columns: Sequence[str] | None = None,
) -> Iterator[Record]:
    """Rows of a file, here or at an fsspec URL, in any format of `_FORMATS`, plain or compressed.

    A `.json` file may hold an array, an object of objects (the outer key is kept as ``_key``), or JSON lines, as many
    published ones do. Row names count from 1.

    Args:
        source: the file.
        bad_rows: what to do with rows that cannot be read; the first ends the reading where none is given.
        encoding: of a text file.
        columns: names for the columns of a table without a header; a first row that holds the first name is a header.

    Raises:
        MedbenchError: the file is missing, empty, of no known format, or in another encoding.
        BadRow: a malformed row, unless `bad_rows` skips it.
    """
    path = places.local(source)
    bad_rows = bad_rows or BadRows()
    if path.is_dir():
        raise MedbenchError(f"{source} is a folder; name one file.")
    if not path.is_file():
        raise no_file(source)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    inner = [suffix for suffix in suffixes if suffix not in _COMPRESSION]
    form = _FORMATS.get(inner[-1] if inner else "")
    if form is None:
        known = ", ".join(_FORMATS)
        raise MedbenchError(f"{source}: unknown format; known endings are {known}, also with .gz or .zst after them.")
    if form == "parquet":
        yield from _read_parquet(path)
        return
    if form == "xlsx":
        yield from _read_xlsx(path, bad_rows)
        return
    readers: dict[str, Callable[[IO[str], str, BadRows], Iterator[Record]]] = {
        "jsonl": _read_jsonl,
        "json": _read_json,
        "csv": lambda handle, name, bad: _read_csv(handle, name, bad, ",", columns),
        "tsv": lambda handle, name, bad: _read_csv(handle, name, bad, "\t", columns),
    }
    with _open_text(path, encoding) as handle:
        found = False
        try:
            for record in readers[form](handle, str(source), bad_rows):
                found = True
                yield record
        except UnicodeError as error:
            raise _encoding_error(path, encoding, error) from None
        except DAMAGED as error:
            raise MedbenchError(f"{source}: the compressed file is damaged or cut short ({error}).") from None
        if not found and not bad_rows.rows:
            raise MedbenchError(f"{source} holds no rows.")


def hub_records(
    repository: str, *, split: str, revision: str, name: str | None = None, data_files: str | None = None
) -> Iterator[Record]:
    """Rows of a Hugging Face hub data set at a pinned revision, through `datasets`.

    Raises:
        MedbenchError: it cannot be fetched; says how to use a local file instead.
    """
    from datasets import load_dataset

    where = f"hf://datasets/{repository}@{revision}" + (f"/{data_files}" if data_files else f" ({split})")
    try:
        if data_files:  # read as plain files: the repository's own loading script no longer runs
            url = f"hf://datasets/{repository}@{revision}/{data_files}"
            rows = load_dataset("json", data_files={split: url}, split=split)
        else:
            rows = load_dataset(repository, name, split=split, revision=revision)
    except Exception as error:  # datasets raises dozens of kinds; every one of them means "not to be had"
        raise MedbenchError(
            f"{where} could not be loaded ({type(error).__name__}: {error}). "
            "Without network, pass a local copy in the publisher's format: -T source=FILE"
        ) from error
    for index, row in enumerate(rows, 1):
        yield Record(where, f"record {index}", dict(row))


def _open_text(path: Path, encoding: str) -> IO[str]:
    # utf-8-sig also reads files without a byte order mark
    codec = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    if codec == "utf-8-sig" and path.suffix.lower() not in _COMPRESSION:
        _refuse_zero_bytes(path, encoding)
    raw = open_binary(path)
    try:
        return io.TextIOWrapper(raw, encoding=codec, newline="")
    except LookupError:
        raw.close()
        raise MedbenchError(f"unknown encoding {encoding!r}; try utf-8, gb18030 or utf-16.") from None


def _refuse_zero_bytes(path: Path, encoding: str) -> None:
    """UTF-16 without its mark is also UTF-8, of a kind: every other byte is zero."""
    with open(path, "rb") as handle:
        head = handle.read(1 << 12)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" not in head:
        return
    ends = "le" if head[1::2].count(0) > head[::2].count(0) else "be"
    hint = "it is no text file"
    if 3 * head.count(0) > len(head):
        hint = f"it looks like utf-16-{ends}: {_instead(f'utf-16-{ends}')}"
    raise MedbenchError(f"{path} is not {encoding} (it holds zero bytes); {hint}.")


def _instead(encoding: str) -> str:
    """What to do about a file in another encoding, whoever reads it."""
    told = f"-T encoding={encoding} for a task's file, --encoding {encoding} for predictions"
    return f"say so ({told}), or convert it: iconv -f {encoding} -t UTF-8 FILE > NEW"


def _encoding_error(path: Path, encoding: str, error: UnicodeError) -> MedbenchError:
    hint = "name its encoding with encoding=..."
    if path.suffix.lower() not in _COMPRESSION:
        with open(path, "rb") as handle:
            head = handle.read(1 << 20)
        marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))  # without its mark, nearly any text reads as UTF-16
        for candidate in ("utf-16",) if marked else ("utf-8", "gb18030"):
            try:
                head[: len(head) // 2 * 2].decode(candidate)
            except UnicodeDecodeError as problem:
                if problem.start < len(head) - 4:  # a character cut at the end of the sample is no objection
                    continue
            hint = f"it reads as {candidate}: {_instead(candidate)}"
            break
    bad = f"byte 0x{error.object[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else str(error)
    return MedbenchError(f"{path} is not {encoding} ({bad}); {hint}.")


def _read_jsonl(handle: IO[str], name: str, bad_rows: BadRows, maybe_array: bool = True) -> Iterator[Record]:
    for number, line in enumerate(_bounded(handle), 1):
        row = f"line {number}"
        if line is None:
            bad_rows.add(BadRow(name, row, None, f"longer than {MAX_LINE >> 20} MiB; split it into rows"))
            continue
        if not line.strip():
            continue
        if number == 1 and maybe_array and line.lstrip().startswith("["):  # an array under the other name
            handle = io.StringIO(line + handle.read())
            try:
                _parsed(handle.getvalue())
            except ValueError:
                yield from _read_jsonl(handle, name, bad_rows, maybe_array=False)
            else:
                yield from _read_json(handle, name, bad_rows)
            return
        try:
            data = _parsed(line)
        except ValueError as error:
            bad_rows.add(BadRow(name, row, None, f"not valid JSON ({error}); found {line.strip()!r:.80}"))
            continue
        if not isinstance(data, dict):
            bad_rows.add(BadRow(name, row, None, f"expected a JSON object, found {type(data).__name__}"))
            continue
        if _ESCAPED_SURROGATE.search(line) and not _storable(data):
            bad_rows.add(BadRow(name, row, None, _HALF))
            continue
        yield Record(name, row, data)


def _bounded(handle: IO[str]) -> Iterator[str | None]:
    """The lines of a file; None stands for one of more than `MAX_LINE` characters, which is passed over."""
    while line := handle.readline(MAX_LINE + 1):
        if len(line) <= MAX_LINE:
            yield line
            continue
        while line and not line.endswith("\n"):
            line = handle.readline(1 << 20)
        yield None


_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = "holds half of a character (a lone surrogate such as \\ud83d), which no log can store"


def _storable(data: Mapping[str, Any]) -> bool:
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
        return found
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _read_json(handle: IO[str], name: str, bad_rows: BadRows) -> Iterator[Record]:
    text = handle.read()
    if not text.strip():
        return
    try:
        document = _parsed(text)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and lines[0].lstrip().startswith("{") and lines[0].rstrip().endswith("}"):
            yield from _read_jsonl(io.StringIO(text), name, bad_rows)
            return
        raise MedbenchError(f"{name} is not valid JSON: {error}.") from None
    escaped = _ESCAPED_SURROGATE.search(text) is not None
    rows: Iterable[tuple[str, Any]]
    if isinstance(document, list):
        rows = ((f"record {index}", row) for index, row in enumerate(document, 1))
    elif isinstance(document, dict) and document and all(isinstance(value, dict) for value in document.values()):
        rows = ((f"record {key!r}", {"_key": key, **row}) for key, row in document.items())
    elif isinstance(document, dict) and isinstance(document.get("data"), list):
        rows = ((f"data record {index}", row) for index, row in enumerate(document["data"], 1))
    elif isinstance(document, dict):
        rows = [("record 1", document)]
    else:
        raise MedbenchError(f"{name}: expected a JSON array or an object of objects, found {type(document).__name__}.")
    for where, data in rows:
        if not isinstance(data, Mapping):
            bad_rows.add(BadRow(name, where, None, f"expected a JSON object, found {type(data).__name__}"))
        elif escaped and not _storable(data):
            bad_rows.add(BadRow(name, where, None, _HALF))
        else:
            yield Record(name, where, dict(data))


def _read_csv(
    handle: IO[str], name: str, bad_rows: BadRows, delimiter: str, columns: Sequence[str] | None
) -> Iterator[Record]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # explanations run past the default of 128 KiB
    reader = csv.reader(handle, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad_rows.add(BadRow(name, f"line {start}", None, f"not valid CSV ({error})"))
            continue
        if not row:
            continue
        if header is None and (columns is None or columns[0] in row):
            header = [column.strip() for column in row]
            if len(header) == 1 and ";" in header[0]:  # what spreadsheets save as CSV in many languages
                raise MedbenchError(f"{name}, line {start}: columns are separated by ';'; save it with commas between.")
            if len(set(header)) != len(header):
                raise MedbenchError(f"{name}, line {start}: two columns have the same name: {header}.")
            continue
        header = header or list(columns or ())
        if len(row) != len(header):
            problem = f"expected {len(header)} columns ({', '.join(header)}), found {len(row)}"
            bad_rows.add(BadRow(name, f"line {start}", None, problem))
        else:
            yield Record(name, f"line {start}", dict(zip(header, row, strict=True)))


def _read_parquet(path: Path) -> Iterator[Record]:
    number = 0
    try:
        for number, data in enumerate(parquet.rows(path, 1024), 1):
            yield Record(str(path), f"record {number}", data)
    except EOFError as error:
        where = f"from record {number + 1} on " if number else ""
        raise MedbenchError(f"{path} cannot be read as Parquet {where}({error}); get the file again.") from None
    if not number:
        raise MedbenchError(f"{path} holds no rows.")


def _read_xlsx(path: Path, bad_rows: BadRows) -> Iterator[Record]:
    """The first sheet, its first row that is not empty being the header; cells as text, as in a CSV file."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MedbenchError(
            f"{path}: reading spreadsheets needs openpyxl; save it as CSV, or: {install('sheets')}"
        ) from None
    sheet = _sheet_rows(path, load_workbook)
    header: list[str] | None = None
    found = False
    for number, cells in enumerate(sheet, 1):
        row = [_cell(cell) for cell in cells]
        if not any(row):
            continue
        if header is None:
            header = [name.strip() for name in row]
            while header and not header[-1]:
                header.pop()
            if len(set(header)) != len(header):
                raise MedbenchError(f"{path}, row {number}: two columns have the same name: {header}.")
        elif any(row[len(header) :]):
            bad_rows.add(BadRow(str(path), f"row {number}", None, f"has cells beyond the {len(header)} named columns"))
        else:
            row += [""] * (len(header) - len(row))
            found = True
            yield Record(str(path), f"row {number}", dict(zip(header, row[: len(header)], strict=True)))
    if not found and not bad_rows.rows:
        raise MedbenchError(f"{path} holds no rows.")


def _sheet_rows(path: Path, load_workbook: Callable[..., Any]) -> Iterator[tuple[Any, ...]]:
    try:
        sheet = load_workbook(path, read_only=True, data_only=True).worksheets[0]
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            if number > _SHEET_ROWS:  # a damaged cell reference: openpyxl makes up all rows before it
                raise ValueError(f"it has cells beyond row {_SHEET_ROWS:,}, where a sheet ends")
            yield cells
    except Exception as error:  # openpyxl lets errors of zipfile, XML and its own through
        told = f"{type(error).__name__}: {str(error).strip().rstrip('.') or 'no reason given'}"
        raise MedbenchError(f"{path} cannot be read as a spreadsheet: {told}.") from None


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
