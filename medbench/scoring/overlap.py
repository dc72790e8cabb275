"""Scorer of the overlap with a reference text: BLEU-4 and ROUGE under each view, each beside its floor."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, mean, metric, scorer, stderr
from inspect_ai.solver import TaskState

from medbench import stats
from medbench.scoring.judged import judged_item, judged_views, once_per_text
from medbench.scoring.metrics import differs, other_views

if TYPE_CHECKING:
    from medbench import surface

# The trace alone is never compared with a reference answer.
SURFACE_VIEWS = ("raw", "untagged", "lenient", "answer")
# `surface.METRICS`, written out: every Inspect process imports this module, and the surface metrics are slow to import.
SURFACE_METRICS = ("bleu4", "rouge1", "rouge2", "rougeL")
_NAN = float("nan")


@metric
def corpus_overlap() -> Metric:
    """Corpus BLEU-4 (standard profile, 0-100) of each distinct view with its 95% bootstrap interval, and its floors.

    `bleu4` and `bleu4_floor` are computed from the sufficient statistics kept with each sample's score, so nothing is
    tokenized again; the floors of the other metrics are means over items.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        from medbench import surface

        found: dict[str, float] = {}
        rows = [score.score.metadata for score in scores if score.score.metadata]
        values = [score.score.as_dict() for score in scores]
        shown = ["answer", *[v for v in SURFACE_VIEWS if v != "answer" and values and differs(values, "bleu4", v)]]
        for view in shown if rows else ():
            for name in ("bleu4", "bleu4_floor"):
                kept = [row["statistics"][name][view] for row in rows if row["statistics"].get(name)]
                if not kept:
                    continue
                statistics = np.array(kept, dtype=np.int64)
                found[f"{name}/{view}"] = float(stats.bleu_statistic(statistics.sum(axis=0)))
                if name == "bleu4":
                    resampled = surface.bootstrap_bleu(statistics, 1000, np.random.default_rng(0))
                    low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
                    found |= {f"bleu4_lower/{view}": low, f"bleu4_upper/{view}": high}
        for key in values[0] if values else ():
            if "_floor/" in key and key not in found and key.partition("/")[2] in shown:
                known = [float(value[key] or 0) for value in values if not math.isnan(float(value[key] or 0))]
                found[key] = sum(known) / len(known) if known else _NAN
        return found

    return compute


_OVERLAP = {"bleu4/answer": [mean(), stderr()]} | {
    f"{name}{profile}/answer": [mean(), stderr()] for name in SURFACE_METRICS for profile in ("", "_llamafactory")
}


@scorer(metrics=[_OVERLAP, corpus_overlap(), other_views(but=("bleu4",))])
def surface_overlap(part: str = "whole") -> Scorer:
    """BLEU-4 and ROUGE against the item's reference text or texts, in both profiles, each beside its floor (0-100).

    Keys: ``bleu4/<view>``, ``rouge1/…``, ``rouge2/…``, ``rougeL/…`` in the standard profile,
    ``bleu4_llamafactory/<view>`` and so on in the paper's, and ``bleu4_floor/<view>`` … for
    the same output against another item's reference.

    Args:
        part: ``whole`` compares all of a view; ``explanation`` only what follows its explanation heading, for tasks
            that ask for an answer and an explanation in one generation.
    """
    from medbench import surface

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        other = state.metadata.get("floor_reference")
        value: dict[str, float] = {}
        statistics: dict[str, dict[str, list[int]]] = {"bleu4": {}, "bleu4_floor": {}}

        references = [surface.tokenize(text, item.language) for text in item.references or ("",)]
        others = [other] if isinstance(other, str) else list(other or ())
        unrelated = [surface.tokenize(text, item.language) for text in others if text]

        def judge(text: str) -> tuple[surface.ItemScore, surface.ItemScore | None]:
            words = surface.tokenize(explanation_part(text) if part == "explanation" else text, item.language)
            return surface.score_item(words, references), surface.score_item(words, unrelated) if unrelated else None

        judged = once_per_text(judge)
        views = judged_views(state)
        for view in SURFACE_VIEWS:
            own, floor = judged(views[view])
            for name in SURFACE_METRICS:
                value[f"{name}/{view}"] = own.standard[name]
                value[f"{name}_llamafactory/{view}"] = own.llamafactory[name]
                value[f"{name}_floor/{view}"] = floor.standard[name] if floor else _NAN
                value[f"{name}_llamafactory_floor/{view}"] = floor.llamafactory[name] if floor else _NAN
            statistics["bleu4"][view] = list(own.bleu_stats)
            if floor:
                statistics["bleu4_floor"][view] = list(floor.bleu_stats)
        empty = not views["answer"].strip()
        return Score(
            value=value,
            answer=views["answer"],
            reason="no_response" if empty else None,
            explanation="the answer view is empty: there is only a trace, or nothing" if empty else None,
            metadata={
                "statistics": statistics,
                "signature": {
                    profile: surface.signature(profile, [item.language], [len(references)])
                    for profile in surface.PROFILES
                },
                "part": part,
            },
        )

    return score


# "解析：", "**Explanation**:", "### Explanation" or "【解析】"; without a mark of a heading it is a word of the text.
_HEADING = re.compile(
    r"(?:explanation|解析)[*_ \t]*[:：][*_]*"
    r"|^[ \t]*(?:#{1,6}[ \t]*|[*_]{2})(?:explanation|解析)[*_ \t]*$"
    r"|【(?:explanation|解析)】[:：]?",
    re.IGNORECASE | re.MULTILINE,
)


def explanation_part(text: str) -> str:
    """What follows the first explanation heading; all of the text where there is none."""
    heading = _HEADING.search(text)
    return text[heading.end() :].lstrip() if heading else text
