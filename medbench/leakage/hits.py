"""Candidates compared in full: which signals a record gives for a target, and which of them say something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench.leakage.index import Index
from medbench.leakage.kernel import compare
from medbench.leakage.kernel.text import SHINGLE
from medbench.leakage.places import Place
from medbench.leakage.targets import Target
from medbench.leakage.tokens import Tokens

GAP = 20  # units: shared shingles further apart than this are evidence from two different places


@dataclass(frozen=True)
class Hit:
    """A target that a record holds: the signals that fired with their scores and places."""

    record: int
    target: int
    signals: dict[str, tuple[float, Place]]
    cluster: Place


def compare_all(index: Index, tokens: Tokens, record_start: np.ndarray, candidates: np.ndarray) -> list[Hit]:
    """What the candidates hold of their targets, ordered by record and target.

    A field of two parts is compared where one of them holds enough.
    """

    def held(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, jaccard = compare.compare(
            pairs, tokens.unit_hash, tokens.unit_start, record_start,
            index.target_start, index.target_hash, index.target_sequence, index.least,
            index.thresholds.jaccard, GAP,
        )  # fmt: skip
        worth = rows[:, compare.SHARED] >= index.least[pairs[:, 1]]
        return pairs[worth], rows[worth], jaccard[worth]

    parts = held(candidates)
    wholes = np.column_stack([parts[0][:, 0], index.whole[parts[0][:, 1]]])
    compared = zip(parts, held(np.unique(wholes[wholes[:, 1] >= 0], axis=0)), strict=True)
    pairs, rows, jaccard = (np.concatenate(both) for both in compared)
    hits = _hits(index, pairs, rows, jaccard)
    return sorted(hits, key=lambda hit: (hit.record, hit.target))


def _hits(index: Index, pairs: np.ndarray, rows: np.ndarray, jaccard: np.ndarray) -> list[Hit]:
    """Which signals fire for the rows of `compare.compare`; those for which none does are left out."""
    limit = index.thresholds
    size, units = index.sizes[pairs[:, 1]], index.units[pairs[:, 1]]
    shared, run = rows[:, compare.SHARED], rows[:, compare.SPAN_UNITS]
    exact = rows[:, compare.EXACT_TEXT] >= 0
    near_duplicate = (jaccard > limit.jaccard) | (jaccard == 1.0)
    contained = (units >= limit.contained_units) & (shared / size >= limit.containment)
    spanned = (run >= limit.span) & (shared >= limit.span - SHINGLE + 1)
    hits = []
    for k in np.flatnonzero(exact | near_duplicate | contained | spanned).tolist():
        row, length = rows[k].tolist(), int(units[k])
        cluster = Place(row[compare.CLUSTER_TEXT], row[compare.CLUSTER_BEGIN], row[compare.CLUSTER_END])
        signals: dict[str, tuple[float, Place]] = {}
        if exact[k]:
            signals["exact"] = (1.0, Place(row[compare.EXACT_TEXT], 0, length))
        if near_duplicate[k]:
            signals["jaccard"] = (float(jaccard[k]), cluster)
        if contained[k]:
            signals["containment"] = (float(shared[k] / size[k]), cluster)
        if spanned[k]:
            place = Place(row[compare.SPAN_TEXT], row[compare.SPAN_BEGIN], row[compare.SPAN_BEGIN] + int(run[k]))
            signals["span"] = (min(1.0, int(run[k]) / length), place)
        hits.append(Hit(int(pairs[k, 0]), int(pairs[k, 1]), signals, cluster))
    return hits


def telling(fields: dict[str, Hit]) -> dict[str, list[str]]:
    """The signals of each field of an item that say something about just that field, given the others.

    Options count as a set, not as text. A question with its options or answer is a field of two parts, of which one may
    make up nearly all: it is a near-duplicate where the question alone is less of one or both parts are found, it is
    contained where both parts are, and it has no span of its own.
    """
    telling = {}
    for name, hit in fields.items():
        signals = list(hit.signals)
        if name == "options":
            continue
        if "+" in name:
            parts = [fields[part].signals if part in fields else {} for part in name.split("+")]
            alone, together = (found.get("jaccard", (0.0, None))[0] for found in (parts[0], hit.signals))
            signals = ["jaccard"] if together > alone or (together and all(parts)) else []
            if "containment" in hit.signals and all("containment" in part for part in parts):
                signals.append("containment")
        telling[name] = signals
    return telling


def is_whole(index: Index, hit: Hit) -> bool:
    """Whether a record holds the whole field, word for word."""
    return hit.cluster.end - hit.cluster.begin == int(index.units[hit.target])


def is_told(hits: dict[tuple[int, int], dict[str, Hit]], record: int, target: Target) -> bool:
    """Whether a signal other than `span` tells of a copy of a field already."""
    names = (target.field.partition("+")[0], target.field)
    fields = hits.get((record, target.item), {})
    return any(set(fields[name].signals) - {"span"} for name in names if name in fields)
