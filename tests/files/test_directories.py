"""Places that are written as a whole: their locks, one step from old to new, and full disks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medbench.errors import MedbenchError
from medbench.files import directories
from medbench.files.directories import full_disk_named, held, new_directory, replace_directory, workplace
from medbench.files.manifest import write_atomic, write_manifest

HOLD = """
import sys, time
from medbench.files.directories import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `tmp_path/deep/out`, which does not exist."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "deep" / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_place_that_another_process_holds_is_refused_by_name(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    out = tmp_path / "deep" / "out"
    (tmp_path / "deep" / "link").symlink_to(out)
    for given in (out, tmp_path / "deep" / ".." / "deep" / "out", tmp_path / "deep" / "link"):
        told = rf"writing {out} \(process {holder.pid} on .*Wait for it to end"
        with pytest.raises(MedbenchError, match=told), held(given):
            pass
    with held(tmp_path / "deep" / "other"):
        pass


def test_kill_9_frees_a_place_and_nothing_is_left(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / "deep" / ".out.lock").exists()
    with held(tmp_path / "deep" / "out"):
        pass
    assert not list((tmp_path / "deep").iterdir())


def test_the_root_of_a_file_system_holds_its_own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == disk)
    with workplace(disk) as work:
        (work / "new").mkdir()
        (work / "new" / "manifest.json").write_text("{}")
        assert work.parent == disk
        assert [path.name for path in tmp_path.iterdir()] == ["disk"]
        replace_directory(work / "new", disk)
        work.rmdir()
    assert [path.name for path in disk.iterdir()] == ["manifest.json"]


def interrupted(out: Path) -> None:
    with new_directory(out, 1) as staging:
        (staging / "half").write_text("")
        raise KeyboardInterrupt


def test_a_new_directory_clears_away_what_a_killed_run_left(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished" / "half").write_text("")
    with new_directory(tmp_path / "out", 1) as staging:
        (staging / "whole").write_text("")
        with pytest.raises(MedbenchError, match="another process"), new_directory(tmp_path / "out", 1):
            pass
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["out", "out/whole"]
    with pytest.raises(MedbenchError, match="is not empty"), new_directory(tmp_path / "out", 1):
        pass
    with pytest.raises(MedbenchError, match=r"has .* MB free"), new_directory(tmp_path / "huge", 1 << 60):
        pass
    assert not (tmp_path / "huge").exists()


def test_folders_of_others_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder cannot be linked into the new directory, and whoever works in the old one must not lose it."""
    for folder in ("out/theirs", "out/deep", "new/deep"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("theirs/file", "deep/theirs", "deep/file", "manifest.json", "gone", "note"):
        (tmp_path / "out" / name).write_text("old")
    for name in ("deep/file", "manifest.json"):
        (tmp_path / "new" / name).write_text("new")
    before = os.stat(tmp_path / "out").st_ino
    monkeypatch.chdir(tmp_path / "out")
    replace_directory(tmp_path / "new", Path("."), ["gone"])
    assert os.stat(tmp_path / "out").st_ino == before
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_text()
        for path in Path(".").resolve().rglob("*")
        if path.is_file()
    }
    assert found == {
        "theirs/file": "old",
        "deep/theirs": "old",
        "note": "old",
        "deep/file": "new",
        "manifest.json": "new",
    }
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: File too large (os error 27)"),
        ValueError("database or disk is full"),
    ],
)
def test_a_full_disk_is_said_of_the_place(tmp_path: Path, error: Exception) -> None:
    told = r"the disk of .*/out is full \(.*Make room and run the same command again"
    with pytest.raises(MedbenchError, match=told), full_disk_named(tmp_path / "deep" / "out"):
        raise error
    with pytest.raises(MedbenchError, match="Kept"), full_disk_named(tmp_path, "Kept."):
        raise LookupError("cannot save") from error


def test_an_error_of_another_kind_is_not_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="unexpected pos"), full_disk_named(tmp_path):
        raise RuntimeError("unexpected pos 610880 vs 610772")
    full = type("Usage", (), {"free": 4096})
    monkeypatch.setattr(directories.shutil, "disk_usage", lambda path: full)
    with pytest.raises(MedbenchError, match="is full"), full_disk_named(tmp_path):
        raise RuntimeError("unexpected pos 610880 vs 610772")
    with pytest.raises(KeyError), full_disk_named(tmp_path):
        raise KeyError("x")


def test_a_manifest_clears_away_what_killed_writers_left(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.dead").write_text("{")
    write_atomic(tmp_path / "other.json", "{}")
    assert (tmp_path / ".manifest.json.dead").exists()
    write_manifest(tmp_path, "x", settings={}, inputs={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "other.json"]
    assert json.loads((tmp_path / "manifest.json").read_text())["kind"] == "x"
