"""The micro-world's own tasks, built from the solvers and scorers of the real benchmarks.

    inspect eval medbench/microlab_exam --model medbench/microlab
    inspect eval medbench/microlab_open --model medbench/LAB -T seed=7

Items are made from the seed at run time; `seed` must be that of the lab the model comes from (0 for the one that
ships), since another world's facts are unknown to it.
"""

from __future__ import annotations

from typing import Any, Literal

from inspect_ai import Task, task

from medbench.benchmark import Loaded, Settings, as_task_error, benchmark_task, to_sample
from medbench.errors import unknown
from medbench.families import free_text_task
from medbench.items import Item, describe
from medbench.scorers import named_accuracy, option_accuracy, trace_statistics
from medbench.solvers import ThinkingMode
from medbench.trainers.microlab.phrases import LANGUAGES
from medbench.trainers.microlab.world import LETTERS, exam_items, exam_prompt, make_world, open_items

FACTS = ("all", "known", "held_back")


@task
@as_task_error()
def microlab_exam(
    seed: int = 0, facts: Literal["all", "known", "held_back"] = "all", thinking: ThinkingMode = "default"
) -> Task:
    """Four-option items of the micro-world, answered with the text of an option.

    Args:
        seed: of the lab.
        facts: `known` from the base's training, `held_back` (stated in the PT text only), or `all`.
        thinking: `on`, `off`, or `default` (as the model does by itself).
    """
    if facts not in FACTS:
        raise unknown("kind of facts", facts, FACTS)
    settings = Settings(thinking=thinking)
    samples, items = [], []
    for row in exam_items(make_world(seed)):
        if facts in ("all", row["facts"]):
            item = exam_item(row)
            items.append(item)
            samples.append(to_sample(item, _exam_prompt, row["answer"], settings))
            samples[-1].metadata = {**(samples[-1].metadata or {}), "facts": row["facts"]}
    return benchmark_task(
        loaded(items, seed),
        samples,
        name="microlab_exam",
        version=2,  # answers are read by structure first
        settings=settings,
        scorers=[option_accuracy(), trace_statistics()],
        headline="option_accuracy.accuracy/answer",
        extra={"seed": seed, "facts": facts},
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
        version=2,
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
