"""How other harnesses read an answer out of an output, to judge stored generations once more.

medbench's own reading is `medbench.answers`. These are the rules of others, kept as they are, weaknesses included: what
a model scores depends on the rule, and a conclusion should not. Each is a pure function of text and names whose rule it
is. None looks at the texts of the options, so an answer that states an option without its letter is missed by all.

Their rules are for option letters. For yes, no and maybe the same patterns are applied to the words, without regard to
case, which no harness defines; Inspect's parser is not, since it knows letters only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from medbench.answers import Extraction
from medbench.errors import MedbenchError, unknown

if TYPE_CHECKING:
    pass

# (text, labels in use, several may be right) -> labels found, in the order found
Rule = Callable[[str, tuple[str, ...], bool], Sequence[str]]


@dataclass(frozen=True)
class Extractor:
    """A rule and where it comes from.

    Attributes:
        name: how it is called in tables and keys.
        follows: whose rule it is, with the version read.
        reads: what it takes as the answer, in a few words.
    """

    name: str
    follows: str
    reads: str
    rule: Rule


def extract(name: str, text: str, labels: str | Sequence[str] = "ABCD", *, multiple: bool = False) -> Extraction:
    """What an output states by another harness's rule.

    Args:
        name: one of `EXTRACTORS`.
        text: the output, or one view of it.
        labels: the options' letters, or the words ``yes``, ``no``, ``maybe``.
        multiple: several letters may be right. Only ``inspect`` and ``opencompass`` can then find more than one.

    Returns:
        ``answer`` with the labels found, or ``abstain`` with the reason ``no_response`` or ``no_answer_found``.

    Raises:
        MedbenchError: there is no such rule, or there are no labels.
    """
    if name not in EXTRACTORS:
        raise unknown("extractor", name, EXTRACTORS)
    if not labels:
        raise MedbenchError('labels is empty: name the options, e.g. labels="ABCD".')
    order = tuple(labels)
    found = set(EXTRACTORS[name].rule(text, order, multiple))
    if found:
        return Extraction("answer", tuple(label for label in order if label in found))
    return Extraction("abstain", reason="no_answer_found" if text.strip() else "no_response")


def accuracies(
    views: Mapping[str, str], labels: Sequence[str], gold: Sequence[str], *, multiple: bool = False
) -> dict[str, float]:
    """One generation judged by every rule.

    Args:
        views: view -> text (`medbench.thinking.views`).
        labels, multiple: as in `extract`.
        gold: the key.

    Returns:
        ``accuracy_<name>/<view>`` (0 or 1; no answer counts as wrong) and ``answered_<name>/<view>``.
    """
    key, order = set(gold), tuple(labels)
    judged: dict[str, list[tuple[str, float, float]]] = {}
    found: dict[str, float] = {}
    for view, text in views.items():
        if text not in judged:  # without a trace all views are the same text
            read = [(name, set(EXTRACTORS[name].rule(text, order, multiple))) for name in _rules_for(labels)]
            judged[text] = [(name, float(stated == key), float(bool(stated))) for name, stated in read]
        for name, right, answered in judged[text]:
            found[f"accuracy_{name}/{view}"] = right
            found[f"answered_{name}/{view}"] = answered
    return found


def _rules_for(labels: Sequence[str]) -> list[str]:
    return [name for name in EXTRACTORS if len(labels[0]) == 1 or name != "inspect"]


@dataclass(frozen=True)
class _Patterns:
    """The rules' patterns for one set of labels."""

    answer_is: re.Pattern[str]
    answer_colon: re.Pattern[str]
    last_alone: re.Pattern[str]
    marked: tuple[re.Pattern[str], ...]
    run: re.Pattern[str]


@lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> _Patterns:
    words = len(labels[0]) > 1
    one = f"(?:{'|'.join(map(re.escape, labels))})" if words else f"[{''.join(map(re.escape, labels))}]"
    case = "(?i)" if words else ""
    return _Patterns(
        answer_is=re.compile(rf"{case}answer is \(?({one})\)?"),
        answer_colon=re.compile(rf"{case}[aA]nswer:\s*({one})"),
        last_alone=re.compile(rf"{case}\b{one}\b"),
        marked=tuple(re.compile(rf"(?i){mark}[ \t]*({one})") for mark in (r"Answer\s*:", r"答案\s*：", r"答案\s*:")),
        run=re.compile(rf"{case}\b{one}\b" if words else f"{one}+"),
    )


