"""Short questions that are a text of a record as a whole, however much was changed in them.

Of ten units, three changed leave no short shingle, and inside a longer text what is left is common words. A text that
begins and ends with them and has nothing else is still worth a look. Pairs of units find it: a change takes at most two
pairs away, so that a text which holds a question with at most `edits_of` units replaced, dropped or put in holds all
but twice as many of its distinct pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medbench.leakage.kernel.text import PAIR, all_shingles, shingle_hashes
from medbench.leakage.short import Looked, look_for, weights_of
from medbench.leakage.targets import Target
from medbench.leakage.tokens import Tokeniser
from medbench.sources.items import Item

SHORTEST, LONGEST = 10, 24  # units of such a question; longer ones are found by short shingles
HITS = 2  # pairs from the table that a record must hold before its texts are compared
SAME = 0.6  # units in order, over those of the longer one: three of ten changed, and one that ran into its neighbour
KEPT = 0.45  # of the question by weight: stems that many items share do not make two questions the same
# What stands in the place of a question's units may be damage ("regular xx pain"), or another subject in the same stem
# ("the symptoms of gout"). The pairs of units that it forms tell: where so many of them stand in items too, it reads
# like a question of its own, and is a copy only if next to nothing is other.
NATURAL = 2 / 3
SAME_IN_OTHER_WORDS = 0.8


@dataclass
class Brief(Looked):
    """The short questions, by pairs of units; `query`, `query_start`, `weight` as in `kernel.edits.Laid`.

    Attributes:
        known: sorted pairs of units of all questions, options and references.
    """

    query: np.ndarray
    query_start: np.ndarray
    weight: np.ndarray
    known: np.ndarray

    def natural(self, units: np.ndarray, kept: np.ndarray) -> bool:
        """Whether what stands in a text beside what it keeps of a question reads like items do.

        Args:
            units: of the text.
            kept: which of them are the question's.
        """
        other = np.ones(len(units), np.bool_)
        other[kept] = False
        pairs = shingle_hashes(units, PAIR)[other[:-1] | other[1:]]
        if not len(pairs) or not len(self.known):
            return False
        at = np.minimum(np.searchsorted(self.known, pairs), len(self.known) - 1)
        return bool((self.known[at] == pairs).mean() >= NATURAL)

    def question(self, number: int) -> np.ndarray:
        """The units of a question."""
        return self.query[slice(*self.query_start[number : number + 2].tolist())]

    def weight_of(self, number: int) -> np.ndarray:
        """The weight of each unit of a question."""
        return self.weight[slice(*self.query_start[number : number + 2].tolist())]


def edits_of(units: np.ndarray) -> np.ndarray:
    """Changed units of a question of so many under which no text that is one is missed: three, or one in five."""
    return np.maximum(3, units // 5)


def build_brief(items: Sequence[Item], first: int, *, simplify: bool) -> Brief:
    """The short questions among those of items.

    Args:
        first: the number under which the sieve reports the first of them.
    """
    tokenise = Tokeniser(simplify=simplify)
    tokens = tokenise([item.question.encode("utf-8", "replace") for item in items])
    weigh = weights_of(tokens, np.arange(len(items)), np.arange(1, len(items) + 1))
    size = np.diff(tokens.unit_start)
    targets = [
        Target(k, "question", (items[k].question,))
        for k in np.flatnonzero((size >= SHORTEST) & (size <= LONGEST)).tolist()
    ]
    tokens = tokenise([target.texts[0].encode("utf-8", "replace") for target in targets])
    numbers, units = np.arange(len(targets)), np.diff(tokens.unit_start)
    looked = look_for(
        targets, tokens, numbers, numbers + 1, PAIR, first,
        # three more: a word that ran into both its neighbours
        held=lambda sizes: np.maximum(HITS, sizes - PAIR * edits_of(units) - 3), hits=HITS, reach=np.zeros(len(units)),
    )  # fmt: skip
    weights = [weigh(tokens.unit_hash[a:b]) for a, b in zip(tokens.unit_start[:-1], tokens.unit_start[1:], strict=True)]
    query, query_start = tokens.unit_hash[: tokens.unit_start[-1]].copy(), tokens.unit_start
    texts = [text for item in items for text in (item.question, *item.references, *item.options)]
    tokens = tokenise([text.encode("utf-8", "replace") for text in texts])
    return Brief(
        **{field.name: getattr(looked, field.name) for field in dataclasses.fields(looked)},
        query=query,
        query_start=query_start,
        weight=np.concatenate([np.empty(0), *weights]),
        known=np.unique(all_shingles(tokens.unit_hash, tokens.unit_start, PAIR)[0]),
    )
