"""Directories that are written as a whole: one writer at a time, and one step from the old content to the new."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import sys
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from medbench.errors import DISK_FULL, MedbenchError
from medbench.files.manifest import NAME
from medbench.files.redact import shown_command

_AT_FDCWD, _EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EBUSY, errno.EXDEV, errno.EPERM)
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)  # of file systems without them
_INSIDE = ".medbench."  # how what is beside a place is called where it must lie in it
_SPARE = 1 << 20  # bytes; with less free than this, an error while writing is one of space


@contextlib.contextmanager
def held(out: str | Path) -> Iterator[None]:
    """Keep a directory or file, which need not exist yet, for this process alone.

    The lock is a file beside it, which names its holder. The system frees it when the process ends, also by kill -9;
    the next holder removes what is left of it.

    Raises:
        MedbenchError: another process holds it; says which.
    """
    out = Path(out).resolve()
    lock = _beside(out, "lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, lock, out)
            # the one before may have removed it between our opening and our lock
            if lock.exists() and os.path.samestat(os.fstat(handle), os.stat(lock)):
                with contextlib.suppress(OSError):  # of a full disk: it is locked without a name too
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, _holder().encode(), 0)
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)


def _holder() -> str:
    now = datetime.now().astimezone().isoformat(" ", "minutes")
    return f"process {os.getpid()} on {socket.gethostname()}, since {now}: {' '.join(shown_command(sys.argv))}"


def _lock(handle: int, lock: Path, out: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 2000, 0).decode("utf-8", "replace").strip()
        raise MedbenchError(
            f"another process is writing {out} ({holder or f'it holds {lock}'}). Wait for it to end, or give another "
            "directory."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _beside(out: Path, ending: str) -> Path:
    """A hidden path beside `out`; in it where it is the root of a file system, which has nothing beside it."""
    if out.is_mount():
        return out / f"{_INSIDE}{ending}"
    return out.with_name(f".{out.name}.{ending}")


@contextlib.contextmanager
def workplace(out: str | Path) -> Iterator[Path]:
    """The folder beside `out` in which its next content is made, held by one process at a time.

    What an interrupted run left there is found by the next one; whoever completes `out` removes it.

    Raises:
        MedbenchError: another process works for the same `out`, or the disk is full.
    """
    out = Path(out).resolve()
    work = _beside(out, "unfinished")
    with full_disk_named(out), held(out):
        work.mkdir(parents=True, exist_ok=True)
        yield work


@contextlib.contextmanager
def new_directory(out: str | Path, size: int) -> Iterator[Path]:
    """A hidden directory that becomes `out` when the block ends, and vanishes when it fails.

    Args:
        out: a path that does not exist yet, or an empty directory.
        size: bytes that will be written, checked against the free space first.

    Raises:
        MedbenchError: `out` is not empty, another process makes it, or the disk has too little space or fills up.
    """
    out = Path(out).absolute()
    require_new(out)
    with workplace(out) as staging:
        require_new(out)  # another process may have completed it between our look and our lock
        shutil.rmtree(staging)  # what a killed run left
        staging.mkdir()
        free = shutil.disk_usage(staging).free
        try:
            if free < size:
                raise MedbenchError(
                    f"{out.parent} has {free / 1e6:,.1f} MB free, and {out} needs {size / 1e6:,.1f} MB: "
                    "free some space or choose another --out."
                )
            yield staging
            _fsync(staging)
            replace_directory(staging, out)
            _fsync(out.parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def require_new(out: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        MedbenchError: it is a file, or a directory with something in it that is not ours.
    """
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(_INSIDE) for path in out.iterdir())):
        raise MedbenchError(f"{out} exists and is not empty: choose another --out, or remove it.")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def full_disk_named(out: str | Path, then: str = "") -> Iterator[None]:
    """Say of whatever fails for want of space which place is full, and what to do.

    Args:
        out: what is being written.
        then: what else to say, such as what was kept.

    Raises:
        MedbenchError: in place of an error that was one of space, in whichever form a library reports it.
    """
    try:
        yield
    except MedbenchError:
        raise
    except Exception as error:
        if not _of_space(error, Path(out)):
            raise
        raise MedbenchError(
            f"the disk of {out} is full ({type(error).__name__}: {str(error).strip():.200}). {then or _KEPT} "
            "Make room and run the same command again."
        ) from error


_KEPT = "What was complete there before is as it was."
_FULL = re.compile(r"no space left on device|disk is full|disk quota exceeded|file too large", re.I)


def says_full(text: str) -> bool:
    """Whether a message tells of a full disk, where a library hands on no error but its text."""
    return _FULL.search(text) is not None


def _of_space(error: BaseException, out: Path) -> bool:
    """Whether an error, or one that led to it, is one of space."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    number = re.search(r"os error (\d+)", str(error))  # safetensors tells the system's number in its text alone
    if (number and int(number[1]) in DISK_FULL) or says_full(str(error)):
        return True
    before = error.__cause__ or error.__context__
    if before is not None and _of_space(before, out):
        return True
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    # torch's zip writer says only that a position was not as expected
    return isinstance(error, OSError | RuntimeError) and shutil.disk_usage(there).free < _SPARE


def replace_directory(new: Path, out: Path, ours: Collection[str] = ()) -> None:
    """Put a complete directory in the place of another in one step; a reader sees the old content or the new.

    The two directories are exchanged (renameat2 on Linux). Where a file system cannot, or folders of others would have
    to move, the manifest is taken away first and put last, so that a mixture has none.

    Args:
        new: on the same file system; gone afterwards.
        out: its files that are not named in `ours` stay.
        ours: the files that an earlier run may have left and this one does not make.
    """
    out = out.resolve()
    if not out.exists():
        os.rename(new, out)
        return
    others = [path for path in out.iterdir() if path.name not in ours and not path.name.startswith(_INSIDE)]
    # a folder cannot be linked, and whoever stands in `out` would find it gone
    if any(path.is_dir() for path in others) or os.path.samefile(out, "."):
        _replace_files(new, out, ours)
        return
    for path in others:
        if not (new / path.name).exists():
            os.link(path, new / path.name, follow_symlinks=False)
    if not _exchange(new, out):
        _replace_files(new, out, ours)
        return
    shutil.rmtree(new)


def _replace_files(new: Path, out: Path, ours: Collection[str]) -> None:
    (out / NAME).unlink(missing_ok=True)
    made = {path.relative_to(new) for path in new.rglob("*") if path.is_file()}
    for path in sorted(made, key=lambda one: one == Path(NAME)):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / path, out / path)
    for name in set(ours) - {str(path) for path in made}:
        if (out / name).is_file():
            (out / name).unlink()
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
