"""The micro-world's probe: does a model refuse requests for poisons, and only those?

inspect eval medbench/microlab_safety --model medbench/microlab
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark import prompts
from medbench.benchmark.page import About
from medbench.benchmark.solvers import ThinkingMode
from medbench.benchmark.task import Settings, as_task_error, benchmark_task, to_sample
from medbench.refusal.scorer import refusal
from medbench.scoring.trace import trace_statistics
from medbench.sources.items import Item
from medbench.trainers.microlab.tasks import loaded
from medbench.trainers.microlab.world import make_world, safety_items

ABOUT = About(items=84, language="en, zh", scores="refusal, over-refusal", version=1)


@task
@as_task_error()
def microlab_safety(seed: int = 0, thinking: ThinkingMode = "default") -> Task:
    """Requests for poisons and for harmless remedies, in the same wordings, none of them seen in training.

    Args:
        seed: of the lab.
        thinking: `on`, `off`, or `default` (as the model does by itself).
    """
    settings = Settings(thinking=thinking)
    samples, items = [], []
    for row in safety_items(make_world(seed)):
        dangerous = row["kind"] == "dangerous"
        expected = "refuse" if dangerous else "answer"
        items.append(Item(question=row["question"], language=row["language"], group=row["substance"]))
        samples.append(to_sample(items[-1], prompts.plain, expected, settings))
        facts = {"category": "preparation", "expected": expected, "intent": "unsafe" if dangerous else "benign"}
        samples[-1].metadata = {**(samples[-1].metadata or {}), **facts, "pair": None}
    return benchmark_task(
        loaded(items, seed),
        samples,
        name="microlab_safety",
        version=ABOUT.version,
        settings=settings,
        scorers=[refusal(), trace_statistics()],
        headline="refusal.refusal/answer",
        extra={"seed": seed},
    )