def _matched(label: str, labels: tuple[str, ...]) -> list[str]:
    """The label as it is written in `labels`; patterns for words ignore case."""
    return [known for known in labels if known.lower() == label.lower()]


def _lm_eval(text: str, labels: tuple[str, ...], multiple: bool) -> Sequence[str]:
    match = _patterns(labels).answer_is.search(text)
    return _matched(match[1], labels) if match else ()


def _mmlu_pro(text: str, labels: tuple[str, ...], multiple: bool) -> Sequence[str]:
    patterns = _patterns(labels)
    declared = patterns.answer_is.search(text) or _last_of_first_line(patterns.answer_colon, text)
    if declared:
        return _matched(declared[1], labels)
    alone = patterns.last_alone.findall(text)
    return _matched(alone[-1], labels) if alone else ()


def _last_of_first_line(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """What a search for ``.*pattern`` finds, which takes quadratic time on a long line without a match."""
    found, end = None, -1
    for match in pattern.finditer(text):
        if found is None:
            end = text.find("\n", match.start())
        elif end >= 0 and match.start() > end:
            break
        found = match
    return found


# Their normalisation takes Markdown and LaTeX away before it looks.
_MARKUP = re.compile(r"\*\*|\\(?:boxed|text|math(?:rm|bf)|\()|[${}]")


def _simple_evals(text: str, labels: tuple[str, ...], multiple: bool) -> Sequence[str]:
    plain = _MARKUP.sub("", text)
    for pattern in _patterns(labels).marked:
        match = pattern.search(plain)
        if match:
            return _matched(match[1], labels)
    return ()


def _inspect(text: str, labels: tuple[str, ...], multiple: bool) -> Sequence[str]:
    # Their parser knows letters only, and finds nothing without the word, which most outputs of other prompts lack.
    if len(labels[0]) > 1 or "answer" not in text.lower():
        return ()
    from medbench.private.inspect import answers_of_choices

    return answers_of_choices(text, labels, multiple)


_MAYBE_CAPITAL = re.compile(r"[^\x00-@\[-\x7f]")  # all but the ASCII characters that are no capitals


def _opencompass(text: str, labels: tuple[str, ...], multiple: bool) -> Sequence[str]:
    if multiple or len(labels[0]) > 1:
        match = _patterns(labels).run.search(text)
        return () if match is None else _matched(match[0], labels) if len(labels[0]) > 1 else match[0]
    first = next((found[0] for found in _MAYBE_CAPITAL.finditer(text) if found[0].isupper()), "")
    return _matched(first, labels)


# In the order of the report's tables: the strict ones first.
EXTRACTORS: dict[str, Extractor] = {
    extractor.name: extractor
    for extractor in (
        Extractor(
            "lm-eval",
            "lm-evaluation-harness 0.4.9, mmlu_pro 2.1, filter custom-extract",
            'the first "answer is X"; nothing else',
            _lm_eval,
        ),
        Extractor(
            "inspect",
            "Inspect 0.3.285, solver multiple_choice()",
            'the last line "ANSWER: X", else the last "ANSWER: X" anywhere',
            _inspect,
        ),
        Extractor(
            "simple-evals",
            "OpenAI simple-evals, multiple choice in English and Chinese",
            'the first "Answer: X", else the first "答案：X"',
            _simple_evals,
        ),
        Extractor(
            "mmlu-pro",
            "MMLU-Pro's own evaluate_from_api.py",
            'the first "answer is X", else "Answer: X", else the last letter that stands alone',
            _mmlu_pro,
        ),
        Extractor(
            "opencompass",
            "OpenCompass, post-processors first-capital and first-capital-multi",
            "the first capital letter, whatever word it belongs to",
            _opencompass,
        ),
    )
}
