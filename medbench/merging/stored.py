"""Tensors in safetensors files: headers say where each lies, and rows are read where they are needed.

A file is never loaded whole. torch is imported only where a tensor of its is asked for: what `medbench merge` does to
bfloat16 weights works on their bit patterns, and spares the seconds that the import takes.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from medbench.errors import MedbenchError

if TYPE_CHECKING:
    import torch

# safetensors' name -> torch's.
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
# What unquantized weights are stored in.
FLOATING = frozenset({"float32", "bfloat16", "float16"})
# What numpy reads bit patterns as; of bfloat16 the patterns themselves.
_ARRAYS = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Stored:
    """One tensor in a safetensors file: `begin` and `end` are byte positions in it, `kind` is its dtype by name."""

    name: str
    file: Path
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype in torch."""
        import torch

        found: torch.dtype = getattr(torch, self.kind)
        return found

    @property
    def rows(self) -> int:
        """Length of the first dimension (1 for a scalar)."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next."""
        return (self.end - self.begin) // max(self.rows, 1)

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Rows `first` to `last` (all by default), read into memory of their own."""
        import torch

        values = torch.empty(self.part(first, last), dtype=self.dtype)
        self._fill(raw_bytes(values), first)
        return values

    def array(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """The same as a numpy array; bfloat16 as its bit patterns, uint16.

        Only for the dtypes of `FLOATING`.
        """
        return self.array_into(np.empty(self.part(first, last), dtype=_ARRAYS[self.kind]), first)

    def array_into(self, values: np.ndarray, first: int) -> np.ndarray:
        """Fill a contiguous array with the rows from `first` on."""
        self._fill(values.reshape(-1).view(np.uint8).data, first)
        return values

    def floats(self) -> np.ndarray:
        """All its values as float32, exactly; only for the dtypes of `FLOATING`."""
        values = self.array()
        if self.kind == "bfloat16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False)

    def part(self, first: int, last: int | None) -> tuple[int, ...]:
        """The shape of its rows `first` to `last`."""
        last = self.rows if last is None else min(last, self.rows)
        return (last - first, *self.shape[1:]) if self.shape else ()

    def _fill(self, target: memoryview, first: int) -> None:
        with open(self.file, "rb", buffering=0) as handle:
            handle.seek(self.begin + first * self.row_bytes)
            done = 0
            while done < len(target):
                count = handle.readinto(target[done:])
                if not count:
                    raise MedbenchError(f"{self.file} ends within {self.name}: download or write the file again.")
                done += count

    def blocks(self, elements: int) -> Iterator[tuple[int, int]]:
        """Row ranges of about `elements` elements each."""
        width = 1
        for size in self.shape[1:]:
            width *= size
        step = max(1, elements // max(1, width))
        yield from ((first, min(first + step, self.rows)) for first in range(0, self.rows, step))


class Readable(Protocol):
    """A weight that is read by rows: `Stored` in a file, or `InMemory`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Rows `first` to `last`."""

    def blocks(self, elements: int) -> Iterator[tuple[int, int]]:
        """Row ranges of about `elements` values."""


@dataclass(frozen=True)
class InMemory:
    """A tensor of one dimension or more behind the interface of a stored one."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Rows `first` to `last`."""
        return self.tensor[first:last]

    def blocks(self, elements: int) -> Iterator[tuple[int, int]]:
        """Row ranges of about `elements` values."""
        step = max(1, elements // max(1, self.tensor[:1].numel()))
        yield from ((at, min(at + step, len(self.tensor))) for at in range(0, len(self.tensor), step))


@dataclass(frozen=True)
class Cast:
    """A stored weight as if it were stored in another dtype, `kind`."""

    stored: Stored
    kind: str

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.stored.name

    @property
    def file(self) -> Path:
        """The file that it lies in."""
        return self.stored.file

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.stored.shape

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next, as cast."""
        return self.stored.row_bytes * _BYTES[self.kind] // _BYTES[self.stored.kind]

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Rows `first` to `last`."""
        import torch

        return self.stored.read(first, last).to(getattr(torch, self.kind))

    def blocks(self, elements: int) -> Iterator[tuple[int, int]]:
        """Row ranges of about `elements` values."""
        return self.stored.blocks(elements)


def read_header(file: Path) -> dict[str, Stored]:
    """The tensors of one safetensors file, in the order of their bytes.

    Raises:
        MedbenchError: the file does not parse, is cut off, or holds a dtype that torch lacks.
    """
    try:
        # The library checks everything about the header: sizes, gaps, overlaps, the file's length.
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise MedbenchError(f"{file} is not a whole safetensors file ({error}): download or write it again.") from None
    with open(file, "rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        header = json.loads(handle.read(length))
    header.pop("__metadata__", None)
    tensors = []
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise MedbenchError(f"{file}: tensor {name} has dtype {entry['dtype']}, which medbench does not read.")
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors.append(Stored(name, file, DTYPES[entry["dtype"]], tuple(entry["shape"]), begin, end))
    return {tensor.name: tensor for tensor in sorted(tensors, key=lambda tensor: tensor.begin)}


def build_header(file: FileIO, tensors: Sequence[Stored], kind: str) -> tuple[bytes, dict[str, int]]:
    """The header of a safetensors file with the same tensors, its floating ones as `kind`, and where each begins."""
    names = {name: code for code, name in DTYPES.items()}
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length))
    document = {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
    offset, offsets = 0, {}
    for tensor in tensors:
        size = tensor.end - tensor.begin
        if tensor.kind in FLOATING:
            size = size // _BYTES[tensor.kind] * _BYTES[kind]
        code = names[kind if tensor.kind in FLOATING else tensor.kind]
        document[tensor.name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offsets[tensor.name] = offset
        offset += size
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    return struct.pack("<Q", len(text)) + text, {name: begin + offset for name, offset in offsets.items()}


def map_tensors(stored: Mapping[str, Stored]) -> dict[str, torch.Tensor]:
    """Tensors that lie in their files and are read page by page; what is written to one stays in memory."""
    import torch

    maps: dict[Path, mmap.mmap] = {}
    tensors = {}
    for name, tensor in stored.items():
        if tensor.file not in maps:
            with open(tensor.file, "rb") as handle:
                maps[tensor.file] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        count = (tensor.end - tensor.begin) // tensor.dtype.itemsize
        if count == 0:
            tensors[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
            continue
        flat = torch.frombuffer(maps[tensor.file], dtype=tensor.dtype, count=count, offset=tensor.begin)
        tensors[name] = flat.reshape(tensor.shape)
    return tensors


def raw_bytes(values: torch.Tensor | np.ndarray) -> memoryview:
    """A tensor's or an array's bytes in memory (shared with it where it is contiguous), as safetensors stores them."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    import torch

    return values.contiguous().reshape(-1).view(torch.uint8).numpy().data
