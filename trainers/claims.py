"""Who works on a sweep: each worker holds a claim on its directory, so that no run is evaluated twice at a time.

Which runs a worker does follows from its number alone (`shares`), so workers have nothing to agree on while they run.
A claim catches what that leaves: the same worker started twice, or workers of another number of shares.

Two files a worker lie in ``OUT/workers``. ``0-of-2.lock`` is held by `flock`, which the kernel frees however the
process ends: on one machine that alone decides. ``0-of-2.json`` says who holds it and how far it is, and is written
anew every `BEAT` seconds. Between machines, whose file system may keep locks to each of them, a worker elsewhere counts
as alive until its record is `LEASE` seconds old. Ages are read off the file server's own clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from medbench.errors import MedbenchError
from medbench.files.manifest import remove_dead, write_atomic

FOLDER = "workers"
# A network file system may show a file's new time some seconds late (NFS: 3 to 60), and a busy machine may be late too.
BEAT = 15.0
LEASE = 120.0


@dataclass
class Record:
    """What a worker says of itself.

    Attributes:
        worker: its number, from 0.
        of: how many there are.
        study: SHA-256 of the study file.
        host: the machine, and which start of it.
        pid: its process there.
        token: of this one holder.
        started: when, UTC.
        runs: how many runs are its share.
        done: how many of them have ended.
        ended: when it ended by itself, UTC; None while it runs, and after a kill.
        success: whether all its runs succeeded.
        logs: file names of its runs' logs, once it ended.
    """

    worker: int
    of: int
    study: str
    host: str = ""
    pid: int = 0
    token: str = ""
    started: str = ""
    runs: int = 0
    done: int = 0
    ended: str | None = None
    success: bool = False
    logs: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``1 of 4``."""
        return f"{self.worker} of {self.of}"


