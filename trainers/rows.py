"""The rows of a training for several processes, each of which must make as many batches as the others.

accelerate fills the last batches with rows of the first ones, which would count twice. Here they are filled with rows
of which nothing is learned, so that several processes take the same steps as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset, Sampler

from medbench.trainers.data import IGNORED


class Table(Protocol):
    """What rows are taken from, such as a `datasets.Dataset`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


class Rows(Dataset[dict[str, Any]]):
    """Rows, and behind the last one a blank one of two tokens; `len` counts the rows alone."""

    def __init__(self, rows: Table, filler: int) -> None:
        self._rows = rows
        self._blank = {"input_ids": [filler] * 2, "labels": [IGNORED] * 2, "seq_lengths": [2]}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index] if index < len(self._rows) else self._blank


class Order(Sampler[int]):
    """The order of an epoch, accelerate's for one process, filled with the blank row to a multiple.

    Args:
        rows: their number, which is also the blank row's index.
        multiple: rows that all processes take together.
        seed: of the order in the first epoch; none for the rows as they lie.
    """

    def __init__(self, rows: int, multiple: int, seed: int | None) -> None:
        self._rows, self._multiple, self._seed, self._epoch = rows, multiple, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is of."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows + -self._rows % self._multiple

    def __iter__(self) -> Iterator[int]:
        if self._seed is None:
            yield from range(self._rows)
        else:
            generator = torch.Generator().manual_seed(self._seed + self._epoch)
            yield from torch.randperm(self._rows, generator=generator).tolist()
        yield from [self._rows] * (-self._rows % self._multiple)
