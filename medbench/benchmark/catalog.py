"""What there is to evaluate, by the name that a user gives: one place for `import`, `audit` and `sweep`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medbench.errors import MedbenchError, no_file, unknown

if TYPE_CHECKING:
    from inspect_ai import Task

    from medbench.benchmark.page import About
    from medbench.benchmark.task import HubSource

Of = TypeVar("Of")
_MAPPINGS = (".yaml", ".yml")


def names() -> list[str]:
    """Registered tasks of this package, without `medbench/`, in order."""
    from inspect_ai.util import registry_info

    from medbench.private.inspect import ensure_entry_points, registry_find

    ensure_entry_points("medbench")
    found = registry_find(lambda info: info.type == "task" and info.name.startswith("medbench/"))
    return sorted(registry_info(one).name.removeprefix("medbench/") for one in found)


def is_mapping(name: str) -> bool:
    """Whether a name stands for an own set: a file with the parameters of `medbench/custom`."""
    return Path(name).suffix in _MAPPINGS


def check(name: str) -> None:
    """Refuse a bare name that is no task, before anything else is done.

    Raises:
        MedbenchError: there is no such task, with the nearest names.
    """
    bare = name.removeprefix("medbench/")
    if "/" not in bare and not Path(name.partition("@")[0]).suffix and bare not in names():
        prefix = name.removesuffix(bare)
        raise unknown("task", name, [prefix + known for known in names()])


def make(name: str, args: Mapping[str, Any] | None = None) -> Task:
    """The task that a user's name stands for.

    Args:
        name: ``medqa``, ``medbench/medqa`` or any task that Inspect knows; ``FILE.py`` or ``FILE.py@NAME``; or a
            mapping file of an own set (``FILE.yaml``, see `medbench/custom`).
        args: its ``-T`` parameters.

    Raises:
        MedbenchError: there is no such task, with the nearest names; a parameter that it does not take; several tasks
            in one file; what the task itself says of its source.
    """
    args = dict(args or {})
    file = Path(name.partition("@")[0])
    check(name)
    if (is_mapping(name) or file.suffix == ".py") and not file.is_file():
        raise no_file(file, "mapping file" if is_mapping(name) else "page")
    if is_mapping(name):
        name, args = "medbench/custom", {"mapping": str(file), **args}
    elif "/" not in name and not file.suffix:
        name = f"medbench/{name}"
    return _loaded(name, file, args)


def _loaded(name: str, file: Path, args: dict[str, Any]) -> Task:
    from medbench.benchmark.page import REST
    from medbench.private.inspect import create_tasks, load_tasks

    try:
        # Inspect looks files up by a pattern relative to a folder.
        alone = Path(name).is_file()
        found = create_tasks([file.name], args, root_dir=file.parent) if alone else load_tasks([name], args)
    except (LookupError, FileNotFoundError, NotImplementedError) as error:
        raise MedbenchError(f"task {name}: {error}") from None
    if not found and file.suffix != ".py":
        raise unknown("task", name, [f"medbench/{one}" for one in names()])
    if len(found) != 1:
        raise MedbenchError(
            f"task {name}: found {len(found)}; expected one. Give a registered name (medbench/medqa), or FILE.py@NAME."
        )
    # Inspect and our pages leave out with a warning what a task does not take, and the run would be of something else.
    taken = parameters(found[0])
    rest = [name for name, parameter in taken.items() if parameter.kind is parameter.VAR_KEYWORD]
    if rest in ([], [REST]):
        for key in args:
            if key not in taken:
                raise unknown(f"argument of task {name}", key, [one for one in taken if one != REST])
    return found[0]


def function(name: str) -> Callable[..., Task]:
    """What makes the registered task ``medbench/NAME``."""
    from medbench.private.inspect import registry_lookup

    found = registry_lookup("task", f"medbench/{name}")
    assert callable(found)
    return found


def about(name: str) -> About | None:
    """What the page of ``medbench/NAME`` says of it, or None where it says nothing."""
    from medbench.benchmark.page import About

    return _of_page(name, "ABOUT", About)


def published(name: str) -> HubSource | None:
    """The hub data set that ``medbench/NAME`` reads by default, or None."""
    from medbench.benchmark.task import HubSource

    return _of_page(name, "HUB", HubSource)


def _of_page(name: str, constant: str, kind: type[Of]) -> Of | None:
    found = getattr(sys.modules[function(name).__module__], constant, None)
    if isinstance(found, dict):  # a page of several tasks
        found = found.get(name)
    return found if isinstance(found, kind) else None


def parameters(task: Task) -> Mapping[str, inspect.Parameter]:
    """The `-T` parameters of a made task; empty where it was not registered."""
    from inspect_ai.util import registry_info

    from medbench.private.inspect import is_registry_object, registry_lookup

    made_by = registry_lookup("task", registry_info(task).name) if is_registry_object(task) else None
    return inspect.signature(made_by).parameters if callable(made_by) else {}
