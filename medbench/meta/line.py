"""A card's one line: what a score says about what people judge, as it stands beside the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from medbench.meta.card import figures_of, shipped
from medbench.meta.names import title

_LANGUAGES = {"en": "English", "zh": "Chinese", "other": "neither English nor Chinese"}


def fitting(
    metric: str,
    profile: str,
    cards: Sequence[dict[str, Any]] | None = None,
    *,
    language: str | None = None,
    reference: float | None = None,
) -> dict[str, Any] | None:
    """The card that fits a score best.

    Args:
        metric: ``bleu4``, ``rouge1`` ...; profile: ``standard`` or ``llamafactory``.
        cards: to choose among, best first where nothing else decides; None takes the shipped ones.
        language: of most texts, or None where unknown; a card in another language is the last choice.
        reference: median length of the references in tokens, or None; the card with the nearest one is taken.

    Returns:
        None where no card has the metric.
    """
    known = [card for card in (shipped() if cards is None else cards) if _said(card, metric, profile)]
    return min(known, key=lambda card: _misfit(card, language, reference), default=None)


def _misfit(card: dict[str, Any], language: str | None, reference: float | None) -> tuple[int, float]:
    own = card["texts"]["median_reference"]
    far = abs(math.log(reference / own)) if reference and own else 0.0
    return int(language is not None and language != _language(card)), far


def _language(card: dict[str, Any]) -> str:
    counts = card["texts"]["languages"]
    return max(counts, key=counts.get) if counts else ""


def lines(
    metrics: Sequence[str],
    profile: str,
    cards: Sequence[dict[str, Any]] | None = None,
    *,
    language: str | None = None,
    reference: float | None = None,
) -> list[str]:
    """What people say of some metrics, a sentence per best-fitting card; nothing of metrics that no card has.

    ``On ratings of medical summaries (MSLR), BLEU-4 picks the preferred one of two in 57% [50, 64] of pairs, ROUGE-L in
    54% [46, 62] (a coin: 50%).`` Of ratings it says how often the metric picks the preferred one of two outputs of a
    group; of labels, how often an output that people call positive scores higher than one that they do not.
    Args as in `fitting`.
    """
    by_card: dict[int, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {}
    for metric in metrics:
        card = fitting(metric, profile, cards, language=language, reference=reference)
        said = None if card is None else _said(card, metric, profile)
        if card is not None and said is not None:
            by_card.setdefault(id(card), (card, []))[1].append((metric, *said))
    found = []
    for card, clauses in by_card.values():
        (first, kind, share), *rest = clauses
        text = f"on {card['name']}, {title(first)} {_VERBS[kind].format(**card['human'])} in {share} of pairs"
        text += "".join(f", {title(metric)} in {share}" for metric, _, share in rest)
        other = language is not None and language != _language(card)
        where = f"; those are {_LANGUAGES.get(_language(card), 'other')} texts" if other else ""
        found.append(f"{text[0].upper()}{text[1:]} (a coin: 50%{where}).")
    return found


_VERBS = {
    "pairs": "picks the preferred one of two",
    "rated": "ranks the better rated of two first",
    "auc": "ranks {positive} above the rest",
}


def _said(card: dict[str, Any], metric: str, profile: str) -> tuple[str, str] | None:
    """Which of `_VERBS` a card says of a metric, and the share with its interval; None where it says nothing."""
    found = figures_of(card, metric, profile)
    if found is None:
        return None
    labelled = card["human"]["kind"] == "labels"
    pairs = not labelled and found["pairs"]["estimate"] is not None
    figure = found["pairs" if pairs else "auc"]
    if figure["estimate"] is None:
        return None
    share = f"{100 * figure['estimate']:.0f}%"
    bounds = figure["interval"]
    share += " (no interval)" if bounds is None else f" [{100 * bounds[0]:.0f}, {100 * bounds[1]:.0f}]"
    return ("pairs" if pairs else "auc" if labelled else "rated"), share


def of_key(key: str) -> tuple[str, str]:
    """A log's score key as (metric, profile): ``rougeL_llamafactory/answer`` is ``("rougeL", "llamafactory")``."""
    name = key.partition("/")[0]
    metric = name.removesuffix("_llamafactory")
    return metric, "standard" if metric == name else "llamafactory"
