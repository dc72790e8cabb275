"""What is measured of a prediction beside its reference: every surface metric of both profiles, and length."""

from __future__ import annotations

import numpy as np

from medbench.meta.names import LENGTHS, SIDES
from medbench.surface.items import (
    METRICS,
    PROFILES,
    bleu_stats,
    ngram_precision,
    nltk_bleu,
    nltk_precision,
    rouge_counts,
    sentence_bleu,
    smoothed_f_measure,
)
from medbench.surface.kernels import ngram_overlap
from medbench.surface.tokens import TokenizedText

# `bleu4_recall` looks for the reference's n-grams in the prediction; neither side of BLEU has a brevity penalty.
PROFILE_METRICS = tuple(f"{metric}{side}" for metric in METRICS for side in SIDES)


def full_marks(profile: str, metric: str) -> float:
    """The highest score on the scale of a metric's library: 1 for rouge_score, 100 for the others."""
    return 1.0 if profile == "standard" and metric.startswith("rouge") else 100.0


def measure(
    predictions: list[str], references: list[str], languages: list[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """All measures of each pair.

    Returns:
        Profile -> metric of `PROFILE_METRICS` -> shape (n,), as its library gives it, to the last bit (`full_marks` is
        the highest score); and `length` (tokens of the standard profile's
        BLEU) and `length_ratio` (over the reference's; NaN where that is empty).
    """
    rows: dict[str, list[dict[str, float]]] = {profile: [] for profile in PROFILES}
    lengths = []
    tokenized: dict[tuple[str, str], TokenizedText] = {}
    for prediction, reference, language in zip(predictions, references, languages, strict=True):
        hyp, ref = (
            tokenized.setdefault((text, language), TokenizedText(text, language)) for text in (prediction, reference)
        )
        standard, size, ref_size = _standard(hyp, ref)
        rows["standard"].append(standard)
        rows["llamafactory"].append(_llamafactory(hyp, ref))
        lengths.append((size, size / ref_size if ref_size else np.nan))
    profiles = {
        profile: {metric: np.array([row[metric] for row in found]) for metric in PROFILE_METRICS}
        for profile, found in rows.items()
    }
    columns = np.array(lengths, dtype=float).reshape(-1, 2)
    return profiles, {name: columns[:, i] for i, name in enumerate(LENGTHS)}


def _standard(hyp: TokenizedText, ref: TokenizedText) -> tuple[dict[str, float], int, int]:
    stats = bleu_stats(hyp, ref)
    size, ref_size, correct = stats[0], stats[1], stats[2:6]
    row = {
        "bleu4": sentence_bleu(stats),
        "bleu4_precision": ngram_precision(correct, size),
        "bleu4_recall": ngram_precision(correct, ref_size),
    }
    for metric, counts in rouge_counts(hyp, ref, "standard").items():
        precision, recall = _shares(*counts)
        both = precision + recall
        row[metric] = 2 * precision * recall / both if both else 0.0
        row[f"{metric}_precision"], row[f"{metric}_recall"] = precision, recall
    return row, size, ref_size


def _llamafactory(hyp: TokenizedText, ref: TokenizedText) -> dict[str, float]:
    """As `surface.items.llamafactory_scores`, rounded as LLaMA-Factory rounds, with precision and recall."""
    matches = ngram_overlap(hyp.characters, ref.characters, 4)[:, 0].tolist()
    sizes = len(hyp.characters), len(ref.characters)
    row = {
        "bleu4": nltk_bleu(matches, *sizes),
        "bleu4_precision": nltk_precision(matches, sizes[0]),
        "bleu4_recall": nltk_precision(matches, sizes[1]),
    }
    for metric, counts in rouge_counts(hyp, ref, "llamafactory").items():
        row[metric] = smoothed_f_measure(*counts)
        row[f"{metric}_precision"], row[f"{metric}_recall"] = _shares(*counts)
    return {metric: round(value * 100, 4) for metric, value in row.items()}


def _shares(shared: int, of_hyp: int, of_ref: int) -> tuple[float, float]:
    return (shared / of_hyp if of_hyp else 0.0), (shared / of_ref if of_ref else 0.0)
