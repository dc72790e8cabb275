"""The compiled kernels of `kernel_source`, on numpy arrays.

Numba compiles them once for a machine, and the machine code is kept on the disk. To run it llvmlite is enough, which is
there in a twentieth of a second; importing numba and its own cache would take nearly a whole one, a quarter of a small
merge. The GIL is released while a kernel runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

_SOURCE = Path(__file__).with_name("kernel_source.py")
_POINTER, _SIZE, _KEY = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64
# Name -> what it returns, and its arguments.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "nearest_bfloat16": (_SIZE, *[_POINTER] * 3, ctypes.c_float, *[_POINTER] * 4, *[_SIZE] * 4),
    "stochastic_bfloat16": (None, *[_POINTER] * 2, _KEY, _SIZE, *[_POINTER] * 3, *[_SIZE] * 3),
    "random32": (None, _KEY, _SIZE, _POINTER, *[_SIZE] * 2),
}
_LOCK = threading.Lock()
# What numba's wrappers call where a kernel raises, which none can.
_NEVER_CALLED = ("numba_gil_ensure", "numba_gil_release", "NRT_MemInfo_call_dtor")


def nearest_bfloat16(
    base: np.ndarray,
    parts: np.ndarray,
    bound: np.ndarray,
    relative: float,
    out: np.ndarray,
    row_of: np.ndarray,
    sums: np.ndarray,
    listing: np.ndarray,
) -> int:
    """See `kernel_source`; all arrays are contiguous, and of the dtypes and shapes told there."""
    where = [_at(array) for array in (base, parts, bound)], [_at(array) for array in (out, row_of, sums, listing)]
    found: int = _load()["nearest_bfloat16"](*where[0], relative, *where[1], *parts.shape, len(listing))
    return found


def stochastic_bfloat16(
    base: np.ndarray,
    parts: np.ndarray,
    key: int,
    first: int,
    out: np.ndarray,
    row_of: np.ndarray,
    sums: np.ndarray,
) -> None:
    """See `kernel_source`; all arrays are contiguous, and of the dtypes and shapes told there."""
    pointers = [_at(array) for array in (out, row_of, sums)]
    _load()["stochastic_bfloat16"](_at(base), _at(parts), key, first, *pointers, *parts.shape)


def random32(key: int, first: int, out: np.ndarray) -> None:
    """Fill uint32 [rows, columns], contiguous, with the random numbers of a tensor's rows from `first` on."""
    _load()["random32"](key, first, _at(out), *out.shape)


def load() -> None:
    """Bring the kernels to where they run at once, so that this can be done beside other work."""
    _load()


def _at(array: np.ndarray) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data


def _load() -> dict[str, Any]:
    """The kernels as functions of pointers and numbers, loaded by the first thread that asks.

    By one alone: code that a second one loaded would vanish with it, under threads that run it.
    """
    with _LOCK:
        return _loaded()


@functools.cache
def _loaded() -> dict[str, Any]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = _machine()
    symbols, code = _kept() or _compiled(machine)
    abort = ctypes.cast(ctypes.pythonapi.Py_FatalError, ctypes.c_void_p).value
    for name in _NEVER_CALLED:
        if llvm.address_of_symbol(name) is None:
            llvm.add_symbol(name, abort)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    functions: dict[str, Any] = {"engine": engine}  # which owns the code
    for name, signature in _SIGNATURES.items():
        functions[name] = ctypes.CFUNCTYPE(*signature)(engine.get_function_address(symbols[name]))
    return functions


def _machine() -> llvm.TargetMachine:
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, jit=True)


def _stamp() -> str:
    """Of all that decides the machine code."""
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    versions = [llvmlite.__version__, version("numba"), llvm.get_process_triple(), cpu, features]
    return hashlib.sha256(_SOURCE.read_bytes() + "\0".join(versions).encode()).hexdigest()[:16]


def _places() -> list[Path]:
    """Where machine code may be kept: beside Python's own, else in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "medbench"
    named = os.environ.get("NUMBA_CACHE_DIR")
    folders = [Path(named)] if named else [_SOURCE.with_name("__pycache__"), cache]
    return [folder / f"merge-kernels-{_stamp()}.o" for folder in folders]


def _kept() -> tuple[dict[str, str], bytes] | None:
    """Symbols and code of an earlier run, if they are whole."""
    for place in _places():
        with contextlib.suppress(OSError, ValueError, KeyError):
            header, _, code = place.read_bytes().partition(b"\n")
            facts = json.loads(header)
            if facts["sha256"] == hashlib.sha256(code).hexdigest():
                return facts["symbols"], code
    return None


def _compiled(machine: llvm.TargetMachine) -> tuple[dict[str, str], bytes]:
    """Compile the kernels, and keep them where that is possible."""
    from medbench.merging.kernel_source import KERNELS

    module, symbols = None, {}
    for kernel in KERNELS:
        part = llvm.parse_assembly(kernel.inspect_llvm())
        symbols[kernel.__name__] = next(f.name for f in part.functions if f.name.startswith("cfunc."))
        if module is None:
            module = part
        else:
            module.link_in(part)
    assert module is not None
    code = machine.emit_object(module)
    header = json.dumps({"symbols": symbols, "sha256": hashlib.sha256(code).hexdigest()})
    for place in _places():
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = place.with_name(f"{place.name}.{os.getpid()}")
            draft.write_bytes(header.encode() + b"\n" + code)
            draft.replace(place)
            break
    return symbols, code
