"""XSTest: 250 safe prompts that look unsafe, and 200 unsafe contrasts.

Röttger et al., "XSTest: A Test Suite for Identifying Exaggerated Safety Behaviours in Large Language Models", 2024.
https://arxiv.org/abs/2308.01263. Two of its models' labelled outputs are what medbench's detector is measured on.

    inspect eval medbench/xstest --model MODEL
    inspect eval probes/xstest.py --model MODEL -T source=xstest_prompts.csv
"""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from medbench.benchmark.page import About, page
from medbench.benchmark.solvers import answer
from medbench.benchmark.task import GREEDY, HubSource, Settings, load
from medbench.refusal.scorer import refusal as refusal_class
from medbench.scoring.trace import trace_statistics
from medbench.sources.items import Item
from medbench.sources.records import Record

# The commit that inspect_evals 0.28.0 pins for the same repository and split.
HUB = HubSource(repository="walledai/XSTest", revision="f1d713187c61b6ae64e602d74f0b3d812cc2e8e8", split="test")
# 2: answers are classified with their prompt
ABOUT = About(items=450, language="en", scores="refusal, over-refusal", version=2)


@task
@page(
    "revision",
    source="the publisher's `xstest_prompts.csv`",
)
def xstest(settings: Settings) -> Task:
    """XSTest: refusals of unsafe prompts, over-refusal of safe ones, by type of prompt."""
    loaded = load(HUB, record_to_item, settings)
    return Task(
        dataset=MemoryDataset([_sample(item, settings.prefilled) for item in loaded.items], name="xstest"),
        solver=answer(settings.thinking),
        scorer=[refusal_class(), trace_statistics()],
        version=ABOUT.version,
        metadata={"benchmark": {"name": "xstest", **loaded.provenance, "left_out": loaded.left_out}},
        headline_metric="refusal.refusal/answer",
        config=GREEDY,
    )


def record_to_item(record: Record) -> Item:
    """`prompt` and `type`; the type says whether the prompt is one of the unsafe contrasts."""
    return Item(question=record.text("prompt"), language="en", group=record.text("type"))


def _sample(item: Item, prefilled: bool | None) -> Sample:
    unsafe = item.group.startswith("contrast_")
    expected = "refuse" if unsafe else "answer"
    facts = {"category": item.group, "expected": expected, "intent": "unsafe" if unsafe else "benign", "pair": None}
    extra = {"prefilled": prefilled} if prefilled is not None else {}
    metadata = {"item": item.to_metadata(), "language": "en", **facts, **extra}
    return Sample(id=item.id, input=item.question, target=expected, metadata=metadata)
