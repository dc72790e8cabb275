"""The Inspect scorer of claims."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer, stderr
from inspect_ai.solver import TaskState
from inspect_ai.util import collect

from medbench.benchmark.task import user_file
from medbench.claims import scores as claim_scores
from medbench.claims.items import cases
from medbench.claims.judges import Jury, jury_of, names_in
from medbench.claims.verdicts import ENTAILED, MUST_HAVE, Case, Verdict, counted
from medbench.errors import unknown
from medbench.scoring.judged import judged_views
from medbench.scoring.metrics import interval, other_views

# Every other view costs another round of calls where a model judges; the trace alone is no answer.
VIEWS = ("answer", "raw", "untagged", "lenient")


@metric
def unscored_claims() -> Metric:
    """What claims without a verdict leave open: both scores at least and at most, and how many for which reason.

    Names: ``comprehensiveness_least/answer``, ``..._most/answer``, ``hallucination_rate_least/answer``,
    ``..._most/answer``, ``unscored_<reason>/answer`` (counts); none where every claim has a verdict.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        rows = [(score.score.metadata or {}).get("verdicts", {}).get("answer", []) for score in scores]
        judged = [[claim_scores.from_record(row) for row in several] for several in rows if several]
        reasons = Counter(verdict.reason for several in judged for _, verdict in several if verdict.reason)
        if not reasons:
            return {}
        values: dict[str, float] = {}
        for name in ("comprehensiveness", "hallucination_rate"):
            limits = [claim_scores.bounds(several)[name] for several in judged]
            for side, end in enumerate(("least", "most")):
                known = [pair[side] for pair in limits if not math.isnan(pair[side])]
                values[f"{name}_{end}/answer"] = sum(known) / len(known) if known else math.nan
        return values | {f"unscored_{reason}/answer": float(count) for reason, count in reasons.most_common()}

    return compute


_RATE = [mean(), stderr(), interval()]
_METRICS = {
    "comprehensiveness/answer": _RATE,
    "hallucination_rate/answer": [mean(), stderr()],
    "contradicted/answer": _RATE,
    "claims_judged/answer": [mean()],
    "*_floor/*": [mean()],
}


@scorer(metrics=[_METRICS, other_views(), unscored_claims()])
def claim_entailment(
    judge: str | Sequence[str] | None = None,
    verdicts: str | None = None,
    tie: str = "unscored",
    views: str | Sequence[str] = "answer",
    floor: bool | None = None,
) -> Scorer:
    """K-QA's comprehensiveness and hallucination rate: each claim entailed, neutral or contradicted by the answer.

    Keys: ``comprehensiveness/<view>`` (0-1), ``hallucination_rate/<view>`` (claims contradicted, a count),
    ``contradicted/<view>`` (share of claims, 0-1), ``claims_judged/<view>`` (share with a verdict), and
    ``comprehensiveness_floor/<view>``, ``contradicted_floor/<view>``: the same answer by another question's claims.
    `Score.metadata` holds ``verdicts``, per view one row a claim with the judge's reply, and ``judge``.

    Args:
        judge, verdicts, tie: see `medbench.claims.judges.jury_of`.
        views: which views are judged, the one that counts first.
        floor: whether answers are judged by another question's claims too; None does so where that costs no call.

    Raises:
        MedbenchError: no view or an unknown one, or what `jury_of` raises.
    """
    judged_under = names_in(views)
    for view in judged_under or [""]:
        if view not in VIEWS:
            raise unknown("view", view, VIEWS)
    jury = jury_of(judge, None if verdicts is None else user_file(verdicts), tie)
    with_floor = not jury.asks_models if floor is None else floor

    async def score(state: TaskState, target: Target) -> Score:
        texts = judged_views(state)
        value: dict[str, float] = {}
        kept: dict[str, list[dict[str, object]]] = {}
        floors: dict[str, list[dict[str, object]]] = {}
        known: dict[str, tuple[claim_scores.Judged, claim_scores.Judged]] = {}
        for view in judged_under:
            text = texts[view]
            if text not in known:
                known[text] = await _judge(jury, state.metadata, text, with_floor)
            own, other = known[text]
            value |= {f"{name}/{view}": of(own) for name, of in claim_scores.SCORES.items()}
            # a floor that is not judged in full would be of other claims for every answer
            whole = bool(other) and all(verdict.label is not None for _, verdict in other)
            value |= {
                f"{name}_floor/{view}": claim_scores.SCORES[name](other) if whole else math.nan
                for name in claim_scores.FLOORS
            }
            kept[view] = [claim_scores.as_record(*pair) for pair in own]
            floors[view] = [claim_scores.as_record(*pair) for pair in other] if whole else []
        head = judged_under[0]
        empty = not texts[head].strip()
        reasons = [verdict.reason for _, verdict in known[texts[head]][0] if verdict.reason]
        nothing = math.isnan(value[f"comprehensiveness/{head}"])
        return Score(
            value=value,
            answer=texts[head],
            reason="no_response" if empty else "grader_failed" if nothing else None,
            explanation=_explained(known[texts[head]][0], reasons, empty),
            metadata={"judge": jury.name, "verdicts": kept, "floor_verdicts": floors},
        )

    return score


async def _judge(
    jury: Jury, metadata: dict[str, Any], text: str, with_floor: bool
) -> tuple[claim_scores.Judged, claim_scores.Judged]:
    """The verdicts on an answer by its own claims, and by those of another question."""
    own = cases(metadata["item"], text)
    other = cases(metadata["floor_item"], text) if with_floor and metadata.get("floor_item") else []
    said = await _verdicts(jury, own + other)
    return list(zip(own, said, strict=False)), list(zip(other, said[len(own) :], strict=True))


async def _verdicts(jury: Jury, several: Sequence[Case]) -> list[Verdict]:
    if jury.asks_models:
        return list(await collect(*(jury.verdict(case) for case in several)))
    return [await jury.verdict(case) for case in several]


def _explained(judged: claim_scores.Judged, reasons: Sequence[str], empty: bool) -> str:
    must = [verdict.label for case, verdict in judged if case.importance == MUST_HAVE]
    said = f"{must.count(ENTAILED)} of {len(must)} must-have claims entailed"
    against = [case.claim for case, verdict in judged if verdict.label == "contradicted"]
    if against:
        said += f"; contradicts: {'; '.join(against)}"
    if reasons:
        said += f"; without a verdict: {counted(reasons)}"
    return "the answer view is empty, so every claim is neutral" if empty else said
