"""Manifests: what an artefact was made from, so that every number can be followed back.

Every artefact directory (adapter, checkpoint, findings, report, study) holds one `manifest.json`, written last: a
directory without a manifest is unfinished.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from medbench import __version__
from medbench.errors import MedbenchError
from medbench.files.copies import origins
from medbench.files.json_files import misfit, read_json
from medbench.files.redact import shown_command, shown_settings

NAME = "manifest.json"
RUN = "run.json"  # what a training run writes first; with it and without a manifest a directory is unfinished
_PACKAGES = ("inspect-ai", "numpy", "sacrebleu", "torch", "transformers", "peft", "trl", "datasets")


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as lower-case hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_files(directory: str | Path, pattern: str = "**/*") -> dict[str, str]:
    """SHA-256 of every file below `directory` but its manifest, by path relative to it, sorted."""
    root = Path(directory)
    files = sorted(p for p in root.glob(pattern) if p.is_file() and p.name != NAME)
    return {p.relative_to(root).as_posix(): sha256_file(p) for p in files}


def versions() -> dict[str, str]:
    """Versions of medbench, Python and the packages that can change a number (those installed)."""
    import importlib.metadata  # which loads a mail parser

    found = {"medbench": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_manifest(
    directory: str | Path,
    kind: str,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    **facts: object,
) -> Path:
    """Write `directory/manifest.json` atomically, and return its path.

    Args:
        directory: the artefact's directory, which exists.
        kind: what the artefact is, e.g. ``adapter``, ``checkpoint``, ``findings``.
        settings: the resolved settings, JSON-serialisable; secrets are left out (`medbench.files.redact`).
        inputs: name -> path or content hash of what it was made from.
        **facts: anything else worth keeping (losses, counts, seed).
    """
    document = {
        "kind": kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(shown_command(sys.argv)),
        "settings": shown_settings(origins(settings)),
        "inputs": shown_settings(origins(inputs)),
        **shown_settings(facts),
        "versions": versions(),
    }
    path = Path(directory) / NAME
    remove_dead(path)
    write_atomic(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    return path


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of an artefact directory.

    Raises:
        MedbenchError: the directory has none (an unfinished or foreign artefact), or it is not JSON.
    """
    path = Path(directory) / NAME
    try:
        document = read_json(path)
    except FileNotFoundError:
        raise MedbenchError(
            f"{directory} holds no {NAME}: it was not made by medbench, or the run that made it did not finish."
        ) from None
    except MedbenchError as error:
        raise MedbenchError(f"{error} Make the artefact again.") from None
    problem = misfit(document, {"kind": str})
    if problem:
        raise MedbenchError(f"{path} is no manifest of medbench: {problem}; make the artefact again.")
    assert isinstance(document, dict)
    return document


def require_finished(directory: str | Path) -> None:
    """Refuse what a training run has begun and not finished.

    Raises:
        MedbenchError: it holds `RUN` and no manifest.
    """
    if (Path(directory) / RUN).exists() and not (Path(directory) / NAME).exists():
        raise MedbenchError(
            f"{directory} is a training run that did not finish: run the same command again, or name one of its "
            "checkpoint-* directories."
        )


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Replace `path` by `content` in one step: a reader sees the old file or the new one, never a part."""
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        _lock(handle)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _lock(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process has it."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # no such locks here
        pass
    return True


def remove_dead(path: Path) -> None:
    """Remove what killed processes left beside `path` on its way there: their locks are free."""
    for left in path.parent.glob(f".{path.name}.*"):
        try:
            handle = os.open(left, os.O_RDWR)
        except OSError:
            continue
        try:
            if _lock(handle):
                left.unlink(missing_ok=True)
        finally:
            os.close(handle)


@contextmanager
def open_atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A file written piece by piece that replaces `path` once it is complete; after an error `path` is as it was."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
