"""Does a model leak its reasoning trace into what it shows? Scorers for outputs under several system prompts.

With markers, a leak is a think tag that is used (a tag that is only mentioned is counted apart). Without markers, a
model that is asked for an option letter and starts to reason instead shows it in its first token: probability outside
the letters (format violation), high entropy among them, a small margin between the first two.
"""

from __future__ import annotations

import math
from collections import defaultdict

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer, stderr
from inspect_ai.solver import TaskState

from medbench import thinking
from medbench.scoring.judged import judged_item, judged_text
from medbench.scoring.probability import letter_masses
from medbench.scoring.trace import trace_score
from medbench.stats import clopper_pearson


@metric
def by_mode() -> Metric:
    """Every key's mean under each system prompt (``<metric>.<mode>/<view>``), 0/1 keys with exact 95% intervals."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        values: dict[str, list[float]] = defaultdict(list)
        for score in scores:
            mode = (score.sample_metadata or {}).get("mode", "default")
            for key, value in score.score.as_dict().items():
                if value is not None and not math.isnan(float(value)):
                    name, view = key.split("/")
                    values[f"{name}.{mode}/{view}"].append(float(value))
        found: dict[str, float] = {}
        for key, numbers in values.items():
            found[key] = sum(numbers) / len(numbers)
            if set(numbers) <= {0.0, 1.0}:
                interval = clopper_pearson(round(sum(numbers)), len(numbers))
                name, view = key.rsplit("/", 1)
                found |= {f"{name}_lower/{view}": interval.low, f"{name}_upper/{view}": interval.high}
        return found

    return compute


@scorer(metrics=[{"trace/raw": [mean(), stderr()], "*": [mean(), stderr()]}, by_mode()])
def trace_leak() -> Scorer:
    """Trace leak of one output.

    Keys: ``trace/raw`` (1 if a trace is in the output), ``trace_unterminated/raw``, ``trace_share/raw`` (characters
    of trace over all, 0-1), ``mention/raw`` (1 if a think tag is mentioned, not used).
    """

    async def score(state: TaskState, target: Target) -> Score:
        text, prefilled = judged_text(state)
        found = trace_score(text, prefilled)
        mention = float(thinking.mentions(text, prefilled=prefilled))
        return found.model_copy(
            update={
                "value": {**found.as_dict(), "mention/raw": mention},
                "reason": None if text.strip() else "no_response",
            }
        )

    return score


def option_signals(candidates: list[tuple[str, float]], letters: str) -> dict[str, float]:
    """Marker-free signals of a first token.

    Args:
        candidates: the likeliest first tokens and their natural log-probabilities, likeliest first or not.
        letters: the option letters.

    Returns:
        ``entropy`` (bits, over the letters' probabilities scaled to 1; NaN where no letter is among the candidates),
        ``margin`` (first minus second of those, 0-1), ``violation`` (1 if the likeliest token is no option letter),
        ``outside`` (probability that is not on a letter, 0-1).
    """
    mass = letter_masses(candidates, letters)
    total = sum(mass.values())
    first = max(candidates, key=lambda pair: pair[1])
    scaled = sorted((value / total for value in mass.values()), reverse=True) if total > 0 else []
    return {
        "entropy": -sum(p * math.log2(p) for p in scaled if p > 0) if scaled else math.nan,
        "margin": scaled[0] - scaled[1] if len(scaled) > 1 else math.nan,
        "violation": float(not any(letter_masses([first], letters).values())),
        "outside": max(0.0, 1 - total),
    }


@scorer(metrics=[{"violation/answer": [mean(), stderr()], "*": [mean(), stderr()]}, by_mode()])
def option_format() -> Scorer:
    """`option_signals` of the first token: ``entropy/answer``, ``margin/answer``, ``violation/answer``,
    ``outside/answer``. Unscored where the provider gave no log-probabilities.
    """

    async def score(state: TaskState, target: Target) -> Score:
        choices = state.output.choices
        content = choices[0].logprobs.content if choices and choices[0].logprobs else []
        candidates = [(top.token, top.logprob) for top in (content[0].top_logprobs or [])] if content else []
        if not candidates:
            nothing = {f"{name}/answer": math.nan for name in ("entropy", "margin", "violation", "outside")}
            return Score(value=nothing, reason="scoring_failed", explanation="no log-probabilities in the output")
        signals = option_signals(candidates, judged_item(state).letters)
        return Score(value={f"{name}/answer": value for name, value in signals.items()}, answer=state.output.completion)

    return score
