"""What one format each makes of bytes: lines, JSON, CSV, Parquet, hub rows; and `Unreadable` for what is none."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, overload

import orjson

from medbench.errors import MedbenchError
from medbench.files import parquet
from medbench.files.compressed import DAMAGED
from medbench.sources import hub

BLOCK = 1 << 20  # bytes read, and about the size of a batch: its arrays stay in the processor's cache
MAX_RECORD = 64 << 20  # bytes; a longer record is refused by name, so that memory stays bounded


@dataclass(frozen=True)
class Unreadable:
    """A record that could not be read, and its number within the shard."""

    problem: str
    record: int = -1


def lines(handle: IO[bytes], begin: int = 0, end: int = -1) -> Iterator[list[bytes | None]]:
    """The non-blank lines that start in bytes `begin` up to `end`, in blocks; None stands for one that is too long."""
    for block in line_blocks(handle, begin, end):
        parts: list[bytes | None] = [None] if block is None else [*block.split(b"\n")]
        found = [one for one in parts if one is None or (one and not one.isspace())]
        if found:
            yield found


def line_blocks(handle: IO[bytes], begin: int = 0, end: int = -1) -> Iterator[bytes | None]:
    """Whole lines that start in bytes `begin` up to `end`, as they are; None stands for one that is too long."""
    if begin:
        handle.seek(begin - 1)
        _finish_line(handle, end - begin + 1 if end >= 0 else None)
    at = handle.tell() if begin else 0
    pending = b""
    first = not begin
    while end < 0 or at < end:
        block = _read(handle, BLOCK if end < 0 else min(BLOCK, end - at))
        if not block:
            break
        at += len(block)
        if first:
            block = block.removeprefix(b"\xef\xbb\xbf")
            first = False
        cut = block.rfind(b"\n") + 1
        if cut:
            yield pending + block[:cut]
            pending = b""
        pending += block[cut:]
        if len(pending) > MAX_RECORD:
            yield None
            pending = b""
            at += _finish_line(handle)
    if pending:
        pending += handle.readline(MAX_RECORD + 1).rstrip(b"\n")
        yield pending if len(pending) <= MAX_RECORD else None


def _read(handle: IO[bytes], size: int) -> bytes:
    """Up to `size` bytes; what comes before damage is returned first, and the damage raises at the next call."""
    parts: list[bytes] = []
    held = 0
    try:
        while held < size and (part := handle.read1(size - held)):  # type: ignore[attr-defined]
            parts.append(part)
            held += len(part)
    except DAMAGED:
        if not parts:
            raise
    return b"".join(parts)


def _finish_line(handle: IO[bytes], enough: int | None = None) -> int:
    """Skip to the start of the next line, or at least `enough` bytes, in bounded memory; the number skipped."""
    skipped = 0
    while (enough is None or skipped < enough) and (piece := handle.readline(BLOCK)):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


_TOO_DEEP = "JSON nested too deeply to read"
_TOO_LONG = f"longer than {MAX_RECORD >> 20} MiB; split it into documents"


@overload
def json_line(line: None) -> Unreadable: ...
@overload
def json_line(line: bytes | None) -> object: ...
def json_line(line: bytes | None) -> object:
    """A line of JSON as a value, or `Unreadable`; None is one that was too long."""
    if line is None:
        return Unreadable(f"a line {_TOO_LONG}")
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:  # json also takes NaN and lone surrogates, which real files hold; given bytes, it would guess their encoding
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        return _not_utf8(error)
    except RecursionError:
        return Unreadable(_TOO_DEEP)
    except ValueError as error:
        return Unreadable(f"not valid JSON ({error}); found {line[:80].decode('utf-8', 'replace')!r}")


def text_line(line: bytes | None) -> str | Unreadable:
    """A line of text, or `Unreadable`; None is one that was too long."""
    if line is None:
        return Unreadable(f"a line {_TOO_LONG}")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return _not_utf8(error)


def _not_utf8(error: UnicodeDecodeError) -> Unreadable:
    sample = error.object[max(0, error.start - 200) : error.start + 200]
    name = _likely_encoding(sample) or "ENCODING"
    return Unreadable(
        f"not UTF-8 (byte 0x{error.object[error.start]:02x}); convert the file: iconv -f {name} -t UTF-8 FILE > NEW"
    )


def _likely_encoding(sample: bytes) -> str | None:
    """UTF-16 where every other byte is 0 or the file starts with its mark, GB18030 where that gives Chinese."""
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")) or sample.count(0) * 3 > len(sample):
        return "UTF-16"
    text = sample.decode("gb18030", "ignore")
    han = sum("\u4e00" <= character <= "\u9fff" for character in text)
    # two bytes of a Latin encoding now and then look like a character; Chinese has them in a row
    return "GB18030" if 4 * han > len(text) else None


def json_elements(handle: IO[bytes]) -> Iterator[tuple[Any, str, str]]:
    """Elements of a JSON array or members of an object of objects, one at a time; or JSON lines under that name.

    Yields:
        The value (or `Unreadable`), the characters it was read from (a member's key among them), and how the document
        ends: ``]``, ``}``, or ``lines``.
    """
    text = io.TextIOWrapper(handle, encoding="utf-8-sig")
    decoder = json.JSONDecoder()
    buffer, closing, step = "", "", BLOCK
    try:
        while True:
            more = text.read(step)
            buffer += more
            at = 0
            if not closing:
                at = _skip(buffer, 0, "")
                head = buffer[at : at + 1]
                if head == "[":
                    closing, at = "]", at + 1
                elif head == "{" and _is_map(buffer[at:]):
                    closing, at = "}", at + 1
                elif head:
                    closing = "lines"
            while True:
                at = _skip(buffer, at, ",")
                if buffer[at : at + 1] == closing:
                    return
                try:
                    value_at = at
                    if closing == "}":
                        _, value_at = decoder.raw_decode(buffer, at)
                        value_at = _skip(buffer, value_at, ":")
                    value, stop = decoder.raw_decode(buffer, value_at)
                except ValueError as error:
                    if more and len(buffer) - at <= MAX_RECORD:
                        break
                    if at < len(buffer) or closing != "lines":
                        problem = f"a value {_TOO_LONG}" if more else f"not valid JSON from here on ({error})"
                        yield Unreadable(problem), "", closing
                    return
                except RecursionError:
                    yield Unreadable(f"{_TOO_DEEP} from here on"), "", closing
                    return
                if stop == len(buffer) and more:  # a number or a cut-off literal may go on
                    break
                yield value, buffer[at:stop], closing
                at = stop
            step = BLOCK if at else 2 * step
            buffer = buffer[at:]
    except UnicodeDecodeError as error:
        yield _not_utf8(error), "", closing


def _is_map(text: str) -> bool:
    """Whether a document that starts with a brace is an object of records rather than one record."""
    return re.match(r'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{', text) is not None


_SPACE = re.compile(r"\s*")


def _skip(text: str, at: int, separator: str) -> int:
    """Past white space and at most one separator."""
    at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    if separator and text[at : at + 1] == separator:
        at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
    return at


def csv_rows(handle: IO[bytes], delimiter: str) -> Iterator[Any]:
    """Rows after the header as mappings, or `Unreadable` in their place."""
    csv.field_size_limit(MAX_RECORD)  # also ends a quote that is never closed
    text = io.TextIOWrapper(handle, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(BoundedLines(text.readline), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Unreadable(f"not valid CSV ({error})")
            continue
        try:
            "\n".join(row).encode("utf-8", "surrogateescape").decode()
        except UnicodeDecodeError as error:
            yield _not_utf8(error)
            if header is None:
                return
            continue
        if header is None:
            header = row
        elif row:
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
            else:
                yield Unreadable(f"expected {len(header)} columns, found {len(row)}")


class BoundedLines:
    """Lines for a CSV reader. One longer than `MAX_RECORD` is passed over and raises the reader's own error.

    Args:
        readline: gives up to so many characters of the current line, "" at the end.
    """

    def __init__(self, readline: Callable[[int], str]) -> None:
        self._readline = readline

    def __iter__(self) -> BoundedLines:
        return self

    def __next__(self) -> str:
        line = self._readline(MAX_RECORD)
        if not line:
            raise StopIteration
        if len(line) < MAX_RECORD:
            return line
        while line and not line.endswith(("\n", "\r")):
            line = self._readline(BLOCK)
        raise csv.Error(f"a line {_TOO_LONG}")


def parquet_rows(file: str) -> Iterator[Any]:
    """Rows as mappings; `Unreadable` where the file is damaged or ends before its time."""
    try:
        yield from parquet.rows(file)
    except EOFError as error:
        yield Unreadable(f"not readable as Parquet from here on ({error})")


def hub_rows(source: str) -> Iterator[Any]:
    """Rows of a hub data set as mappings, as they come from the network."""
    from datasets import load_dataset

    data_set = hub.parse(source)
    assert data_set is not None
    try:
        rows = load_dataset(data_set.id, split=data_set.split, revision=data_set.revision, streaming=True)
        yield from (dict(row) for row in rows)
    except Exception as error:  # datasets raises dozens of kinds; every one of them means "not to be had"
        raise MedbenchError(
            f"corpus {source} could not be read from the hub ({type(error).__name__}: {error}). "
            "Without network, download it and name the folder."
        ) from error
