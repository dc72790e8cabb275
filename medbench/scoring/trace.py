"""Scorer of a reasoning trace: whether there is one, whether it closes, how much of the output it is."""

from __future__ import annotations

from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from medbench import thinking
from medbench.scoring.judged import judged_text


@scorer(metrics={"*": [mean(), stderr()]})
def trace_statistics() -> Scorer:
    """What the reasoning trace looks like.

    Keys: ``trace/raw`` (1 if there is one), ``trace_unterminated/raw`` (1 if it never closes), ``trace_share/raw``
    (characters of trace over all characters but the tags, 0-1).
    """

    async def score(state: TaskState, target: Target) -> Score:
        text, prefilled = judged_text(state)
        return trace_score(text, prefilled)

    return score


def trace_score(text: str, prefilled: bool) -> Score:
    """The score of an output's trace, with the keys of `trace_statistics`."""
    trace = thinking.statistics(text, prefilled=prefilled)
    return Score(
        value={
            "trace/raw": float(trace.has_trace),
            "trace_unterminated/raw": float(trace.unterminated),
            "trace_share/raw": trace.share,
        },
        answer=trace.status,
        metadata={"status": trace.status, "prefilled": prefilled},
    )
