"""The micro-world's own tasks, built from the solvers and scorers of the real benchmarks.

    inspect eval medbench/microlab_exam --model medbench/microlab
    inspect eval medbench/microlab_open --model medbench/LAB -T seed=7

Items are made from the seed at run time; `seed` must be that of the lab the model comes from (0 for the one that
ships), since another world's facts are unknown to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from inspect_ai import Task, task

from medbench.benchmark.controls import control as cues
from medbench.benchmark.controls.solver import reorder_options
from medbench.benchmark.families import free_text_task
from medbench.benchmark.page import About
from medbench.benchmark.solvers import ThinkingMode
from medbench.benchmark.task import Loaded, Settings, as_task_error, benchmark_task, to_sample
from medbench.errors import unknown
from medbench.scoring.accuracy import named_accuracy, option_accuracy
from medbench.scoring.trace import trace_statistics
from medbench.sources.items import Item, describe
from medbench.trainers.microlab.cues import cued_items
from medbench.trainers.microlab.phrases import LANGUAGES
from medbench.trainers.microlab.world import LETTERS, exam_items, exam_prompt, make_world, open_items

ABOUT = {
    # 2: answers are read by structure first
    "microlab_exam": About(items=128, language="en, zh", scores="accuracy", version=2),
    "microlab_open": About(items=64, language="en, zh", scores="BLEU, ROUGE, right drug", version=2),
}
FACTS = ("all", "known", "held_back", "cued")
# Cue controls that need no prompt of their own: the lab's models read none but the exam's.
CONTROLS = ("options_only", "none_of_these", "reorder")


@task
@as_task_error()
def microlab_exam(
    seed: int = 0,
    facts: Literal["all", "known", "held_back", "cued"] = "all",
    control: Literal["options_only", "none_of_these", "reorder"] | None = None,
    orders: int | None = None,
    thinking: ThinkingMode = "default",
) -> Task:
    """Four-option items of the micro-world, answered with the text of an option.

    Args:
        seed: of the lab.
        facts: `known` from the base's training, `held_back` (stated in the PT text only), or `all` of these; `cued` is
            another exam on known facts, whose right options can be told without the question.
        control: cue control: `options_only`, `none_of_these` or `reorder`; see docs/controls.md.
        orders: with `control=reorder`: in how many seeded orders each item is asked (4).
        thinking: `on`, `off`, or `default` (as the model does by itself).
    """
    if facts not in FACTS:
        raise unknown("kind of facts", facts, FACTS)
    if control is not None and control not in CONTROLS:
        raise unknown("control of microlab_exam", str(control), CONTROLS)
    world = make_world(seed)
    rows = {
        item.id: (item, row)
        for row in (cued_items(world) if facts == "cued" else exam_items(world))
        if facts in ("all", row["facts"])
        for item in [exam_item(row)]
    }
    return exam_task(
        [item for item, _ in rows.values()],
        Settings(thinking=thinking, control=control, orders=orders),
        seed=seed,
        name="microlab_exam",
        version=ABOUT["microlab_exam"].version,
        facts={item_id: row["facts"] for item_id, (_, row) in rows.items()},
        about={"facts": facts},
    )


def exam_task(
    items: Sequence[Item],
    settings: Settings,
    *,
    seed: int,
    name: str,
    version: int,
    facts: Mapping[str, str],
    about: Mapping[str, Any],
) -> Task:
    """A task of exam items in the prompt that the lab's models were trained on, under a control if one is asked for.

    Args:
        facts: item id -> which facts it asks about, for the samples' metadata.
        about: what the log keeps besides the seed.
    """
    extra: dict[str, Any] = {"seed": seed, **about}
    asked = loaded(list(items), seed)
    chosen = cues.chosen(settings)
    if chosen is not None:
        asked, extra["control"] = chosen.applied(asked)
    samples = [to_sample(item, _exam_prompt, "".join(item.answer), settings) for item in asked.items]
    for sample in samples:
        sample.metadata = {**(sample.metadata or {}), "facts": facts[str(sample.id)]}
    moves = chosen is not None and chosen.orders is not None
    return benchmark_task(
        asked,
        samples,
        name=name,
        version=version,
        settings=settings,
        scorers=[option_accuracy(), trace_statistics()],
        headline="option_accuracy.accuracy/answer",
        extra=extra,
        before=[reorder_options()] if moves else (),
        epochs=chosen.orders if chosen is not None else None,
    )


@task
@as_task_error()
def microlab_open(seed: int = 0, thinking: ThinkingMode = "default") -> Task:
    """Requests for advice, against references in the concise style of the SFT data.

    The same generation is also judged for being right: it names the disease's drug, and no other drug of the world.

    Args:
        seed: of the lab.
        thinking: `on`, `off`, or `default` (as the model does by itself).
    """
    world = make_world(seed)
    items = [open_item(row) for row in open_items(world)]
    drugs = {language: [drug[language] for drug in world.drugs] for language in LANGUAGES}
    return free_text_task(
        loaded(items, seed),
        Settings(thinking=thinking),
        name="microlab_open",
        version=ABOUT["microlab_open"].version,
        judges=[named_accuracy(drugs)],
    )


def exam_item(row: dict[str, Any]) -> Item:
    """A row of `world.exam_items`; items on one disease are one group."""
    return Item(
        question=row["question"],
        language=row["language"],
        options=tuple(row["options"][letter] for letter in LETTERS),
        answer=(row["answer"],),
        group=row["disease"],
    )


def open_item(row: dict[str, Any]) -> Item:
    """A row of `world.open_items`; items on one disease are one group."""
    return Item(question=row["question"], language=row["language"], reference=row["reference"], group=row["disease"])


def _exam_prompt(item: Item, language: str) -> str:
    return exam_prompt(item.question, dict(zip(LETTERS, item.options, strict=True)), language)


def loaded(items: list[Item], seed: int) -> Loaded:
    """Items of a world, with where they come from for the log."""
    return Loaded(items, [], {"source": f"microlab world {seed}"} | describe(items))
