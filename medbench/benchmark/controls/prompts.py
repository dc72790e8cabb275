"""Prompt texts under a cue control. A change here changes scores under the control: say so in the changelog."""

from __future__ import annotations

from collections.abc import Callable

from medbench.benchmark.prompts import FORM, HOW_MANY, option_lines
from medbench.sources.items import Item

_OPTIONS_ONLY = {
    "en": (
        "Here are the options of a medical multiple-choice question; the question itself is not shown. {how_many} "
        "Choose what is most likely right. Think it through if you need to, and end your reply with one line of the "
        "form 'Answer: {form}'.\n\n{options}"
    ),
    "zh": (
        "下面只给出一道医学选择题的选项，题干没有显示。{how_many}请选出最可能正确的选项。可以先分析，"
        "最后单独用一行给出“答案：{form}”。\n\n{options}"
    ),
}
_OPTIONS_ONLY_FIRST_TOKEN = {
    "en": (
        "Here are the options of a medical multiple-choice question; the question itself is not shown. Reply with the "
        "letter of the option that is most likely correct and nothing else.\n\n{options}"
    ),
    "zh": (
        "下面只给出一道医学选择题的选项，题干没有显示。请只回答最可能正确的选项的字母，不要输出其他内容。\n\n{options}"
    ),
}
_NO_LABELS = {
    "en": (
        "Here is a medical multiple-choice question. {how_many} Think it through if you need to, and end your reply "
        "with one line of the form 'Answer: TEXT', where TEXT is the text of the correct option as it stands."
        "\n\n{question}\n\n{options}"
    ),
    "zh": (
        "请回答下面的医学选择题。{how_many}可以先分析，最后单独用一行给出“答案：”和正确选项的原文。"
        "\n\n{question}\n\n{options}"
    ),
}
_NO_OPTIONS = {
    "en": (
        "Here is a medical question. Think it through if you need to, and end your reply with one line of the form "
        "'Answer: TEXT', where TEXT is the answer in a few words.\n\n{question}"
    ),
    "zh": "请回答下面的医学问题。可以先分析，最后单独用一行给出“答案：”和简短的答案。\n\n{question}",
}


def options_only(*, multiple: bool, first_token: bool) -> Callable[[Item, str], str]:
    """The options and nothing of the question."""

    def prompt(item: Item, language: str) -> str:
        templates = _OPTIONS_ONLY_FIRST_TOKEN if first_token else _OPTIONS_ONLY
        return templates[language].format(
            options=option_lines(item), how_many=HOW_MANY[language, multiple], form=FORM[language, multiple]
        )

    return prompt


def no_labels(*, multiple: bool, first_token: bool) -> Callable[[Item, str], str]:
    """The options as a list without letters; there is no first-token form."""

    def prompt(item: Item, language: str) -> str:
        return _NO_LABELS[language].format(
            question=item.question,
            options="\n".join(f"- {option}" for option in item.options),
            how_many=HOW_MANY[language, multiple],
        )

    return prompt


def no_options(*, multiple: bool, first_token: bool) -> Callable[[Item, str], str]:
    """The question alone; there is no first-token form."""
    return lambda item, language: _NO_OPTIONS[language].format(question=item.question)
