"""Surface scores of a set of predictions, with their floor and intervals."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TypeVar

import numpy as np

from medbench.errors import MedbenchError, unknown
from medbench.stats import Interval, bleu_statistic, bootstrap_interval, bootstrap_sums
from medbench.surface.items import METRICS, PROFILES, bleu_stats, llamafactory_scores, standard_scores
from medbench.surface.several import References, as_tuple, unrelated
from medbench.surface.tokens import LANGUAGES, TokenizedText, detect_language

T = TypeVar("T")
RESAMPLES = 1000
SEED = 20240


@dataclasses.dataclass(frozen=True)
class ScoreSet:
    """One profile's scores of predictions against one set of references.

    Attributes:
        per_item: `bleu4`, `rouge1`, `rouge2`, `rougeL` to arrays of shape (items,), 0-100.
        bleu_stats: standard profile: per-item sufficient statistics of corpus BLEU, shape (items, 10), as in
            `ItemScore.bleu_stats`. None in the llamafactory profile, whose BLEU of a corpus is the mean over items.
    """

    per_item: dict[str, np.ndarray]
    bleu_stats: np.ndarray | None

    def __len__(self) -> int:
        return len(self.per_item["bleu4"])

    @functools.cached_property
    def corpus(self) -> dict[str, float]:
        """The scores of the whole set, 0-100; NaN for a set without items."""
        if not len(self):
            return dict.fromkeys(METRICS, float("nan"))
        scores = {metric: float(values.mean()) for metric, values in self.per_item.items()}
        if self.bleu_stats is not None:
            scores["bleu4"] = float(bleu_statistic(self.bleu_stats.sum(axis=0)))
        return scores

    @functools.cached_property
    def replicates(self) -> dict[str, np.ndarray]:
        """Each score of `corpus` over resampled items, shape (1000,): the same resamples for sets of one size."""
        columns = np.stack([self.per_item[metric] for metric in METRICS], axis=1)
        if self.bleu_stats is not None:
            columns = np.concatenate([columns, self.bleu_stats], axis=1)
        sums = bootstrap_sums(columns, RESAMPLES, np.random.default_rng(SEED))
        replicates = {metric: sums[:, i] / len(self) for i, metric in enumerate(METRICS)}
        if self.bleu_stats is not None:
            replicates["bleu4"] = bleu_statistic(sums[:, len(METRICS) :])
        return replicates

    @functools.cached_property
    def interval(self) -> dict[str, Interval]:
        """95% bootstrap interval over items of each score in `corpus` (1,000 resamples, fixed seed)."""
        if not len(self):
            return {metric: Interval(*[float("nan")] * 3) for metric in METRICS}
        return {
            metric: bootstrap_interval(self.corpus[metric], self.replicates[metric], len(self), top=100)
            for metric in METRICS
        }

    def of_items(self, items: Sequence[int]) -> ScoreSet:
        """The scores of some items alone, by index."""
        kept = np.asarray(items, np.int64)
        per_item = {metric: values[kept] for metric, values in self.per_item.items()}
        return ScoreSet(per_item, None if self.bleu_stats is None else self.bleu_stats[kept])


@dataclasses.dataclass(frozen=True)
class SurfaceScores:
    """Surface scores of one set of predictions in one profile, beside what unrelated answers reach.

    Attributes:
        profile: `standard` or `llamafactory`.
        scores: against each item's own reference.
        floor_scores: the same predictions against another item's reference; items without one are left out.
        floor_items: the indices of the items in `floor_scores`, in order.
        signature: how the figures were computed: settings and library versions; report it with them.
        languages: per item, `en`, `zh` or `other`.
        empty_predictions: how many predictions hold nothing but white space; they score 0.
        empty_references: the same for references.
    """

    profile: str
    scores: ScoreSet
    floor_scores: ScoreSet
    floor_items: list[int]
    signature: dict[str, str]
    languages: list[str]
    empty_predictions: int
    empty_references: int

    @property
    def corpus(self) -> dict[str, float]:
        """`bleu4`, `rouge1`, `rouge2`, `rougeL` of the whole set, 0-100."""
        return self.scores.corpus

    @property
    def per_item(self) -> dict[str, np.ndarray]:
        """The same keys, an array of shape (items,) each."""
        return self.scores.per_item

    @property
    def interval(self) -> dict[str, Interval]:
        """95% bootstrap interval of each score in `corpus`."""
        return self.scores.interval

    @property
    def floor(self) -> dict[str, float]:
        """Like `corpus`, against other items' references; NaN where every item has the same reference."""
        return self.floor_scores.corpus

    @property
    def floor_interval(self) -> dict[str, Interval]:
        """95% bootstrap interval of each score in `floor`."""
        return self.floor_scores.interval

    @functools.cached_property
    def above_floor(self) -> dict[str, Interval]:
        """Score less floor with its 95% bootstrap interval, paired: both over the same resampled items.

        Where it reaches 0, the score says no more than an answer to another question would. NaN without a floor.
        """
        if not self.floor_items:
            return {metric: Interval(*[float("nan")] * 3) for metric in METRICS}
        own, floor = self.scores.of_items(self.floor_items), self.floor_scores
        return {
            metric: bootstrap_interval(
                own.corpus[metric] - floor.corpus[metric],
                own.replicates[metric] - floor.replicates[metric],
                len(floor),
            )
            for metric in METRICS
        }

    @property
    def bleu_stats(self) -> np.ndarray | None:
        """Sufficient statistics of corpus BLEU (standard profile only), shape (items, 10)."""
        return self.scores.bleu_stats


