"""Duplicates inside a training corpus: the same text again, and nearly the same.

Equal texts are found by hash. Near-duplicates are proposed by MinHash LSH (datasketch), because every record may
resemble every other; each proposal is verified by its exact Jaccard index, so what is reported is true, and what the
sketch missed is not reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medbench.leakage import corpus
from medbench.leakage.kernel.text import SHINGLE, sequence_hash, shingle_hashes
from medbench.leakage.tokens import Tokeniser

PERMUTATIONS = 128
# The bands are tuned to miss little and propose more: proposals are verified.
_WEIGHTS = (0.1, 0.9)


def duplicates(files: Sequence[str], *, threshold: float = 0.8, simplify: bool = False) -> Iterator[dict[str, Any]]:
    """Records that repeat an earlier one, in corpus order. Keeps every record's shingles in memory.

    Args:
        files: corpus files, in the order in which the first of several is kept.
        threshold: Jaccard index of the shingles of all texts of a record above which it is a near-duplicate, 0-1.
        simplify: treat traditional Chinese characters as their simplified ones.

    Yields:
        ``corpus_file, record, kind`` (``exact`` after normalisation, or ``near``), ``score`` (the exact Jaccard index),
        and ``of``, the file and record that is repeated.
    """
    from datasketch import MinHash, MinHashLSH

    tokenise = Tokeniser(simplify=simplify)
    lsh = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=_WEIGHTS)
    first: dict[int, tuple[str, int]] = {}
    sets: dict[tuple[str, int], np.ndarray] = {}
    for place, texts in _records(files):
        tokens = tokenise(texts)
        count = int(tokens.unit_start[-1])
        if not count:
            continue
        whole = int(sequence_hash(tokens.unit_hash[:count]))
        if whole in first:
            yield _row(place, "exact", 1.0, first[whole])
            continue
        first[whole] = place
        shingles = np.unique(shingle_hashes(tokens.unit_hash[:count], SHINGLE))
        if not len(shingles):
            continue
        digest = MinHash(num_perm=PERMUTATIONS, hashfunc=_low_bits)
        digest.update_batch(shingles.tolist())
        near = [(_jaccard(shingles, sets[other]), other) for other in lsh.query(digest)]
        score, other = max(near, key=lambda pair: (pair[0], pair[1]), default=(0.0, place))
        if score > threshold:
            yield _row(place, "near", score, other)
            continue
        lsh.insert(place, digest)
        sets[place] = shingles


def _records(files: Sequence[str]) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    for file in files:
        first = 0
        for shard in corpus.shards([file]):
            unreadable: list[corpus.Unreadable] = []
            last = -1
            for batch in corpus.read(shard, unreadable):
                for k, number in enumerate(batch.numbers):
                    yield (file, first + number), [batch.texts[text] for text in batch.texts_of(k)]
                    last = number
            first += max([last, *(bad.record for bad in unreadable)]) + 1


def _row(place: tuple[str, int], kind: str, score: float, other: tuple[str, int]) -> dict[str, Any]:
    return {"corpus_file": place[0], "record": place[1], "kind": kind, "score": score, "of": list(other)}


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _low_bits(shingle: int) -> int:
    return shingle & 0xFFFFFFFF  # datasketch permutes 32-bit hashes; the shingles are hashes already
