"""F5 (English) and F6 (Chinese): free-text answers to patients' questions.

`finetune/valid_en_1.json` and `finetune/valid_zh_0.json` of the hub data set shibing624/medical: the held-out set
(F5/F6) on which "When Domain Pretraining Interferes with Instruction Alignment" reports BLEU and ROUGE. Those say how
alike the writing is, not whether the answer is right, so every score stands beside what answering another question
would earn.

    inspect eval medbench/f5 medbench/f6 --model MODEL
    inspect eval medbench/f5 --model MODEL -T source=en_valid.jsonl
    inspect eval tasks/f5_f6.py@f6 --model MODEL -T source=zh_valid.jsonl
"""

from __future__ import annotations

from inspect_ai import Task, task

from medbench.benchmark.families import free_text_task
from medbench.benchmark.page import About, page
from medbench.benchmark.task import HubSource, Settings, load
from medbench.sources.items import instruction_item

# No commit has been verified; the log records which one was read. Read as plain files: the data set's own loading
# script does not run under current `datasets`.
HUB = {
    name: HubSource(
        repository="shibing624/medical",
        revision="main",
        split="validation",
        data_files=f"finetune/valid_{file}.json",
        fewshot_split="train",
        fewshot_files=f"finetune/train_{file}.json",
    )
    for name, file in (("f5", "en_1"), ("f6", "zh_0"))
}
ABOUT = {
    name: About(items=None, language=language, scores="BLEU, ROUGE", version=1)
    for name, language in (("f5", "en"), ("f6", "zh"))
}
TAKES = ("revision", "fewshot", "fewshot_source")
NOTES = {
    "source": "rows with `instruction, input, output`",
    "revision": "the newest",
    "fewshot": "the training file",
}


@task
@page(*TAKES, **NOTES)
def f5(settings: Settings) -> Task:
    """F5: free-text answers, English."""
    return _answers("f5", "en", settings)


@task
@page(*TAKES, **NOTES)
def f6(settings: Settings) -> Task:
    """F6: free-text answers, Chinese."""
    return _answers("f6", "zh", settings)


def _answers(name: str, language: str, settings: Settings) -> Task:
    loaded = load(HUB[name], lambda record: instruction_item(record, language=language), settings)
    return free_text_task(loaded, settings, name=name, version=ABOUT[name].version)