class Claim:
    """A claim that is held: tells the others how far this worker is.

    Args:
        folder: ``OUT/workers``.
        record: what to tell; written at once, at every change and every `BEAT` seconds.
        lost: called once when another process has taken the claim over, as it may after this one was stopped for long.
    """

    def __init__(self, folder: Path, record: Record, lost: Callable[[], None]) -> None:
        self.record = record
        self.taken_over: Record | None = None
        self._path = path_of(folder, record, "json")
        self._lost = lost
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._beat, name="sweep claim", daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """One more run has ended."""
        self.record.done += 1
        # Called while others run: a disk that is full for a moment must not end the evaluation.
        with contextlib.suppress(OSError):
            self._write()

    def end(self, success: bool, logs: list[str]) -> None:
        """All runs of the share have ended."""
        self.record.ended, self.record.success, self.record.logs = _now_text(), success, logs
        self._write()

    def withdraw(self) -> None:
        """Leave no record: this worker was refused, and the sweep's state is that of those that run."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            found = read(self._path)
            if found is not None and found.token != self.record.token:
                self.taken_over = found
                self._lost()
                return
            # Likewise; a lease that runs out meanwhile is noticed above.
            with contextlib.suppress(OSError):
                self._write()

    def _write(self) -> None:
        with self._writing:
            if self.taken_over is None:
                write_atomic(self._path, json.dumps(asdict(self.record)) + "\n")


@contextmanager
def claimed(out: Path, record: Record, *, lost: Callable[[], None]) -> Iterator[Claim]:
    """Hold a worker's claim on the sweep in `out`.

    Args:
        out: the sweep's directory.
        record: its worker, share and study; who holds it is filled in.
        lost: see `Claim`.

    Raises:
        MedbenchError: the same worker, or workers of another number of shares, are running; or the claim was lost.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    record.host, record.pid, record.token, record.started = here(), os.getpid(), secrets.token_hex(8), _now_text()
    handle = os.open(path_of(folder, record, "lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _lock(handle) or _alive_elsewhere(folder, record):
            raise _running(out, record, read(path_of(folder, record, "json")))
        for path in {path_of(folder, record, "json"), *folder.glob("*.json")}:
            remove_dead(path)
        claim = Claim(folder, record, lost)
        try:
            other = _other_shares(folder, record)
            if other is not None:
                claim.withdraw()
                raise _running(out, record, other)
            yield claim
        except KeyboardInterrupt:
            if claim.taken_over is None:
                raise
        finally:
            claim.close()
        if claim.taken_over is not None:
            raise MedbenchError(
                f"worker {record.name} in {out} was silent for over {LEASE:.0f} s, and {_who(claim.taken_over)} has "
                "taken its runs over; this one stops. What it logged is kept."
            )
    finally:
        os.close(handle)


def records(out: Path) -> list[Record]:
    """What the workers of a sweep say of themselves; in the order of their names."""
    found = [read(path) for path in sorted((out / FOLDER).glob("*-of-*.json"))]
    return [record for record in found if record is not None]


def complete(out: Path, of: int, study: str) -> list[Record] | None:
    """The records of all `of` workers if each ended with success on this study and its logs are there; else None."""
    found = {r.worker: r for r in records(out) if r.of == of and r.study == study and r.ended and r.success}
    if len(found) < of or not all((out / "logs" / name).is_file() for r in found.values() for name in r.logs):
        return None
    return [found[worker] for worker in range(of)]


def read(path: Path) -> Record | None:
    """One record; None where there is none, or none that can be read."""
    try:
        return Record(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def here() -> str:
    """This machine, since it was started."""
    boot = ""
    with contextlib.suppress(OSError):  # not Linux
        boot = " " + Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]
    return socket.gethostname() + boot


def alive(folder: Path, record: Record, *, wait: bool = False) -> bool:
    """Whether the worker of a record is running still, as far as can be seen from here.

    `wait`: on another machine, until it has shown that it is, by another beat, or its lease is over.
    """
    if record.ended is not None:
        return False
    if record.host != here():
        path = path_of(folder, record, "json")
        first, age = _written(path), _age(folder, path)
        while wait and age < LEASE and _written(path) == first:
            time.sleep(min(LEASE - age, BEAT / 3))
            age = _age(folder, path)
        return age < LEASE
    try:
        handle = os.open(path_of(folder, record, "lock"), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle, shared=True, tries=1)
    finally:
        os.close(handle)


def _alive_elsewhere(folder: Path, record: Record) -> bool:
    """Whether another machine holds this claim, whose locks may not be seen here."""
    found = read(path_of(folder, record, "json"))
    return found is not None and found.host != record.host and alive(folder, found, wait=True)


def _other_shares(folder: Path, record: Record) -> Record | None:
    """A running worker of another number of shares."""
    return next((r for r in records(folder.parent) if r.of != record.of and alive(folder, r, wait=True)), None)


def _lock(handle: int, *, shared: bool = False, tries: int = 20) -> bool:
    """Lock an open file; False where another process holds it. `tries`: others look by a lock of a moment."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    for number in range(tries):
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02 if number + 1 < tries else 0)
        except OSError:  # a file system without locks: the lease alone decides
            return True
    return False


def _age(folder: Path, path: Path) -> float:
    """Seconds since a file was written, by the clock that stamped it."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b".")
        probe.flush()
        os.fsync(probe.fileno())
        now = os.fstat(probe.fileno()).st_mtime
    return now - _written(path)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _running(out: Path, asked: Record, found: Record | None) -> MedbenchError:
    if found is None or found.of == asked.of:
        what = f"worker {asked.name} of this sweep" if asked.of > 1 else "another process of this sweep"
        advice = "Wait for it to end, or give another directory with --out."
    else:
        what = f"worker {found.name} of this sweep" if found.of > 1 else "this sweep, as one process,"
        advice = (
            "All workers of a sweep need the same number of shares: wait for it to end, or start this one likewise."
        )
    return MedbenchError(f"{what} is running in {out} ({_who(found)}). {advice}")


def _who(record: Record | None) -> str:
    if record is None:
        return "it has said nothing yet"
    return f"process {record.pid} on {record.host.split()[0]}, since {record.started}"


def path_of(folder: Path, record: Record, kind: str) -> Path:
    """A worker's file in ``OUT/workers``: its ``json`` or its ``lock``."""
    return folder / f"{record.worker}-of-{record.of}.{kind}"


def _now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
