"""Kernels: compiled once for a machine, kept, and announced on stderr: a first audit compiles for half a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from numba import njit
from numba.core import event
from numba.core.caching import NullCache

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])
_NOTES: dict[Any, str] = {}


def kernel(function: F, **options: bool) -> Dispatcher[F]:
    """`numba.njit` without the GIL, kept on disk where any of numba's folders can be written.

    Where none can (an installation and a home that are read-only), numba itself refuses to define the function.
    """
    try:
        dispatcher: Dispatcher[F] = njit(nogil=True, cache=True, **options)(function)  # type: ignore[call-overload]
    except RuntimeError:  # "no locator available"
        dispatcher = njit(nogil=True, **options)(function)  # type: ignore[call-overload]
    return dispatcher


def announce(first: Dispatcher[Any], what: str, seconds: int) -> None:
    """Have a line on stderr before numba compiles a function: where its cache holds none for this machine.

    Args:
        first: a kernel that is needed before most others of its kind.
        what: what the kernels are for, e.g. "the audit": one line for all functions of which this is the same.
        seconds: of processor time that all of them took where this was measured.
    """
    if not _NOTES:
        event.register("numba:compile", _Listener())
    kept = "it is kept for the next time"
    if isinstance(getattr(first, "_cache", None), NullCache):
        kept = "each time, since numba can keep it nowhere: name a folder to write by NUMBA_CACHE_DIR"
    _NOTES[first.py_func] = f"medbench: compiling {what} for this machine, at most about {seconds} s; {kept}."


class _Listener(event.Listener):
    def on_start(self, event: event.Event) -> None:
        note = _NOTES.get(event.data["dispatcher"].py_func)
        if note:
            for function in [one for one, its in _NOTES.items() if its == note]:
                del _NOTES[function]  # once
            print(note, file=sys.stderr, flush=True)

    def on_end(self, event: event.Event) -> None:
        pass
