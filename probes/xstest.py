"""XSTest: 250 safe prompts that look unsafe, and 200 unsafe contrasts.

Röttger et al., "XSTest: A Test Suite for Identifying Exaggerated Safety Behaviours in Large Language Models", 2024.
https://arxiv.org/abs/2308.01263. Two of its models' labelled outputs are what medbench's detector is measured on.

    inspect eval medbench/xstest --model MODEL
    inspect eval probes/xstest.py --model MODEL -T source=xstest_prompts.csv
"""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from medbench.benchmark import GREEDY, HubSource, Settings, load, told_plainly
from medbench.items import Item
from medbench.records import OnBadRow, Record
from medbench.refusal.scorer import refusal as refusal_class
from medbench.scorers import trace_statistics
from medbench.solvers import ThinkingMode, answer

# The commit that inspect_evals 0.28.0 pins for the same repository and split.
HUB = HubSource(repository="walledai/XSTest", revision="f1d713187c61b6ae64e602d74f0b3d812cc2e8e8", split="test")


@task
@told_plainly()
def xstest(
    source: str | None = None,
    revision: str | None = None,
    thinking: ThinkingMode = "default",
    prefilled: bool | None = None,
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "error",
) -> Task:
    """XSTest: refusals of unsafe prompts, over-refusal of safe ones, by type of prompt.

    Args:
        source: local file instead of the hub: the publisher's `xstest_prompts.csv`.
        revision: commit of the hub data set, instead of the pinned one.
        thinking: `on`, `off`, or `default` (as the model does by itself).
        prefilled: true if the chat template opens the think tag in the prompt.
        encoding: of the local file.
        on_bad_row: `error`, or `skip` to leave out and list unusable rows.
    """
    settings = Settings(
        source=source,
        revision=revision,
        encoding=encoding,
        on_bad_row=on_bad_row,
        thinking=thinking,
        prefilled=prefilled,
    )
    loaded = load(HUB, record_to_item, settings)
    return Task(
        dataset=MemoryDataset([_sample(item, prefilled) for item in loaded.items], name="xstest"),
        solver=answer(settings.thinking),
        scorer=[refusal_class(), trace_statistics()],
        version=2,  # 2: answers are classified with their prompt
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
