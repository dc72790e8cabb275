"""Places: where a file or an artefact lies, on this machine or at any fsspec URL (`s3://`, `gs://`, `hf://`, `memory://`).

A name without a scheme, or with `file://`, is a path of this machine and is used as it is. Everything else is reached
through fsspec, in one of three ways: a corpus, which is read from front to back, is streamed (`open_bytes`); whatever
needs real files, a model or an adapter, is copied to a cache once (`local`); and what is written is made on this
machine first and then copied as a whole (`staged`, `publish`). An object store cannot rename, so there the manifest
goes last: a directory without one is unfinished, and it says what every other file must hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from medbench import advice
from medbench.errors import MedbenchError
from medbench.files import copies
from medbench.files.manifest import NAME, hash_files, sha256_file, write_atomic

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL = re.compile(r"(?!file://)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# What to install for a scheme; for others fsspec's own message says it
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
FILES = "files"  # of a published manifest: the SHA-256 of every other file by its name


def is_remote(name: str | Path) -> bool:
    """Whether a name is a URL of another file system than this machine's."""
    return URL.match(str(name)) is not None


def path_of(name: str | Path) -> Path:
    """A name without a scheme, or with `file://`, as a path."""
    return Path(str(name).removeprefix("file://"))


def filesystem(name: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL and the path in it.

    Raises:
        MedbenchError: no such scheme, the package for it is not installed, or the URL holds a password.
    """
    import fsspec

    scheme = name.partition("://")[0].lower()
    user = name.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if ":" in user or (user and scheme in ("http", "https")):
        raise MedbenchError(
            f"{name}: the address holds a password or token, which would stand in findings, logs and reports. Leave "
            f"it out, and give it as the file system takes it: in the environment (e.g. FSSPEC_FTP_PASSWORD), or in "
            "fsspec's configuration file."
        )
    try:
        fs, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:
        package = _PACKAGES.get(scheme)
        told = advice.package(package) if package else f"fsspec says: {error}"
        known = "" if isinstance(error, ImportError) else " Is it a scheme of fsspec (s3, gs, hf, memory, ...)?"
        raise MedbenchError(f"{name}: no file system for {scheme}:// is installed ({told}).{known}") from error
    return fs, path.rstrip("/")


@contextlib.contextmanager
def named(name: str, doing: str) -> Iterator[None]:
    """Say of which place an error is that a remote file system raises; each has kinds of its own.

    Raises:
        MedbenchError: whatever went wrong there.
    """
    try:
        yield
    except (MedbenchError, AttributeError, TypeError, NameError, AssertionError):  # the latter: defects of ours
        raise
    except FileNotFoundError:
        raise MedbenchError(f"{name} does not exist, or its bucket does not.") from None
    except Exception as error:  # botocore's, aiohttp's, google's: no common class
        if isinstance(error, OSError) and error.filename and not is_remote(str(error.filename)):
            raise
        what = str(error) or type(error).__name__
        raise MedbenchError(f"{name} cannot be {doing}: {what}. Check the address and the credentials.") from error


def is_file(name: str | Path) -> bool:
    """Whether a file lies there."""
    if not is_remote(name):
        return path_of(name).is_file()
    fs, path = filesystem(str(name))
    with named(str(name), "looked up"):
        return bool(fs.isfile(path))


def exists(name: str | Path) -> bool:
    """Whether a file, or a directory that holds one, lies there."""
    if not is_remote(name):
        return path_of(name).exists()
    fs, path = filesystem(str(name))
    with named(str(name), "looked up"):
        return bool(fs.exists(path))


def size(name: str | Path) -> int:
    """Bytes of a file."""
    if not is_remote(name):
        return path_of(name).stat().st_size
    fs, path = filesystem(str(name))
    with named(str(name), "looked up"):
        return int(fs.size(path))


def version(name: str | Path) -> str:
    """What changes when a file's content does, without reading it: size and time, or what the store says (an ETag)."""
    if not is_remote(name):
        stat = path_of(name).stat()
        return f"{stat.st_size} {stat.st_mtime_ns}"
    fs, path = filesystem(str(name))
    with named(str(name), "looked up"):
        return str(fs.checksum(path))


def files_of(name: str) -> list[str]:
    """The URLs of the files that lie below a URL, or match its pattern (`*`, `**`), sorted; of a file its own."""
    import fsspec.utils

    fs, path = filesystem(name)
    with named(name, "listed"):
        fs.invalidate_cache()  # what another process wrote meanwhile
        pattern = any(sign in path for sign in "*?[")
        found = [one for one in fs.glob(path) if fs.isfile(one)] if pattern else fs.find(path)
    scheme = name.partition("://")[0]
    return sorted(f"{scheme}://{fsspec.utils.stringify_path(one).removeprefix('/')}" for one in found)


def open_bytes(name: str | Path) -> IO[bytes]:
    """A file's bytes, which can be sought in; a remote one is read piece by piece as it is needed.

    Raises:
        MedbenchError: a remote one cannot be opened.
    """
    if not is_remote(name):
        return open(path_of(name), "rb")
    fs, path = filesystem(str(name))
    with named(str(name), "opened"):
        handle = fs.open(path, "rb")
    return handle if hasattr(handle, "read1") else io.BufferedReader(handle, 1 << 20)  # type: ignore[return-value]


def sha256(name: str | Path) -> str:
    """SHA-256 of a file's bytes, as lower-case hex."""
    if not is_remote(name):
        return sha256_file(path_of(name))
    with open_bytes(name) as handle, named(str(name), "read"):
        digest = hashlib.sha256()
        while piece := handle.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()


def local(name: str | Path) -> Path:
    """A file or a directory on this machine: the path itself, or a copy of what lies at a URL.

    The copy is found again by what it holds (the names, sizes and ETags of its files), so that a changed artefact is
    another copy and an unchanged one is fetched once. Of a published artefact every file is compared with its manifest.

    Raises:
        MedbenchError: nothing lies there, the copy does not fit its manifest, or it changed while it was copied.
    """
    if not is_remote(name):
        return path_of(name)
    url = str(name).rstrip("/")
    digest, files = _contents(url)
    goal = copies.folder() / digest / url.rpartition("/")[2]
    if goal.exists():
        return goal
    goal.parent.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=goal.parent.parent, prefix=f".{digest}."))
    try:
        _copy(url, files, temporary / goal.name)
        if (temporary / goal.name / NAME).is_file():
            _compare(temporary / goal.name, url)
        if _contents(url)[0] != digest:
            raise MedbenchError(f"{url} was written while it was copied; run the command again when that has ended.")
        copies.note(temporary / goal.name, url)
        try:
            os.rename(temporary, goal.parent)
        except OSError:
            if not goal.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return goal


