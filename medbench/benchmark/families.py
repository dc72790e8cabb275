"""The kinds of benchmark task: multiple choice, decision from a context, free text, and answer with explanation.

Each function takes a benchmark's loaded items and the user's settings, and returns the Inspect task. A task page picks
one of them; a new benchmark needs no code here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Scorer

from medbench.benchmark import prompts
from medbench.benchmark.controls import control as cues
from medbench.benchmark.controls.order import shuffled
from medbench.benchmark.controls.solver import reorder_options
from medbench.benchmark.prompt_set import Template, kept_items
from medbench.benchmark.task import Loaded, Prompter, Settings, benchmark_task, floor_references, to_sample
from medbench.errors import MedbenchError
from medbench.reading.choice import Form
from medbench.refusal.scorer import declined
from medbench.scoring.accuracy import decision_accuracy, option_accuracy
from medbench.scoring.overlap import surface_overlap
from medbench.scoring.probability import option_probability
from medbench.scoring.quantity import quantity_accuracy
from medbench.scoring.trace import trace_statistics
from medbench.sources.items import DECISIONS, LETTERS, Item

# As a reply begins with them; a model's probability is spread over both.
_SPELLED = tuple(spelled for word in DECISIONS for spelled in (word, word.capitalize()))


def choice_task(
    loaded: Loaded,
    settings: Settings,
    *,
    name: str,
    version: int,
    multiple: bool = False,
) -> Task:
    """Multiple choice: state the letter (``generate``), or read the letters' probabilities (``logprob``).

    Args:
        loaded: the benchmark's items.
        settings: the user's choices.
        name: the benchmark's name.
        version: raised whenever scores of the same outputs would change.
        multiple: items may have several correct letters; they are scored as sets, and by type.
    """
    loaded, wording = _worded(loaded, settings, multiple=multiple)
    loaded = loaded.keeping([shuffled(item, settings.shuffle_options) for item in loaded.items])
    control = cues.chosen(settings)
    stated = settings.mode == "generate"
    form: Form | None = "line_last" if stated else None
    if stated:
        prompt: Prompter = prompts.choice_multiple if multiple else prompts.choice
    else:
        loaded = loaded.keeping(
            [item for item in loaded.items if len(item.answer) == 1], "several correct letters; mode=logprob scores one"
        )
        prompt = prompts.choice_first_token
    if wording is not None:
        prompt, form = wording.render, cast("Form | None", wording.form)
    extra = {
        "shuffle_options": settings.shuffle_options,
        "multiple": multiple,
        "prompt": _told_of_prompt(loaded, settings),
    }
    if control is not None:
        loaded, extra["control"] = control.applied(loaded)
        if control.kind.prompt is not None:
            prompt = control.kind.prompt(multiple=multiple, first_token=not stated)
    letters = control is None or not control.kind.by_text
    judge = option_accuracy(multiple=multiple, by_type=multiple, form=form, letters=letters)
    return benchmark_task(
        loaded,
        _choice_samples(loaded, prompt, settings, control, line=form in ("line_last", "line_first")),
        name=name,
        version=version,
        settings=settings,
        scorers=[judge, trace_statistics()] if stated else [option_probability()],
        headline=f"option_{'accuracy' if stated else 'probability'}.accuracy/answer",
        extra=extra,
        before=[reorder_options()] if control is not None and control.orders else (),
        epochs=control.orders if control is not None else None,
    )


def _choice_samples(
    loaded: Loaded, prompt: Prompter, settings: Settings, control: cues.Control | None, *, line: bool
) -> list[Sample]:
    by_text = control is not None and control.kind.by_text

    def reply(example: Item) -> str:
        said = option_text(example) if by_text else target(example)
        return prompts.answer_line(said, settings.language_around(example)) if line else said

    turns = [(example, reply(example)) for example in loaded.examples]
    # Where the letter changes from order to order, the text is what a viewer can be shown.
    named = option_text if by_text or (control is not None and control.orders) else target
    shows = control is None or control.kind.shows_options
    return [
        to_sample(item, prompt, named(item), settings, examples=turns, shows_options=shows) for item in loaded.items
    ]


def _worded(loaded: Loaded, settings: Settings, *, multiple: bool) -> tuple[Loaded, Template | None]:
    """The items that the user's prompt set is for, and the wording; all items and None without one."""
    if settings.wording is None:
        return loaded, None
    found, template = settings.wording
    if settings.mode == "generate" and multiple and not template.several:
        fitting = [other.name for other in found.templates.values() if other.several]
        raise MedbenchError(
            f"prompt={settings.prompt} asks for one right option, and items here may have several; of those that say "
            f"so (`answers: several`) {found.source} has {', '.join(fitting) or 'none'}."
        )
    kept, reason = kept_items(found, loaded.items)
    return loaded if len(kept) == len(loaded.items) else loaded.keeping(kept, reason), template


