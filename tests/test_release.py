"""One version in code, changelog and citation; locks that pin every file by its hash."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import medbench
from medbench.cli import cli

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
RELEASES = re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", CHANGELOG, re.MULTILINE)
LOCKS = ("requirements.lock", *(f"locks/{name}.lock" for name in ("torch", "torch-cpu", "build", "docs")))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_changelog_lists_releases_from_the_newest_down() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings == ["Unreleased", *(f"{version} ({day})" for version, day in RELEASES)]
    versions = [parts(version) for version, _ in RELEASES]
    days = [date.fromisoformat(day) for _, day in RELEASES]
    assert versions == sorted(set(versions), reverse=True)
    assert days == sorted(days, reverse=True)


def test_the_citation_is_of_the_newest_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (str(citation["version"]), str(citation["date-released"])) == RELEASES[0]


def test_the_code_is_the_newest_release_or_on_its_way_to_the_next() -> None:
    version, dev, _ = medbench.__version__.partition(".dev0")
    assert parts(version) > parts(RELEASES[0][0]) if dev else version == RELEASES[0][0]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "medbench.__version__"}
    said = CliRunner().invoke(cli, ["--version"])
    assert said.output == f"medbench, version {medbench.__version__}\n"


def entries(lock: str) -> dict[str, str]:
    """Package -> its whole entry."""
    text = (ROOT / lock).read_text("utf-8")
    found = re.findall(r"^[^ #\n].*\n(?: .*\n)*", text, re.MULTILINE)
    return {re.split("[=; ]", entry, maxsplit=1)[0]: entry for entry in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_hashes(lock: str) -> None:
    for name, entry in entries(lock).items():
        head, *hashes = re.split(r"\s*\\\n\s+", entry.strip())
        assert re.fullmatch(rf"{re.escape(name)}==[^\s;=*]+( ; .+)?", head), entry
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), name


def test_the_lock_holds_what_the_project_asks_for() -> None:
    asked = [*PROJECT["project"]["dependencies"]]
    for extra in ("local", "gguf", "train", "cluster", "api", "sheets", "dev"):
        asked += PROJECT["project"]["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=!~; ]", one, maxsplit=1)[0].lower().replace("_", "-") for one in asked} - {"medbench"}
    assert sorted(names - entries("requirements.lock").keys()) == ["torch"]


def test_torch_is_locked_for_both_builds_and_alone_brings_cuda() -> None:
    """The CPU build must not bring gigabytes, and the public index's must not miss its libraries."""
    heavy = re.compile("nvidia-.*|cuda-.*|triton")
    assert not [name for name in entries("requirements.lock") if heavy.fullmatch(name)]
    public, cpu = entries("locks/torch.lock"), entries("locks/torch-cpu.lock")
    assert [name for name in public if not heavy.fullmatch(name)] == ["torch"]
    assert len(public) > 10
    assert list(cpu) == ["torch"]
    version = re.match(r"torch==(\S+)", public["torch"])
    assert version
    assert cpu["torch"].startswith(f"torch=={version[1]}+cpu ")
