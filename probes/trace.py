"""Trace leak: does a model show its reasoning where it should only answer?

The authors' later question. Every prompt is asked three times: as it is (`default`), with a request not to think aloud
(`no-think`), and with a strict format instruction that names the tags (`strict`), so that outputs which only mention a
tag occur and are counted apart from those that use it.

    inspect eval medbench/trace --model MODEL
    inspect eval probes/trace.py@trace --model MODEL -T mode=strict -T language=zh
    inspect eval medbench/trace_signals --model MODEL     (needs log-probabilities of the first token)
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Literal

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser

from medbench.benchmark import prompts
from medbench.benchmark.page import About
from medbench.benchmark.solvers import ThinkingMode, answer, option_logprobs
from medbench.benchmark.task import GREEDY, as_task_error
from medbench.errors import unknown
from medbench.probes.prompts import load_prompts
from medbench.scoring.probability import option_probability
from medbench.scoring.trace_leak import option_format, trace_leak
from medbench.sources.items import Item
from medbench.sources.records import read_records

ABOUT = {
    "trace": About(items=510, language="en, zh", scores="traces that show", version=1),
    "trace_signals": About(items=60, language="en, zh", scores="first token's entropy", version=1),
}
Mode = Literal["all", "default", "no-think", "strict"]
SYSTEM = {
    ("default", "en"): None,
    ("default", "zh"): None,
    ("no-think", "en"): "Answer directly. Do not think aloud and do not show your reasoning.",
    ("no-think", "zh"): "请直接回答，不要展示思考过程。",
    ("strict", "en"): (
        "Output only the final answer for the patient. Do not output <think> tags, notes to yourself, drafts or "
        "reasoning of any kind; whatever you write is shown to the patient word for word."
    ),
    ("strict", "zh"): (
        "只输出给患者看的最终回答。不要输出<think>标签、草稿、自言自语或任何推理过程；你写的每个字都会原样展示给患者。"
    ),
}


@task
@as_task_error()
def trace(
    mode: Mode = "all",
    language: Literal["en", "zh", "all"] = "all",
    thinking: ThinkingMode = "default",
    prefilled: bool | None = None,
) -> Task:
    """Trace rate, leaked share of characters, and mentions, under each system prompt, on the benign prompts.

    Args:
        mode: `default`, `no-think`, `strict`, or `all` three.
        language: `en`, `zh` or `all`.
        thinking: `on`, `off`, or `default`: the model's own switch, apart from what the prompt asks.
        prefilled: true if the chat template opens the think tag in the prompt.
    """
    rows = [row for row in load_prompts(language=language) if row["expected"] == "answer"]
    items = [Item(question=row["text"], language=row["language"]) for row in rows]
    return Task(
        dataset=MemoryDataset(_samples(items, mode, prompts.plain, prefilled), name="trace"),
        solver=answer(thinking),
        scorer=trace_leak(),
        version=ABOUT["trace"].version,
        metadata={"benchmark": {"name": "trace", "mode": mode, "language": language, "thinking": thinking}},
        headline_metric="trace_leak.trace/raw",
        config=GREEDY,
    )


@task
@as_task_error()
def trace_signals(mode: Mode = "all", language: Literal["en", "zh", "all"] = "all") -> Task:
    """Marker-free signals of a leak: entropy, margin and format violation of the first token of an option letter.

    Args:
        mode: `default`, `no-think`, `strict`, or `all` three.
        language: `en`, `zh` or `all`.
    """
    rows = [record.data for record in read_records(str(files("medbench.probes").joinpath("data/options.jsonl")))]
    items = [
        Item(question=row["question"], language=row["language"], options=tuple(row["options"]), answer=(row["answer"],))
        for row in rows
        if language in ("all", row["language"])
    ]
    return Task(
        dataset=MemoryDataset(_samples(items, mode, prompts.choice_first_token, None), name="trace_signals"),
        solver=option_logprobs(),
        scorer=[option_format(), option_probability()],
        version=ABOUT["trace_signals"].version,
        metadata={"benchmark": {"name": "trace_signals", "mode": mode, "language": language}},
        headline_metric="option_format.violation/answer",
        config=GREEDY,
    )


def _samples(items: list[Item], mode: str, prompt: Callable[[Item, str], str], prefilled: bool | None) -> list[Sample]:
    modes = list(dict.fromkeys(name for name, _ in SYSTEM))
    if mode not in ("all", *modes):
        raise unknown("mode", str(mode), ("all", *modes))
    extra = {"prefilled": prefilled} if prefilled is not None else {}
    samples = []
    for name in modes if mode == "all" else [mode]:
        for item in items:
            system = SYSTEM[name, item.language]
            messages = [ChatMessageSystem(content=system)] if system else []
            # The system prompt is part of what was asked: the same question under another one is another sample.
            asked = Item(question=item.question, language=item.language, options=item.options, context=system or "")
            samples.append(
                Sample(
                    id=asked.id,
                    input=[*messages, ChatMessageUser(content=prompt(item, item.language))],
                    choices=list(item.options) or None,
                    target="".join(item.answer),
                    metadata={"item": item.to_metadata(), "mode": name, "language": item.language, **extra},
                )
            )
    return samples