def _contents(url: str) -> tuple[str, dict[str, str]]:
    """A digest of what lies at a URL, and its files: path in the file system -> name below the URL, "" for itself."""
    fs, path = filesystem(url)
    with named(url, "read"):
        fs.invalidate_cache()
        found = sorted(fs.find(path))
        if not found:
            raise FileNotFoundError(url)
        names = {one: one[len(path) :].strip("/") for one in found}
        held = [[names[one], fs.size(one), str(fs.checksum(one))] for one in found]
    return hashlib.sha256(json.dumps([url, held]).encode()).hexdigest()[:16], names


def _copy(url: str, files: dict[str, str], goal: Path) -> None:
    fs, _ = filesystem(url)
    with named(url, "read"):
        for remote, name in files.items():
            target = goal / name if name else goal
            if not target.resolve().is_relative_to(goal.resolve()):
                raise MedbenchError(f"{url} holds a file named {name!r}, which would lie outside of its copy.")
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(remote, str(target))


def _compare(directory: Path, url: str) -> None:
    """Hold a published artefact against what its manifest says of its files."""
    try:
        listed = json.loads((directory / NAME).read_text("utf-8")).get(FILES)
    except (ValueError, AttributeError):
        return  # for whoever reads the manifest to say
    if not isinstance(listed, dict):
        return
    held = hash_files(directory)
    wrong = sorted(name for name, digest in listed.items() if held.get(name) != digest)
    if wrong:
        raise MedbenchError(
            f"{url} does not hold what its {NAME} says: {', '.join(wrong[:5])}{', ...' if len(wrong) > 5 else ''} "
            f"{'is' if len(wrong) == 1 else 'are'} missing or changed. It was changed by hand, or two runs wrote it; "
            "make it again."
        )


