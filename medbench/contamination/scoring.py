"""Every text of a set that the tests need, scored once by one model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medbench.contamination import measures
from medbench.contamination.likelihood import Likelihoods, Progress, Tokens, joined
from medbench.contamination.texts import Text, published, variants
from medbench.sources.items import Item

BETWEEN = "\n\n"  # items of one text
TESTS = ("exchangeability", "order", "options", "min_k", "codec", "completion")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is scored.

    Attributes:
        tests: names from `TESTS`.
        variants: other forms of each item; 23 are all orders of four options.
        contexts: random other items that each item is scored after.
        context_variants: how many of an item's variants are scored after an item as well, for CoDeC.
        shards: the set is cut into at most so many runs of items.
        permutations: random orders of each shard.
        shard_tokens: a shard's length at most, in tokens of the model; its context bounds it too.
        seed: of every random choice; two models scored by one plan see the same texts.
    """

    tests: tuple[str, ...] = TESTS
    variants: int = 11
    contexts: int = 5
    context_variants: int = 2
    shards: int = 50
    permutations: int = 25
    shard_tokens: int = 2048
    seed: int = 0


@dataclass
class Scores:
    """One model's view of a set of items; every list of arrays is parallel to the items.

    Attributes:
        alone: the tokens of each item by itself, stem and tail; None where it is longer than the context.
        variants: the same of each of its variants.
        kinds: what the variants are (``orders``, ``numbers``, "").
        after_next: the item's log-likelihood after its predecessor in the published order, NaN for none.
        after_random: after each of random other items, (contexts,).
        changes: CoDeC's change for each of those contexts, (contexts,).
        variant_changes: of the variants, after the first of the contexts, (context_variants,).
        shards: per shard the log-likelihood in the published order, then in random orders, (1 + permutations,).
        shard_size: units (items, or groups of items) per shard.
    """

    alone: list[tuple[Tokens, ...] | None] = field(default_factory=list)
    variants: list[list[tuple[Tokens, ...]]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    after_next: list[float] = field(default_factory=list)
    after_random: list[np.ndarray] = field(default_factory=list)
    changes: list[np.ndarray] = field(default_factory=list)
    variant_changes: list[np.ndarray] = field(default_factory=list)
    shards: list[np.ndarray] = field(default_factory=list)
    shard_size: int = 0


def score(
    items: Sequence[Item],
    likelihoods: Likelihoods,
    plan: Plan,
    *,
    controls: bool = False,
    progress: Progress = lambda done, total: None,
) -> Scores:
    """Score a set of items.

    Args:
        items: in their published order.
        likelihoods: the model.
        plan: what to score.
        controls: whether `items` are controls, of which neither the order nor other forms are wanted.
        progress: called with (texts scored, of how many) of the step under way.
    """
    found = Scores()
    texts = [published(item) for item in items]
    found.alone = likelihoods.score([text.parts for text in texts], progress)
    forms: list[list[Text]] = []
    for item in items:
        kind, others = variants(item, plan.variants, plan.seed)
        found.kinds.append(kind)
        forms.append(others)
    if not controls and {"options", "min_k", "completion", "codec"} & set(plan.tests):
        flat = iter(likelihoods.score([form.parts for others in forms for form in others], progress))
        rows = [[next(flat) for _ in others] for others in forms]
        # As long as the item itself, but for a token or two: where one does not fit, none is used
        found.variants = [[] if None in row else [tokens for tokens in row if tokens] for row in rows]
    else:
        found.variants = [[] for _ in items]
    if {"order", "codec"} & set(plan.tests):
        _score_in_context(items, texts, forms, found, likelihoods, plan, progress, controls)
    if not controls and "exchangeability" in plan.tests:
        _score_shards(items, texts, found, likelihoods, plan, progress)
    return found


def _score_in_context(
    items: Sequence[Item],
    texts: Sequence[Text],
    forms: Sequence[Sequence[Text]],
    found: Scores,
    likelihoods: Likelihoods,
    plan: Plan,
    progress: Progress,
    controls: bool,
) -> None:
    """Each item after its predecessor and after random others, and some of its variants after the first of these."""
    asked: list[tuple[int, str, int]] = []  # item, what for, which
    wanted: list[tuple[str, ...]] = []

    def ask(index: int, what: str, number: int, context: int, text: Text) -> None:
        asked.append((index, what, number))
        wanted.append(("".join(texts[context].parts) + BETWEEN, *text.parts))

    movable = in_random_order(items)
    drawn = balanced_contexts(items, plan.contexts, plan.seed)
    for index, contexts in enumerate(drawn):
        for number, context in enumerate(contexts):
            ask(index, "random", number, context, texts[index])
        if not controls and index in movable:
            ask(index, "next", 0, index - 1, texts[index])
        for number, form in enumerate(
            forms[index][: plan.context_variants] if contexts and found.variants[index] else []
        ):
            ask(index, "variant", number, contexts[0], form)
    scored = likelihoods.score(wanted, progress)
    by_item: list[dict[tuple[str, int], tuple[Tokens, ...]]] = [{} for _ in items]
    for (index, what, number), tokens in zip(asked, scored, strict=True):
        if tokens is not None:
            by_item[index][what, number] = tokens
    for index, mine in enumerate(by_item):
        alone = found.alone[index]
        at_random = [parts for (what, _), parts in mine.items() if what == "random"]
        following = mine.get(("next", 0))
        found.after_next.append(_total(following) if following else float("nan"))
        found.after_random.append(np.array([_total(parts) for parts in at_random]))
        found.changes.append(np.array([_change(alone, parts) for parts in at_random] if alone else []))
        pairs = [(found.variants[index][n], parts) for (what, n), parts in mine.items() if what == "variant"]
        found.variant_changes.append(np.array([_change(form, parts) for form, parts in pairs]))


def _total(parts: Sequence[Tokens]) -> float:
    """Log-likelihood of a text without its context, which is its first part."""
    return float(sum(part.logprobs.sum() for part in parts[1:]))


def _change(alone: Sequence[Tokens], parts: Sequence[Tokens]) -> float:
    own, in_context = joined(alone), joined(parts[1:])
    missing = len(in_context) - len(own)  # the first token, which nothing predicts when the text stands alone
    return measures.codec_change(own.logprobs, in_context.logprobs[missing:])


def together(one: Item, other: Item) -> bool:
    """Whether two items share a group, so that one says something about the other."""
    return bool(one.group) and one.group == other.group


def units(items: Sequence[Item]) -> list[list[int]]:
    """What may change places: items, and runs of neighbours that share a group, whose own order is no chance."""
    found: list[list[int]] = []
    for index, item in enumerate(items):
        if found and together(item, items[found[-1][-1]]):
            found[-1].append(index)
        else:
            found.append([index])
    return found


def balanced_contexts(items: Sequence[Item], count: int, seed: int) -> list[list[int]]:
    """For each item up to `count` other items to read it after; as the first of them every item serves once.

    Items that share a context are not independent: with two contexts drawn freely, a permutation test between two sets
    at .05 errs in 10% of cases. Where each item serves once, a set's sum holds each once as target and once as context,
    and it errs in 5%. Neither the item before nor one of the same group is a context; an item whose first context would
    be one gets none at all.
    """
    rng = random.Random(f"{seed}:contexts")
    circle = list(range(len(items)))
    rng.shuffle(circle)
    places = {index: place for place, index in enumerate(circle)}

    def at(index: int, shift: int) -> int:
        return circle[(places[index] + shift) % len(items)]

    def usable(index: int, shift: int) -> bool:
        return at(index, shift) != index - 1 and not together(items[index], items[at(index, shift)])

    shifts = list(range(1, len(items)))
    rng.shuffle(shifts)
    if shifts:
        best = max(shifts[:20], key=lambda shift: sum(usable(index, shift) for index in range(len(items))))
        shifts = [best, *(shift for shift in shifts if shift != best)]
    found: list[list[int]] = []
    for index in range(len(items)):
        fitting = [at(index, shift) for shift in shifts[: 4 * count] if usable(index, shift)]
        found.append(fitting[:count] if fitting and fitting[0] == at(index, shifts[0]) else [])
    return found


def in_random_order(items: Sequence[Item]) -> set[int]:
    """Items whose predecessor may be called a chance one: neither of the two is in a run of items of one group.

    Where groups are laid out alike (a question in English, then in Chinese), what stands before a group's first item is
    always of the same kind.
    """
    alone = {unit[0] for unit in units(items) if len(unit) == 1}
    return {index for index in alone if index - 1 in alone}


def _score_shards(
    items: Sequence[Item],
    texts: Sequence[Text],
    found: Scores,
    likelihoods: Likelihoods,
    plan: Plan,
    progress: Progress,
) -> None:
    limit = plan.shard_tokens if likelihoods.context is None else min(plan.shard_tokens, likelihoods.context - 1)
    wanted: list[list[str]] = []
    counts: list[int] = []
    shards = cut(units(items), [_length(tokens) for tokens in found.alone], limit, plan.shards)
    for number, shard in enumerate(shards):
        orders: list[list[Sequence[int]]] = [
            list(shard),
            *other_orders(shard, plan.permutations, f"{plan.seed}:shard:{number}"),
        ]
        if len(orders) > 1:
            counts.append(len(orders))
            wanted += [[BETWEEN.join("".join(texts[i].parts) for unit in order for i in unit)] for order in orders]
    scored = iter(likelihoods.score(wanted, progress))
    for count in counts:
        row = [next(scored) for _ in range(count)]
        if row[0] is not None:
            found.shards.append(np.array([parts[0].logprobs.sum() for parts in row if parts is not None]))
    found.shard_size = max((len(shard) for shard in shards), default=0)


def _length(tokens: Sequence[Tokens] | None) -> int:
    # One token for the first, which may be missing, and two for the blank line
    return 3 + sum(len(part) for part in tokens) if tokens is not None else 0


def cut(units: Sequence[Sequence[int]], lengths: Sequence[int], limit: int, most: int) -> list[list[list[int]]]:
    """Runs of neighbouring units, at most `most` of nearly equal size, none longer than `limit` tokens.

    Units that hold an item of unknown length (0: longer than the context) are left out, and runs of a single unit too.
    """
    usable = [list(unit) for unit in units if all(lengths[i] for i in unit)]
    size = max(2, -(-len(usable) // most))
    shards: list[list[list[int]]] = [[]]
    used = 0
    for unit in usable:
        cost = sum(lengths[i] for i in unit)
        if shards[-1] and (len(shards[-1]) >= size or used + cost > limit):
            shards.append([])
            used = 0
        shards[-1].append(unit)
        used += cost
    fitting = [s for s in shards if len(s) > 1 and sum(lengths[i] for unit in s for i in unit) <= limit]
    if len(fitting) <= most:
        return fitting
    # Where the context forces small shards, an even selection of them keeps the cost as it was asked for
    return [fitting[round(i * (len(fitting) - 1) / (most - 1))] for i in range(most)] if most > 1 else fitting[:1]


def other_orders(shard: Sequence[Sequence[int]], count: int, seed: str) -> list[list[Sequence[int]]]:
    """Random orders of a shard's units, drawn with replacement, as the reference implementation does."""
    rng = random.Random(seed)
    return [rng.sample(list(shard), len(shard)) for _ in range(count)]
