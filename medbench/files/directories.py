"""Directories that are written as a whole: one writer at a time, and one step from the old content to the new."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from medbench.errors import MedbenchError
from medbench.files.manifest import NAME

_AT_FDCWD, _EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EBUSY, errno.EXDEV, errno.EPERM)


@contextlib.contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """The folder beside `out` in which its next content is made, held by one process at a time.

    What an interrupted run left there is found by the next one; whoever completes `out` removes it.

    Raises:
        MedbenchError: another process works for the same `out`.
    """
    out = out.resolve()
    work = out.with_name(f".{out.name}.unfinished")
    while True:
        work.mkdir(parents=True, exist_ok=True)
        handle = os.open(work, os.O_RDONLY)
        try:
            _lock(handle, work, out)
            # the one before may have completed and removed it between our opening and our lock
            same = work.exists() and os.path.samestat(os.fstat(handle), os.stat(work))
            if same:
                yield work
                return
        finally:
            os.close(handle)


def _lock(handle: int, work: Path, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MedbenchError(
            f"another process is writing {out} (it holds {work}). Wait for it to end, or give another directory."
        ) from None


def replace_directory(new: Path, out: Path, ours: Collection[str] = ()) -> None:
    """Put a complete directory in the place of another in one step; a reader sees the old content or the new.

    The two directories are exchanged (renameat2 on Linux). Where a file system cannot, the manifest is taken away first
    and put last, so that a mixture has none.

    Args:
        new: on the same file system; gone afterwards.
        out: its files that are not named in `ours` stay.
        ours: the files that an earlier run may have left and this one does not make.
    """
    out = out.resolve()
    if not out.exists():
        os.rename(new, out)
        return
    for path in out.iterdir():  # what others put there
        if path.name not in ours and not (new / path.name).exists():
            if path.is_dir():
                shutil.copytree(path, new / path.name, symlinks=True)
            else:
                os.link(path, new / path.name, follow_symlinks=False)
    if not _exchange(new, out):
        (out / NAME).unlink(missing_ok=True)
        for path in sorted(new.iterdir(), key=lambda one: one.name == NAME):
            if path.is_file():
                os.replace(path, out / path.name)
    shutil.rmtree(new)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two directories atomically; False where that cannot be done here."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(b))
