"""The guard in `conftest.py`: tests never run on the code of another checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def collected(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "tests/test_one.py"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def copied(root: Path) -> Path:
    """A checkout with the packages' folders, the settings and the guard, and one test."""
    for name in ("pyproject.toml", "tests/conftest.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "tests" / "test_one.py").write_text("def test_one() -> None:\n    pass\n")
    return root


def test_another_checkouts_code_is_refused(tmp_path: Path) -> None:
    done = collected(copied(tmp_path / "other"))
    told = done.stdout + done.stderr
    assert done.returncode == 4
    assert f"medbench.reports comes from {ROOT / 'reports'}, not {tmp_path / 'other' / 'reports'}" in told
    assert "--editable" in told
    assert "test_one" not in done.stdout


def test_every_folder_is_looked_at(tmp_path: Path) -> None:
    root = copied(tmp_path / "other")
    found = collected(root).stdout
    for package in ("medbench ", "medbench.tasks ", "medbench.probes ", "medbench.trainers ", "medbench.reports.gap "):
        assert f"\n  {package}comes from" in found
