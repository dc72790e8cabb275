"""The training side as it lies on disk: shards, and batches of records in bounded memory.

A record is what one line (text, JSON lines), one array element or member (JSON), one row (CSV, Parquet, hub) holds;
its texts are all strings in it, however deep, each compared by itself and all of them together. Records are numbered
from 0 in their file; blank lines are none, unreadable ones are numbered too.
"""

from __future__ import annotations

import bisect
import dataclasses
import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from medbench.errors import MedbenchError
from medbench.files import places
from medbench.files.compressed import DAMAGED, open_binary
from medbench.leakage import formats
from medbench.leakage.formats import Unreadable, json_elements
from medbench.sources import hub

SHARD = 32 << 20  # most bytes of an uncompressed line file that one worker takes at a time, and a killed run repeats
SHARDS = 64  # a corpus is cut into about as many or more, so that workers end together

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

    def add(self, number: int, value: object) -> None:
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

    def texts_of(self, record: int) -> range:
        """The texts of a record, by their place in `texts`."""
        return range(self.record_start[record], self.record_start[record + 1])

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


def leaves(value: object, name: str = "") -> Iterator[tuple[str, str]]:
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
    """Files and hub ids that paths, folders, globs, URLs and ids name; and files of folders of no known format.

    Raises:
        MedbenchError: nothing there, a folder without data, or a file of unknown format named by itself.
    """
    found: dict[str, None] = {}
    ignored: list[str] = []
    for source in sources:
        path = Path(source)
        if places.is_remote(source):
            urls = places.files_of(source)
            known = [url for url in urls if form_of(Path(url))]
            ignored += [url for url in urls if not form_of(Path(url))]
            if not known:
                raise MedbenchError(f"no data file lies at {source}; known endings: {_endings()}, also .gz or .zst.")
        elif path.is_dir():
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
        form = form_of(path) if places.is_remote(file) or path.is_file() else "hub"
        assert form is not None
        lines = form in ("jsonl", "text") and path.suffix.lower() not in _COMPRESSION
        whole[file] = form, places.size(file) if lines else None
    step = min(SHARD, max(formats.BLOCK, sum(size or 0 for _, size in whole.values()) // SHARDS))
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
            for block in formats.line_blocks(handle, shard.begin, shard.end):
                yield formats.json_line(None) if block is None else block
    except DAMAGED as error:
        yield _damaged(error)


def parse(lines: Iterable[bytes], numbers: Iterable[int], file: str, unreadable: list[Unreadable]) -> Batch:
    """Some lines of JSON as records of these numbers; those that cannot be read are appended to `unreadable`."""
    batch = Batch(file)
    for number, line in zip(numbers, lines, strict=True):
        value = formats.json_line(line)
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
        yield from _grouped(formats.hub_rows(shard.file) if shard.form == "hub" else formats.parquet_rows(shard.file))
        return
    with open_binary(shard.file) as handle:
        if shard.form == "json":
            yield from _grouped(value for value, _, _ in json_elements(handle))
        elif shard.form in ("csv", "tsv"):
            yield from _grouped(formats.csv_rows(handle, "," if shard.form == "csv" else "\t"))
        else:
            lines_of = (formats.json_line, orjson.loads), (formats.text_line, bytes.decode)
            parse, parse_all = lines_of[shard.form == "text"]
            for block in formats.lines(handle, shard.begin, shard.end):
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
            if held >= formats.BLOCK:
                yield group
                group, held = [], 0
    except DAMAGED:  # what came before the damage counts
        if group:
            yield group
        raise
    if group:
        yield group
