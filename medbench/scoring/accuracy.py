"""Scorers of what an output states: option letters, a decision, or names out of a closed list, against the key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from medbench.answers import Extraction, extract_choice, extract_decision
from medbench.reading.choice import Form
from medbench.scoring.judged import extraction_score, judged_item, once_per_text, ordered_views
from medbench.scoring.metrics import ACCURACY, abstention_bounds, macro_f1, other_views
from medbench.sources.items import LETTERS

# Labels that no output holds, in place of letters that no prompt showed.
_UNSEEN = "".join(chr(0xE000 + number) for number in range(len(LETTERS)))


@scorer(metrics=[ACCURACY, abstention_bounds(), other_views()])
def option_accuracy(
    multiple: bool = False, by_type: bool = False, form: Form | None = None, letters: bool = True
) -> Scorer:
    """Whether the stated option letters equal the key, under every view.

    Keys: ``accuracy/<view>`` (an abstention counts as wrong: the headline) and ``answered/<view>``. From both, the log
    also has accuracy among answered items and in the best case (`abstention_bounds`).

    Args:
        multiple: any number of options may be stated; sets are compared whole.
        by_type: also ``accuracy_single/answer`` and ``accuracy_multiple/answer``, for items with one and several keys.
        form: the form that the task's prompt asked for (`medbench.reading.choice.FORMS`), or None.
        letters: the prompt showed the options' letters; without them only an option's text is an answer.
    """

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        truncated = state.output.stop_reason in ("max_tokens", "model_length")
        names = item.letters if letters else _UNSEEN[: len(item.options)]

        def read(text: str) -> Extraction:
            found = extract_choice(
                text,
                names,
                choices=item.options,
                multiple=multiple,
                question=item.question,
                form=form,
                truncated=truncated,
            )
            return replace(found, letters=tuple(item.letters[names.index(one)] for one in found.letters))

        judge = once_per_text(read)
        return extraction_score({view: judge(text) for view, text in ordered_views(state)}, item.answer, by_type)

    return score


@scorer(metrics=[ACCURACY, abstention_bounds(), other_views(), macro_f1()])
def decision_accuracy(form: Form | None = None) -> Scorer:
    """Whether the stated yes, no or maybe equals the key; keys as in `option_accuracy`, and macro-F1 over the log.

    Args:
        form: the form that the task's prompt asked for (`medbench.reading.choice.FORMS`), or None.
    """

    async def score(state: TaskState, target: Target) -> Score:
        judge = once_per_text(lambda text: extract_decision(text, form=form))
        item = judged_item(state)
        return extraction_score({view: judge(text) for view, text in ordered_views(state)}, item.answer, False)

    return score


@scorer(metrics=[ACCURACY, abstention_bounds(), other_views()])
def named_accuracy(names: Mapping[str, Sequence[str]]) -> Scorer:
    """Whether a free-text answer names what its reference names, out of a closed list, and nothing else of it.

    For items whose reference settles which of a known set of entities is right (one drug of all drugs). Keys as in
    `option_accuracy`: ``accuracy/<view>`` is 1 where exactly the reference's names occur, ``answered/<view>`` where any
    name occurs. The rest of the wording plays no part.

    Args:
        names: language -> the names, as they are written in it.
    """

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        known = names[item.language]

        def judge(text: str) -> Extraction:
            found = named(text, known)
            if found:
                return Extraction("answer", found)
            return Extraction("abstain", reason="no_answer_found" if text.strip() else "no_response")

        judged = once_per_text(judge)
        return extraction_score(
            {view: judged(text) for view, text in ordered_views(state)}, named(item.reference, known), False
        )

    return score


def named(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names that occur in a text, in the order of `names`: whole words where they are written in Latin letters."""
    return tuple(
        name for name in names if re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", text, re.IGNORECASE)
    )
