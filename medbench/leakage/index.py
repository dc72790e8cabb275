"""The test side: items become targets, targets become shingles, and the index is frozen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medbench.errors import MedbenchError
from medbench.leakage.brief import Brief, build_brief
from medbench.leakage.kernel.compare import choose, shingle_sets
from medbench.leakage.kernel.text import SHINGLE, all_shingles, sequence_hash
from medbench.leakage.severity import loose_options
from medbench.leakage.short import Short, build_short
from medbench.leakage.targets import Target, frequency_of, table_of, targets_of
from medbench.leakage.tokens import Tokeniser
from medbench.sources.items import Item

# So many of a target's shingles must come up before a record is compared with it (all that count, where there are
# fewer): with fewer, too many unrelated records are; with more, too many shingles must be looked for. Chosen by the
# time of benchmarks/leakage.py.
HITS = 6


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When a signal becomes a finding; docs/leakage.md says what each means.

    Attributes:
        jaccard: distinct shingles shared / in either, strictly above which a text is a near-duplicate, as in the paper;
            equal sets always count, so that 1.0 is a usable threshold.
        containment: share of the item's distinct shingles that the record holds, from which the item is embedded.
        span: units in one unbroken shared run from which a long common passage is reported.
        contained_units: fields of fewer units are not reported as embedded: they are common phrases.
        near: units around a found field within which its options and its answer are looked for.
        edited: share of the field's units, weighted by rarity, that an edited copy keeps in order; 0: not looked for.
    """

    jaccard: float = 0.8
    containment: float = 0.8
    span: int = 50
    contained_units: int = 10
    near: int = 200
    edited: float = 0.7

    def __post_init__(self) -> None:
        for name in ("jaccard", "containment"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise MedbenchError(f"the {name} threshold must lie in (0, 1], not {value}; the default is 0.8.")
        if self.edited != 0 and not 0.5 <= self.edited <= 1:
            raise MedbenchError(
                f"the edited threshold must lie in [0.5, 1], or be 0 to look for no edited leaks, not {self.edited}."
            )
        for name, least in (("span", SHINGLE), ("contained_units", SHINGLE), ("near", 0)):
            value = getattr(self, name)
            if value < least:
                raise MedbenchError(f"{name} is a number of units and must be at least {least}, not {value}.")


@dataclass
class Index:
    """The frozen test side. Arrays that are not described here are in `kernel`.

    Attributes:
        items: the items, each id once.
        ids: their ids.
        against: for each item, the name of the source it came from.
        thresholds: what the candidates must reach.
        targets: what is searched for.
        units: number of units of each target.
        sizes: number of distinct shingles of each target.
        distinct: distinct shingles of all targets.
        least: distinct shingles of each target that a record must hold for any signal.
        enough: how many of those in the table it holds then at least.
        whole: for each target the one of two parts that it is a part of, or -1.
        unchecked: (item id, field, units) of the fields with no shingle at all.
        short: the fields whose edited copies are looked for.
        brief: the short questions that whole texts are compared with.
        loose: items whose options alone are no leak (`severity.loose_options`).
    """

    items: list[Item]
    ids: list[str]
    against: list[str]
    thresholds: Thresholds
    simplify: bool
    targets: list[Target]
    units: np.ndarray
    sizes: np.ndarray
    unchecked: list[tuple[str, str, int]]
    distinct: int
    target_start: np.ndarray
    target_hash: np.ndarray
    target_sequence: np.ndarray
    least: np.ndarray
    enough: np.ndarray
    whole: np.ndarray
    bloom: np.ndarray
    slots: np.ndarray
    posting: np.ndarray
    reach: np.ndarray
    first: np.ndarray
    short: Short
    brief: Brief
    loose: frozenset[int]

    @functools.cached_property
    def field_units(self) -> dict[tuple[int, str], int]:
        """Number of units by item and field."""
        return {(t.item, t.field): n for t, n in zip(self.targets, self.units.tolist(), strict=True)}

    @functools.cached_property
    def number_of(self) -> dict[str, int]:
        """The place of each item by its id."""
        return {identifier: number for number, identifier in enumerate(self.ids)}

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        values = [v for one in (self, self.short, self.brief) for v in vars(one).values()]
        values += [*self.short.laid, *vars(self.short.weigh).values()]
        return sum(v.nbytes for v in values if isinstance(v, np.ndarray))


def build(sources: Iterable[tuple[str, Iterable[Item]]], thresholds: Thresholds, *, simplify: bool = False) -> Index:
    """Index the items of several named sources; an id that several sources hold counts for the first.

    Raises:
        MedbenchError: there are no items, or none is long enough to be searched for.
    """
    items: dict[str, tuple[str, Item]] = {}
    for name, source in sources:
        for item in source:
            items.setdefault(item.id, (name, item))
    if not items:
        raise MedbenchError("no test items to look for: every source named by --against is empty.")
    ids = list(items)
    targets = [t for number, (_, item) in enumerate(items.values()) for t in targets_of(item, number)]
    # first, while there is room: what they need on the way is as large as all the rest
    found = [item for _, item in items.values()]
    short = build_short(found, thresholds.edited, len(targets), simplify=simplify)
    short_questions = build_brief(
        found if thresholds.edited else [], len(targets) + len(short.targets), simplify=simplify
    )
    pairs = np.array(["+" in t.field for t in targets])
    units, sequence, target_hash, target_start, mark = _shingle_sets(targets, pairs, simplify)
    sizes = np.diff(target_start)
    if not sizes.any():
        raise MedbenchError(
            f"no test item has {SHINGLE} units (words or CJK characters) in a row: there is nothing to look for."
        )
    owner = np.repeat(np.arange(len(targets), dtype=np.int32), sizes)
    order = np.argsort(target_hash)
    frequency, distinct = frequency_of(target_hash, order, pairs[owner])
    least, held = _needs(sizes, units, pairs, thresholds)
    indexed, enough = _indexed(mark, frequency, sizes, units, pairs, least, held, thresholds)
    chosen = order[indexed[order]]
    bloom, slots, posting = table_of(target_hash[chosen], owner[chosen])
    return Index(
        items=found,
        ids=ids,
        against=[name for name, _ in items.values()],
        thresholds=thresholds,
        simplify=simplify,
        targets=targets,
        units=units,
        sizes=sizes,
        unchecked=[(ids[targets[k].item], targets[k].field, int(units[k])) for k in np.flatnonzero(sizes == 0)],
        distinct=distinct,
        target_start=target_start,
        target_hash=target_hash,
        target_sequence=sequence,
        least=least,
        enough=enough,
        whole=_wholes(pairs),
        bloom=bloom,
        slots=slots,
        posting=posting,
        reach=np.zeros(len(targets), np.int32),
        first=np.zeros(1, np.int64),
        short=short,
        brief=short_questions,
        loose=_loose(found, targets, units),
    )


def _shingle_sets(
    targets: Sequence[Target], pairs: np.ndarray, simplify: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Callable[..., None]]:
    """Of each target: its number of units, the hash of its sequence of units, and its sorted set of shingles.

    Returns:
        ``units``, ``sequence`` of shape (targets,); ``target_hash``, ``target_start`` as `kernel.compare` has them;
        and its `choose` over the texts of the targets.
    """
    single = np.flatnonzero(~pairs)
    texts = [text.encode("utf-8", "replace") for k in single.tolist() for text in targets[k].texts]
    tokens = Tokeniser(simplify=simplify)(texts)
    hashes, shingle_start = all_shingles(tokens.unit_hash, tokens.unit_start, SHINGLE)
    # a target owns some texts in a row; a field of two parts follows them, and owns the texts of both
    first, beyond = np.zeros(len(targets), np.int64), np.zeros(len(targets), np.int64)
    beyond[single] = np.cumsum([len(targets[k].texts) for k in single.tolist()])
    first[single] = beyond[single] - [len(targets[k].texts) for k in single.tolist()]
    wholes = np.flatnonzero(pairs)
    first[wholes], beyond[wholes] = first[wholes - 2], beyond[wholes - 1]
    begin, end = shingle_start[first], shingle_start[beyond]
    target_hash, target_start = np.empty(int((end - begin).sum()), np.uint64), np.empty(len(targets) + 1, np.int64)
    shingle_sets(hashes, begin, end, target_hash, target_start)
    sequence = np.zeros(len(targets), np.uint64)
    for k in single.tolist():
        if len(targets[k].texts) == 1:
            text = slice(*tokens.unit_start[first[k] : first[k] + 2].tolist())
            sequence[k] = sequence_hash(tokens.unit_hash[text])
    target_hash = target_hash[: target_start[-1]]
    mark = functools.partial(
        choose,
        *(tokens.unit_hash, tokens.unit_start, hashes, shingle_start, first, beyond, target_hash, target_start),
    )
    return tokens.unit_start[beyond] - tokens.unit_start[first], sequence, target_hash, target_start, mark


def _loose(items: list[Item], targets: Sequence[Target], units: np.ndarray) -> frozenset[int]:
    size = [0] * len(items)
    for k, target in enumerate(targets):
        if target.field == "options":
            size[target.item] = int(units[k])
    return loose_options(items, size)


def _wholes(pairs: np.ndarray) -> np.ndarray:
    whole = np.full(len(pairs), -1, np.int64)
    numbers = np.flatnonzero(pairs)
    whole[numbers - 1] = whole[numbers - 2] = numbers
    return whole


def _needs(
    sizes: np.ndarray, units: np.ndarray, pairs: np.ndarray, thresholds: Thresholds
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct shared shingles of each target below which no signal can fire, and below which none but `span` can.

    |A and B| / |A or B| <= |A and B| / |A|, and a run of n units holds n - 4 shingles. Fields of two parts are not
    counted themselves: where a record holds a share t of the whole, it holds a share t of one part (of the second, a
    share of what the first does not have), and with a part the whole is compared.
    """
    reached, none = np.zeros((2, len(sizes)), np.int64), sizes == 0
    # one less than the product, because it is rounded
    for row, limit in enumerate((thresholds.jaccard, thresholds.containment)):
        reached[row] = np.maximum(0, (limit * sizes).astype(np.int64) - 1)
    for _ in range(3):
        near_duplicate, contained = reached / np.where(none, 1, sizes)
        reached[0] += ~((near_duplicate > thresholds.jaccard) | (near_duplicate == 1.0)) & ~none
        reached[1] += ~(contained >= thresholds.containment) & ~none
    held = np.where(units < thresholds.contained_units, reached[0], np.maximum(1, reached.min(axis=0)))
    share = min(thresholds.jaccard, thresholds.containment)
    wholes = np.flatnonzero(pairs)
    firsts, seconds = wholes - 2, wholes - 1
    own = sizes[wholes] - sizes[firsts]
    held[firsts] = np.minimum(held[firsts], np.maximum(1, np.floor(share * sizes[firsts])))
    lowered = np.minimum(held[seconds], np.maximum(1, np.floor(share * own)))
    held[seconds] = np.where(own > 0, lowered, held[seconds])
    held = np.where(none, 2**31 - 1, held)
    spans = _spanned(units, thresholds)
    return np.where(spans, np.minimum(held, thresholds.span - SHINGLE + 1), held).astype(np.int32), held


def _spanned(units: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Which targets are long enough for the signal `span`."""
    return units >= max(thresholds.span, thresholds.contained_units)


def _indexed(
    mark: Callable[..., None],
    frequency: np.ndarray,
    sizes: np.ndarray,
    units: np.ndarray,
    pairs: np.ndarray,
    least: np.ndarray,
    held: np.ndarray,
    thresholds: Thresholds,
) -> tuple[np.ndarray, np.ndarray]:
    """Which shingles of which target to enter in the table, and how many of those a record must hold.

    Few will do, and nothing is missed, because the comparison that follows counts all:

    - A record that holds m of a target's n shingles holds at least h of any n - m + h of them.
    - A run of `span` units holds some of the shingles that stand at regular distances in the target (`_spacing`).

    Of those that may be left out, the ones that many items share are: phrases like "which of the following is the most"
    would cost a step for each item wherever they occur.
    """
    enough = np.minimum(least, HITS)
    spaced = np.where(_spanned(units, thresholds), _spacing(thresholds.span - SHINGLE + 1), 0)
    indexed = np.zeros(len(frequency), np.bool_)
    mark(frequency, np.where(pairs | (sizes == 0), 0, sizes - held + enough), spaced, indexed)
    return indexed, enough.astype(np.uint8)


def _spacing(run: int) -> int:
    """Of a target, one shingle in how many must be looked for, so that a shared run of so many holds enough of them.

    A run of shingles that are all the target's follows the target's order, except that after a four-gram which the
    target repeats it may go on elsewhere. Where every shingle that begins with such a four-gram is looked for, a run
    with j breaks meets j of them. Each of its j + 1 pieces has at most d - 1 shingles before its first full group of d,
    and d - 1 after its last.
    """
    enough = min(run, HITS)
    fitting = [
        d for d in range(2, run + 1) if all(j - (((j + 1) * 2 * (d - 1) - run) // d) >= enough for j in range(enough))
    ]
    return max(fitting, default=1)


def describe(index: Index) -> dict[str, object]:
    """Counts for the summary: items by source, fields by kind, and what was too short to be checked."""
    fields: dict[str, int] = {}
    for target in index.targets:
        fields[target.field] = fields.get(target.field, 0) + 1
    sources: dict[str, int] = {}
    for name in index.against:
        sources[name] = sources.get(name, 0) + 1
    return {
        "items": len(index.items),
        "sources": sources,
        "fields": fields,
        "distinct_shingles": index.distinct,
        "thresholds": dataclasses.asdict(index.thresholds),
        "simplify": index.simplify,
    }
