"""The pages' commands are run as a reader would run them, in an empty folder; what is not run says why, and is checked.

A page in `RUN` is followed from top to bottom. A block of it that is not run has a line ``*Not run by the tests:
REASON.*`` before it, which the reader sees too; another page with commands has ``*Commands not run by the tests:
REASON.*`` under its title, and its commands and options must exist.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from inspect_ai.log import read_eval_log

from medbench.cli import COMMANDS, cli

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUN = ("quickstart.md", "own-benchmark.md", "own-model.md", "extending.md")
_BLOCK = re.compile(
    r"(?P<skip>^\*Not run by the tests: [^\n]+\.\*\n\n)?^```(?P<language>bash|sh|python)\n(?P<text>.*?)^```$",
    re.S | re.M,
)
_INDENTED = re.compile(r"(?:(?<=\n\n)|^)(?:    \S[^\n]*\n)+", re.M)
_COMMAND = re.compile(r"^(?:medbench|inspect|make|pip|python|\.venv/bin/\S+) ")
_PAGE = re.compile(r"\A# [^\n]+\n\n\*Commands not run by the tests: (?P<reason>[^\n]+)\.\*\n")
PAGES = sorted(page.name for page in DOCS.glob("*.md"))


def script(page: str) -> str:
    """What a reader of the page does, in order; a Python block is written to the file that its first line names."""
    steps = ["set -euo pipefail"]
    for found in _BLOCK.finditer((DOCS / page).read_text("utf-8")):
        if found["skip"]:
            continue
        if found["language"] == "python":
            name = found["text"].partition("\n")[0].removeprefix("# ")
            steps.append(f"cat > {name} <<'PYTHON'\n{found['text']}PYTHON")
        else:
            steps.append(found["text"])
    return "\n".join(steps)


def follow(page: str, place: Path) -> str:
    """Follow a page in a folder; return what was printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "INSPECT_DISPLAY": "plain"}
    command = ["bash", "-c", script(page)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for log in place.rglob("*.eval"):  # `inspect eval` ends with 0 even where every sample failed
        read = read_eval_log(str(log), header_only=True)
        assert read.status == "success", f"{page}: {read.eval.task}: {read.error and read.error.message}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which the quick start was followed."""
    place = tmp_path_factory.mktemp("quickstart")
    (place / "said.txt").write_text(follow("quickstart.md", place), "utf-8")
    return place


def test_the_quick_start_ends_in_a_report(folder: Path) -> None:
    said = (folder / "said.txt").read_text("utf-8")
    assert "Accuracy on ward_exam" in said
    assert "wrote report/report.html" in said
    report = json.loads((folder / "report" / "report.json").read_text("utf-8"))
    contamination = next(section for section in report["sections"] if section["key"] == "contamination")
    assert "1 of 4 items" in contamination["findings"][0]


@pytest.mark.slow
def test_own_benchmarks_are_followed(tmp_path: Path) -> None:
    follow("own-benchmark.md", tmp_path)
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    contamination = next(section for section in report["sections"] if section["key"] == "contamination")
    assert "1 of 2 items" in contamination["findings"][0]
    assert list((tmp_path / "page-logs").glob("*.eval"))
    assert len(list((tmp_path / "dry").glob("*.eval"))) == 6


@pytest.mark.slow
def test_own_models_are_followed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    assert "microlab" in follow("own-model.md", tmp_path)


def test_extending_is_followed(tmp_path: Path) -> None:
    follow("extending.md", tmp_path)


def indented(text: str) -> list[str]:
    """Blocks by indentation that hold commands."""
    return [
        block for block in _INDENTED.findall(text) if any(_COMMAND.match(line.strip()) for line in block.split("\n"))
    ]


def test_every_block_is_run_or_says_why_not() -> None:
    unrun: dict[str, str] = {}
    for name in PAGES:
        text = (DOCS / name).read_text("utf-8")
        fenced = list(_BLOCK.finditer(text))
        if name in RUN:
            assert not indented(text), f"{name}: {indented(text)}"
            unrun |= {f"{name}: {found['text'][:30]!r}": found["skip"] for found in fenced if found["skip"]}
        elif fenced or indented(text):
            told = _PAGE.match(text)
            assert told, f"{name} has commands that no test runs, and no reason under its title"
            unrun[name] = told["reason"]
    print("\n".join(f"{where}  {reason.strip()}" for where, reason in unrun.items()))
    assert len(unrun) >= 17
    assert all(len(reason) > 10 for reason in unrun.values())


@pytest.mark.parametrize("name", [*PAGES, "../README.md", "../CONTRIBUTING.md"])
def test_commands_and_options_of_a_page_exist(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    blocks = [found["text"] for found in _BLOCK.finditer(text)] + indented(text)
    for line in "\n".join(blocks).replace("\\\n", " ").split("\n"):
        found = re.match(r"\s*medbench ([a-z][\w-]*)(.*)", line)
        if not found:
            continue
        assert found[1] in COMMANDS, f"{name}: {line}"
        command = cli.get_command(click.Context(cli), found[1])
        assert command is not None
        known = {option for one in _with_subcommands(command) for option in [*one.opts, *one.secondary_opts]}
        for option in re.findall(r"(?<=\s)--[a-z][\w-]*", found[2].partition(" # ")[0]):
            assert option in known, f"{name}: {line}: {option}"


def _with_subcommands(command: click.Command) -> list[click.Parameter]:
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return [parameter for each in (command, *inner) for parameter in each.params]


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


def test_what_is_quoted_of_the_report_is_what_it_says() -> None:
    """Each stretch between the dots of a quotation stands in a text of the code that writes reports and merges."""
    page = (DOCS / "reading-the-report.md").read_text("utf-8")
    said = "\n".join(
        node.value
        for path in [*(DOCS.parent / "reports").rglob("*.py"), DOCS.parent / "trainers" / "merge.py"]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    said += (DOCS.parent / "reports" / "templates" / "report.html.j2").read_text("utf-8")
    quoted = [text.replace("\n", " ") for text in re.findall(r'"([^"]+)"', page)]
    parts = [" ".join(part.split()) for text in quoted for part in text.split("…")]
    assert len(parts) > 40
    assert [part for part in parts if part.strip(" ():;") not in said] == []
    titles = re.findall(r"\*\*([^*\"]+)\*\*", page.partition("If you have to find the cause")[2])
    assert len(titles) > 12
    assert [title for title in titles if f"\n{title}\n" not in said] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_sites_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    assert [name for name in PAGES if f"- {name}\n" not in navigation] == []
