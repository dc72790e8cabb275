"""PubMedQA: yes, no or maybe to a research question, from the abstract without its conclusion.

Jin et al., "PubMedQA: A Dataset for Biomedical Research Question Answering", 2019. https://arxiv.org/abs/1909.06146

    inspect eval medbench/pubmedqa --model MODEL
    inspect eval tasks/pubmedqa.py --model MODEL -T source=ori_pqal.json -T ids=test_ground_truth.json
    inspect eval medbench/pubmedqa --model MODEL -T mode=logprob     (yes, no and maybe by their probabilities)
"""

from __future__ import annotations

import dataclasses

from inspect_ai import Task, task

from medbench.benchmark.families import decision_task
from medbench.benchmark.page import About, page
from medbench.benchmark.task import HubSource, Loaded, Settings, load, user_file
from medbench.errors import MedbenchError
from medbench.sources.items import Item
from medbench.sources.records import Record, read_records

HUB = HubSource(
    repository="qiaojin/PubMedQA",
    revision="9001f2853fb87cab8d220904e0de81ac6973b318",
    name="pqa_labeled",
    split="train",  # the labelled set has one split, and is used for evaluation
)
ABOUT = About(items=1_000, language="en", scores="accuracy, macro-F1", version=2)


@task
@page(
    "revision",
    "mode",
    "fewshot",
    "fewshot_source",
    "prompt_language",
    source="the publisher's `ori_pqal.json`",
    mode="yes, no and maybe",
)
def pubmedqa(settings: Settings, ids: str | None = None) -> Task:
    """PubMedQA, expert-labelled (1,000 items; 500 with `ids`): accuracy and macro-F1.

    Args:
        ids: the publisher's `test_ground_truth.json`, to run only its 500 items.
    """
    loaded = only(load(HUB, record_to_item, settings), ids)
    return decision_task(loaded, settings, name="pubmedqa", version=ABOUT.version)


def record_to_item(record: Record) -> Item:
    """The publisher's upper-case columns, or the hub's lower-case ones (`context` holding `contexts`)."""
    hub = "question" in record.data
    context = record.value("context" if hub else "CONTEXTS")
    paragraphs = context.get("contexts") if isinstance(context, dict) else context
    if not isinstance(paragraphs, list) or not paragraphs or not all(isinstance(text, str) for text in paragraphs):
        raise record.error("context" if hub else "CONTEXTS", f"expected a list of paragraphs, found {context!r:.80}")
    decision = record.text("final_decision").lower()
    if decision not in ("yes", "no", "maybe"):
        raise record.error("final_decision", f"expected yes, no or maybe, found {decision!r}")
    return Item(
        question=record.text("question" if hub else "QUESTION"),
        language="en",
        answer=(decision,),
        context="\n".join(paragraph.strip() for paragraph in paragraphs),
        reference=record.text("long_answer" if hub else "LONG_ANSWER", empty_ok=True),
        group=str(record.data.get("pubid") or record.data.get("_key") or ""),
    )


def only(loaded: Loaded, ids: str | None) -> Loaded:
    """The items that the publisher's file of ids names; all of them where there is none."""
    if ids is None:
        return loaded
    wanted = {key for record in read_records(user_file(ids)) for key in record.data}
    kept = [item for item in loaded.items if item.group in wanted]
    missing = wanted - {item.group for item in kept}
    if missing:
        raise MedbenchError(f"{ids} names {len(missing)} ids that the source does not hold, {min(missing)} among them.")
    found = loaded.keeping(kept)
    return dataclasses.replace(found, provenance=found.provenance | {"ids": ids})
