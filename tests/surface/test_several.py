"""Several references an item: the figures of sacreBLEU, rouge_score and nltk themselves, and a floor of as many."""

from __future__ import annotations

import random

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from medbench import surface
from medbench.errors import MedbenchError
from medbench.surface.several import as_tuple, clipped_matches

WORDS = [
    "take",
    "the",
    "drug",
    "twice",
    "a",
    "day",
    "with",
    "food",
    "or",
    "milk",
    "and",
    "water",
    "if",
    "pain",
    "lasts",
]
SEVERAL = [
    ("take the the the drug", ["the drug the", "take the the drug twice a day", "a"]),
    ("take it twice a day", ["twice daily with food", "take it two times a day", "take it twice a day"]),
    ("阿司匹林每日一次", ["每日一次阿司匹林", "阿司匹林一天一次，饭后服用"]),
]


def drawn(seed: int, items: int) -> tuple[list[str], list[list[str]]]:
    """Predictions and one to four references each, of few words, so that n-grams repeat and lengths tie."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 25)))

    return [text() for _ in range(items)], [[text() for _ in range(rng.randint(1, 4))] for _ in range(items)]


def columns(references: list[list[str]]) -> list[list[str | None]]:
    """References as sacreBLEU takes them: the first of each item, the second, ..., None where there is none."""
    return [[own[n] if n < len(own) else None for own in references] for n in range(max(map(len, references)))]


@pytest.mark.parametrize("seed", range(4))
def test_corpus_bleu_is_sacrebleus(seed: int) -> None:
    predictions, references = drawn(seed, 40)
    mine = surface.score(predictions, references, language="en")
    peer = BLEU()
    assert mine.corpus["bleu4"] == pytest.approx(peer.corpus_score(predictions, columns(references)).score, abs=1e-9)
    assert mine.signature["bleu4"] == str(peer.get_signature())


@pytest.mark.parametrize("seed", range(3))
def test_every_items_scores_are_the_libraries_own(seed: int) -> None:
    predictions, references = drawn(100 + seed, 30)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for prediction, own in zip(predictions, references, strict=True):
        mine = surface.score_item(prediction, own, "en")
        assert mine.standard["bleu4"] == pytest.approx(BLEU(effective_order=True).sentence_score(prediction, own).score)
        for metric, theirs in rouge.score_multi(own, prediction).items():
            assert mine.standard[metric] == pytest.approx(100 * theirs.fmeasure, abs=1e-9)
        smoothing = SmoothingFunction().method3
        theirs = sentence_bleu([list(one) for one in own], list(prediction), smoothing_function=smoothing)
        assert mine.llamafactory["bleu4"] == round(100 * theirs, 4)


def test_one_reference_in_a_list_is_one_reference() -> None:
    predictions, references = drawn(7, 20)
    first = [own[0] for own in references]
    one, listed = surface.score_profiles(predictions, first), surface.score_profiles(predictions, [[t] for t in first])
    for profile in surface.PROFILES:
        assert one[profile].corpus == listed[profile].corpus
        assert one[profile].floor == listed[profile].floor
        assert one[profile].signature == listed[profile].signature


@pytest.mark.parametrize(("prediction", "references"), SEVERAL)
def test_a_further_reference_never_lowers_rouge_and_order_plays_no_part(prediction: str, references: list[str]) -> None:
    all_ = surface.score_item(prediction, references)
    assert all_ == surface.score_item(prediction, references[::-1], all_.language)
    for metric in surface.METRICS[1:]:
        best = max(surface.score_item(prediction, one, all_.language).standard[metric] for one in references)
        assert all_.standard[metric] == best


def test_an_ngram_counts_as_in_the_reference_that_has_most_of_it() -> None:
    # "the" three times; the references have it twice and once: two count, not three
    hyp, refs = np.array([1, 1, 1], np.int32), np.array([1, 2, 1, 1], np.int32)
    assert clipped_matches(hyp, refs, np.array([3, 4]), 1).tolist() == [2]


def test_ngrams_across_two_references_are_none() -> None:
    hyp, refs = np.array([1, 2], np.int32), np.array([1, 2], np.int32)
    assert clipped_matches(hyp, refs, np.array([1, 2]), 2).tolist() == [2, 0]


def test_the_floor_takes_as_many_references_of_others_that_share_none() -> None:
    references = [["a", "b"], ["c"], ["b", "d"], ["e", "f", "g"], ["h"]]
    places = surface.unrelated(references, ["en"] * 5)
    texts = [[references[i][n] for i, n in own] for own in places]
    # Items 0 and 2 share "b": neither is the other's floor. Item 0 takes of item 4, then of item 3.
    assert texts == [["h", "e"], ["a"], ["c", "h"], ["b", "d", "c"], ["e"]]
    assert surface.unrelated([["same", "x"], ["same"]], ["en"] * 2) == [(), ()]
    scores = surface.score(["a b", "c", "d e", "f", "h"], references, language="en")
    expected = [surface.score_item(p, own, "en").standard for p, own in zip(["a b", "c"], texts, strict=False)]
    assert scores.floor_scores.per_item["rouge1"][:2].tolist() == [one["rouge1"] for one in expected]
    assert scores.signature["floor"].endswith("as many as its own")


def test_an_item_without_any_reference_is_named() -> None:
    with pytest.raises(MedbenchError, match=r"item 1 .* has an empty list"):
        surface.score(["a", "b"], [["a"], []])
    with pytest.raises(MedbenchError, match=r"reference of item 0 .* is int"):
        surface.score(["a"], [["a", 5]])  # type: ignore[list-item]
    assert as_tuple("text") == ("text",)
