"""The training side as it lies on disk: shards, and batches of records in bounded memory.

A record is what one line (text, JSON lines), one array element or member (JSON), one row (CSV, Parquet, hub) holds;
its texts are all strings in it, however deep, each compared by itself and all of them together. Records are numbered
from 0 in their file; blank lines are none, unreadable ones are numbered too.
"""

from __future__ import annotations

import bisect
import csv
import dataclasses
import glob
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from medbench import hub
from medbench.compressed import DAMAGED, open_binary
from medbench.errors import MedbenchError

SHARD = 32 << 20  # most bytes of an uncompressed line file that one worker takes at a time, and a killed run repeats
SHARDS = 64  # a corpus is cut into about as many or more, so that workers end together
BLOCK = 1 << 20  # bytes read, and about the size of a batch: its arrays stay in the processor's cache
MAX_RECORD = 64 << 20  # bytes; a longer record is refused by name, so that memory stays bounded

_LINES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text", ".text": "text", ".md": "text"}
_WHOLE = {".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_COMPRESSION = (".gz", ".zst")


@dataclass(frozen=True)
class Shard:
    """A part of the corpus that one worker scans: bytes `begin` up to `end` of a file, or all of it (`end` < 0)."""

    file: str
    form: str
    begin: int = 0
    end: int = -1


@dataclass(frozen=True)
class Unreadable:
    """A record that could not be read, and its number within the shard."""

    problem: str
    record: int = -1


@dataclass
class Batch:
    """Records of one shard, about `BLOCK` bytes of text.

    Attributes:
        file: the corpus file.
        numbers: each record's number within the shard.
        objects: the records as read.
        texts: all their texts, UTF-8, one after another.
        record_start: record r has texts ``record_start[r]:record_start[r + 1]``.
    """

    file: str
    numbers: list[int] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    record_start: list[int] = field(default_factory=lambda: [0])

    def add(self, number: int, value: Any) -> None:
        """Append a record with the texts in it."""
        before = len(self.texts)
        try:
            if type(value) is dict:  # nearly every record is a flat one
                for item in value.values():
                    if type(item) is str:
                        if item:
                            self.texts.append(item.encode())
                    elif type(item) is dict or type(item) is list:
                        self.texts += [text.encode() for _, text in leaves(item)]
            else:
                self.texts += [text.encode() for _, text in leaves(value)]
        except UnicodeEncodeError:  # a lone surrogate, as some exporters leave behind
            self.texts[before:] = [text.encode("utf-8", "replace") for _, text in leaves(value)]
        self.numbers.append(number)
        self.objects.append(value)
        self.record_start.append(len(self.texts))

    def part(self, records: Sequence[int]) -> Batch:
        """Some of the records, by their place in this batch."""
        part = Batch(self.file, [self.numbers[r] for r in records], [self.objects[r] for r in records])
        for r in records:
            part.texts += self.texts[self.record_start[r] : self.record_start[r + 1]]
            part.record_start.append(len(part.texts))
        return part

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum(map(len, self.texts))

    def text(self, number: int) -> str:
        """A text as characters."""
        return self.texts[number].decode()

    def name(self, number: int) -> str:
        """Where in its record a text stands, e.g. ``output`` or ``messages.1.content``; "" for a plain line."""
        record = bisect.bisect_right(self.record_start, number) - 1
        return self.names(record)[number - self.record_start[record]]

    def names(self, record: int) -> list[str]:
        """Where the texts of a record stand in it, in order."""
        return [name for name, _ in leaves(self.objects[record])]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All non-empty strings of a record with their dotted names, in order; the keys of mappings are none of them."""
    waiting = [(name, value)]  # no recursion: JSON may nest deeper than Python's calls
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, str):
            if value:
                yield name, value
        elif isinstance(value, dict | list):
            members = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}" if name else str(key), item) for key, item in members][::-1]


def expand(sources: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and hub ids named by paths, folders, globs and ids; and the files of folders that have no known format.

    Raises:
        MedbenchError: nothing there, a folder without data, or a file of unknown format named by itself.
    """
    found: dict[str, None] = {}
    ignored: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
            known = [str(p) for p in files if form_of(p)]
            ignored += [str(p) for p in files if not form_of(p)]
            if not known:
                raise MedbenchError(f"corpus folder {source} holds no data file; known endings: {_endings()}.")
        elif path.is_file():
            if not form_of(path):
                raise MedbenchError(
                    f"corpus {source}: unknown format; known endings: {_endings()}, also with .gz or .zst."
                )
            known = [str(path)]
        elif glob.has_magic(source):
            matches = sorted(p for p in glob.glob(source, recursive=True) if Path(p).is_file())
            known = [p for p in matches if form_of(Path(p))]
            ignored += [p for p in matches if not form_of(Path(p))]
            if not known:
                raise MedbenchError(f"no data file matches corpus pattern {source!r}.")
        elif data_set := hub.parse(source):
            known = [str(data_set.pinned())]  # findings are of one commit, and so is a run that goes on after a kill
        else:
            raise MedbenchError(
                f"corpus {source!r} does not exist: expected a file, folder, glob or hub id (owner/name)."
            )
        found.update(dict.fromkeys(known))
    return sorted(found), ignored


def form_of(path: Path) -> str | None:
    """The format that a file's name announces, without its compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSION]
    return (_LINES | _WHOLE).get(suffixes[-1]) if suffixes else None


def _endings() -> str:
    return ", ".join([*_LINES, *_WHOLE])


def shards(files: Iterable[str]) -> list[Shard]:
    """The files cut into shards: long line files into pieces, everything else whole."""
    whole = {}  # of each file: its form, and its size if it can be cut
    for file in files:
        path = Path(file)
        form = form_of(path) if path.is_file() else "hub"
        assert form is not None
        lines = form in ("jsonl", "text") and path.suffix.lower() not in _COMPRESSION
        whole[file] = form, path.stat().st_size if lines else None
    step = min(SHARD, max(BLOCK, sum(size or 0 for _, size in whole.values()) // SHARDS))
    found = []
    for file, (form, size) in whole.items():
        if size is None:
            found.append(Shard(file, form))
        else:
            found += [Shard(file, form, at, min(size, at + step)) for at in range(0, max(1, size), step)]
    return found


def read(shard: Shard, unreadable: list[Unreadable]) -> Iterator[Batch]:
    """The shard's records in batches; those that cannot be read are appended to `unreadable`.

    Raises:
        MedbenchError: a document that cannot be read at all.
    """
    number = 0
    try:
        for values in _blocks(shard):
            batch = Batch(shard.file)
            for number, value in enumerate(values, number):  # noqa: B020  (goes on counting)
                if type(value) is Unreadable:
                    unreadable.append(dataclasses.replace(value, record=number))
                else:
                    batch.add(number, value)
            number += 1
            if batch.numbers:
                yield batch
    except DAMAGED as error:
        unreadable.append(dataclasses.replace(_damaged(error), record=number))


def json_lines(shard: Shard) -> Iterator[bytes | Unreadable]:
    """Whole lines of a JSON lines file, unparsed; `Unreadable` for what they end with, or for one that is too long."""
    try:
        with open_binary(shard.file) as handle:
            for block in line_blocks(handle, shard.begin, shard.end):
                yield _json_line(None) if block is None else block
    except DAMAGED as error:
        yield _damaged(error)


def parse(lines: Iterable[bytes], numbers: Iterable[int], file: str, unreadable: list[Unreadable]) -> Batch:
    """Some lines of JSON as records of these numbers; those that cannot be read are appended to `unreadable`."""
    batch = Batch(file)
    for number, line in zip(numbers, lines, strict=True):
        value = _json_line(line)
        if type(value) is Unreadable:
            unreadable.append(dataclasses.replace(value, record=number))
        else:
            batch.add(number, value)
    return batch


def _damaged(error: Exception) -> Unreadable:
    return Unreadable(f"the compressed file is damaged or cut short here ({error})")


def _blocks(shard: Shard) -> Iterator[list[Any]]:
    """Lists of records, or of `Unreadable` in their place; none of them empty."""
    if shard.form in ("hub", "parquet"):
        yield from _grouped(_hub_rows(shard.file) if shard.form == "hub" else _parquet_rows(shard.file))
        return
    with open_binary(shard.file) as handle:
        if shard.form == "json":
            yield from _grouped(value for value, _, _ in json_elements(handle))
        elif shard.form in ("csv", "tsv"):
            yield from _grouped(_csv_rows(handle, "," if shard.form == "csv" else "\t"))
        else:
            parse, parse_all = (_json_line, orjson.loads) if shard.form == "jsonl" else (_text_line, bytes.decode)
            for block in lines(handle, shard.begin, shard.end):
                try:
                    yield list(map(parse_all, block))  # type: ignore[arg-type]
                except (ValueError, TypeError):  # some line is not as it should be: find out which
                    yield list(map(parse, block))


def _grouped(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Rows that come one by one, in lists of about `BLOCK` bytes of text."""
    group: list[Any] = []
    held = 0
    try:
        for value in values:
            group.append(value)
            held += 100 + sum(len(text) for _, text in leaves(value))
            if held >= BLOCK:
                yield group
                group, held = [], 0
    except DAMAGED:  # what came before the damage counts
        if group:
            yield group
        raise
    if group:
        yield group


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


def _json_line(line: bytes | None) -> Any:
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


def _text_line(line: bytes | None) -> Any:
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


def _csv_rows(handle: IO[bytes], delimiter: str) -> Iterator[Any]:
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


def _parquet_rows(file: str) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        for part in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
            yield from part.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        yield Unreadable(f"not readable as Parquet from here on ({str(error).rstrip('.')})")


def _hub_rows(source: str) -> Iterator[Any]:
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
