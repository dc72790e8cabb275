"""The tests: a model's scores -> one result per test and per way of comparison, and per-item scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medbench.contamination import measures, nulls
from medbench.contamination.likelihood import Tokens, joined
from medbench.contamination.scoring import Scores, in_random_order, units
from medbench.contamination.texts import is_sorted
from medbench.sources.items import Item
from medbench.stats import clopper_pearson, holm

# A test with fewer rows (items, shards) gives no p-value: it could hardly be small, and rests on single items.
FEWEST = 5
# A set is called seen where a test's p-value, corrected by Holm over the tests that were made, is at most this.
LEVEL = 0.05

Rows = dict[int, np.ndarray]  # by item: the value of the published form, then those of what it is compared with


@dataclass(frozen=True)
class Result:
    """One test of the whole set.

    Attributes:
        test: a name from `scoring.TESTS`.
        against: what the published set is compared with: ``orders``, ``variants`` or ``controls``.
        p: one-sided; NaN where the test could not be made.
        effect: mean of the published form's standardised values (in standard deviations of what it is compared
            with), or, against controls, the difference of means in standard deviations of all scores.
        rows: items or shards that it rests on.
        unchecked: reason -> how many items were not checked for it.
        extra: what belongs to this test alone.
    """

    test: str
    against: str
    p: float
    effect: float
    rows: int
    unchecked: dict[str, int] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """All results for one set, and per item its scores (None: unchecked), parallel to the items."""

    results: list[Result]
    items: list[dict[str, Any]]

    @property
    def adjusted(self) -> list[float]:
        """The p-values of `results`, corrected by Holm's method."""
        return [float(p) for p in holm([result.p for result in self.results])]

    @property
    def shown(self) -> list[Result]:
        """The results that show a leak at `LEVEL`, after correction."""
        return [result for result, p in zip(self.results, self.adjusted, strict=True) if p <= LEVEL]


def judge(
    items: Sequence[Item],
    mine: Scores,
    *,
    tests: Sequence[str],
    reference: Scores | None = None,
    controls: Scores | None = None,
    control_reference: Scores | None = None,
    seed: int = 0,
) -> Judged:
    """Make every test that the scores allow.

    Args:
        items: the set, in its published order.
        mine: the model's scores of it.
        tests: which tests.
        reference: a reference model's scores of the same texts: every score is then the difference to it.
        controls: the model's scores of other items, drawn like the set, that it cannot have seen.
        control_reference: the reference model's of those.
        seed: of the permutation tests.
    """
    rng = np.random.default_rng(seed)
    results: list[Result] = []
    by_item: list[dict[str, Any]] = [{} for _ in items]
    if "exchangeability" in tests:
        results.append(_exchangeability(items, mine, reference, rng))
    if "order" in tests:
        rows = _less(_order_rows, mine, reference)
        results.append(_against_forms("order", "orders", rows, _why_no_order(items, rows), rng))
        _note(by_item, "order", rows)
    if "options" in tests:
        rows = _less(_option_rows, mine, reference)
        results.append(_against_forms("options", "orders", rows, _why_no_options(items, mine, rows), rng))
        _note(by_item, "options", rows)
    for test, rows_of, score_of in _SCORED:
        if test not in tests:
            continue
        rows = _less(rows_of, mine, reference)
        if reference is None:
            rows = {index: row for index, row in rows.items() if mine.kinds[index] == "orders"}
        results.append(_against_forms(test, "variants", rows, _why_no_variants(items, mine, rows, reference), rng))
        scores = _scores(score_of, mine, reference)
        if controls is not None:
            compared = _codec_first if test == "codec" else score_of
            sides = _scores(compared, mine, reference), _scores(compared, controls, control_reference)
            results.append(_against_controls(test, *sides, rng))
        _note(by_item, test, rows)
        for entry, value in zip(by_item, scores, strict=True):
            entry[test] = _number(value)
    if "codec" in tests:
        _add_codec_share(results, mine)
    if "completion" in tests:
        for entry, tokens in zip(by_item, mine.alone, strict=True):
            entry["completion_run"] = measures.verbatim_run(joined(tokens).greedy)[0] if tokens else None
    return Judged(results, by_item)


