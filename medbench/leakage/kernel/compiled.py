"""How the kernel is compiled: once per machine, the GIL released, and again when any of its files changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numba import njit

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])
_FILES = (*sorted(Path(__file__).parent.glob("*.py")), Path(__file__).parents[1] / "units.py")
_STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in _FILES)).hexdigest()


def compiled(function: F) -> Dispatcher[F]:
    """`numba.njit`, cached on disk under the content of the whole kernel.

    Numba's own stamp is the date of the file that a function stands in, and a function keeps the machine code of those
    that it calls: after a change to one file, those in the others would go on with what they had.
    """
    dispatcher = njit(nogil=True, cache=True)(function)
    saved = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if saved is not None and hasattr(saved, "_source_stamp"):  # not public: without it, numba's own stamp stays
        saved._source_stamp = _STAMP
    return dispatcher
