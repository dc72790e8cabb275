"""The scores of one prediction against one reference, in both profiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from medbench.surface import kernels
from medbench.surface.tokens import TokenizedText, detect_language

PROFILES = ("standard", "llamafactory")
METRICS = ("bleu4", "rouge1", "rouge2", "rougeL")
BLEU_ORDER = 4


@dataclasses.dataclass(frozen=True)
class ItemScore:
    """Surface scores of one prediction, 0-100.

    Attributes:
        language: `en`, `zh` or `other`, by which the standard profile tokenized.
        standard: `bleu4` (sacreBLEU sentence BLEU), `rouge1`, `rouge2`, `rougeL` (rouge_score F-measures).
        llamafactory: the same keys as LLaMA-Factory computes them, rounded to 4 digits as it does.
        bleu_stats: what corpus BLEU (standard) needs of this item, in sacreBLEU's order: prediction length, reference
            length, matching 1- to 4-grams, all 1- to 4-grams of the prediction, in tokens.
    """

    language: str
    standard: dict[str, float]
    llamafactory: dict[str, float]
    bleu_stats: tuple[int, ...]


def tokenize(text: str, language: str | None = None) -> TokenizedText:
    """A text ready to be scored several times: against its reference, against another item's, view by view.

    Args:
        text: the text.
        language: `en`, `zh`, `other`, or None to detect it.
    """
    return TokenizedText(text, language or detect_language(text))


def score_item(
    prediction: str | TokenizedText, reference: str | TokenizedText, language: str | None = None
) -> ItemScore:
    """Score one prediction against one reference in both profiles.

    An empty prediction or reference scores 0 in every metric of both profiles, two empty texts too: nothing was
    matched, and the libraries that define the profiles say the same.

    Args:
        prediction: what the model wrote; `tokenize`d or as text.
        reference: what it should have written.
        language: `en`, `zh` or `other`. None: a tokenized text's own; otherwise detected from the reference, and
            from the prediction where the reference does not tell.

    Raises:
        MedbenchError: unknown language.
    """
    if language is None:
        tokenized = [text.language for text in (reference, prediction) if isinstance(text, TokenizedText)]
        language = tokenized[0] if tokenized else detect_language(str(reference), str(prediction))
    hyp = _in_language(prediction, language)
    ref = _in_language(reference, language)
    stats = bleu_stats(hyp, ref)
    return ItemScore(language, standard_scores(hyp, ref, stats), llamafactory_scores(hyp, ref), stats)


def _in_language(text: str | TokenizedText, language: str) -> TokenizedText:
    if isinstance(text, TokenizedText):
        return text if text.language == language else TokenizedText(text.text, language)
    return TokenizedText(text, language)


def bleu_stats(hyp: TokenizedText, ref: TokenizedText) -> tuple[int, ...]:
    """sacreBLEU's sufficient statistics: lengths, matching and all n-grams; see `ItemScore.bleu_stats`."""
    hyp_words, ref_words = kernels.number_words(*hyp.bleu_words, *ref.bleu_words)
    matches = kernels.ngram_overlap(hyp_words, ref_words, BLEU_ORDER)[:, 0].tolist()
    size = len(hyp_words)
    return (size, len(ref_words), *matches, *(max(size - n, 0) for n in range(BLEU_ORDER)))


def standard_scores(hyp: TokenizedText, ref: TokenizedText, stats: Sequence[int]) -> dict[str, float]:
    """The standard profile of one item: sacreBLEU sentence BLEU and rouge_score F-measures, 0-100."""
    hyp_words, ref_words = kernels.number_words(*hyp.rouge_words, *ref.rouge_words)
    overlap = kernels.ngram_overlap(hyp_words, ref_words, 2)[:, 0].tolist()
    lcs = int(kernels.lcs_length(hyp_words, ref_words))
    lengths = len(hyp_words), len(ref_words)
    return {
        "bleu4": sentence_bleu(stats),
        "rouge1": 100 * _f_measure(overlap[0], lengths[0], lengths[1]),
        "rouge2": 100 * _f_measure(overlap[1], lengths[0] - 1, lengths[1] - 1),
        "rougeL": 100 * _f_measure(lcs, lengths[0], lengths[1]),
    }


def llamafactory_scores(hyp: TokenizedText, ref: TokenizedText) -> dict[str, float]:
    """The llamafactory profile of one item, each score times 100 and rounded to 4 digits.

    BLEU is nltk's sentence BLEU over characters with smoothing method 3, ROUGE rouge_chinese's over jieba words,
    where rouge-1 and rouge-2 compare *sets* of n-grams and 1e-8 keeps the F-measure's denominator from 0.
    """
    matches = kernels.ngram_overlap(hyp.characters, ref.characters, BLEU_ORDER)[:, 0].tolist()
    scores = {"bleu4": _nltk_bleu(matches, len(hyp.characters), len(ref.characters))}
    hyp_words, ref_words = kernels.number_words(*hyp.chinese_words, *ref.chinese_words)
    overlap = kernels.ngram_overlap(hyp_words, ref_words, 2).tolist()
    for metric, (_, in_hyp, in_ref, in_both) in zip(("rouge1", "rouge2"), overlap, strict=True):
        scores[metric] = _smoothed_f_measure(in_both, in_hyp, in_ref)
    lcs = int(kernels.lcs_length(hyp_words, ref_words))
    scores["rougeL"] = _smoothed_f_measure(lcs, len(hyp_words), len(ref_words))
    return {metric: round(value * 100, 4) for metric, value in scores.items()}


def sentence_bleu(stats: Sequence[int]) -> float:
    """sacreBLEU's sentence BLEU, 0-100: `exp` smoothing, and only the orders the prediction is long enough for.

    Args:
        stats: see `ItemScore.bleu_stats`.
    """
    hyp_length, ref_length = stats[0], stats[1]
    correct, total = stats[2 : 2 + BLEU_ORDER], stats[2 + BLEU_ORDER :]
    if not any(correct):
        return 0.0
    logs, halving = [], 1.0
    for matched, possible in zip(correct, total, strict=True):
        if not possible:
            break
        if matched:
            logs.append(math.log(100.0 * matched / possible))
        else:
            halving *= 2
            logs.append(math.log(100.0 / (halving * possible)))
    penalty = math.exp(1 - ref_length / hyp_length) if hyp_length < ref_length else 1.0
    return penalty * math.exp(sum(logs) / len(logs))


def _nltk_bleu(matches: Sequence[int], hyp_length: int, ref_length: int) -> float:
    """nltk's `sentence_bleu(..., smoothing_function=method3)`, operation by operation, so that rounding agrees too."""
    if matches[0] == 0:
        return 0.0
    logs, smoothed = [], 0
    for n, count in enumerate(matches):
        total = max(1, hyp_length - n)
        if count == 0:
            smoothed += 1
            precision = 1 / (2**smoothed * total)
        else:
            precision = count / total
        logs.append(0.25 * math.log(precision))
    penalty = 1.0 if hyp_length > ref_length else math.exp(1 - ref_length / hyp_length)
    return penalty * math.exp(math.fsum(logs))


def _smoothed_f_measure(overlap: int, in_hyp: int, in_ref: int) -> float:
    """rouge_chinese's F-measure."""
    precision = overlap / in_hyp if in_hyp else 0.0
    recall = overlap / in_ref if in_ref else 0.0
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def _f_measure(overlap: int, in_hyp: int, in_ref: int) -> float:
    """rouge_score's F-measure."""
    if overlap == 0:
        return 0.0
    precision, recall = overlap / in_hyp, overlap / in_ref
    return 2 * precision * recall / (precision + recall)
