"""What Inspect finds under `medbench/`, through the `inspect_ai` entry point. A front door to the rooms."""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inspect_ai.model import modelapi
from inspect_ai.scorer import Scorer
from inspect_ai.util import RegistryInfo, registry_info

from medbench import tasks as _tasks
from medbench.claims.scorer import claim_entailment
from medbench.errors import unknown
from medbench.private.inspect import is_registry_object, registry_add
from medbench.probes.refusal import refusal
from medbench.probes.trace import trace, trace_signals
from medbench.probes.xstest import xstest
from medbench.refusal.scorer import declined, refusal_judge
from medbench.refusal.scorer import refusal as refusal_class
from medbench.scoring.accuracy import decision_accuracy, named_accuracy, option_accuracy
from medbench.scoring.overlap import surface_overlap
from medbench.scoring.probability import option_probability
from medbench.scoring.quantity import quantity_accuracy
from medbench.scoring.trace import trace_statistics
from medbench.scoring.trace_leak import option_format, trace_leak
from medbench.trainers.microlab.safety import microlab_safety
from medbench.trainers.microlab.tasks import microlab_exam, microlab_open

if TYPE_CHECKING:
    from inspect_ai.model import ModelAPI

__all__ = [
    "claim_entailment",
    "decision_accuracy",
    "declined",
    "medbench",
    "microlab_exam",
    "microlab_open",
    "microlab_safety",
    "named_accuracy",
    "option_accuracy",
    "option_format",
    "option_probability",
    "quantity_accuracy",
    "refusal",
    "refusal_judge",
    "surface_overlap",
    "trace",
    "trace_leak",
    "trace_signals",
    "trace_statistics",
    "xstest",
]

# Every page: the tasks that the modules of `medbench.tasks` define.
for _found in pkgutil.iter_modules(_tasks.__path__):
    _page = importlib.import_module(f"{_tasks.__name__}.{_found.name}")
    for _name, _task in vars(_page).items():
        if is_registry_object(_task) and registry_info(_task).type == "task" and _task.__module__ == _page.__name__:
            globals()[_name] = _task
            __all__ += [_name]


@modelapi(name="medbench")
def medbench() -> type[ModelAPI]:
    """Local models: imports torch only when one is asked for."""
    from medbench.provider.api import MedbenchAPI

    return MedbenchAPI


def _also_by_bare_name(factory: Callable[..., Scorer]) -> None:
    """Let a scorer be found without `medbench/` too.

    Inspect writes the bare name of a package's scorer into an eval log, and `inspect score LOG` looks that name up as
    it stands: without this it would ask for a `--scorer` file for every log of ours.
    """

    @functools.wraps(factory)
    def alias(*args: object, **kwargs: object) -> Scorer:
        return factory(*args, **kwargs)

    info = registry_info(factory)
    registry_add(alias, RegistryInfo(type="scorer", name=info.name.removeprefix("medbench/"), metadata=info.metadata))


for _factory in (
    claim_entailment,
    decision_accuracy,
    declined,
    named_accuracy,
    option_accuracy,
    option_format,
    option_probability,
    quantity_accuracy,
    refusal_class,
    refusal_judge,
    surface_overlap,
    trace_leak,
    trace_statistics,
):
    _also_by_bare_name(_factory)


def refuse_misspelt(arguments: Sequence[str]) -> None:
    """End an `inspect eval medbench/NAME` whose name is none of ours with the nearest ones.

    Inspect itself would only say that it found no tasks, and does not ask whose name it is.

    Args:
        arguments: the command line that this process was started with.

    Raises:
        SystemExit: with the message.
    """
    if not arguments or Path(arguments[0]).stem != "inspect" or arguments[1:2] not in (["eval"], ["eval-set"]):
        return
    for before, argument in itertools.pairwise(arguments[1:]):
        package, _, name = argument.partition("@")[0].partition("/")
        of_option = before.startswith("-") and "=" not in before  # --model medbench/PATH
        if package != "medbench" or of_option or not name.isidentifier() or Path(argument).exists():
            continue
        if name not in __all__:
            known = [one for one in __all__ if registry_info(globals()[one]).type == "task"]
            raise SystemExit(f"{unknown('task', name, known)} See them: medbench tasks")


refuse_misspelt(sys.argv)
