"""Prompt texts, English and Chinese. A change here changes scores: raise the version of every task that uses it."""

from __future__ import annotations

from medbench.sources.items import Item
from medbench.sources.quantities import parse_key

_CHOICE = {
    "en": (
        "Here is a medical multiple-choice question. {how_many} Think it through if you need to, and end your reply "
        "with one line of the form 'Answer: {form}'.\n\n{question}\n\n{options}"
    ),
    "zh": "请回答下面的医学选择题。{how_many}可以先分析，最后单独用一行给出“答案：{form}”。\n\n{question}\n\n{options}",
}
# (language, whether several options may be right) -> how the prompt says it.
HOW_MANY = {
    ("en", False): "Exactly one option is correct.",
    ("en", True): "One or several options may be correct; name all of them.",
    ("zh", False): "只有一个选项正确。",
    ("zh", True): "正确选项可能有一个或多个，请全部选出。",
}
FORM = {("en", False): "X", ("en", True): "X or XY", ("zh", False): "X", ("zh", True): "X或XY"}
_FIRST_TOKEN = {
    "en": "Reply with the letter of the correct option and nothing else.\n\n{question}\n\n{options}",
    "zh": "请只回答正确选项的字母，不要输出其他内容。\n\n{question}\n\n{options}",
}
_EXPLAIN = {
    "en": (
        "Here is a medical multiple-choice question. {how_many} Reply in two parts: first one line 'Answer: {form}', "
        "then 'Explanation:' followed by the reasons for and against the options.\n\n{question}\n\n{options}"
    ),
    "zh": (
        "请回答下面的医学选择题。{how_many}回答分两部分：先用一行写“答案：{form}”，再写“解析：”并说明各选项对错的理由。"
        "\n\n{question}\n\n{options}"
    ),
}
_DECISION = {
    "en": (
        "Read the abstract and answer the research question with yes, no or maybe. End your reply with one line "
        "'Answer: yes', 'Answer: no' or 'Answer: maybe'.\n\nAbstract:\n{context}\n\nQuestion: {question}"
    ),
    "zh": (
        "请阅读下面的论文摘要并回答研究问题，只能回答 yes、no 或 maybe。"
        "最后单独用一行写“答案：yes”“答案：no”或“答案：maybe”。\n\n摘要：\n{context}\n\n问题：{question}"
    ),
}
_DECISION_FIRST_TOKEN = {
    "en": (
        "Read the abstract and answer the research question. Reply with yes, no or maybe and nothing else.\n\n"
        "Abstract:\n{context}\n\nQuestion: {question}"
    ),
    "zh": (
        "请阅读下面的论文摘要并回答研究问题。请只回答 yes、no 或 maybe，不要输出其他内容。"
        "\n\n摘要：\n{context}\n\n问题：{question}"
    ),
}
_DECISION_LONG = {
    "en": (
        "Read the abstract and answer the research question. Reply in two parts: first one line 'Answer:' with yes, "
        "no or maybe, then 'Explanation:' with the conclusion that the abstract supports, in one to three sentences."
        "\n\nAbstract:\n{context}\n\nQuestion: {question}"
    ),
    "zh": (
        "请阅读下面的论文摘要并回答研究问题。回答分两部分：先用一行写“答案：”和 yes、no 或 maybe，再写“解析：”"
        "并用一到三句话说明摘要支持的结论。\n\n摘要：\n{context}\n\n问题：{question}"
    ),
}


_QUANTITY = {
    "en": (
        "Read the patient note and calculate what is asked. Think it through step by step, and end your reply with one "
        "line 'Answer: X', where X is {form}.\n\nPatient note:\n{context}\n\nTask: {question}"
    ),
    "zh": (
        "请阅读下面的病历并计算所问的数值。请逐步推理，最后单独用一行写“答案：X”，其中X为{form}。"
        "\n\n病历：\n{context}\n\n任务：{question}"
    ),
}
_QUANTITY_FORM = {
    ("en", "number"): "the number alone, in the unit that the task names",
    ("en", "date"): "the date as MM/DD/YYYY",
    ("en", "weeks_days"): "the weeks and days as (17 weeks, 4 days)",
    ("zh", "number"): "数值本身（以题目要求的单位计，不写单位）",
    ("zh", "date"): "MM/DD/YYYY格式的日期",
    ("zh", "weeks_days"): "(17 weeks, 4 days)格式的孕周",
}


def option_lines(item: Item) -> str:
    """The options, one a line, with their letters."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(item.letters, item.options, strict=True))


def _with_options(templates: dict[str, str], item: Item, language: str, multiple: bool) -> str:
    return templates[language].format(
        question=item.question,
        options=option_lines(item),
        how_many=HOW_MANY[language, multiple],
        form=FORM[language, multiple],
    )


def choice(item: Item, language: str) -> str:
    """Reasoning allowed, one answer line at the end."""
    return _with_options(_CHOICE, item, language, multiple=False)


def choice_multiple(item: Item, language: str) -> str:
    """As `choice`, where any number of options may be correct; says so on every item, so it gives nothing away."""
    return _with_options(_CHOICE, item, language, multiple=True)


def choice_first_token(item: Item, language: str) -> str:
    """The letter alone, for log-probabilities of the first token."""
    return _with_options(_FIRST_TOKEN, item, language, multiple=False)


def choice_explain(item: Item, language: str) -> str:
    """Answer and explanation in one generation."""
    return _with_options(_EXPLAIN, item, language, multiple=True)


def decision(item: Item, language: str) -> str:
    """Yes, no or maybe from a given context."""
    return _DECISION[language].format(context=item.context, question=item.question)


def decision_first_token(item: Item, language: str) -> str:
    """Yes, no or maybe alone, for log-probabilities of the first token."""
    return _DECISION_FIRST_TOKEN[language].format(context=item.context, question=item.question)


def decision_long(item: Item, language: str) -> str:
    """Yes, no or maybe with the conclusion spelled out, in one generation."""
    return _DECISION_LONG[language].format(context=item.context, question=item.question)


def quantity(item: Item, language: str) -> str:
    """A number, a date, or weeks and days, calculated from a note; reasoning allowed, one answer line at the end."""
    key = parse_key(item.answer[0])
    form = _QUANTITY_FORM[language, "number" if key is None else key.kind]
    return _QUANTITY[language].format(context=item.context, question=item.question, form=form)


def plain(item: Item, language: str) -> str:
    """The question as it is, as instruction data is used in training."""
    return item.question


def answer_line(value: str, language: str) -> str:
    """The line that ends a reply, for few-shot examples."""
    return f"答案：{value}" if language == "zh" else f"Answer: {value}"
