"""The corpus without its flagged records: nothing else changed, order kept, the same files and formats."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import IO, Protocol

from medbench.errors import MedbenchError
from medbench.files import parquet
from medbench.files.compressed import DAMAGED, open_binary
from medbench.files.directories import replace_directory, workplace
from medbench.files.manifest import NAME, sha256_file, write_manifest
from medbench.leakage.corpus import form_of
from medbench.leakage.formats import BLOCK, MAX_RECORD, BoundedLines, Unreadable, json_elements


def write_clean(
    files: Sequence[str], flagged: Collection[tuple[str, int]], out: str | Path
) -> dict[str, dict[str, int]]:
    """Copy corpus files to `out` without the flagged records.

    Lines and CSV rows are copied byte by byte, also those that cannot be read; elements of a JSON document are copied
    as they are written, with a line break between them; Parquet keeps its schema, metadata and compression.

    Args:
        files: the corpus files, as the findings name them.
        flagged: (file, 0-based record), from `findings.flagged_records`.
        out: a directory, which gets the files under their paths below the folder they have in common.

    Returns:
        For each file the number of records kept and removed.

    Raises:
        MedbenchError: as `destinations`; or a file that cannot be read to its end.
    """
    targets = destinations(files, out)
    records: dict[str, set[int]] = {file: set() for file in files}
    for file, record in flagged:
        records.get(file, set()).add(record)
    counts = {}
    with workplace(out) as work:
        new = work / "new"  # complete before the first earlier copy is replaced
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for file, target in destinations(files, new).items():
            target.parent.mkdir(parents=True, exist_ok=True)
            total = _copy(file, records[file], target)
            counts[file] = {"kept": total - len(records[file]), "removed": len(records[file])}
        inputs = {file: sha256_file(file) for file in files}
        write_manifest(new, "clean corpus", settings={"counts": counts}, inputs=inputs)
        replace_directory(new, Path(out), [str(target.relative_to(out)) for target in targets.values()])
        shutil.rmtree(work)
    return counts


def _copy(file: str, flagged: set[int], target: Path) -> int:
    """One file without some of its records; the number of all its records."""
    try:
        with open(target, "wb") as sink:
            total = _copied(file, flagged, sink)
            sink.flush()
            os.fsync(sink.fileno())
    except DAMAGED as error:
        raise MedbenchError(
            f"--write-clean cannot copy {file}, which cannot be read to its end ({error}). Mend it or leave it out "
            "of the corpus; without --write-clean, the same command goes on from the finished scan."
        ) from error
    return total


def _copied(file: str, flagged: set[int], sink: IO[bytes]) -> int:
    form = form_of(Path(file))
    if form == "parquet":
        return _copy_parquet(file, flagged, sink)
    with _compressed(sink, file) as packed, closing(open_binary(file)) as source:
        if form == "json":
            return _copy_json(source, flagged, packed)
        if form in ("csv", "tsv"):
            return _copy_csv(source, flagged, packed, "," if form == "csv" else "\t")
        return _copy_lines(source, flagged, packed)


def destinations(files: Sequence[str], out: str | Path) -> dict[str, Path]:
    """Where the cleaned copy of each corpus file goes.

    Raises:
        MedbenchError: a hub corpus, which is no file; or `out` would overwrite the corpus.
    """
    remote = [file for file in files if not Path(file).is_file()]
    if remote:
        raise MedbenchError(f"--write-clean copies files, and {remote[0]} is none; download it and audit the folder.")
    root = Path(os.path.commonpath([Path(file).resolve().parent for file in files]))
    targets = {file: Path(out) / Path(file).resolve().relative_to(root) for file in files}
    if any(target.resolve() == Path(file).resolve() for file, target in targets.items()):
        raise MedbenchError(f"--write-clean {out} is where the corpus lies; name another directory.")
    if Path(out) / NAME in targets.values():
        raise MedbenchError(
            f"--write-clean writes a {NAME} of its own beside the corpus; rename the corpus file {NAME}."
        )
    return targets


def _compressed(sink: IO[bytes], file: str) -> AbstractContextManager[_Sink]:
    """A writer that compresses as the name says; closing it leaves `sink` open."""
    if Path(file).suffix.lower() == ".gz":
        return gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0)  # the same input gives the same bytes
    if Path(file).suffix.lower() == ".zst":
        import zstandard

        return zstandard.ZstdCompressor().stream_writer(sink, closefd=False)
    return _Open(sink)


class _Sink(Protocol):
    """What takes the bytes of a copy."""

    def write(self, data: bytes, /) -> object: ...


class _Open:
    """A sink that stays open when the block that writes to it ends."""

    def __init__(self, sink: IO[bytes]) -> None:
        self.write = sink.write

    def __enter__(self) -> _Open:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _copy_lines(source: IO[bytes], flagged: set[int], sink: _Sink) -> int:
    number = 0
    while line := source.readline(MAX_RECORD + 1):
        blank = not line.removeprefix(b"\xef\xbb\xbf").strip()
        if blank or number not in flagged:
            sink.write(line)
        while not line.endswith(b"\n") and (line := source.readline(BLOCK)):  # a line too long to be a record
            sink.write(line)
        number += not blank
    return number


def _copy_csv(source: IO[bytes], flagged: set[int], sink: _Sink, delimiter: str) -> int:
    csv.field_size_limit(MAX_RECORD)
    text = io.TextIOWrapper(source, encoding="utf-8", errors="surrogateescape", newline="")
    consumed: list[str] = []

    def readline(size: int) -> str:
        consumed.append(text.readline(size))
        return consumed[-1]

    reader = csv.reader(BoundedLines(readline), delimiter=delimiter, strict=True)
    number = -1  # the header
    while True:
        row: list[str] | None = None
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error:
            pass  # numbered, and kept as it is
        if row == [] or number not in flagged:
            sink.write("".join(consumed).encode("utf-8", "surrogateescape"))
        consumed.clear()
        number += row != []
    return number


def _copy_json(source: IO[bytes], flagged: set[int], sink: _Sink) -> int:
    brackets = {"]": "[", "}": "{"}
    written = number = 0
    end = "]"
    for number, (value, raw, end) in enumerate(json_elements(source), 1):
        if isinstance(value, Unreadable):
            raise EOFError(f"record {number - 1}: {value.problem}")
        if number - 1 in flagged:
            continue
        start = ",\n" if end in brackets else "\n"
        sink.write(((start if written else brackets.get(end, "")) + raw).encode())
        written += 1
    sink.write(("" if end not in brackets else end if written else brackets[end] + end).encode() + b"\n")
    return number


def _copy_parquet(file: str, flagged: set[int], sink: IO[bytes]) -> int:
    import pyarrow
    import pyarrow.parquet

    try:
        source = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise EOFError(str(error).rstrip(".")) from error
    groups = source.metadata.num_row_groups
    compression = source.metadata.row_group(0).column(0).compression if groups else "snappy"
    first = 0
    with pyarrow.parquet.ParquetWriter(sink, source.schema_arrow, compression=compression) as writer:
        for batch in itertools.chain.from_iterable(parquet.batches(file, 1 << 16, [g]) for g in range(groups)):
            keep = [first + k not in flagged for k in range(batch.num_rows)]
            writer.write_batch(batch.filter(pyarrow.array(keep)))
            first += batch.num_rows
    return first
