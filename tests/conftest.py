"""Fixtures shared by all rooms. Nothing here or in any test may use the network."""

from __future__ import annotations

import importlib.util
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine may take any time over an example; that says nothing about the code.
settings.register_profile("medbench", deadline=None)
settings.load_profile("medbench")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


def strangers(root: Path) -> list[str]:
    """The packages that Python would import from elsewhere than where the checkout `root` has them, each with both."""
    setup = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    found = []
    for package in setup["packages"]:
        wanted = root / setup["package-dir"].get(package, package.replace(".", "/"))
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            spec = None
        got = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if got != wanted.resolve():
            found.append(f"{package} comes from {got or 'nowhere'}, not {wanted}")
    return found


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse to test the code of another checkout, which an editable install of it would import in silence."""
    if hasattr(session.config, "workerinput"):  # of pytest-xdist: the first process has looked
        return
    if (ROOT / "medbench.egg-info").exists():
        pytest.exit(
            f"{ROOT / 'medbench.egg-info'} hides the installation from Inspect, which then knows our tasks by other "
            "names. Building a wheel here left it: remove it.",
            returncode=4,
        )
    if found := strangers(ROOT):
        pytest.exit(
            "these tests would run on code that is not beside them:\n  "
            + "\n  ".join(found)
            + "\nInstall this checkout: "
            "make env, or pip install --no-deps --no-build-isolation --editable . with the Python that runs the tests.",
            returncode=4,
        )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout (../shared/data); tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; see the README for where it comes from")
    return folder