# The scores of one text, higher for what looks more like seen text.


def min_k(tokens: Sequence[Tokens]) -> float:
    """Min-K%++ of a text; Min-K% where the provider gives no moments (see `measures`)."""
    whole = joined(tokens)
    if whole.mean is None or whole.deviation is None:
        return measures.min_k(whole.logprobs)
    return measures.min_k_plus_plus(whole.logprobs, whole.mean, whole.deviation)


def completion(tokens: Sequence[Tokens]) -> float:
    """The share of a text's second half that greedy decoding repeats from its first half on."""
    return measures.verbatim_run(joined(tokens).greedy)[1]


def _of_text(measure: Callable[[Sequence[Tokens]], float]) -> tuple[Callable[..., Rows], Callable[..., list[float]]]:
    def rows_of(scores: Scores) -> Rows:
        return {
            index: np.array([measure(alone), *map(measure, scores.variants[index])])
            for index, alone in enumerate(scores.alone)
            if alone is not None and scores.variants[index]
        }

    def score_of(scores: Scores) -> list[float]:
        return [float("nan") if alone is None else measure(alone) for alone in scores.alone]

    return rows_of, score_of


def _codec_rows(scores: Scores) -> Rows:
    """Minus CoDeC's change of the published form and of its variants, after the same example."""
    return {
        index: -np.array([changes[0], *scores.variant_changes[index]])
        for index, changes in enumerate(scores.changes)
        if len(changes) and len(scores.variant_changes[index])
    }


def _codec_first(scores: Scores) -> list[float]:
    """After the first context alone: see `scoring.balanced_contexts`."""
    return [-float(changes[0]) if len(changes) else float("nan") for changes in scores.changes]


def _codec_scores(scores: Scores) -> list[float]:
    return [-float(np.mean(changes)) if len(changes) else float("nan") for changes in scores.changes]


_SCORED: tuple[tuple[str, Callable[..., Rows], Callable[..., list[float]]], ...] = (
    ("min_k", *_of_text(min_k)),
    ("codec", _codec_rows, _codec_scores),
    ("completion", *_of_text(completion)),
)


def _order_rows(scores: Scores) -> Rows:
    return {
        index: np.array([after, *at_random])
        for index, (after, at_random) in enumerate(zip(scores.after_next, scores.after_random, strict=True))
        if np.isfinite(after) and len(at_random)
    }


def _option_rows(scores: Scores) -> Rows:
    """Log-likelihood of the options given the question, in the published and in other orders."""
    return {
        index: np.array([alone[1].logprobs.sum(), *(form[1].logprobs.sum() for form in scores.variants[index])])
        for index, alone in enumerate(scores.alone)
        if alone is not None and scores.kinds[index] == "orders" and scores.variants[index]
    }


def _scores(score_of: Callable[..., list[float]], mine: Scores, reference: Scores | None) -> list[float]:
    values = np.array(score_of(mine))
    return list(values if reference is None else values - np.array(score_of(reference)))


def _less(rows_of: Callable[[Scores], Rows], mine: Scores, reference: Scores | None) -> Rows:
    """A model's rows, less a reference model's where there is one; then only items of which both have all forms."""
    rows = rows_of(mine)
    if reference is None:
        return rows
    others = rows_of(reference)
    return {i: row - others[i] for i, row in rows.items() if i in others and len(others[i]) == len(row)}


# Results.


