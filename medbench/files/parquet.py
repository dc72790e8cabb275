"""Parquet files as batches or rows, with an error where they are damaged or cut short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.files.places import open_bytes

if TYPE_CHECKING:
    from pyarrow import RecordBatch


def batches(file: str | Path, size: int, groups: list[int] | None = None) -> Iterator[RecordBatch]:
    """The file's record batches of at most `size` rows; pages that carry a checksum are checked.

    Args:
        groups: row groups to read; None for all.

    Raises:
        EOFError: it cannot be read from here on, as `medbench.files.compressed` says of other formats.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with open_bytes(file) as handle:
            source = pyarrow.parquet.ParquetFile(handle, page_checksum_verification=True)
            for batch in source.iter_batches(batch_size=size, row_groups=groups):
                batch.validate(full=True)  # text that is no UTF-8, offsets that lead outside
                yield batch
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise EOFError(str(error).strip().rstrip(".")) from error


def rows(file: str | Path, size: int = 256) -> Iterator[dict[str, Any]]:
    """The file's rows as mappings.

    Raises:
        EOFError: as `batches`.
    """
    for batch in batches(file, size):
        try:
            values = batch.to_pylist()
        except (OSError, ValueError, OverflowError) as error:  # a time that Python cannot hold, say
            raise EOFError(str(error).strip().rstrip(".")) from error
        yield from values
