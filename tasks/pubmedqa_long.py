"""PubMedQA with decision and conclusion in one generation: correctness and surface scores for the same item.

The items are `pubmedqa`'s (see there for paper and source); the reference text is the abstract's own conclusion.

    inspect eval medbench/pubmedqa_long --model MODEL
    inspect eval tasks/pubmedqa_long.py --model MODEL -T source=ori_pqal.json
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark.families import explain_task
from medbench.benchmark.page import About, page
from medbench.benchmark.task import Settings, load
from medbench.tasks.pubmedqa import HUB, only, record_to_item

ABOUT = About(items=1_000, language="en", scores="accuracy; BLEU, ROUGE", version=2)


@task
@page(
    "revision",
    "prompt_language",
    source="the publisher's `ori_pqal.json`",
)
def pubmedqa_long(settings: Settings, ids: str | None = None) -> Task:
    """PubMedQA with decision and conclusion in one generation: correctness and surface scores for the same item.

    Args:
        ids: the publisher's `test_ground_truth.json`, to run only its 500 items.
    """
    loaded = only(load(HUB, record_to_item, settings), ids)
    return explain_task(loaded, settings, name="pubmedqa_long", version=ABOUT.version, decision=True)
