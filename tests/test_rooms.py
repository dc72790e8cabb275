"""Rooms import the core and nothing beside it; the core imports no room, and its folders import only what lies below.

Read from the source, not from a run.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("tasks", "probes", "trainers", "reports")
FRONT_DOOR = {"medbench/__init__.py", "medbench/__main__.py", "medbench/cli.py", "medbench/_registry.py"}
# The core from the bottom up: a folder may import those of the lines above its own. A `command.py` is a way in from
# outside, and may import any.
LAYERS = (
    {"errors", "advice", "compiling"},
    {"private", "files", "thinking", "stats"},
    {"sources"},
    {"reading", "merging"},
    {"answers", "provider", "surface"},
    {"scoring"},
    {"refusal"},
    {"benchmark"},
    {"leakage", "predictions", "claims", "meta", "served", "fetching"},
    {"contamination"},
)


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


def upward(root: Path = ROOT) -> list[str]:
    """Imports between the core's folders that point up or sideways."""
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    found = []
    for path in sorted((root / "medbench").rglob("*.py")):
        relative = path.relative_to(root)
        own = relative.parts[1].removesuffix(".py")
        if relative.as_posix() in FRONT_DOOR or path.name == "command.py":
            continue
        for module in sorted(imported_modules(path, ".".join(relative.parent.parts))):
            parts = module.split(".")
            other = parts[1] if parts[0] == "medbench" and len(parts) > 1 else own
            if other not in (own, "__version__", "__file__") and level.get(other, own not in level) >= level.get(
                own, -1
            ):
                found.append(f"{relative} imports {module}")
    return found


def test_every_part_of_the_core_has_its_layer() -> None:
    parts = {path.name.removesuffix(".py") for path in (ROOT / "medbench").iterdir() if path.suffix in ("", ".py")}
    assert {part for part in parts if not part.startswith("_")} - {"cli", "data"} == set().union(*LAYERS)


def test_the_cores_folders_import_only_what_lies_below() -> None:
    assert upward() == []


def test_an_arrow_that_points_up_would_be_seen(tmp_path: Path) -> None:
    for folder in ("files", "sources", "benchmark"):
        (tmp_path / "medbench" / folder).mkdir(parents=True)
    (tmp_path / "medbench" / "sources" / "a.py").write_text("from medbench.benchmark import page\n")
    (tmp_path / "medbench" / "files" / "b.py").write_text("from medbench import thinking\n")
    (tmp_path / "medbench" / "files" / "command.py").write_text("from medbench import leakage\n")
    (tmp_path / "medbench" / "benchmark" / "c.py").write_text("from medbench.sources import items\n")
    assert {line.split()[0] for line in upward(tmp_path)} == {"medbench/sources/a.py", "medbench/files/b.py"}
