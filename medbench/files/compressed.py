"""Compressed files as bytes: .gz and .zst, in bounded memory, with an error where they are damaged or cut short."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

from medbench.files.places import open_bytes

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)  # what reading a compressed file that is cut short raises
_BUFFER = 1 << 20
# Compressed bytes that are decompressed together. Four of them may stand for 128 KiB (a block of one repeated byte),
# and all that they stand for is held at once: 16 MiB for 512.
_PIECE = 512


def open_binary(file: str | Path) -> IO[bytes]:
    """The bytes of a file, here or at a URL, decompressed by its ending."""
    suffix = Path(file).suffix.lower()
    if suffix == ".gz":
        return gzip.open(open_bytes(file), "rb")  # type: ignore[return-value]
    if suffix == ".zst":
        return io.BufferedReader(Zstandard(file), _BUFFER)  # type: ignore[return-value]
    return open_bytes(file)


class Zstandard(io.RawIOBase):
    """A .zst file in bounded memory that raises EOFError when it is cut short, as gzip does.

    The package's own reader just ends.
    """

    def __init__(self, file: str | Path) -> None:
        import zstandard

        self._new, self._error = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._file = open_bytes(file)
        self._frame: Any = None
        self._ready = b""

    def readable(self) -> bool:  # noqa: D102
        return True

    def readinto(self, target: WriteableBuffer) -> int:  # noqa: D102
        room = memoryview(target)
        while not self._ready:
            rest = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            if rest or self._frame is None or self._frame.eof:
                rest = rest or self._file.read(_PIECE)
                if not rest:
                    return 0
                self._frame = self._new()
            else:
                rest = self._file.read(_PIECE)
                if not rest:
                    raise EOFError("the last frame has no end")
            try:
                self._ready = self._frame.decompress(rest)
            except self._error as error:
                raise EOFError(str(error)) from None
        size = min(len(room), len(self._ready))
        room[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def close(self) -> None:  # noqa: D102
        self._file.close()
        super().close()
