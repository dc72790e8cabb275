"""PubMedQA with decision and conclusion in one generation: correctness and surface scores for the same item.

The items are `pubmedqa`'s (see there for paper and source); the reference text is the abstract's own conclusion.

    inspect eval medbench/pubmedqa_long --model MODEL
    inspect eval tasks/pubmedqa_long.py --model MODEL -T source=ori_pqal.json
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark import PromptLanguage, Settings, load, told_plainly
from medbench.families import explain_task
from medbench.records import OnBadRow
from medbench.solvers import ThinkingMode
from medbench.tasks.pubmedqa import HUB, only, record_to_item


@task
@told_plainly()
def pubmedqa_long(
    source: str | None = None,
    revision: str | None = None,
    ids: str | None = None,
    thinking: ThinkingMode = "default",
    prefilled: bool | None = None,
    prompt_language: PromptLanguage = "auto",
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "error",
) -> Task:
    """PubMedQA with decision and conclusion in one generation: correctness and surface scores for the same item.

    Args:
        source: local file instead of the hub: the publisher's `ori_pqal.json`.
        revision: commit of the hub data set, instead of the pinned one.
        ids: the publisher's `test_ground_truth.json`, to run only its 500 items.
        thinking: `on`, `off`, or `default` (as the model does by itself).
        prefilled: true if the chat template opens the think tag in the prompt.
        prompt_language: `en`, `zh`, or `auto` (the item's).
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
        prompt_language=prompt_language,
    )
    loaded = only(load(HUB, record_to_item, settings), ids)
    return explain_task(loaded, settings, name="pubmedqa_long", version=2, decision=True)
