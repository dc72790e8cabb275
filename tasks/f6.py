"""F6: free-text answers to patients' questions, Chinese.

`finetune/valid_zh_0.json` of the hub data set shibing624/medical, one half of the held-out set (F5/F6) on which
"When Domain Pretraining Interferes with Instruction Alignment" reports BLEU and ROUGE. Those say how alike the writing
is, not whether the answer is right, so every score stands beside what answering another question would earn.

    inspect eval medbench/f6 --model MODEL
    inspect eval tasks/f6.py --model MODEL -T source=zh_valid.jsonl
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark import HubSource, Settings, fewshot_items, load, told_plainly
from medbench.families import free_text_task
from medbench.items import Item, instruction_item
from medbench.records import OnBadRow, Record
from medbench.solvers import ThinkingMode

# No commit has been verified; the log records which one was read. Read as a plain file: the data set's own loading
# script does not run under current `datasets`.
HUB = HubSource(
    repository="shibing624/medical",
    revision="main",
    split="validation",
    data_files="finetune/valid_zh_0.json",
    fewshot_split="train",
    fewshot_files="finetune/train_zh_0.json",
)


@task
@told_plainly()
def f6(
    source: str | None = None,
    revision: str | None = None,
    fewshot: int = 0,
    fewshot_source: str | None = None,
    thinking: ThinkingMode = "default",
    prefilled: bool | None = None,
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "error",
) -> Task:
    """F6: free-text answers, Chinese.

    Args:
        source: local file instead of the hub: rows with `instruction, input, output`.
        revision: commit of the hub data set, instead of the newest.
        fewshot: worked examples before each item, drawn from the training file.
        fewshot_source: local file to draw them from.
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
        fewshot=fewshot,
        fewshot_source=fewshot_source,
    )
    loaded = load(HUB, record_to_item, settings)
    examples = fewshot_items(HUB, record_to_item, settings, loaded.items)
    return free_text_task(loaded, settings, name="f6", version=1, examples=examples)


def record_to_item(record: Record) -> Item:
    """`instruction, input, output`; the question is instruction and input as instruction tuning joins them."""
    return instruction_item(record, language="zh")
