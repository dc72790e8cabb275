"""An item as the text that a leak of it would hold, and the same item in forms that were equally possible."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medbench.sources.items import Item

_NUMBER = re.compile(r"\d+")
# These stand for more than an amount and are left as they are.
_KEPT_NUMBERS = {"0", "1", "100"}


@dataclass(frozen=True)
class Text:
    """An item's text in two parts: what is asked, and what is chosen from (or, of free text, the reference).

    The parts are joined as they stand; `tail` begins with a line break, or is empty.
    """

    stem: str
    tail: str

    @property
    def parts(self) -> tuple[str, str]:
        """Stem and tail."""
        return self.stem, self.tail


def published(item: Item) -> Text:
    """The item as its publisher shows it: context, question, lettered options; no instruction and no key."""
    stem = "\n".join(part for part in (item.context, item.question) if part)
    return Text(stem, _options(item, item.options) or (f"\n{item.reference}" if item.reference else ""))


def _options(item: Item, options: Sequence[str]) -> str:
    return "".join(f"\n{letter}. {option}" for letter, option in zip(item.letters, options, strict=True))


def variants(item: Item, count: int, seed: int) -> tuple[str, list[Text]]:
    """Up to `count` other forms of an item that a model which never saw it should find as likely, and their kind.

    ``orders``: its options in other orders, where their published order is not a sorted one (publishers sort, and a
    model likes sorted options better without having seen any); sorted orders are left out of the others, too.
    ``numbers``: where there is nothing to reorder, the numbers of the question changed to others of the same length.
    Published numbers are rounder and more plausible than changed ones, so such forms need a reference model.

    Returns:
        (``orders`` | ``numbers`` | "", the forms, none equal to the published one or to another).
    """
    rng = random.Random(f"{seed}:{item.id}")
    text = published(item)
    if len(set(item.options)) > 2 and not is_sorted(item.options):
        found = list(_orders(item.options, count, rng))
        return "orders", [Text(text.stem, _options(item, order)) for order in found]
    texts = {text.stem: text}
    for _ in range(4 * count):
        if len(texts) > count:
            break
        stem = _NUMBER.sub(lambda match: _near(match.group(), rng), text.stem)
        texts.setdefault(stem, Text(stem, text.tail))
    others = list(texts.values())[1:]
    return ("numbers" if others else ""), others


def _orders(options: tuple[str, ...], count: int, rng: random.Random) -> Iterator[tuple[str, ...]]:
    """Up to `count` random orders, all different, none sorted and none the given one."""
    if math.factorial(len(options)) <= 120:
        drawn = list(itertools.permutations(options))
        rng.shuffle(drawn)
    else:
        drawn = [tuple(rng.sample(options, len(options))) for _ in range(4 * count)]
    seen = {options}
    for order in drawn:
        if len(seen) > count:
            return
        if order not in seen and not is_sorted(order):
            seen.add(order)
            yield order


def is_sorted(options: Sequence[str]) -> bool:
    """Whether options stand in an order that their content gives away: by number, alphabet or length, up or down.

    Without ties: four options of which three are equally long are in no order of length.
    """
    keys: list[list[float]] = []
    numbers = [_NUMBER.search(option) for option in options]
    if all(numbers):
        keys.append([float(match.group()) for match in numbers if match])
    alphabet = {text: place for place, text in enumerate(sorted({option.casefold() for option in options}))}
    keys.append([float(alphabet[option.casefold()]) for option in options])
    keys.append([float(len(option)) for option in options])
    return any(key in (sorted(key), sorted(key, reverse=True)) and len(set(key)) == len(key) for key in keys)


def _near(digits: str, rng: random.Random) -> str:
    if digits in _KEPT_NUMBERS:
        return digits
    low = 0 if digits.startswith("0") else 10 ** (len(digits) - 1)
    high = 10 ** len(digits) - 1
    value = int(digits)
    spread = max(2, value // 5)
    return str(rng.randint(max(low, value - spread), min(high, value + spread))).zfill(len(digits))
