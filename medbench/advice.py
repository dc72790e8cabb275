"""Advice in messages that works where it is read: how to install what is missing.

medbench is run from a checkout, from a wheel or from an index, and each of them brings an optional part by another
command. No message spells one out: it asks here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

PACKAGE = Path(__file__).resolve().parent


def install(extras: str) -> str:
    """The command that adds optional parts to this installation, e.g. ``pip install -e '/home/me/medbench[local]'``.

    Args:
        extras: one of the extras in pyproject.toml, or several, joined by commas.
    """
    checkout = PACKAGE.parent
    if _is_checkout(checkout):
        return f"pip install -e {shlex.quote(f'{checkout}[{extras}]')}"
    return f"pip install {shlex.quote(_requirement(extras, _direct_url()))}"


def package(name: str) -> str:
    """The command that installs a package that is no part of medbench, e.g. ``pip install gcsfs``."""
    return f"pip install {name}"


def missing(extras: str) -> list[str]:
    """The packages of optional parts that cannot be imported, by the names that pip knows, without importing any.

    Args:
        extras: as in `install`.
    """
    wanted = [name for extra in extras.split(",") for name in _packages(extra)]
    return [name for name in dict.fromkeys(wanted) if not _importable(name.replace("-", "_"))]


def _packages(extra: str) -> list[str]:
    """What an extra brings, by the metadata of this installation; those of the extras that it names too."""
    try:
        requirements = distribution("medbench").requires or []
    except PackageNotFoundError:
        return []
    found: list[str] = []
    for requirement in requirements:
        name, _, marker = requirement.partition(";")
        if re.search(rf"""extra == ["']{extra}["']""", marker):
            own = re.match(r"medbench\[(.+)\]", name)
            found += _packages(own[1]) if own else [re.split(r"[\[<>=!~ ]", name.strip())[0]]
    return found


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook refuses it, or it was taken out of sys.modules
        return False


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.is_file() and 'name = "medbench"' in project.read_text("utf-8", errors="replace")


def _direct_url() -> dict[str, object]:
    """Where pip got this installation (PEP 610); empty if from an index."""
    try:
        return dict(json.loads(distribution("medbench").read_text("direct_url.json") or "{}"))
    except (PackageNotFoundError, ValueError):
        return {}


def _requirement(extras: str, origin: dict[str, object]) -> str:
    """What names this installation with `extras` to pip: its wheel or folder if it still exists, its URL, or its name.

    The bare name works without an index too: pip takes the medbench that is installed, and adds what the extra needs.
    """
    url = str(origin.get("url") or "")
    if url.startswith("file:"):
        path = unquote(urlparse(url).path)
        return f"{path}[{extras}]" if Path(path).exists() else f"medbench[{extras}]"
    repository = origin.get("vcs_info")
    if isinstance(repository, dict):
        return f"medbench[{extras}] @ {repository.get('vcs')}+{url}@{repository.get('commit_id')}"
    return f"medbench[{extras}] @ {url}" if url else f"medbench[{extras}]"