def _exchangeability(items: Sequence[Item], mine: Scores, reference: Scores | None, rng: np.random.Generator) -> Result:
    rows = mine.shards
    if reference is not None and [len(row) for row in reference.shards] == [len(row) for row in rows]:
        rows = [row - other for row, other in zip(rows, reference.shards, strict=True)]
    grouped = sum(len(unit) for unit in units(items) if len(unit) > 1)
    extra: dict[str, Any] = {"shard_size": mine.shard_size, "items_moved_with_their_group": grouped}
    even = len({len(row) for row in mine.shards}) == 1
    if len(mine.shards) > 1 and even:
        extra["p_reference_implementation"] = nulls.reference_p(
            [float(row[0]) for row in mine.shards], [row[1:].tolist() for row in mine.shards]
        )
    too_long = sum(tokens is None for tokens in mine.alone)
    unchecked = {"longer than the model's context": too_long} if too_long else {}
    found = _against_forms("exchangeability", "orders", dict(enumerate(rows)), unchecked, rng)
    return Result(found.test, found.against, found.p, found.effect, found.rows, unchecked, extra)


def _against_forms(test: str, against: str, rows: Rows, unchecked: dict[str, int], rng: np.random.Generator) -> Result:
    p = nulls.published_p(list(rows.values()), rng) if len(rows) >= FEWEST else float("nan")
    effect = float(np.mean([nulls.z_score(row) for row in rows.values()])) if rows else float("nan")
    return Result(test, against, p, effect, len(rows), unchecked)


def _against_controls(
    test: str, scores: Sequence[float], controls: Sequence[float], rng: np.random.Generator
) -> Result:
    mine, others = (np.array([value for value in values if np.isfinite(value)]) for values in (scores, controls))
    enough = min(len(mine), len(others)) >= FEWEST
    deviation = np.concatenate([mine, others]).std() if enough else 0.0
    effect = float((mine.mean() - others.mean()) / deviation) if deviation > 0 else float("nan")
    p = nulls.sample_p(list(mine), list(others), rng) if enough else float("nan")
    missing = len(scores) - len(mine)
    unchecked = {"longer than the model's context": missing} if missing else {}
    return Result(test, "controls", p, effect, len(mine), unchecked, {"controls": len(others)})


def _add_codec_share(results: list[Result], mine: Scores) -> None:
    """CoDeC's own score: the share of items that context made less likely, with its interval."""
    values = [value for value in _codec_scores(mine) if np.isfinite(value)]
    if not values:
        return
    share = clopper_pearson(sum(value > 0 for value in values), len(values))
    for result in results:
        if result.test == "codec":
            result.extra.update(share=share.estimate, share_low=share.low, share_high=share.high)
            result.extra["share_items"] = len(values)


def _note(by_item: list[dict[str, Any]], test: str, rows: Rows) -> None:
    """Each item's rank among its own forms (p) and its distance from them (z)."""
    for index, entry in enumerate(by_item):
        row = rows.get(index)
        entry[f"{test}_p"] = None if row is None else _number(nulls.rank_p(row))
        entry[f"{test}_z"] = None if row is None else _number(nulls.z_score(row))


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


# Why an item was not checked.


def _why_no_order(items: Sequence[Item], rows: Rows) -> dict[str, int]:
    movable = in_random_order(items)

    def reason(index: int) -> str:
        if index == 0:
            return "the first of the set"
        if index not in movable:
            return "in a group of neighbours, or after one"
        return "longer than the model's context, with the item before it"

    return _count(reason(index) for index in range(len(items)) if index not in rows)


def _why_no_options(items: Sequence[Item], mine: Scores, rows: Rows) -> dict[str, int]:
    return _count(_options_reason(items[i], mine, i) for i in range(len(items)) if i not in rows)


def _options_reason(item: Item, mine: Scores, index: int) -> str:
    if not item.options:
        return "without options"
    if mine.alone[index] is None:
        return "longer than the model's context"
    return "options in a sorted order" if is_sorted(item.options) else "fewer than three different options"


def _why_no_variants(items: Sequence[Item], mine: Scores, rows: Rows, reference: Scores | None) -> dict[str, int]:
    def reason(index: int) -> str:
        why = _options_reason(items[index], mine, index)
        if mine.alone[index] is None:
            return why
        if mine.kinds[index] == "numbers" and reference is None:
            return f"{why}; changed numbers need --reference"
        return f"{why}, and without numbers" if not mine.kinds[index] else why

    return _count(reason(index) for index in range(len(items)) if index not in rows)


def _count(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons))