def _told_of_prompt(loaded: Loaded, settings: Settings) -> dict[str, Any] | None:
    """For the log: the wording, and of a tuned one how it was picked and that no item here took part in it."""
    if settings.wording is None:
        return None
    found, template = settings.wording
    told: dict[str, Any] = {"set": found.source, "name": template.name, "sha256": template.sha256}
    if found.tuning:
        own = (found.tuning.get("scores") or {}).get(template.name)
        facts = {key: value for key, value in found.tuning.items() if key != "scores"}
        tested_too = len(found.without & {item.id for item in loaded.items})
        told["tuned"] = {**facts, "of": template.of, "scores": own, "tuning_items_tested": tested_too}
    return told


def decision_task(loaded: Loaded, settings: Settings, *, name: str, version: int) -> Task:
    """Yes, no or maybe from a given context, stated (accuracy and macro-F1) or read off the words' probabilities."""
    stated = settings.mode == "generate"
    prompt = prompts.decision if stated else prompts.decision_first_token
    scorers = [decision_accuracy(form="line_last"), trace_statistics()]
    return benchmark_task(
        loaded,
        _answer_samples(loaded, prompt, settings, line=stated),
        name=name,
        version=version,
        settings=settings,
        scorers=scorers if stated else [option_probability(words=DECISIONS)],
        words=_SPELLED,
        headline=f"{'decision_accuracy' if stated else 'option_probability'}.accuracy/answer",
    )


def quantity_task(loaded: Loaded, settings: Settings, *, name: str, version: int) -> Task:
    """A number, a date, or weeks and days from a note, right within the item's limits; the unread are counted apart."""
    turns = [
        (example, prompts.answer_line(target(example), settings.language_around(example)))
        for example in loaded.examples
    ]
    return benchmark_task(
        loaded,
        [to_sample(item, prompts.quantity, target(item), settings, examples=turns) for item in loaded.items],
        name=name,
        version=version,
        settings=settings,
        scorers=[quantity_accuracy(), trace_statistics()],
        headline="quantity_accuracy.accuracy/answer",
    )


def free_text_task(
    loaded: Loaded,
    settings: Settings,
    *,
    name: str,
    version: int,
    judges: Sequence[Scorer] = (),
) -> Task:
    """Free-text answers against reference texts: BLEU-4 and ROUGE in both profiles, each beside its floor.

    Whether an output refuses is kept beside them: a text that declines earns little BLEU, whatever its model knows.
    `judges` score the same generation further.
    """
    others = floor_references(loaded.items)
    turns = [(example, example.reference) for example in loaded.examples]
    samples = [
        to_sample(item, prompts.plain, _text_target(item), settings, examples=turns, floor_reference=other)
        for item, other in zip(loaded.items, others, strict=True)
    ]
    return benchmark_task(
        loaded,
        samples,
        name=name,
        version=version,
        settings=settings,
        scorers=[surface_overlap(), *judges, declined(), trace_statistics()],
        headline="surface_overlap.bleu4/answer",
    )


def explain_task(loaded: Loaded, settings: Settings, *, name: str, version: int, decision: bool = False) -> Task:
    """Answer and explanation in one generation, so that correctness and surface scores exist for the same item.

    Items without a reference explanation are left out and listed.

    Raises:
        MedbenchError: no item has an explanation.
    """
    explained = [item for item in loaded.items if item.reference]
    if not explained:
        raise MedbenchError(f"{name}: no item has a reference explanation.")
    loaded = loaded.keeping(explained, "no explanation")
    others = floor_references(explained)
    prompt: Prompter = prompts.decision_long if decision else prompts.choice_explain
    samples = [
        to_sample(item, prompt, target(item), settings, floor_reference=other)
        for item, other in zip(explained, others, strict=True)
    ]
    judge = (
        decision_accuracy(form="line_first")
        if decision
        else option_accuracy(multiple=True, by_type=True, form="line_first")
    )
    return benchmark_task(
        loaded,
        samples,
        name=name,
        version=version,
        settings=settings,
        scorers=[judge, surface_overlap(part="explanation"), trace_statistics()],
        headline=f"{'decision' if decision else 'option'}_accuracy.accuracy/answer",
    )


def _text_target(item: Item) -> str | tuple[str, ...]:
    return item.references if item.more_references else item.reference


def target(item: Item) -> str:
    """The key as a sample's target: letters together (``ABD``), or the decision."""
    return "".join(item.answer)


def option_text(item: Item) -> str:
    """The key as the texts of the right options."""
    return "; ".join(item.options[LETTERS.index(letter)] for letter in item.answer)


def _answer_samples(loaded: Loaded, prompt: Prompter, settings: Settings, *, line: bool) -> list[Sample]:
    turns = [
        (example, prompts.answer_line(target(example), settings.language_around(example)) if line else target(example))
        for example in loaded.examples
    ]
    return [to_sample(item, prompt, target(item), settings, examples=turns) for item in loaded.items]
