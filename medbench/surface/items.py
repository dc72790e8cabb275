"""The scores of one prediction against its reference, or against several, in both profiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from medbench.errors import MedbenchError
from medbench.surface import kernels
from medbench.surface.several import as_tuple, clipped_matches, closest_length
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
    prediction: str | TokenizedText,
    reference: str | TokenizedText | Sequence[str | TokenizedText],
    language: str | None = None,
) -> ItemScore:
    """Score one prediction against one reference, or against several, in both profiles.

    Several references count as each metric's own authors count them: BLEU takes an n-gram as often as the reference
    that has it most often, and the length nearest to the prediction's; ROUGE takes, metric by metric, the reference
    with the best F-measure (`rouge_score`'s `score_multi`).

    An empty prediction or reference scores 0 in every metric of both profiles, two empty texts too: nothing was
    matched, and the libraries that define the profiles say the same.

    Args:
        prediction: what the model wrote; `tokenize`d or as text.
        reference: what it should have written; a list where several texts count as well.
        language: `en`, `zh` or `other`. None: a tokenized text's own; otherwise detected from the reference, and
            from the prediction where the reference does not tell.

    Raises:
        MedbenchError: unknown language, or no reference.
    """
    references: tuple[str | TokenizedText, ...] = as_tuple(reference)
    if not references:
        raise MedbenchError("an item has no reference to be scored against.")
    if language is None:
        tokenized = [text.language for text in (*references, prediction) if isinstance(text, TokenizedText)]
        language = tokenized[0] if tokenized else detect_language(*map(str, references), str(prediction))
    hyp = _in_language(prediction, language)
    refs = [_in_language(one, language) for one in references]
    stats = bleu_stats(hyp, *refs)
    return ItemScore(language, standard_scores(hyp, refs, stats), llamafactory_scores(hyp, refs), stats)


def _in_language(text: str | TokenizedText, language: str) -> TokenizedText:
    if isinstance(text, TokenizedText):
        return text if text.language == language else TokenizedText(text.text, language)
    return TokenizedText(text, language)


def bleu_stats(hyp: TokenizedText, *refs: TokenizedText) -> tuple[int, ...]:
    """sacreBLEU's sufficient statistics: lengths, matching and all n-grams; see `ItemScore.bleu_stats`."""
    size = len(hyp.bleu_words[1])
    if len(refs) == 1:
        hyp_words, ref_words = kernels.number_words(*hyp.bleu_words, *refs[0].bleu_words)
        matches = kernels.ngram_overlap(hyp_words, ref_words, BLEU_ORDER)[:, 0]
        length = len(ref_words)
    else:
        lengths = [len(ref.bleu_words[1]) for ref in refs]
        hyp_words, ref_words = kernels.number_words(*hyp.bleu_words, *_joined([ref.bleu_words for ref in refs]))
        matches = clipped_matches(hyp_words, ref_words, np.cumsum(lengths), BLEU_ORDER)
        length = closest_length(size, lengths)
    return (size, length, *matches.tolist(), *(max(size - n, 0) for n in range(BLEU_ORDER)))


def _joined(words: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The words of several texts as those of one: code points, and spans in them."""
    starts = np.cumsum([0, *(len(codes) for codes, _ in words[:-1])])
    spans = [np.asarray(own) + start for (_, own), start in zip(words, starts, strict=True)]
    return np.concatenate([codes for codes, _ in words]), np.concatenate(spans)


def rouge_counts(hyp: TokenizedText, ref: TokenizedText, profile: str) -> dict[str, tuple[int, int, int]]:
    """What ROUGE-1, -2 and -L count: units that both texts hold, units of the prediction, units of the reference.

    The standard profile counts rouge_score's words, repeats included, the llamafactory profile rouge_chinese's jieba
    words, for rouge1 and rouge2 as *sets* of n-grams. Precision is the first count over the second, recall over the
    third.
    """
    if profile == "standard":
        hyp_words, ref_words = kernels.number_words(*hyp.rouge_words, *ref.rouge_words)
        shared = kernels.ngram_overlap(hyp_words, ref_words, 2)[:, 0].tolist()
        sizes = [(max(0, len(hyp_words) - n), max(0, len(ref_words) - n)) for n in range(2)]
        counts = {f"rouge{n + 1}": (shared[n], *sizes[n]) for n in range(2)}
    else:
        hyp_words, ref_words = kernels.number_words(*hyp.chinese_words, *ref.chinese_words)
        overlap = kernels.ngram_overlap(hyp_words, ref_words, 2).tolist()
        counts = {f"rouge{n + 1}": (both, of_hyp, of_ref) for n, (_, of_hyp, of_ref, both) in enumerate(overlap)}
    counts["rougeL"] = (int(kernels.lcs_length(hyp_words, ref_words)), len(hyp_words), len(ref_words))
    return counts


def standard_scores(hyp: TokenizedText, refs: Sequence[TokenizedText], stats: Sequence[int]) -> dict[str, float]:
    """The standard profile of one item: sacreBLEU sentence BLEU and rouge_score F-measures, 0-100."""
    rouge = _best_rouge(hyp, refs, "standard", _f_measure)
    return {"bleu4": sentence_bleu(stats), **{metric: 100 * value for metric, value in rouge.items()}}


def _best_rouge(
    hyp: TokenizedText, refs: Sequence[TokenizedText], profile: str, f_measure: Callable[[int, int, int], float]
) -> dict[str, float]:
    """ROUGE by metric, 0-1, each against the reference that it fits best."""
    counted = [rouge_counts(hyp, ref, profile) for ref in refs]
    return {metric: max(f_measure(*counts[metric]) for counts in counted) for metric in METRICS[1:]}


def llamafactory_scores(hyp: TokenizedText, refs: Sequence[TokenizedText]) -> dict[str, float]:
    """The llamafactory profile of one item, each score times 100 and rounded to 4 digits.

    BLEU is nltk's sentence BLEU over characters with smoothing method 3, ROUGE rouge_chinese's over jieba words,
    where rouge-1 and rouge-2 compare *sets* of n-grams and 1e-8 keeps the F-measure's denominator from 0.
    LLaMA-Factory itself knows one reference an item; against several, BLEU is nltk's and ROUGE the best of them.
    """
    lengths = [len(ref.characters) for ref in refs]
    if len(refs) == 1:
        matches = kernels.ngram_overlap(hyp.characters, refs[0].characters, BLEU_ORDER)[:, 0]
    else:
        characters = np.concatenate([ref.characters for ref in refs])
        matches = clipped_matches(hyp.characters, characters, np.cumsum(lengths), BLEU_ORDER)
    size = len(hyp.characters)
    scores = {"bleu4": nltk_bleu(matches.tolist(), size, closest_length(size, lengths))}
    scores |= _best_rouge(hyp, refs, "llamafactory", smoothed_f_measure)
    return {metric: round(value * 100, 4) for metric, value in scores.items()}


def sentence_bleu(stats: Sequence[int]) -> float:
    """sacreBLEU's sentence BLEU, 0-100: `exp` smoothing, and only the orders the prediction is long enough for.

    Args:
        stats: see `ItemScore.bleu_stats`.
    """
    hyp_length, ref_length = stats[0], stats[1]
    penalty = math.exp(1 - ref_length / hyp_length) if 0 < hyp_length < ref_length else 1.0
    return penalty * ngram_precision(stats[2 : 2 + BLEU_ORDER], hyp_length)


def ngram_precision(correct: Sequence[int], length: int) -> float:
    """BLEU without its brevity penalty, 0-100: the geometric mean of the shares of n-grams that the other text holds.

    Args:
        correct: matching 1- to 4-grams; they match both ways, so that this is also the recall.
        length: tokens of the text whose n-grams are looked for.
    """
    if not any(correct):
        return 0.0
    logs, halving = [], 1.0
    for n, matched in enumerate(correct[: max(0, length)]):
        if matched:
            logs.append(math.log(100.0 * matched / (length - n)))
        else:
            halving *= 2
            logs.append(math.log(100.0 / (halving * (length - n))))
    return math.exp(sum(logs) / len(logs))


def nltk_bleu(matches: Sequence[int], hyp_length: int, ref_length: int) -> float:
    """nltk's `sentence_bleu(..., smoothing_function=method3)`, 0-1, operation by operation, so that rounding agrees."""
    if matches[0] == 0:
        return 0.0
    penalty = 1.0 if hyp_length > ref_length else math.exp(1 - ref_length / hyp_length)
    return penalty * nltk_precision(matches, hyp_length)


def nltk_precision(matches: Sequence[int], length: int) -> float:
    """`nltk_bleu` without its brevity penalty, 0-1; args as in `ngram_precision`."""
    if matches[0] == 0:
        return 0.0
    logs, smoothed = [], 0
    for n, count in enumerate(matches):
        total = max(1, length - n)
        if count == 0:
            smoothed += 1
            precision = 1 / (2**smoothed * total)
        else:
            precision = count / total
        logs.append(0.25 * math.log(precision))
    return math.exp(math.fsum(logs))


def smoothed_f_measure(overlap: int, in_hyp: int, in_ref: int) -> float:
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
