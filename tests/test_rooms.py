"""Rooms import the core and nothing beside it; the core imports no room. Read from the source, not from a run."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("tasks", "probes", "trainers", "reports")
FRONT_DOOR = {"medbench/__init__.py", "medbench/cli.py", "medbench/_registry.py"}


def imported_modules(path: Path, package: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            module = base + (node.module or "")
            names |= {module} | {f"{module}.{alias.name}".replace("..", ".") for alias in node.names}
    return names


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "medbench" and parts[1] in ROOMS else None


def violations(root: Path = ROOT) -> list[str]:
    found = []
    for place in ("medbench", *ROOMS):
        for path in sorted((root / place).rglob("*.py")):
            relative = path.relative_to(root).as_posix()
            if relative in FRONT_DOOR:
                continue
            own = None if place == "medbench" else place
            dotted = ".".join(path.relative_to(root).parent.parts)
            package = dotted if own is None else f"medbench.{dotted}"
            for module in sorted(imported_modules(path, package)):
                if module.split(".")[0] in ROOMS or room_of(module) not in (None, own):
                    found.append(f"{relative} imports {module}")
    return found


def test_rooms_import_only_the_core() -> None:
    assert violations() == []


def test_a_violation_would_be_seen(tmp_path: Path) -> None:
    for place in ("medbench", *ROOMS):
        (tmp_path / place).mkdir()
    (tmp_path / "medbench" / "a.py").write_text("from medbench.tasks import medqa\n")
    (tmp_path / "tasks" / "b.py").write_text("from ..probes import refusal\n")
    (tmp_path / "reports" / "c.py").write_text("import trainers.merge\n")
    (tmp_path / "probes" / "d.py").write_text("from medbench.thinking import split\n")
    assert {line.split()[0] for line in violations(tmp_path)} == {"medbench/a.py", "tasks/b.py", "reports/c.py"}
