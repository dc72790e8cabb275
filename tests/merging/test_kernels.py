"""The compiled kernels: machine code that is kept, checked, and made again where it is not whole."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medbench.merging import kernels


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Kernels that were never compiled, and the folder that they will be kept in."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    kernels._loaded.cache_clear()
    yield tmp_path / "cache"
    kernels._loaded.cache_clear()


def numbers() -> np.ndarray:
    out = np.empty((5, 7), np.uint32)
    kernels.random32(2**63 + 5, 3, out)
    return out


def lowbias(key: int, row: int, column: int) -> int:
    """The published functions, in Python's integers."""
    z = (key + (row + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    x = ((z & 0xFFFFFFFF) + column * 0x9E3779B9) % 2**32
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15 ^ z >> 32) * 0x846CA68B % 2**32
    return x ^ x >> 16


def test_random_numbers_are_those_of_the_published_functions() -> None:
    expected = [[lowbias(2**63 + 5, row, column) for column in range(7)] for row in range(3, 8)]
    assert numbers().tolist() == expected


def test_machine_code_is_kept_checked_and_made_again(anew: Path) -> None:
    assert kernels._kept() is None
    before = numbers()
    (file,) = anew.iterdir()
    kept = kernels._kept()
    assert kept is not None
    assert kept[1] == file.read_bytes().partition(b"\n")[2]
    for broken in (file.read_bytes()[:-1], b"", b'{"symbols": 1}\n'):
        file.write_bytes(broken)
        assert kernels._kept() is None
    kernels._loaded.cache_clear()
    assert (numbers() == before).all()
    assert kernels._kept() is not None


def test_many_threads_load_the_code_once(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that is loaded twice goes when one of the two is forgotten, and with it a thread that runs it."""
    loaded = []
    made = kernels._machine

    def machine() -> Any:
        loaded.append(1)
        time.sleep(0.2)
        return made()

    numbers()
    kernels._loaded.cache_clear()
    monkeypatch.setattr(kernels, "_machine", machine)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: numbers().tolist(), range(6)))
    assert loaded == [1]
    assert found == [found[0]] * 6


def test_code_that_cannot_be_kept_runs_all_the_same(anew: Path) -> None:
    anew.write_text("a file stands where the folder would be")
    assert numbers().any()


def test_kept_kernels_run_without_numba() -> None:
    numbers()
    script = "from medbench.merging import kernels; kernels.load(); import sys; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
