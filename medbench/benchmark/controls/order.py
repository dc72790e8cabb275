"""Options in another order, where those that speak of others ("all of the above", "both A and C") keep their place.

An option that speaks of those above it also parts the list: what stands above it stays above it.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

from medbench.benchmark.controls.anchors import anchors, renamed
from medbench.errors import MedbenchError
from medbench.sources.items import LETTERS, Item


def shuffled(item: Item, seed: int | None) -> Item:
    """The item with its options in a seeded order of its own and the key moved along; None leaves it as published.

    The order depends on the item's id and the seed alone, not on the file's order or on which items are run.
    """
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise MedbenchError(f"shuffle_options is the seed of the option order, a whole number, not {seed!r}.")
    if seed is None or not item.options:
        return item
    return arranged(item, _drawn(item, movable(item), random.Random(f"{seed}:{item.id}")))


def another_order(item: Item, number: int) -> list[int] | None:
    """The `number`-th (from 1) of an item's seeded orders, all different and none the published one.

    An item with fewer other orders than that begins again; None where no two of its options may change places.

    Returns:
        for each new position the old one.
    """
    groups = movable(item)
    others = math.prod(math.factorial(len(group)) for group in groups) - 1
    if others < 1:
        return None
    drawn = random.Random(f"reorder:{item.id}")
    seen = [list(range(len(item.options)))]
    while len(seen) <= (number - 1) % others + 1:
        order = _drawn(item, groups, drawn)
        if order not in seen:
            seen.append(order)
    return seen[-1]


def movable(item: Item) -> list[list[int]]:
    """Positions (from 0) whose options may change places with one another, group by group."""
    anchored = anchors(item)
    groups: list[list[int]] = [[]]
    for position in range(len(item.options)):
        if position not in anchored:
            groups[-1].append(position)
        elif anchored[position].refers == "above":
            groups.append([])
    return [group for group in groups if group]


def _drawn(item: Item, groups: Sequence[Sequence[int]], drawn: random.Random) -> list[int]:
    """A random order within the groups; all other options stay."""
    everything = list(range(len(item.options)))
    drawn.shuffle(everything)
    order = list(range(len(item.options)))
    for group in groups:
        for position, old in zip(group, [old for old in everything if old in group], strict=True):
            order[position] = old
    return order


def arranged(item: Item, order: Sequence[int]) -> Item:
    """The item with its options in a given order, the key moved along and letters in its options rewritten.

    Args:
        order: for each new position the old one.
    """
    moved = {LETTERS[old]: LETTERS[new] for new, old in enumerate(order)}
    anchored = anchors(item)
    options = tuple(
        renamed(item.options[old], anchored[old], moved) if old in anchored else item.options[old] for old in order
    )
    answer = tuple(sorted(moved[letter] for letter in item.answer))
    return dataclasses.replace(item, options=options, answer=answer, variant_of=item.id)
