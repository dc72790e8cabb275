"""Each page's docstring against other pages and its data: a copied page that still cites the old paper is noticed."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from medbench.benchmark import catalog

ROOT = Path(__file__).resolve().parents[2]
PAPER = re.compile(r"arxiv(?:\.org/abs/|[: ]\s*)(\d{4}\.\d{4,5})", re.I)


class Page:
    """What a page's source says of itself."""

    def __init__(self, path: Path) -> None:
        tree = ast.parse(path.read_text("utf-8"))
        self.name = path.stem
        self.about = ast.get_docstring(tree) or ""
        self.papers = set(PAPER.findall(self.about))
        self.tasks = {
            node.name: ast.get_docstring(node) or ""
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and any(getattr(d, "id", "") == "task" for d in node.decorator_list)
        }
        # a page of the items of another one takes its source from there
        self.borrowed = {
            (node.module or "").rpartition(".")[2]
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and any(alias.name == "HUB" for alias in node.names)
        }
        self.repositories = {
            word.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HubSource"
            for word in node.keywords
            if word.arg == "repository" and isinstance(word.value, ast.Constant)
        }


def problems(folder: Path) -> list[str]:
    pages = [Page(path) for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    found: list[str] = []
    for kind in ("papers", "repositories"):
        holders: dict[str, list[str]] = defaultdict(list)
        for page in pages:
            for one in getattr(page, kind):
                holders[one].append(page.name)
        found += [f"{', '.join(names)}: all have {one}" for one, names in holders.items() if len(names) > 1]
    for page in pages:
        if not page.tasks:
            found.append(f"{page.name}: no task")
        if page.repositories and not page.papers and "shibing624" not in page.about:  # F5/F6 have no paper of their own
            found.append(f"{page.name}: names no paper")
        if page.borrowed and not all(f"`{other}`'s" in page.about for other in page.borrowed):
            found.append(f"{page.name}: does not say that its items are those of {', '.join(sorted(page.borrowed))}")
        for command, named in re.findall(r"inspect eval (medbench/|tasks/)(\w+)", page.about):
            if named not in (page.tasks if command == "medbench/" else {page.name}):
                found.append(f"{page.name}: its command runs {command}{named}")
        found += [f"{page.name}: {task} has no docstring" for task, text in page.tasks.items() if not text]
    return found


def test_every_page_speaks_of_itself() -> None:
    assert len(list((ROOT / "tasks").glob("*.py"))) > 10
    assert problems(ROOT / "tasks") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ([], ["copied, medqa: all have 2009.13081", "copied, medqa: all have GBaker", "copied: its command runs"]),
        ([("2009.13081", "2601.00001"), ("GBaker/MedQA-USMLE-4-options", "x/y"), ("medqa", "copied")], []),
        ([("https://arxiv.org/abs/2009.13081", ""), ("GBaker", "x"), ("medqa", "copied")], ["copied: names no paper"]),
    ],
)
def test_a_copied_page_is_noticed(tmp_path: Path, change: list[tuple[str, str]], told: list[str]) -> None:
    text = (ROOT / "tasks" / "medqa.py").read_text("utf-8")
    (tmp_path / "medqa.py").write_text(text, "utf-8")
    for old, new in change:
        text = text.replace(old, new)
    (tmp_path / "copied.py").write_text(text, "utf-8")
    found = problems(tmp_path)
    assert bool(found) == bool(told)
    assert all(any(line.startswith(start) for line in found) for start in told), found


def test_every_task_says_what_it_is() -> None:
    for name in catalog.names():
        about = catalog.about(name)
        assert about is not None, f"{name}: its page has no ABOUT"
        stated = re.search(r"\(([\d,]+) items", inspect.getdoc(catalog.function(name)) or "")
        if stated:
            assert int(stated[1].replace(",", "")) == about.items, f"{name}: its docstring counts other items"


# What comes with the package, and pages whose published data lie beside the checkout.
OFFLINE = {
    **dict.fromkeys(("microlab_exam", "microlab_open", "microlab_safety", "refusal", "trace", "trace_signals"), ""),
    "medqa": "medqa/us_4_options_test.jsonl",
    "pubmedqa": "pubmedqa/ori_pqal.json",
    "pubmedqa_long": "pubmedqa/ori_pqal.json",
    "xstest": "xstest/xstest_prompts.csv",
}


@pytest.mark.parametrize("name", OFFLINE)
def test_items_and_version_are_those_of_the_task(name: str, request: pytest.FixtureRequest) -> None:
    file = OFFLINE[name]
    args = {"source": str(request.getfixturevalue("shared_data") / file)} if file else {}
    made, about = catalog.make(name, args), catalog.about(name)
    assert about is not None
    assert (len(made.dataset), made.version) == (about.items, about.version)


def test_the_list_of_tasks_names_all() -> None:
    from medbench.benchmark.command import tasks

    shown = CliRunner().invoke(tasks, [], env={"COLUMNS": "120"}).stdout
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert set(catalog.names()) <= set(rows)
    assert rows["medqa"] == ["medqa", "1,273", "en", "accuracy", "2", "GBaker/MedQA-USMLE-4-options"]
