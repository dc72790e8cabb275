"""The private parts of Inspect that medbench uses, each with why no public one does."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import inspect_ai._util.zipfile  # noqa: F401  registers zstandard, in which members of .eval archives are compressed
import yaml

# Tasks by name, from a path or the registry. `inspect_ai.list_tasks` finds files but makes nothing.
from inspect_ai._eval.loader import create_tasks, load_tasks

# Entry points are loaded when Inspect's own commands start; outside them, `ensure_entry_points` does it.
from inspect_ai._util.entrypoints import ensure_entry_points

# The error whose message Inspect shows instead of a traceback.
from inspect_ai._util.error import PrerequisiteError

# Of the registry only `registry_info` is public.
from inspect_ai._util.registry import is_registry_object, registry_add, registry_find, registry_lookup

# The model of the evaluation that makes a task. `get_model()` makes one where there is none.
from inspect_ai.model._model import active_model
from inspect_ai.util import AdaptiveConcurrency
from rich.text import Text

from medbench.errors import MedbenchError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inspect_ai.log import EvalLog
    from inspect_ai.model import ModelInfo
    from inspect_ai.solver import TaskState

__all__ = [
    "PrerequisiteError",
    "active_controller",
    "active_model",
    "answers_of_choices",
    "create_tasks",
    "ensure_entry_points",
    "forget_model_infos",
    "is_registry_object",
    "load_tasks",
    "open_connections",
    "parsed_arguments",
    "reason",
    "registered_model_info",
    "registry_add",
    "registry_find",
    "registry_lookup",
    "replaced_logs_read_again",
    "skip_model_database",
]


def reason(error: PrerequisiteError) -> str:
    """What the error says, on one line and without the markup that Inspect's own console shows in colour."""
    plain = Text.from_markup(str(error.message)).plain
    return " ".join(plain.removeprefix("ERROR: ").split())


def parsed_arguments(arguments: tuple[str, ...]) -> dict[str, Any]:
    """``NAME=VALUE`` pairs as `inspect eval -T` reads them: values are YAML.

    Raises:
        MedbenchError: a value is no YAML.
    """
    from inspect_ai._cli.util import parse_cli_args

    try:
        return parse_cli_args(arguments)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise MedbenchError(
            f"-T takes NAME=VALUE, the value as YAML; {', '.join(arguments)!r:.200} is not: {told}"
        ) from None


def answers_of_choices(text: str, labels: tuple[str, ...], multiple: bool) -> list[str]:
    """The letters that Inspect's own `multiple_choice` solver reads in a completion, sorted.

    Public is only the solver as a whole, which generates as well.
    """
    from inspect_ai.solver._multiple_choice import parse_answers

    state = SimpleNamespace(output=SimpleNamespace(completion=text), choices=labels)
    return sorted(parse_answers(cast("TaskState", state), multiple))


def registered_model_info(name: str) -> ModelInfo | None:
    """What `set_model_info` was told of a model; public `get_model_info` makes the model to find out."""
    with contextlib.suppress(ImportError):
        from inspect_ai.model._model_info import _get_custom_model_info

        return _get_custom_model_info(name)
    return None


def skip_model_database(name: str, info: ModelInfo) -> None:
    """Let Inspect find a registered model's `info` without reading its database, 0.2 s.

    Where a release has this no more, only that time is lost.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from inspect_ai.model._model_info import _result_cache

        for resolve_provider in (False, True):
            _result_cache[name, resolve_provider] = info


_opened: weakref.WeakSet[Any] = weakref.WeakSet()


def open_connections(limit: int) -> None:
    """Let the running evaluation send up to `limit` requests at once to the model that is asked.

    Unless told otherwise Inspect starts with 20 connections and doubles them to 100, for the sake of remote services'
    rate limits; `ModelAPI.max_connections` has no say, and the public interface has no other way. Each controller is
    met once, so that what a user sets during the run (`inspect ctl`) stands. Where a release has this no more, only
    speed is lost.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from inspect_ai.util._concurrency import _active_controller

        controller = _active_controller.get()
        if controller is None or controller in _opened:
            return
        _opened.add(controller)
        if controller.max == AdaptiveConcurrency().max:
            controller.set_max(limit)
            controller._set_limit(limit, "manual")


_REPLACED_AT_MOST = 20  # times in a row, for which a writer would have to be at it all the time


@contextlib.contextmanager
def replaced_logs_read_again() -> Iterator[None]:
    """Within the block, a log that another process replaces while Inspect reads it is read again.

    An eval set reads the headers of all logs in its directory, each in several steps and by name; another worker's next
    snapshot of its log may take the place of the file in between, whose parts then do not fit together. Inspect guards
    against that on S3 alone.
    """
    from inspect_ai.log import EvalLogInfo, _file

    read = cast("Callable[..., Awaitable[EvalLog]]", _file.read_eval_log_async)

    async def steadily(log_file: object, *args: object, **kwargs: object) -> EvalLog:
        path = Path(str(log_file.name if isinstance(log_file, EvalLogInfo) else log_file).removeprefix("file://"))
        for _ in range(_REPLACED_AT_MOST):
            before = _identity(path)
            try:
                log = await read(log_file, *args, **kwargs)
            except Exception:
                if _identity(path) == before:
                    raise
            else:
                if _identity(path) == before:
                    return log
        return await read(log_file, *args, **kwargs)

    setattr(_file, read.__name__, steadily)
    try:
        yield
    finally:
        setattr(_file, read.__name__, read)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes as a file is replaced or written; None where there is none of this name, or it is elsewhere."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


# What follows is used by tests alone, which have to see the parts above at work.


def forget_model_infos() -> None:
    """Forget what `set_model_info` was told."""
    from inspect_ai.model._model_info import clear_model_info_cache

    clear_model_info_cache()


@contextlib.contextmanager
def active_controller(name: str) -> Iterator[Any]:
    """A limit of connections to the model `name`, in force within the block as one is within an evaluation."""
    from inspect_ai.util._concurrency import AdaptiveConcurrencyController, _active_controller

    controller = AdaptiveConcurrencyController(name, AdaptiveConcurrency(), visible=False)
    token = _active_controller.set(controller)
    try:
        yield controller
    finally:
        _active_controller.reset(token)
