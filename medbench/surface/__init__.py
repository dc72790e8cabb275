"""BLEU-4 and ROUGE-1/2/L in two profiles, each with its signature, its floor and sufficient statistics.

A set of predictions::

    scores = medbench.surface.score(predictions, references, profile="standard")
    scores.corpus, scores.interval, scores.floor, scores.signature

One item at a time, as a scorer meets them; a text that takes part in several comparisons is tokenized once::

    reference = surface.tokenize(item.reference, item.language)
    unrelated = surface.tokenize(floor_reference, item.language)
    answer = surface.tokenize(output, item.language)
    item_score = surface.score_item(answer, reference)     # .standard, .llamafactory, .bleu_stats
    item_floor = surface.score_item(answer, unrelated)

docs/surface-metrics.md says what each profile computes. Everything here is deterministic and safe to call from threads.
"""

from medbench.surface.corpus import (
    ScoreSet,
    SurfaceScores,
    bootstrap_bleu,
    score,
    score_profiles,
    signature,
)
from medbench.surface.items import METRICS, PROFILES, ItemScore, score_item, tokenize
from medbench.surface.several import other_references, unrelated
from medbench.surface.tokens import LANGUAGES, TokenizedText, detect_language

__all__ = [
    "LANGUAGES",
    "METRICS",
    "PROFILES",
    "ItemScore",
    "ScoreSet",
    "SurfaceScores",
    "TokenizedText",
    "bootstrap_bleu",
    "detect_language",
    "other_references",
    "score",
    "score_item",
    "score_profiles",
    "signature",
    "tokenize",
    "unrelated",
]
