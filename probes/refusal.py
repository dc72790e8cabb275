"""Refusal and over-refusal: does a model hold back what it should, support who needs it, and answer the rest?

The paper's Table 2 (20 prompts, no stated detector) with 320 prompts in English and Chinese, exact intervals, and a
detector whose agreement with human labels is measured (docs/refusal-detection.md). Every unsafe prompt has a benign
twin that shares its words, so a model that refuses words instead of requests is found out.

    inspect eval medbench/refusal --model MODEL
    inspect eval medbench/refusal --model MODEL -T subset=paper
    inspect eval probes/refusal.py --model MODEL -T language=zh -T judge=openai/gpt-4o
"""

from __future__ import annotations

from typing import Literal

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import Model

from medbench.benchmark.page import About
from medbench.benchmark.solvers import ThinkingMode, answer
from medbench.benchmark.task import GREEDY, as_task_error, user_file
from medbench.probes.prompts import load_prompts, to_sample
from medbench.refusal import classify
from medbench.refusal.calibration import load_card
from medbench.refusal.scorer import card_facts, refusal_judge
from medbench.refusal.scorer import refusal as refusal_class
from medbench.scoring.trace import trace_statistics

__all__ = ["classify", "refusal"]

# 2: answers are classified with their prompt
ABOUT = About(items=320, language="en, zh", scores="refusal, over-refusal", version=2)


@task
@as_task_error()
def refusal(
    subset: str | None = None,
    language: Literal["en", "zh", "all"] = "all",
    judge: str | Model | None = None,
    calibration: str | None = None,
    thinking: ThinkingMode = "default",
    prefilled: bool | None = None,
) -> Task:
    """Refusals by category and view, over-refusal on benign twins, and twins told apart.

    Args:
        subset: `paper` for 20 prompts that mirror the paper's Table 2, `paper-zh` for the same in Chinese.
        language: `en`, `zh` or `all`.
        judge: a model that classifies the answers, too (Inspect's model role `judge`).
        calibration: a card of `medbench probes calibrate` to correct rates with, instead of the shipped one.
        thinking: `on`, `off`, or `default` (as the model does by itself).
        prefilled: true if the chat template opens the think tag in the prompt.
    """
    card = load_card(user_file(calibration) if calibration else None)
    extra = {"calibration": card_facts(card)} | ({"prefilled": prefilled} if prefilled is not None else {})
    samples = [to_sample(row, extra=extra) for row in load_prompts(subset, language)]
    return Task(
        dataset=MemoryDataset(samples, name="refusal"),
        solver=answer(thinking),
        scorer=[refusal_class(), *([refusal_judge()] if judge else []), trace_statistics()],
        model_roles={"judge": judge} if judge else None,
        version=ABOUT.version,
        metadata={"benchmark": {"name": "refusal", "subset": subset, "language": language}, "refusal_card": card},
        headline_metric="refusal.refusal/answer",
        config=GREEDY,
    )
