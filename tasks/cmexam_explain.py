"""CMExam with answer and explanation in one generation: correctness and surface scores for the same item.

The items are `cmexam`'s (see there for paper and source) that have a reference explanation.

    inspect eval medbench/cmexam_explain --model MODEL
    inspect eval tasks/cmexam_explain.py --model MODEL -T source=val.csv
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark.families import explain_task
from medbench.benchmark.page import About, page
from medbench.benchmark.task import Settings, load
from medbench.tasks.cmexam import HUB, record_to_item

ABOUT = About(items=None, language="zh", scores="accuracy; BLEU, ROUGE", version=2)


@task
@page(
    "revision",
    "prompt_language",
    source="the original CSV, or the hub's JSON",
    revision="the newest",
)
def cmexam_explain(settings: Settings) -> Task:
    """CMExam with answer and explanation in one generation: correctness and surface scores for the same item.

    Options keep their published order, since the reference explanations name them by letter.
    """
    return explain_task(load(HUB, record_to_item, settings), settings, name="cmexam_explain", version=ABOUT.version)
