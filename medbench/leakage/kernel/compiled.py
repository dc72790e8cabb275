"""How the kernel is compiled: once per machine, the GIL released, and again when any of its files changes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.compiling import F, kernel

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

_FILES = (*sorted(Path(__file__).parent.glob("*.py")), Path(__file__).parents[1] / "units.py")
_STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in _FILES)).hexdigest()


def compiled(function: F) -> Dispatcher[F]:
    """A kernel, kept on disk under the content of the whole kernel.

    Numba's own stamp is the date of the file that a function stands in, and a function keeps the machine code of those
    that it calls: after a change to one file, those in the others would go on with what they had.
    """
    return _stamped(kernel(function, no_cfunc_wrapper=True))


def inner(function: F) -> Dispatcher[F]:
    """The same for what only compiled functions call: without what Python would need to call it.

    Reading a named tuple of forty arrays from Python is more code than most functions here. Called with a literal
    number, a function is compiled once more for that number: call it with `np.int64` of it.
    """
    return _stamped(kernel(function, no_cpython_wrapper=True, no_cfunc_wrapper=True))


def _stamped(dispatcher: Dispatcher[F]) -> Dispatcher[F]:
    saved = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if saved is not None and hasattr(saved, "_source_stamp"):  # not public: without it, numba's own stamp stays
        saved._source_stamp = _STAMP
    return dispatcher
