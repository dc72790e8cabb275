"""CONTRIBUTING.md's recipes, followed word by word in a copy of the checkout: each touches one file, a page two."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("tasks", "probes", "trainers", "reports")
# What the recipes say that is touched; a page is two files, its test among them.
TOUCHED = {
    "medbench/leakage/beside.py",
    "medbench/merging/coefficients.py",
    "medbench/reading/rules/words.en.yaml",
    "reports/gap/asked.py",
    "tasks/wardqa.py",
    "tests/tasks/test_wardqa.py",
}
_RECIPE = re.compile(r"```(?:python|yaml)\n# (?P<path>[\w./]+)(?P<how>[^\n]*)\n(?P<text>.*?)```", re.S)
# The new page, every page beside it, the method against its formula in all formats, every section, every word.
WANTED = "wardqa or test_pages or capped or test_no_estimate_stands_bare or test_every_example or test_looks"
FILES = (
    "tests/tasks/test_wardqa.py",
    "tests/tasks/test_pages.py",
    "tests/merging/test_methods.py",
    "tests/reports/test_truth.py",
    "tests/reading/test_rules.py",
    "tests/leakage/test_looks.py",
)


def follow(recipe: re.Match[str], root: Path) -> str:
    """Do what a recipe says to the copy; return the path that it touches."""
    path, how, text = root / recipe["path"], recipe["how"].strip(" ,"), recipe["text"]
    if how == "at the end":
        path.write_text(f"{path.read_text('utf-8').rstrip()}\n\n\n{text}", "utf-8")
    elif how.startswith("under "):
        head = f"  {how.removeprefix('under ')}:\n    words:\n"
        before, found, after = path.read_text("utf-8").partition(head)
        assert found, f"{path} has no {head!r}"
        path.write_text(before + found + text + after, "utf-8")
    else:
        assert not how, f"a recipe says {how!r}, which this test does not know"
        assert not path.exists()
        path.write_text(text, "utf-8")
    return recipe["path"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which every recipe was followed, and an installation of it in `site`."""
    root = tmp_path_factory.mktemp("contributed") / "medbench"
    ignored = shutil.ignore_patterns("*.pyc", "*.egg-info")  # what numba compiled comes along: minutes of work
    for folder in ("medbench", *ROOMS, "tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, root / file)
    site = root / "site"
    (site / "medbench").mkdir(parents=True)
    for one in [*(root / "medbench").iterdir(), *(root / room for room in ROOMS)]:
        (site / "medbench" / one.name).symlink_to(one)
    # an editable installation answers before the path is asked, with the checkout that the copy is of
    (site / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path[:] = [one for one in sys.meta_path if '__editable__' not in one.__module__]\n"
    )
    installed = site / "medbench-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: medbench\nVersion: 0.1.0\n")
    (installed / "entry_points.txt").write_text("[inspect_ai]\nmedbench = medbench._registry\n")
    (installed / "direct_url.json").write_text(json.dumps({"url": root.as_uri(), "dir_info": {"editable": True}}))
    touched = [follow(recipe, root) for recipe in _RECIPE.finditer((root / "CONTRIBUTING.md").read_text("utf-8"))]
    assert sorted(touched) == sorted(TOUCHED)
    return root


def run(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # -P: the copy's own `medbench/` has no rooms in it; `site` has
    environment = {**os.environ, "PYTHONPATH": str(copy / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-P", *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


def test_each_recipe_touches_one_file(copy: Path) -> None:
    changed = set()
    for folder in ("medbench", *ROOMS, "tests"):
        for path in (copy / folder).rglob("*"):
            relative = path.relative_to(copy)
            if path.is_file() and "__pycache__" not in relative.parts:
                own = ROOT / relative
                if not own.exists() or not filecmp.cmp(path, own, shallow=False):
                    changed.add(relative.as_posix())
    assert changed == TOUCHED


@pytest.mark.slow
def test_the_tests_that_are_there_hold_what_was_added(copy: Path) -> None:
    done = run(copy, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "-k", WANTED, *FILES)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for expected in ("test_a_key_outside_the_options_is_named", "capped", "wardqa", "test_no_estimate_stands_bare"):
        assert expected in done.stdout


def test_the_recipes_are_written_as_ruff_writes(copy: Path) -> None:
    written = [path for path in sorted(TOUCHED) if path.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        done = run(copy, "-m", "ruff", *command, *written)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_what_was_added_is_found_by_itself(copy: Path) -> None:
    code = (
        "from medbench.benchmark import catalog; import medbench.merging.methods\n"
        "from medbench.merging.registry import METHODS; from medbench.reports import gap\n"
        "from medbench.answers import extract_choice\n"
        "print('wardqa' in catalog.names(), 'capped' in METHODS)\n"
        "print('asked' in {one.__module__.rpartition('.')[2] for one in gap.SECTIONS})\n"
        "print(extract_choice('For fever we plump for B.').letters)"
    )
    done = run(copy, "-c", code)
    assert done.stdout.split("\n")[:3] == ["True True", "True", "('B',)"], done.stderr[-2000:]


@pytest.mark.slow
def test_the_signal_becomes_a_finding(copy: Path) -> None:
    question = (
        "A 54-year-old farmer comes to the clinic because of three weeks of burning pain behind the breastbone after "
        "large meals, worse when he lies down at night. Which of the following is the best treatment for him?"
    )
    row = {"question": question, "options": ["Omeprazole", "Heparin", "Furosemide", "Insulin"], "answer": "A"}
    (copy / "own.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (copy / "own.yaml").write_text("source: own.jsonl\n", "utf-8")
    (copy / "corpus.jsonl").write_text(json.dumps({"text": f"From the USMLE: {question}"}) + "\n", "utf-8")
    done = run(copy, "-m", "medbench.cli", "audit", "corpus.jsonl", "--against", "own.yaml", "--out", "audit")
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (copy / "audit" / "findings.jsonl").read_text("utf-8").splitlines()]
    assert "exam_named" in {row["signal"] for row in rows}
