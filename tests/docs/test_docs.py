"""The quick start's commands and the notebook's cells are run as a reader would run them, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"(?P<skip><!-- not run: [^\n]+ -->\n)?```(?P<language>bash|python)\n(?P<text>.*?)```", re.S)


def blocks(page: Path) -> list[str]:
    """The commands of a page that are to be run, in order."""
    return [found["text"] for found in _BLOCK.finditer(page.read_text("utf-8")) if not found["skip"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which the quick start was followed."""
    place = tmp_path_factory.mktemp("quickstart")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = "set -euo pipefail\n" + "\n".join(blocks(DOCS / "quickstart.md"))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (place / "said.txt").write_text(done.stdout, "utf-8")
    return place


def test_the_quick_start_ends_in_a_report(folder: Path) -> None:
    said = (folder / "said.txt").read_text("utf-8")
    assert "Accuracy on ward_exam" in said
    assert "wrote report/report.html" in said
    report = json.loads((folder / "report" / "report.json").read_text("utf-8"))
    contamination = next(section for section in report["sections"] if section["key"] == "contamination")
    assert "1 of 4 items" in contamination["findings"][0]


def test_the_notebook_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    notebook = json.loads((DOCS / "notebook.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 9
    for cell in cells:
        exec(compile(cell, "docs/notebook.ipynb", "exec"), names)
    compared = names["medbench"].compare("model-b", "model-a", logs="logs")  # type: ignore[attr-defined]
    assert compared.iloc[0].difference == pytest.approx(0.25)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
