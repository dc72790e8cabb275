"""Where an imported log goes: made beside its directory, and put into it in one step, under a name of what it holds.

So no reader of the directory sees half a log, and the same import again replaces its log instead of adding one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medbench.files import places
from medbench.files.directories import full_disk_named, workplace


def identity(facts: Mapping[str, Any]) -> str:
    """A name of what is imported, as long as Inspect's own task ids, which it stands for."""
    text = json.dumps(dict(facts), sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:22]


@contextmanager
def staging(log_dir: str, name: str) -> Iterator[Path]:
    """A folder for the log of this name on its way to `log_dir`, gone afterwards.

    Raises:
        MedbenchError: another process makes the same log, or the disk is full.
    """
    if places.is_remote(log_dir):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    place = places.path_of(log_dir).resolve()
    with workplace(place.with_name(f"{place.name}.{name}")) as work, full_disk_named(place):
        shutil.rmtree(work)  # what a killed import left
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def put(log: Path, log_dir: str, name: str) -> str:
    """Move a complete log into `log_dir`, in the place of the earlier one of this name; returns where it is."""
    if places.is_remote(log_dir):
        files, root = places.filesystem(log_dir)
        with places.named(log_dir, "written"):
            files.makedirs(root, exist_ok=True)
            before = files.glob(f"{root}/*_{name}{log.suffix}")
            target = before[0] if before else f"{root}/{log.name}"
            files.put_file(str(log), target)
        return str(files.unstrip_protocol(target))
    place = places.path_of(log_dir).resolve()
    place.mkdir(parents=True, exist_ok=True)
    earlier = sorted(place.glob(f"*_{name}{log.suffix}"))
    into = earlier[0] if earlier else place / log.name
    try:
        os.replace(log, into)
    except OSError as error:  # the log directory is a file system of its own
        if error.errno != errno.EXDEV:
            raise
        copy = place / f".{into.name}.part"
        shutil.copyfile(log, copy)
        os.replace(copy, into)
    return str(into)
