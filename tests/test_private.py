"""Private parts of other packages are imported in `medbench/private/` alone. Read from the sources, not from a run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log

from medbench.private.inspect import replaced_logs_read_again

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("medbench", "tasks", "probes", "trainers", "reports", "tests", "benchmarks", "studies")
OWNER = "medbench/private/"
# Modules that their packages document; anything else below the top is a part that a release may move.
PUBLIC = ("transformers.utils", "trl.data_utils", "peft.utils.merge_utils")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of what a file imports absolutely, each name of `from`; and of private settings."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and node.attr == "_attn_implementation":
            yield node.lineno, "transformers.config._attn_implementation"


def is_private(name: str) -> bool:
    package, *parts = name.split(".")
    if package == "inspect_ai":
        return any(part.startswith("_") for part in parts)
    if package in ("transformers", "peft", "trl"):
        return len(parts) > 1 and not name.startswith(PUBLIC)
    return False


def violations(root: Path) -> list[str]:
    found = []
    for path in sorted(path for place in PLACES for path in (root / place).rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        if not relative.startswith(OWNER):
            found += [f"{relative}:{line} imports {name}" for line, name in imported(path) if is_private(name)]
    return found


def test_private_parts_are_imported_in_one_place() -> None:
    assert violations(ROOT) == [], "use or extend medbench/private/"


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("from inspect_ai._util.error import PrerequisiteError", True),
        ("    from inspect_ai.model._model import active_model", True),
        ("import inspect_ai._util.zipfile", True),
        ("from inspect_ai.model import _model", True),
        ("from inspect_ai.util import registry_info", False),
        ("from transformers.cache_utils import DynamicLayer", True),
        ("from transformers import DynamicLayer", False),
        ("from transformers.utils import logging", False),
        ("from peft.tuners.lora import Linear", True),
        ("from trl.trainer.sft_trainer import SFTTrainer", True),
        ("kind = model.config._attn_implementation", True),
    ],
)
def test_a_violation_would_be_seen(tmp_path: Path, line: str, refused: bool) -> None:
    for place in (*PLACES, OWNER):
        (tmp_path / place).mkdir(exist_ok=True)
    text = f"def f():\n    {line.strip()}\n"
    (tmp_path / "reports" / "a.py").write_text(text)
    (tmp_path / OWNER / "b.py").write_text(text)
    assert [found.split(":")[0].split()[0] for found in violations(tmp_path)] == ["reports/a.py"] * refused


def test_everything_private_is_used_somewhere() -> None:
    public = [
        element.value
        for path in (ROOT / OWNER).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for element in getattr(node.value, "elts", [])
        if isinstance(element, ast.Constant)
    ]
    ours = OWNER.replace("/", ".")
    paths = [path for place in PLACES for path in (ROOT / place).rglob("*.py")]
    used = {name.rpartition(".")[2] for path in paths for _, name in imported(path) if name.startswith(ours)}
    assert len(public) > 15
    assert sorted(set(public) - used) == []


def test_the_front_needs_no_private_part_of_a_heavy_package() -> None:
    code = "import sys, medbench.private.inspect; print([n for n in ('torch', 'transformers') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def log_of(samples: int, directory: Path) -> Path:
    dataset = [Sample(input=str(number) * 500, target="a") for number in range(samples)]
    return Path(
        evaluate(Task(dataset=dataset), model="mockllm/model", log_dir=str(directory), display="none")[0].location
    )


def test_a_log_replaced_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """As a worker reads another's. Without it about a third of these readings fail ("EOCD not found")."""
    log, other = log_of(1, tmp_path / "logs"), log_of(300, tmp_path / "other")
    versions, ended = (log.read_bytes(), other.read_bytes()), threading.Event()

    def replace() -> None:
        number = 0
        while not ended.wait(0.003):
            number += 1
            (tmp_path / "next").write_bytes(versions[number % 2])
            os.replace(tmp_path / "next", log)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        with replaced_logs_read_again():
            found = {read_eval_log(str(log), header_only=True).eval.dataset.samples for _ in range(200)}
    finally:
        ended.set()
        writer.join()
    assert found == {1, 300}


def test_a_damaged_log_is_still_refused(tmp_path: Path) -> None:
    log = log_of(1, tmp_path)
    log.write_bytes(log.read_bytes()[:-30])
    with replaced_logs_read_again(), pytest.raises(ValueError, match="EOCD"):
        read_eval_log(str(log), header_only=True)
