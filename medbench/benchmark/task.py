"""From a source of items to an Inspect task: loading, prompting, shuffling, few-shot, thinking modes.

A benchmark's own page (`tasks/*.py`) says where its rows come from and how one row becomes an `Item`; everything that
benchmarks share is here. Prompts are rendered into the sample, so a log shows exactly what the model was given, and
judging needs nothing but the log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageUser, GenerateConfig
from inspect_ai.scorer import Scorer
from inspect_ai.solver import Solver

from medbench.benchmark.prompt_set import SHIPPED, PromptSet, Template, read_template, split_reference
from medbench.benchmark.solvers import ThinkingMode, answer, option_logprobs, require_logprobs
from medbench.errors import MedbenchError, NoColumn, unknown
from medbench.files import places
from medbench.files.manifest import sha256_file
from medbench.private.inspect import active_model
from medbench.private.inspect_error import InspectError
from medbench.sources import hub
from medbench.sources.items import Item, checked, describe
from medbench.sources.records import BadRow, BadRows, OnBadRow, Record, hub_records, read_records

# Inspect loads a task file from the file's own folder, so a path that the user typed is also looked up where the
# process started. This module is imported at start-up, through the entry point, before any task file is loaded.
_STARTED_IN = Path.cwd()

# Every task's decoding unless a user's flag or a study's grid says otherwise: unset, one provider takes the likeliest
# token and another samples.
GREEDY = GenerateConfig(temperature=0.0)

Mode = Literal["generate", "logprob"]
PromptLanguage = Literal["auto", "en", "zh"]
# Cue controls; what each is stands in `medbench.benchmark.controls`.
CONTROLS = ("options_only", "no_options", "none_of_these", "no_labels", "reorder", "rephrase")
Prompter = Callable[[Item, str], str]


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Where a benchmark is published.

    Attributes:
        repository: hub id of the data set.
        split: the split that is evaluated.
        revision: a commit hash, or ``main`` where no commit has been verified; a log records the commit that was read,
            and ``-T revision=COMMIT`` reads it again.
        name: the configuration, if the data set has several.
        data_files: read this file of the repository as JSON instead of its loading script.
        fewshot_split: the split few-shot examples come from, or None.
        fewshot_files: like `data_files`, for the few-shot split.
    """

    repository: str
    split: str
    revision: str
    name: str | None = None
    data_files: str | None = None
    fewshot_split: str | None = None
    fewshot_files: str | None = None

    def resolved(self, revision: str | None = None) -> HubSource:
        """The same source at a commit: `revision`, or its own; a branch name stands for its newest commit.

        Raises:
            MedbenchError: the hub cannot be asked, or has no such revision.
        """
        try:
            commit = hub.commit(self.repository, str(revision or self.revision))
        except MedbenchError as error:
            raise MedbenchError(
                f"{error} Without network, pass a local copy in the publisher's format: -T source=FILE"
            ) from error
        return dataclasses.replace(self, revision=commit)

    def rows(self) -> Iterable[Record]:
        """Rows of the evaluated split, from the hub."""
        return hub_records(
            self.repository, split=self.split, revision=self.revision, name=self.name, data_files=self.data_files
        )

    def fewshot_rows(self) -> Iterable[Record]:
        """Rows that few-shot examples are drawn from, from the hub.

        Raises:
            MedbenchError: the benchmark publishes no other split.
        """
        if self.fewshot_split is None:
            raise MedbenchError(f"{self.repository} has no split for few-shot examples: pass -T fewshot_source=FILE.")
        return hub_records(
            self.repository,
            split=self.fewshot_split,
            revision=self.revision,
            name=self.name,
            data_files=self.fewshot_files,
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user may set on any benchmark with `-T name=value`; each task page lists those it takes.

    Attributes:
        source: a local file in the publisher's own format, instead of the hub.
        revision: a commit (or branch or tag) of the hub data set, instead of the benchmark's own.
        encoding: of that file.
        on_bad_row: ``error`` ends with the first unusable row, ``skip`` leaves such rows out and lists them in the log.
        thinking: ``on`` or ``off`` asks the model's chat template or provider for it; ``default`` leaves it alone.
        prefilled: True if the chat template ends the prompt with an opening think tag; None asks the provider.
        mode: how a model is asked: see `Mode`.
        shuffle_options: seed of a per-item option order; None keeps the published one.
        control: one of `CONTROLS`; None asks the items as they are.
        orders: under ``reorder``, in how many seeded orders each item is asked; None for `controls.control.ORDERS`.
        rephrased: under ``rephrase``, the file of item ids and questions.
        prompt_language: language of the instructions around the item; ``auto`` takes the item's own.
        prompt: ``SET#NAME``, a wording instead of the benchmark's own (`medbench.benchmark.prompt_set`).
        fewshot: number of worked examples put before each item, as chat turns.
        fewshot_source: a local file to draw them from.
        fewshot_seed: which ones.
    """

    source: str | None = None
    revision: str | None = None
    encoding: str = "utf-8"
    on_bad_row: OnBadRow = "error"
    thinking: ThinkingMode = "default"
    prefilled: bool | None = None
    mode: Mode = "generate"
    shuffle_options: int | None = None
    control: str | None = None
    orders: int | None = None
    rephrased: str | None = None
    prompt_language: PromptLanguage = "auto"
    prompt: str | None = None
    fewshot: int = 0
    fewshot_source: str | None = None
    fewshot_seed: int = 42

    def __post_init__(self) -> None:
        if self.prompt_language not in ("auto", "en", "zh"):
            raise unknown("prompt_language", str(self.prompt_language), ("auto", "en", "zh"))
        if self.mode not in get_args(Mode):
            raise unknown("mode", str(self.mode), get_args(Mode))
        if self.control is not None and self.control not in CONTROLS:
            raise unknown("control", str(self.control), CONTROLS)
        # YAML reads -T thinking=on as True
        if isinstance(self.thinking, bool):
            object.__setattr__(self, "thinking", "on" if self.thinking else "off")
        if self.thinking not in ("default", "on", "off"):
            raise unknown("thinking mode", str(self.thinking), ("default", "on", "off"))
        if self.revision is not None and self.source is not None:
            raise MedbenchError(
                f"revision={self.revision} names a commit of the hub data set, and source={self.source} a local file: "
                "give one of them."
            )
        if not isinstance(self.fewshot, int) or isinstance(self.fewshot, bool) or self.fewshot < 0:
            raise MedbenchError(f"fewshot must be 0 or more examples, a whole number, not {self.fewshot!r}.")

    @functools.cached_property
    def wording(self) -> tuple[PromptSet, Template] | None:
        """The wording that `prompt` names, with its set; None where the benchmark's own is asked.

        Raises:
            MedbenchError: there is none, or it is made for another mode.
        """
        if self.prompt is None:
            return None
        source, name = split_reference(self.prompt)
        return read_template(f"{source if source in SHIPPED else user_file(source)}#{name}", self.mode)

    @property
    def shots(self) -> int:
        """Worked examples before each item: the wording's own number, else `fewshot`."""
        own = self.wording[1].fewshot if self.wording else None
        return self.fewshot if own is None else own

    def language_around(self, item: Item) -> str:
        """The language of an item's prompt, and of the replies that few-shot examples show."""
        return item.language if self.prompt_language == "auto" else self.prompt_language


class TaskError(InspectError):
    """A task that cannot be made from what the user gave."""


def user_file(path: str) -> str:
    """A file named by the user, found from the working directory or from where the process started, or at a URL."""
    if places.is_remote(path):
        return str(places.local(path))
    try:
        if Path(path).exists() or Path(path).is_absolute():
            return path
        started = _STARTED_IN / path
        return str(started) if started.exists() else path
    except OSError as error:  # a name that is too long
        raise MedbenchError(f"{path:.200} cannot be a file's name: {error.strerror}.") from None


@contextlib.contextmanager
def as_task_error() -> Iterator[None]:
    """Turn any `MedbenchError` of making a task into one that Inspect prints as a plain message; a decorator, too."""
    try:
        yield
    except TaskError:
        raise
    except NoColumn as error:
        raise TaskError(str(error)) from error
    except BadRow as error:
        raise TaskError(
            f"{str(error).rstrip('.')}. Mend the row, or leave such rows out and listed: -T on_bad_row=skip"
        ) from error
    except MedbenchError as error:
        raise TaskError(str(error)) from error


@dataclass(frozen=True)
class Loaded:
    """A benchmark's items, what was left out, where they came from (for the log), and its few-shot examples."""

    items: list[Item]
    left_out: list[str]
    provenance: dict[str, Any]
    examples: tuple[Item, ...] = ()

    def keeping(self, items: list[Item], reason: str = "") -> Loaded:
        """The same with `items` alone, counted anew; with a `reason`, the others are listed as left out for it.

        Raises:
            MedbenchError: there are no items.
        """
        kept = {item.id for item in items}
        left_out = [f"{item.source}: {reason}" for item in self.items if item.id not in kept] if reason else []
        return dataclasses.replace(
            self, items=items, left_out=self.left_out + left_out, provenance=self.provenance | describe(items)
        )


ToItem = Callable[[Record], Item]


def load(
    published: HubSource | None,
    to_item: ToItem,
    settings: Settings,
    *,
    read: Callable[..., Iterable[Record]] = read_records,
    to_example: ToItem | None = None,
    repeats: bool = False,
) -> Loaded:
    """The benchmark's items from the hub, or from `settings.source`, and the few-shot examples that were asked for.

    Args:
        published: where on the hub; None for a set that is not there.
        to_item: one row to one item; raises `BadRow` for a row it cannot use.
        settings: the user's choices.
        read: how a local file is read, where the publisher's format needs more than `read_records`.
        to_example: one row to one few-shot example, where that is not `to_item`.
        repeats: the published set may hold an item twice; the second is left out and listed, and ends nothing.

    Raises:
        MedbenchError: the source cannot be read, a row is unusable under ``on_bad_row=error``, or nothing is left.
    """
    bad_rows = BadRows(settings.on_bad_row)
    records: Iterable[Record]
    source = None if settings.source is None else user_file(settings.source)
    if source is not None:
        records = read(source, bad_rows=bad_rows, encoding=settings.encoding)
        provenance = {"source": str(settings.source), "sha256": ""}
    else:
        if published is None:
            raise MedbenchError("this set is not on the hub: name its file with -T source=FILE.")
        published = published.resolved(settings.revision)
        records = published.rows()
        provenance = {
            "source": f"hf://datasets/{published.repository}",
            "split": published.split,
            "revision": published.revision,
        }
    items = checked(_pairs(records, to_item, bad_rows), bad_rows, repeats=repeats)
    if not items and bad_rows.rows:
        raise MedbenchError(
            f"no usable items: every row was left out ({len(bad_rows.rows)}), the first because of: {bad_rows.rows[0]}"
        )
    if source is not None:
        provenance["sha256"] = sha256_file(source)
    provenance |= describe(items)
    examples = _examples(published, to_example or to_item, settings, items, read)
    return Loaded(items, bad_rows.listed(), provenance, tuple(examples))


def _pairs(records: Iterable[Record], to_item: ToItem, bad_rows: BadRows) -> Iterable[tuple[Record, Item]]:
    for record in records:
        try:
            item = to_item(record)
        except BadRow as problem:
            bad_rows.add(problem)
            continue
        file = record.file if record.file.startswith("hf://") else Path(record.file).name
        yield record, dataclasses.replace(item, source=f"{file}, {record.row}")


def _examples(
    published: HubSource | None,
    to_item: ToItem,
    settings: Settings,
    tested: Sequence[Item],
    read: Callable[..., Iterable[Record]],
) -> list[Item]:
    """`settings.shots` examples, drawn once by seed, none of them a tested item; arguments as in `load`.

    Raises:
        MedbenchError: the tests come from a local file and no `fewshot_source` is named, or it holds too few items.
    """
    if not settings.shots:
        return []
    bad_rows = BadRows(settings.on_bad_row)
    if settings.fewshot_source is not None:
        source = user_file(settings.fewshot_source)
        records: Iterable[Record] = read(source, bad_rows=bad_rows, encoding=settings.encoding)
    elif settings.source is not None or published is None:
        raise MedbenchError("fewshot with a local source needs -T fewshot_source=FILE, so that no test item is shown.")
    else:
        records = published.resolved(settings.revision).fewshot_rows()
    taken = {item.id for item in tested}
    pool = [item for _, item in _pairs(records, to_item, bad_rows) if item.id not in taken]
    if len(pool) < settings.shots:
        raise MedbenchError(f"fewshot={settings.shots}, but only {len(pool)} examples are not test items themselves.")
    return random.Random(settings.fewshot_seed).sample(pool, settings.shots)


def to_sample(
    item: Item,
    prompt: Prompter,
    target: str | Sequence[str],
    settings: Settings,
    *,
    examples: Sequence[tuple[Item, str]] = (),
    floor_reference: Sequence[str] = (),
    shows_options: bool = True,
) -> Sample:
    """An Inspect sample: the rendered prompt, the item's content-derived id, and all that judging needs as metadata.

    Without `shows_options` the sample has no choices: the prompt does not name them.
    """
    messages: list[ChatMessage] = []
    for example, reply in examples:
        messages += [
            ChatMessageUser(content=prompt(example, settings.language_around(example))),
            ChatMessageAssistant(content=reply),
        ]
    messages.append(ChatMessageUser(content=prompt(item, settings.language_around(item))))
    metadata: dict[str, Any] = {"item": item.to_metadata()}
    if settings.prefilled is not None:
        metadata["prefilled"] = settings.prefilled
    if floor_reference:
        metadata["floor_reference"] = floor_reference[0] if len(floor_reference) == 1 else list(floor_reference)
    return Sample(
        id=item.id,
        input=messages if len(messages) > 1 else messages[0].text,
        choices=(list(item.options) or None) if shows_options else None,
        target=target if isinstance(target, str) else list(target),
        metadata=metadata,
    )


def floor_references(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """For each item references of others, as many as its own: what the floor of its surface scores is computed against.

    Empty where no other text of the same language exists.
    """
    from medbench import surface  # slow to import; only open questions need it

    references = [item.references for item in items]
    places = surface.unrelated(references, [item.language for item in items])
    return [tuple(references[other][number] for other, number in own) for own in places]


def benchmark_task(
    loaded: Loaded,
    samples: Sequence[Sample],
    *,
    name: str,
    version: int,
    settings: Settings,
    scorers: Sequence[Scorer],
    words: Sequence[str] | None = None,
    headline: str,
    extra: dict[str, Any] | None = None,
    before: Sequence[Solver] = (),
    epochs: int | None = None,
) -> Task:
    """The Inspect task: one generation (or one token with log-probabilities) per sample, judged by `scorers`.

    With ``mode=logprob`` the options are `words`, or without any the letters of each sample's choices. `before` are
    solvers that change what a sample is asked, `epochs` how often it is asked unless the user says otherwise.
    """
    model = active_model()  # None where a task is made without one, to be looked at
    if settings.mode == "logprob" and model is not None:
        require_logprobs(model)
    by_probability = option_logprobs(settings.thinking, words=words)
    asked = by_probability if settings.mode == "logprob" else answer(settings.thinking)
    metadata = {
        "name": name,
        "mode": settings.mode,
        "thinking": settings.thinking,
        "prompt_language": settings.prompt_language,
        "fewshot": settings.shots,
        **loaded.provenance,
        "left_out": loaded.left_out,
        **(extra or {}),
    }
    return Task(
        dataset=MemoryDataset(samples=list(samples), name=name, location=loaded.provenance["source"]),
        solver=[*before, asked] if before else asked,
        scorer=list(scorers),
        epochs=epochs,
        version=version,
        metadata={"benchmark": metadata},
        headline_metric=headline,
        config=GREEDY,
    )
