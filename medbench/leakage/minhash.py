"""MinHash LSH as the paper used it, and what it misses. The exact audit does not need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medbench.leakage.corpus import Batch
from medbench.leakage.index import Index
from medbench.leakage.kernel.text import SHINGLE, shingle_hashes
from medbench.leakage.tokens import Tokeniser

if TYPE_CHECKING:
    from datasketch import MinHash as Signature

PERMUTATIONS = 128


class MinHash:
    """The items' signatures in an LSH at the Jaccard threshold; asked with every text of a record, and all of them."""

    def __init__(self, index: Index) -> None:
        from datasketch import MinHash as Signature
        from datasketch import MinHashLSH

        self._signature = Signature
        self._index = index
        self._tokenise = Tokeniser(simplify=index.simplify)
        self._lsh = MinHashLSH(threshold=index.thresholds.jaccard, num_perm=PERMUTATIONS)
        for number, target in enumerate(index.targets):
            hashes = index.target_hash[index.target_start[number] : index.target_start[number + 1]].tolist()
            if hashes and target.field != "options":
                self._lsh.insert(number, self._sign(hashes))

    def _sign(self, hashes: list[int]) -> Signature:
        signature = self._signature(num_perm=PERMUTATIONS, hashfunc=_low_bits)
        signature.update_batch(hashes)
        return signature

    def candidates(self, batch: Batch) -> set[tuple[int, str]]:
        """(record within the shard, item id) pairs that the LSH proposes, unverified."""
        tokens = self._tokenise(batch.texts)
        found = set()
        for k, number in enumerate(batch.numbers):
            every: set[int] = set()
            views = []
            for text in batch.texts_of(k):
                units = tokens.unit_hash[tokens.unit_start[text] : tokens.unit_start[text + 1]]
                views.append(set(shingle_hashes(units, SHINGLE).tolist()))
                every |= views[-1]
            for view in [*views, every] if len(views) > 1 else views:
                if view:
                    hits = self._lsh.query(self._sign(list(view)))
                    found |= {(number, self._index.ids[self._index.targets[hit].item]) for hit in hits}
        return found


def _low_bits(shingle: int) -> int:
    return shingle & 0xFFFFFFFF  # datasketch permutes 32-bit hashes; the shingles are hashes already
