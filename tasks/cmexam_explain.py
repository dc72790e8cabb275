"""CMExam with answer and explanation in one generation: correctness and surface scores for the same item.

The items are `cmexam`'s (see there for paper and source) that have a reference explanation.

    inspect eval medbench/cmexam_explain --model MODEL
    inspect eval tasks/cmexam_explain.py --model MODEL -T source=val.csv
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark import PromptLanguage, Settings, load, told_plainly
from medbench.families import explain_task
from medbench.records import OnBadRow
from medbench.solvers import ThinkingMode
from medbench.tasks.cmexam import HUB, record_to_item


@task
@told_plainly()
def cmexam_explain(
    source: str | None = None,
    revision: str | None = None,
    thinking: ThinkingMode = "default",
    prefilled: bool | None = None,
    prompt_language: PromptLanguage = "auto",
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "error",
) -> Task:
    """CMExam with answer and explanation in one generation: correctness and surface scores for the same item.

    Options keep their published order, since the reference explanations name them by letter.

    Args:
        source: local file instead of the hub: the original CSV, or the hub's JSON.
        revision: commit of the hub data set, instead of the newest.
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
    return explain_task(load(HUB, record_to_item, settings), settings, name="cmexam_explain", version=2)
