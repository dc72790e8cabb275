"""Scorer of the first token's probabilities over the options, or of imported log-likelihoods of their texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from medbench.answers import Extraction
from medbench.scoring.judged import extraction_score, judged_item
from medbench.scoring.metrics import ACCURACY
from medbench.scoring.transcript import LIKELIHOODS

_NAN = float("nan")


@scorer(metrics=[ACCURACY | {"entropy/*": [mean(), stderr()], "margin/*": [mean(), stderr()], "mass/*": [mean()]}])
def option_probability(words: Sequence[str] | None = None) -> Scorer:
    """The likeliest option as first token, and how sure the model is of it.

    Keys: ``accuracy/answer`` and its companions as in `option_accuracy`, ``entropy/answer`` (bits, over the options'
    probabilities scaled to 1), ``margin/answer`` (first minus second, 0-1), ``mass/answer`` (probability of all
    options together, 0-1).

    Where the log-likelihoods of whole option texts were imported, ``accuracy/answer`` is lm-eval's ``acc`` and
    ``accuracy_norm/answer`` its ``acc_norm`` (each divided by the option's length in characters); the probabilities are
    those of the texts, scaled to 1, and there is no ``mass``.

    Args:
        words: the options where they are words (``yes``, ``no``, ``maybe``); none for the item's option letters.
    """

    async def score(state: TaskState, target: Target) -> Score:
        item = judged_item(state)
        candidates = _first_token_candidates(state)
        mass = word_masses(candidates, words) if words else letter_masses(candidates, item.letters)
        total = sum(mass.values())
        if total <= 0:
            extraction = Extraction("abstain", reason="no_option_among_top_logprobs")
        else:
            best = max(mass, key=lambda letter: mass[letter])
            extraction = Extraction("answer", (best,))
        scored = extraction_score({"answer": extraction}, item.answer, False)
        assert isinstance(scored.value, dict)
        probabilities = sorted((m / total for m in mass.values()), reverse=True) if total > 0 else []
        entropy = -sum(p * math.log2(p) for p in probabilities if p > 0) if probabilities else _NAN
        value = {
            **scored.value,
            "entropy/answer": entropy,
            "margin/answer": probabilities[0] - probabilities[1] if probabilities else _NAN,
            "mass/answer": total,
        }
        if texts := (state.output.metadata or {}).get(LIKELIHOODS):
            best = max(texts, key=lambda option: texts[option][1] / max(1, len(texts[option][0])))
            value |= {"accuracy_norm/answer": float((best,) == tuple(item.answer)), "mass/answer": _NAN}
        metadata = {**(scored.metadata or {}), "option_probability": mass}
        return scored.model_copy(update={"value": value, "metadata": metadata})

    return score


def _first_token_candidates(state: TaskState) -> list[tuple[str, float]]:
    """Candidates for the first token with their log-probabilities.

    Exact for every letter where the provider gives that (`medbench/`), the likeliest tokens otherwise.
    """
    exact = (state.output.metadata or {}).get("choice_logprobs")
    if exact:
        return [(str(token), float(logprob)) for token, logprob in exact.items()]
    logprobs = state.output.choices[0].logprobs
    if logprobs is None or not logprobs.content:
        return []
    return [(top.token, top.logprob) for top in logprobs.content[0].top_logprobs or []]


def letter_masses(candidates: list[tuple[str, float]], letters: str) -> dict[str, float]:
    """Probability of each option letter, summed over the tokens that spell it (``A``, `` A``, ``(A``, ``Ａ``).

    Args:
        candidates: tokens and their natural log-probabilities.
        letters: the letters in use.

    Returns:
        letter -> probability (0-1); 0.0 for a letter that none of the candidates spells.
    """
    mass = dict.fromkeys(letters, 0.0)
    for token, logprob in candidates:
        bare = token.strip(" \t\n\r\u2581\u0120([（「*").upper()
        if len(bare) == 1 and "Ａ" <= bare <= "Ｚ":
            bare = chr(ord(bare) - 0xFEE0)
        if bare in mass:
            mass[bare] += math.exp(logprob)
    return mass


def word_masses(candidates: list[tuple[str, float]], words: Sequence[str]) -> dict[str, float]:
    """Probability of each word, summed over the tokens that spell it (``yes``, `` Yes``, ``YES``).

    Args:
        candidates: tokens and their natural log-probabilities.
        words: in lower case.

    Returns:
        word -> probability (0-1); 0.0 for a word that none of the candidates spells.
    """
    mass = dict.fromkeys(words, 0.0)
    for token, logprob in candidates:
        bare = token.strip(" \t\n\r\u2581\u0120([（「*").lower()
        if bare in mass:
            mass[bare] += math.exp(logprob)
    return mass