@contextlib.contextmanager
def staged(
    place: str | Path, *, replace: bool = False, publishes: bool = True, known_by: Collection[str] | None = None
) -> Iterator[Path]:
    """Where to make what goes to a place: the path itself, or one of this machine, published when all went well.

    After an error nothing is published. What is there then stays, for a command that goes on where it was ended.

    Args:
        place: a path or a URL.
        replace: whether an artefact that lies at the URL may be replaced.
        publishes: False in the processes of a training that do not write.
        known_by: of a command that knows its own finished work again, the files beside the manifest by which it does.
            Where an artefact lies at the URL it is shown these alone, and either ends well or says what differs.

    Raises:
        MedbenchError: something lies at the URL, or an earlier run made something for it that it could not publish.
    """
    if not is_remote(place):
        yield path_of(place)
        return
    url = str(place).rstrip("/")
    made = None if replace else _manifest_at(url)
    if made is not None:
        if known_by is None:
            raise MedbenchError(f"{url} is not empty: an artefact lies there. Name another place, or remove it.")
        with _glimpse(url, made, known_by) as seen:
            yield seen
        return
    folder = copies.folder() / "outgoing" / hashlib.sha256(url.encode()).hexdigest()[:16]
    stage = folder / url.rpartition("/")[2]
    if (stage / NAME).is_file() and publishes:
        raise MedbenchError(
            f"{stage} holds what an earlier run made for {url} and could not write there. Send it now: "
            f"medbench publish {stage} {url}; or remove that directory to make it anew."
        )
    folder.mkdir(parents=True, exist_ok=True)
    copies.note(stage, url)
    yield stage
    if publishes and stage.exists():
        publish(stage, url)
        shutil.rmtree(folder)


@contextlib.contextmanager
def _glimpse(url: str, made: dict[str, Any], names: Collection[str]) -> Iterator[Path]:
    """A directory with the manifest of what lies at a URL and the files named, for one look."""
    copies.folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copies.folder(), prefix=".glimpse.") as above:
        seen = Path(above) / url.rpartition("/")[2]
        fs, path = filesystem(url)
        with named(url, "read"):
            here = {f"{path}/{name}": name for name in names if fs.isfile(f"{path}/{name}")}
        _copy(url, here, seen)
        seen.mkdir(exist_ok=True)
        (seen / NAME).write_text(json.dumps(made), "utf-8")
        with contextlib.suppress(KeyError, TypeError, ValueError):  # of a manifest that is none of ours
            when = datetime.fromisoformat(made["created"]).timestamp() + 1  # it is told in whole seconds
            os.utime(seen / NAME, (when, when))
        copies.note(seen, url)
        try:
            yield seen
        except MedbenchError as error:
            raise MedbenchError(str(error).replace(str(seen), url)) from error


def _manifest_at(url: str) -> dict[str, Any] | None:
    """The manifest of the artefact that lies at a URL, if one does; anything else there is refused."""
    fs, path = filesystem(url)
    with named(url, "looked up"):
        fs.invalidate_cache()
        if fs.isfile(f"{path}/{NAME}"):
            document: dict[str, Any] = json.loads(fs.cat_file(f"{path}/{NAME}"))
            return document
        if fs.exists(path) and not fs.isfile(path) and fs.find(path, maxdepth=2):
            raise MedbenchError(
                f"{url} is not empty and holds no {NAME}: it is no artefact of medbench, or one whose writing was "
                "cut short. Name another place, or remove what is there."
            )
    return None


def publish(directory: Path, url: str) -> None:
    """Copy a complete artefact, or a single file, to a URL; of a directory the manifest goes last.

    An artefact that was there is unfinished from the first moment to the last, and its files that the new one does not
    have are removed.

    Raises:
        MedbenchError: something else lies there, or it cannot be written.
    """
    fs, path = filesystem(url)
    if directory.is_file():
        with named(url, "written"):
            fs.put_file(str(directory), path)
        return
    before = _manifest_at(url)
    held = hash_files(directory)
    with named(url, "written"):
        if before is not None:
            fs.rm_file(f"{path}/{NAME}")
        for name in held:
            fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)  # nothing in an object store
            fs.put_file(str(directory / name), f"{path}/{name}")
        for name in set((before or {}).get(FILES) or ()) - set(held):
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(f"{path}/{name}")
        if (directory / NAME).is_file():
            document = json.loads((directory / NAME).read_text("utf-8"))
            write_atomic(directory / NAME, json.dumps(document | {FILES: held}, ensure_ascii=False, indent=2) + "\n")
            fs.put_file(str(directory / NAME), f"{path}/{NAME}")
