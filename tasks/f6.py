"""F6: free-text answers to patients' questions, Chinese.

`finetune/valid_zh_0.json` of the hub data set shibing624/medical, one half of the held-out set (F5/F6) on which
"When Domain Pretraining Interferes with Instruction Alignment" reports BLEU and ROUGE. Those say how alike the writing
is, not whether the answer is right, so every score stands beside what answering another question would earn.

    inspect eval medbench/f6 --model MODEL
    inspect eval tasks/f6.py --model MODEL -T source=zh_valid.jsonl
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark import HubSource, Settings, load
from medbench.families import free_text_task
from medbench.items import Item, instruction_item
from medbench.page import page
from medbench.records import Record

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
@page(
    "revision",
    "fewshot",
    "fewshot_source",
    source="rows with `instruction, input, output`",
    revision="the newest",
    fewshot="the training file",
)
def f6(settings: Settings) -> Task:
    """F6: free-text answers, Chinese."""
    loaded = load(HUB, record_to_item, settings)
    return free_text_task(loaded, settings, name="f6", version=1)


def record_to_item(record: Record) -> Item:
    """`instruction, input, output`; the question is instruction and input as instruction tuning joins them."""
    return instruction_item(record, language="zh")