def score(
    predictions: Iterable[str],
    references: Iterable[References],
    *,
    profile: str = "standard",
    language: str | Iterable[str] | None = None,
) -> SurfaceScores:
    """BLEU-4 and ROUGE-1/2/L of predictions against references in one profile, with floor and intervals.

    Args:
        predictions: what the model wrote: a list, an array, a column of a table, a generator.
        references: what it should have written, in the same order: one text a prediction, or a list of several that
            count as well. BLEU and ROUGE take several as `score_item` says; the floor takes as many.
        profile: `standard` (sacreBLEU and rouge_score) or `llamafactory`; docs/surface-metrics.md defines both.
        language: `en`, `zh` or `other` (any other language) for all items, one of them an item, or None to detect it
            item by item (an item that does not tell, such as a bare figure, takes the language of most).

    Raises:
        MedbenchError: different counts, no items, an item that is no text, an unknown profile or language.
    """
    if profile not in PROFILES:
        raise unknown("surface profile", profile, PROFILES)
    return _score(predictions, references, (profile,), language)[profile]


def score_profiles(
    predictions: Iterable[str], references: Iterable[References], *, language: str | Iterable[str] | None = None
) -> dict[str, SurfaceScores]:
    """`score` in both profiles from one pass over the texts; keys `standard` and `llamafactory`."""
    return _score(predictions, references, PROFILES, language)


