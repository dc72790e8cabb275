"""Inspect scorer of answers that are a number, a date, or weeks and days, against a key with limits."""

from __future__ import annotations

from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from medbench.errors import MedbenchError
from medbench.reading.number import extract_number, quantity_of
from medbench.scoring.judged import extraction_score, judged_item, once_per_text, ordered_views
from medbench.scoring.metrics import ACCURACY, abstention_bounds
from medbench.scoring.metrics import other_views as views_that_differ
from medbench.sources.quantities import agrees, parse_key


@scorer(metrics=[ACCURACY, abstention_bounds(), views_that_differ()])
def quantity_accuracy() -> Scorer:
    """Whether the stated quantity counts as the key (`medbench.sources.quantities.agrees`), under every view.

    Keys as in `option_accuracy`: ``accuracy/<view>``, and ``answered/<view>``, which is 0 where none could be read; the
    log says why. The item's key says what is asked for, its `limits` which numbers count.
    """

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        key = parse_key(item.answer[0])
        if key is None:
            raise MedbenchError(f"item {item.id}: its key {item.answer[0]!r} is no number, date, or weeks and days.")
        kind = key.kind
        judge = once_per_text(lambda text: extract_number(text, kind=kind))

        def right(stated: tuple[str, ...]) -> bool:
            return agrees(quantity_of(stated[0], kind), key, item.limits)

        judged = {view: judge(text) for view, text in ordered_views(state)}
        return extraction_score(judged, item.answer, False, right)

    return score
