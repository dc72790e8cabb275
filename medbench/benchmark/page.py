"""A benchmark's page: which of the `-T` parameters that benchmarks share it takes, and what they mean there.

    @task
    @page(*CHOICE, source="the publisher's JSONL", fewshot="the training split")
    def medqa(settings: Settings) -> Task:
        '''MedQA-US, four options, test split (1,273 items).'''

The page's function gets the values as one `Settings`; parameters of its own follow as usual and are documented in its
docstring. What Inspect shows and logs (signature, defaults, argument docs) is made from `COMMON`.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass

from inspect_ai import Task

from medbench.benchmark.task import Settings, TaskError, as_task_error
from medbench.errors import unknown

logger = logging.getLogger(__name__)
_SETTINGS = inspect.signature(Settings).parameters


@dataclass(frozen=True)
class Parameter:
    """A parameter that benchmarks share: its text, in which ``{}`` is the page's own part, and what stands there else.

    Type and default are those of the field of `Settings` with its name.
    """

    text: str
    otherwise: str = ""


@dataclass(frozen=True, kw_only=True)
class About:
    """What `medbench tasks` says of a task; a page's `ABOUT`, or a mapping of them by name where it has several.

    Attributes:
        items: how many it asks by default; None where that depends on the file.
        language: ``en``, ``zh``, or both.
        scores: what is scored, in a few words.
        version: raised whenever scores of the same outputs would change; pages hand it on to their `Task`.
    """

    items: int | None
    language: str
    scores: str
    version: int


# In the order in which they are shown.
COMMON = {
    "source": Parameter("local file instead of the hub: {}.", "the publisher's own format"),
    "revision": Parameter("commit of the hub data set, instead of {}.", "the pinned one"),
    "mode": Parameter("`generate` an answer, or `logprob` of {} as first token.", "the option letters"),
    "shuffle_options": Parameter("seed of a per-item option order; none keeps the published one."),
    "control": Parameter(
        "cue control: `options_only`, `no_options`, `none_of_these`, `no_labels`, `reorder` or `rephrase`; see "
        "docs/controls.md."
    ),
    "orders": Parameter("with `control=reorder`: in how many seeded orders each item is asked (4)."),
    "rephrased": Parameter("with `control=rephrase`: local file of `id` and `question`."),
    "fewshot": Parameter("worked examples before each item, drawn from {}.", "`fewshot_source`, which it needs"),
    "fewshot_source": Parameter("local file to draw them from."),
    "thinking": Parameter("`on`, `off`, or `default` (as the model does by itself)."),
    "prefilled": Parameter("true if the chat template opens the think tag in the prompt."),
    "prompt_language": Parameter("`en`, `zh`, or `auto` (the item's)."),
    "prompt": Parameter("`SET#NAME`: a wording of a prompt set (`choice`, or a YAML file) instead of the page's own."),
    "encoding": Parameter("of the local file."),
    "on_bad_row": Parameter("`error`, or `skip` to leave out and list unusable rows."),
}
# What every page takes; a page names the others.
ALWAYS = ("source", "thinking", "prefilled", "encoding", "on_bad_row")
# What multiple-choice pages take besides.
CHOICE = (
    "revision", "mode", "shuffle_options", "control", "orders", "rephrased", "fewshot", "fewshot_source",
    "prompt_language", "prompt",
)  # fmt: skip
# The parameter that takes whatever else is given, to be refused or passed over by name.
REST = "unknown"
_own_names: set[str] = set()


def page(*takes: str, **notes: str) -> Callable[[Callable[..., Task]], Callable[..., Task]]:
    """Make a task of a page's function ``build(settings, **its own) -> Task``; stands below a literal ``@task``.

    The task raises for a parameter that no benchmark has, with the nearest names; one that another benchmark has is
    passed over with a warning, because ``inspect eval a b -T mode=logprob`` gives every task all of them.

    Args:
        takes: names in `COMMON`, besides those that every page takes.
        **notes: the page's own words for a parameter's text.
    """
    names = [name for name in COMMON if name in takes or name in ALWAYS]
    strange = (set(takes) | set(notes)) - set(names)
    if strange:
        raise ValueError(f"a page takes no {', '.join(sorted(strange))}; common parameters are {', '.join(COMMON)}.")

    def decorate(build: Callable[..., Task]) -> Callable[..., Task]:
        own = list(inspect.signature(build).parameters.values())[1:]
        _own_names.update(parameter.name for parameter in own)
        common = [_SETTINGS[name].replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        rest = inspect.Parameter(REST, inspect.Parameter.VAR_KEYWORD)
        signature = inspect.Signature([*common[:2], *own, *common[2:], rest], return_annotation=Task)

        @functools.wraps(build)
        @as_task_error()
        def make(*args: object, **given: object) -> Task:
            values = signature.bind(*args, **given).arguments
            for name in values.pop(REST, {}):
                _refuse(build.__name__, name, [*names, *(parameter.name for parameter in own)])
            settings = Settings(**{name: values.pop(name) for name in names if name in values})
            return build(settings, **values)

        make.__signature__ = signature  # type: ignore[attr-defined]
        make.__doc__ = _documented(build, names, notes)
        return make

    return decorate


def _refuse(task: str, name: str, known: list[str]) -> None:
    if name in COMMON or name in _own_names:
        logger.warning("%s takes no parameter %s; it is passed over.", task, name)
        return
    raise TaskError(str(unknown(f"parameter of {task} (-T)", name, known)))


def _documented(build: Callable[..., Task], names: list[str], notes: dict[str, str]) -> str:
    """The page's docstring with the texts of the common parameters before its own."""
    head, _, own = inspect.cleandoc(build.__doc__ or "").partition("\nArgs:\n")
    lines = [f"    {name}: {COMMON[name].text.format(notes.get(name, COMMON[name].otherwise))}" for name in names]
    return "\n".join([head.rstrip(), "", "Args:", *lines[:2], *filter(None, [own.rstrip()]), *lines[2:], ""])