def bootstrap_bleu(stats: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Corpus BLEU of bootstrap resamples of the items, from their sufficient statistics.

    Args:
        stats: `SurfaceScores.bleu_stats`, shape (items, 10).
        resamples: how many.
        rng: source of randomness.

    Returns:
        BLEU, 0-100, shape (resamples,).
    """
    return bleu_statistic(bootstrap_sums(stats, resamples, rng))


def _score(
    predictions: Iterable[str],
    references: Iterable[References],
    profiles: Sequence[str],
    language: str | Iterable[str] | None,
) -> dict[str, SurfaceScores]:
    predictions = _texts("predictions", predictions)
    several = [as_tuple(own) for own in _texts("references", references)]
    _check_texts(predictions, several)
    languages = _languages(predictions, several, language)
    others = unrelated(several, languages)
    # A reference serves its own item and another's floor: tokenized once, kept only in between.
    places = [tuple((i, number) for number in range(len(own))) for i, own in enumerate(several)]
    uses = Counter(place for used in (*places, *others) for place in used)
    kept: dict[tuple[int, int], TokenizedText] = {}

    def reference(place: tuple[int, int]) -> TokenizedText:
        i, number = place
        text = kept.pop(place, None) or TokenizedText(several[i][number], languages[i])
        uses[place] -= 1
        if uses[place]:
            kept[place] = text
        return text

    own, floor = _Rows(profiles), _Rows(profiles)
    for i, prediction in enumerate(predictions):
        hyp = TokenizedText(prediction, languages[i])
        own.add(hyp, [reference(place) for place in places[i]])
        if others[i]:
            floor.add(hyp, [reference(place) for place in others[i]])
    return {
        profile: SurfaceScores(
            profile=profile,
            scores=own.score_set(profile),
            floor_scores=floor.score_set(profile),
            floor_items=[i for i, other in enumerate(others) if other],
            signature=signature(profile, languages, [len(one) for one in several]),
            languages=languages,
            empty_predictions=sum(not text.strip() for text in predictions),
            empty_references=sum(not any(text.strip() for text in own) for own in several),
        )
        for profile in profiles
    }


class _Rows:
    """Scores of pairs as they are computed, in the profiles asked for."""

    def __init__(self, profiles: Sequence[str]) -> None:
        self.rows: dict[str, list[dict[str, float]]] = {profile: [] for profile in profiles}
        self.stats: list[tuple[int, ...]] = []

    def add(self, hyp: TokenizedText, refs: Sequence[TokenizedText]) -> None:
        if "standard" in self.rows:
            self.stats.append(bleu_stats(hyp, *refs))
            self.rows["standard"].append(standard_scores(hyp, refs, self.stats[-1]))
        if "llamafactory" in self.rows:
            self.rows["llamafactory"].append(llamafactory_scores(hyp, refs))

    def score_set(self, profile: str) -> ScoreSet:
        rows = self.rows[profile]
        per_item = {metric: np.array([row[metric] for row in rows], np.float64) for metric in METRICS}
        return ScoreSet(per_item, np.array(self.stats).reshape(-1, 10) if profile == "standard" else None)


def signature(profile: str, languages: Sequence[str], counts: Sequence[int] = (1,)) -> dict[str, str]:
    """How a profile computes its figures, to be reported with them.

    `bleu4` of the standard profile is sacreBLEU's own signature; with items of several languages its `tok` names all
    their tokenizers, each item having been counted in its own. `uax29` is no tokenizer of sacreBLEU's; its version is
    that of the `regex` package, which holds the Unicode tables. `counts`: how many references the items have; where
    all have one, the signatures say so as sacreBLEU's does, and those of ROUGE say nothing of it.
    """
    nrefs = str(counts[0]) if len(set(counts)) == 1 else "var"
    best = "" if nrefs == "1" else f"|nrefs:{nrefs}|best:f1"
    present = [language for language in LANGUAGES if language in languages]
    items = "+".join(f"{language}:{languages.count(language)}" for language in present)
    if profile == "standard":
        words = f"uax29-nfc-regex-{version('regex')}"
        bleu_tokenizer = "+".join({"en": "13a", "zh": "zh", "other": words}[language] for language in present)
        jieba = f"jieba-{version('jieba')}-lower-alnum"
        tokenizers = {"en": "default", "zh": jieba, "other": f"{words}-lower-alnum"}
        rouge_tokenizer = "+".join(tokenizers[language] for language in present)
        bleu = f"nrefs:{nrefs}|case:mixed|eff:no|tok:{bleu_tokenizer}|smooth:exp|version:{version('sacrebleu')}"
        rouge_score = f"rouge-score|tok:{rouge_tokenizer}|stem:no|f1{best}|mean:item|version:{version('rouge-score')}"
    else:
        several = "" if nrefs == "1" else f"|nrefs:{nrefs}"
        bleu = f"nltk-sentence_bleu{several}|tok:char|smooth:method3|mean:item|round:4"
        rouge_score = f"rouge_chinese-1.0.3|tok:jieba-{version('jieba')}|ngrams:set|f1{best}|mean:item|round:4"
    return {
        "profile": profile,
        "bleu4": bleu,
        "rouge": rouge_score,
        "items": items,
        "interval": f"percentile bootstrap over items|resamples:{RESAMPLES}|seed:{SEED}",
        "floor": "references rotated by one within a language" + ("" if nrefs == "1" else ", as many as its own"),
    }


def _texts(name: str, texts: Iterable[T]) -> list[T]:
    if isinstance(texts, str):
        raise MedbenchError(f"{name} is one text; give a list of texts, one an item.")
    return list(texts)


def _check_texts(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references):
        raise MedbenchError(
            f"{len(predictions)} predictions but {len(references)} references: "
            "each prediction needs its own reference, in the same order; several of one prediction are a list."
        )
    if not len(predictions):
        raise MedbenchError("no predictions to score.")
    for i, own in enumerate(references):
        if not own:
            raise MedbenchError(
                f'item {i} (counted from 0) has an empty list of references; give "" for none, it scores 0.'
            )
    texts = [*(("prediction", i, text) for i, text in enumerate(predictions))]
    texts += [("reference", i, text) for i, own in enumerate(references) for text in own]
    for name, i, text in texts:
        if not isinstance(text, str):
            raise MedbenchError(
                f"{name} of item {i} (counted from 0) is {type(text).__name__}, expected text; "
                'give "" for an answer that is missing, it scores 0.'
            )


def _languages(
    predictions: Sequence[str], references: Sequence[Sequence[str]], language: str | Iterable[str] | None
) -> list[str]:
    if language is None:
        detected = [detect_language(*refs, hyp, default="") for hyp, refs in zip(predictions, references, strict=True)]
        usual = Counter(filter(None, detected)).most_common(1)
        return [name or (usual[0][0] if usual else "en") for name in detected]
    languages = [language] * len(references) if isinstance(language, str) else list(language)
    if len(languages) != len(references):
        raise MedbenchError(f"{len(languages)} languages for {len(references)} items: give one, or one an item.")
    for name in set(languages):
        if name not in LANGUAGES:
            raise unknown("language", name, LANGUAGES)
    return languages
