"""One batch of records against the frozen index: count, verify, explain. Pure: batch and index in, findings out."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from medbench.items import LETTERS, Item
from medbench.leakage import corpus
from medbench.leakage.corpus import Batch, Unreadable
from medbench.leakage.edited import LISTED, Edited, Verifier
from medbench.leakage.index import Index
from medbench.leakage.kernel import compare, json_lines, table
from medbench.leakage.kernel.text import SHINGLE, all_shingles
from medbench.leakage.severity import LOOK, severity, stands_alone
from medbench.leakage.short import WHOLE
from medbench.leakage.targets import Target
from medbench.leakage.tokens import UNITS_PER_BYTE, Tokeniser, Tokens
from medbench.leakage.written import changes, restore

BESIDE = 60  # units around a short question within which one of its options counts
GAP = 20  # units: shared shingles further apart than this are evidence from two different places
SHOWN = 400  # characters of evidence kept on each side; the offsets are complete
EPOCHS = 1 << 24  # records between two clearings of a tally
KEPT = 4 << 20  # bytes: space for a longer record is given back
# Fields of which options and answer are looked for where they are found, the most telling first.
_ANCHORS = ("question+options", "question", "options", "explanation")


class Place(NamedTuple):
    """Units `begin` up to `end` of one text of a batch."""

    text: int
    begin: int
    end: int


@dataclass(frozen=True)
class Hit:
    """A target that a record holds: the signals that fired with their scores and places."""

    record: int
    target: int
    signals: dict[str, tuple[float, Place]]
    cluster: Place


class Scanned(NamedTuple):
    """What the records of some lines gave.

    Attributes:
        findings: as `Scanner.scan` has them.
        short: records too short to be checked.
        unreadable: records that could not be read.
        records: number of all records.
        size: bytes of text.
    """

    findings: list[dict[str, Any]]
    short: list[int]
    unreadable: list[Unreadable]
    records: int
    size: int


class Scanner:
    """The index with the scratch space of one worker. Results do not depend on what was scanned before."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._tokenise = Tokeniser(simplify=index.simplify)
        self._tokenise_item = Tokeniser(simplify=index.simplify)
        sought, short = (
            table.Sought(**{name: getattr(one, name) for name in table.Sought._fields}) for one in (index, index.short)
        )
        raw, home = np.empty(0, np.uint64), np.empty(2 * table.PIECE, np.uint64)
        scratch, short_scratch = (
            table.Scratch(raw, raw, np.empty(2 * table.PIECE, np.uint64), home, np.zeros(len(one.targets), np.uint32))
            for one in (index, index.short)
        )
        self._sieve = table.Sieve(sought, scratch, short, short_scratch)
        self._verify = Verifier(index.short, index.thresholds.edited)
        self._epoch = 1

    def scan(self, batch: Batch) -> tuple[list[dict[str, Any]], list[int]]:
        """Findings of a batch, ordered by record, item, field and signal; and the records too short to be checked.

        A finding's `record` counts from the start of the shard; spans are character offsets.
        """
        candidates, short = self._candidates(batch)
        return self._explained(batch, candidates), short

    def scan_lines(self, content: bytes, first: int, file: str) -> Scanned:
        """The same for lines of JSON as they lie in a file, of which only those are parsed that hold something.

        Args:
            content: whole lines.
            first: the number of the first record in them.
            file: the corpus file.
        """
        buffer = np.frombuffer(content + b"\n\0\0\0", np.uint8)
        end = np.flatnonzero(buffer == ord("\n"))
        begin = np.concatenate([[0], end[:-1] + 1])
        kind, shingles, size = np.empty(len(end), np.uint8), np.zeros(len(end), np.int64), np.zeros(len(end), np.int64)
        sieve, epoch = self._room(int((end - begin).max()), len(end))
        found = json_lines.sift_lines(
            buffer, begin, end, self._tokenise.json_table, self._tokenise.table, self._tokenise.pool,
            sieve, epoch, kind, shingles, size,
        )  # fmt: skip
        del buffer, sieve  # a long line's take much room
        number = first - 1 + np.cumsum(kind != json_lines.BLANK)
        unreadable: list[Unreadable] = []

        def parse(lines: np.ndarray) -> Batch:
            parts = (content[a:b] for a, b in zip(begin[lines].tolist(), end[lines].tolist(), strict=True))
            return corpus.parse(parts, number[lines].tolist(), file, unreadable)

        lines, found[:, 0] = np.unique(found[:, 0], return_inverse=True)
        findings = self._explained(parse(lines), found) if len(lines) else []
        short = number[(kind == json_lines.PLAIN) & (shingles == 0)].tolist()
        records = int((kind != json_lines.BLANK).sum())
        others = parse(np.flatnonzero(kind == json_lines.OTHER))
        if others.numbers:
            more, also_short = self.scan(others)
            findings = sorted(findings + more, key=_order)
            short = sorted(short + also_short)
        return Scanned(findings, short, unreadable, records, int(size.sum()) + others.size)

    def _explained(self, batch: Batch, candidates: np.ndarray) -> list[dict[str, Any]]:
        """Findings of a batch, given its candidates."""
        if not len(candidates):
            return []
        index = self.index
        # from here on, only the records with a candidate
        records, candidates[:, 0] = np.unique(candidates[:, 0], return_inverse=True)
        batch = batch.part(records.tolist())
        tokens = self._tokenise(batch.texts)
        record_start = np.array(batch.record_start, np.int64)
        hits: dict[tuple[int, int], dict[str, Hit]] = {}
        near = candidates[candidates[:, 1] >= len(index.targets)]
        for hit in self._compare(tokens, record_start, candidates[candidates[:, 1] < len(index.targets)]):
            t = index.targets[hit.target]
            hits.setdefault((hit.record, t.item), {})[t.field] = hit
        bare = set()
        for (record, item), fields in hits.items():
            if "question" in fields and not self._founded(batch, tokens, record, item, fields["question"]):
                if _whole(index, fields["question"]):
                    bare.add((batch.numbers[record], index.ids[item]))
                    continue
                for name in [name for name in fields if name.startswith("question")]:
                    del fields[name]
        telling = [(fields[name], signals) for fields in hits.values() for name, signals in _telling(fields).items()]
        told = list(dict.fromkeys(hit.target for hit, signals in telling if signals))
        chosen = list(dict.fromkeys(item for _, item in hits if index.items[item].options))
        # one call for all the items of the batch: for one item's few words, the call is most of the time
        sides = self._together([*(index.targets[t].texts for t in told), *(index.items[i].options for i in chosen)])
        by_target, options = dict(zip(told, sides, strict=False)), dict(zip(chosen, sides[len(told) :], strict=True))
        findings: list[dict[str, Any]] = []
        for hit, signals in telling:
            if signals:
                findings += self._explain(batch, tokens, hit, signals, by_target[hit.target])
        findings += self._edited(batch, tokens, hits, near)
        for (record, item), fields in hits.items():
            if item in options:
                places = {name: hit.cluster for name, hit in fields.items()}
                findings += self._beside(batch, tokens, record, item, places, options[item])
        for row in findings:
            if row["signal"] in ("containment", "span") and (row["record"], row["item_id"]) in bare:
                row["severity"] = LOOK
        findings.sort(key=_order)
        return findings

    def _candidates(self, batch: Batch) -> tuple[np.ndarray, list[int]]:
        """(record of the batch, target) pairs worth comparing, int64 (candidates, 2); and the records too short."""
        candidates, shingles, marked = self._sift(batch.texts, batch.record_start, self._tokenise.ascii_table)
        if marked.any():  # once more, restored
            records = np.flatnonzero(marked)
            part = batch.part(records.tolist())
            texts = [restore(text.decode()).text.encode() for text in part.texts]
            again, shingles[records], _ = self._sift(texts, part.record_start, self._tokenise.restored_table)
            again[:, 0] = records[again[:, 0]]
            candidates = np.concatenate([candidates[~marked[candidates[:, 0]]], again])
            candidates = candidates[np.argsort(candidates[:, 0], kind="stable")]
        return candidates, [batch.numbers[r] for r in np.flatnonzero(shingles == 0).tolist()]

    def _sift(
        self, texts: list[bytes], record_start: list[int], ascii_table: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`table.sift` of texts: its candidates, each record's number of shingles, which records to restore first."""
        start = np.array(record_start, np.int64)
        text_start = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=text_start[1:])
        records = len(start) - 1
        sieve, epoch = self._room(int(np.diff(text_start[start]).max(initial=0)), records)
        shingles, marked = np.empty(records, np.int64), np.zeros(records, np.bool_)
        candidates = table.sift(
            np.frombuffer(b"".join([*texts, bytes(3)]), np.uint8), text_start, start,
            ascii_table, self._tokenise.table, self._tokenise.pool,
            sieve, epoch, shingles, marked,
        )  # fmt: skip
        return candidates, shingles, marked

    def _room(self, longest: int, records: int) -> tuple[table.Sieve, int]:
        """Scratch space for records of up to `longest` bytes, and the epoch of the first of so many."""
        units = UNITS_PER_BYTE * longest + 16
        sieve = self._sieve
        if len(sieve.scratch.raw) < units:
            raw, every, short = (np.empty(units, np.uint64) for _ in range(3))
            sieve = sieve._replace(
                scratch=sieve.scratch._replace(raw=raw, every=every),
                short_scratch=sieve.short_scratch._replace(raw=raw, every=short),
            )
            if longest <= KEPT:
                self._sieve = sieve
        if self._epoch + records >= EPOCHS:
            sieve.scratch.tally[:] = 0
            sieve.short_scratch.tally[:] = 0
            self._epoch = 1
        self._epoch += records
        return sieve, self._epoch - records

    def _compare(self, tokens: Tokens, record_start: np.ndarray, candidates: np.ndarray) -> list[Hit]:
        """What the candidates hold of their targets, ordered by record and target.

        A field of two parts is compared where one of them holds enough.
        """
        index = self.index

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

    def _edited(
        self, batch: Batch, tokens: Tokens, hits: dict[tuple[int, int], dict[str, Hit]], near: np.ndarray
    ) -> list[dict[str, Any]]:
        """Findings of edited copies; their places are entered in `hits`, so that what stands beside them is looked at.

        A field of which the record holds a copy by another signal than `span` is not looked at again.
        """
        short, findings = self.index.short, []
        near = near - np.array([0, len(self.index.targets)])
        silent = [
            k for k, (record, number) in enumerate(near.tolist()) if not _told(hits, record, short.targets[number])
        ]
        for record, number in self._verify.worth(tokens, np.array(batch.record_start), near[silent]).tolist():
            target = short.targets[number]
            fields = hits.setdefault((record, target.item), {})
            base = target.field.partition("+")[0]
            item = self.index.items[target.item]
            side, options = self._together([target.texts, item.options])
            texts = range(batch.record_start[record], batch.record_start[record + 1])
            beside = options if target.field.startswith("question") and item.options else None
            edited = self._verify(tokens, texts, number, side, beside)
            if edited is None:
                continue
            place = Place(edited.text, edited.begin, edited.end)
            fields.setdefault(base, Hit(record, number, {}, place))
            findings.append(self._edited_finding(batch, tokens, record, target, edited, place, side))
        return findings

    def _edited_finding(
        self, batch: Batch, tokens: Tokens, record: int, target: Target, edited: Edited, place: Place, side: Tokens
    ) -> dict[str, Any]:
        begin, end = side.characters(edited.item_text, edited.item_begin, edited.item_end)
        corpus_side = _corpus_evidence(batch, tokens, place)
        item_text = target.texts[edited.item_text][begin : min(end, begin + SHOWN)]
        written = changes(corpus_side["corpus_text"], item_text)
        evidence = {
            **corpus_side,
            "item_span": [begin, end],
            "item_text": item_text,
            **({"written": written} if written else {}),
            "edits": edited.edits[:LISTED],
            "weight": round(edited.weight, 3),
            "edits_in_all": len(edited.edits),
            "other_numbers": edited.other_numbers,
            **({} if edited.options is None else {"options_beside": edited.options}),
        }
        return self._finding(batch, record, target.item, target.field, "edited", edited.share, evidence)

    def _founded(self, batch: Batch, tokens: Tokens, record: int, number: int, hit: Hit) -> bool:
        """Whether a question that a record holds is surely more than common words: a long one; or one whose whole text
        stands for itself there, or with an option beside it that is not the key, which a statement of the fact names
        too. Short ones of which a part stands there are none without; whole ones are to be looked at."""
        index, item = self.index, self.index.items[number]
        units = int(index.units[hit.target])
        if units >= WHOLE or set(hit.signals) & {"exact", "jaccard"}:
            return True
        place = hit.cluster
        if _whole(index, hit) and stands_alone(batch.text(place.text), *tokens.characters(*place)):
            return True
        if not item.options:
            return False
        region = _region(batch, tokens, record, place, BESIDE)
        (options,) = self._together([item.options])
        base = int(tokens.unit_start[place.text])
        for k, letter in enumerate(item.letters):
            wanted = options.unit_hash[options.unit_start[k] : options.unit_start[k + 1]]
            if letter in item.answer or not len(wanted):
                continue
            at = compare.occurrences(tokens.unit_hash[region.start : region.stop], wanted) + region.start - base
            if ((at >= place.end) | (at + len(wanted) <= place.begin)).any():
                return True
        return False

    def _together(self, groups: list[tuple[str, ...]]) -> list[Tokens]:
        """Tokens of each group of texts of the test side, valid until the next call."""
        tokens = self._tokenise_item([text.encode("utf-8", "replace") for group in groups for text in group])
        found, at = [], 0
        for group in groups:
            found.append(tokens.part(at, at + len(group)))
            at += len(group)
        return found

    def _explain(
        self, batch: Batch, tokens: Tokens, hit: Hit, signals: list[str], item_tokens: Tokens
    ) -> list[dict[str, Any]]:
        """Findings of some signals of a hit, with the evidence of both sides."""
        target = self.index.targets[hit.target]
        hashes, start = all_shingles(item_tokens.unit_hash, item_tokens.unit_start)
        evidence: dict[Place, dict[str, Any]] = {}
        rows = []
        for signal in signals:
            score, place = hit.signals[signal]
            if place not in evidence:
                base = int(tokens.unit_start[place.text])
                first, last = compare.align(tokens.unit_hash[base + place.begin : base + place.end], hashes)
                item_side = _item_evidence(target.texts, item_tokens, start, first, last)
                corpus_side = _corpus_evidence(batch, tokens, place)
                written = changes(corpus_side["corpus_text"], item_side["item_text"])
                evidence[place] = {**corpus_side, **item_side, **({"written": written} if written else {})}
            rows.append(self._finding(batch, hit.record, target.item, target.field, signal, score, evidence[place]))
        return rows

    def _beside(
        self, batch: Batch, tokens: Tokens, record: int, number: int, places: dict[str, Place], options: Tokens
    ) -> list[dict[str, Any]]:
        """Option set and answer near the fields of a choice item that a record holds."""
        index, item = self.index, self.index.items[number]
        anchor = next((name for name in _ANCHORS if name in places), None)
        if anchor is None or (anchor == "options" and number in index.loose):
            return []
        base = "question" if anchor.startswith("question") else anchor
        place = places[anchor]
        region = _region(batch, tokens, record, place, index.thresholds.near)
        begin, end, at = compare.option_window(
            tokens.unit_hash[region.start : region.stop], options.unit_hash, options.unit_start
        )
        # labels, and what an explanation says about each, take room between the options
        listed = begin >= 0 and end - begin <= 2 * len(options.unit_hash) + 12 * len(item.options)
        rows = []
        if listed:
            order = np.argsort(at, kind="stable").tolist()
            field = "question+options" if base == "question" else base if base == "options" else f"{base}+options"
            evidence = {
                **_corpus_evidence(batch, tokens, _place(tokens, region.start + begin, region.start + end)),
                "item_span": [0, len("\n".join(item.options))],
                "item_text": "\n".join(item.options)[:SHOWN],
                "permuted": order != sorted(order),
            }
            rows.append(self._finding(batch, record, number, field, "option_set", 1.0, evidence))
        elif base == "options":  # one long option alone is a phrase, not a set
            return []
        shown = [LETTERS[order.index(k)] for k in range(len(order))] if listed else list(item.letters)
        skip = (region.start + begin, region.start + end) if listed and base != "explanation" else None
        answer = self._answer(batch, tokens, record, item, options, shown, region, place, skip)
        if answer is not None:
            rows.append(self._finding(batch, record, number, f"{base}+answer", "answer_nearby", 1.0, answer))
        return rows

    def _answer(
        self,
        batch: Batch,
        tokens: Tokens,
        record: int,
        item: Item,
        options: Tokens,
        shown: list[str],
        region: range,
        place: Place,
        skip: tuple[int, int] | None,
    ) -> dict[str, Any] | None:
        """Evidence that the key is given in the region: a letter declared as the answer, or the text of the option.

        Args:
            shown: the letter under which the record shows each option, if it keeps the usual order of letters.
            skip: units of the list of options: naming the right one among all of them gives nothing away.
        """
        letters = [shown[item.letters.index(a)] for a in item.answer if a in item.letters]
        if not letters:
            return None
        after = int(tokens.unit_start[place.text]) + place.end
        after = max(after, skip[1]) if skip else after
        declared = self._declaration(batch, tokens, record, place, region, after)
        if declared is not None and _letters(declared[1]) == sorted(letters):
            text, match = declared
            return {
                "corpus_field": batch.name(text),
                "corpus_span": [match.start(), match.end()],
                "corpus_text": match[0][:SHOWN],
                "item_span": [0, len("".join(item.answer))],
                "item_text": "".join(item.answer),
            }
        for letter in item.answer:
            j = item.letters.index(letter)
            wanted = options.unit_hash[options.unit_start[j] : options.unit_start[j + 1]]
            for at in compare.occurrences(tokens.unit_hash[region.start : region.stop], wanted).tolist():
                first = region.start + at
                if skip and skip[0] <= first < skip[1]:
                    continue
                return {
                    **_corpus_evidence(batch, tokens, _place(tokens, first, first + len(wanted))),
                    "item_span": [0, len(item.options[j])],
                    "item_text": item.options[j][:SHOWN],
                }
        return None

    def _declaration(
        self, batch: Batch, tokens: Tokens, record: int, place: Place, region: range, after: int
    ) -> tuple[int, re.Match[str]] | None:
        """The text and the place in it where letters are given as the answer: in a field of that name, which may stand
        anywhere in the record, else first after unit `after` within the region. Later ones answer other questions."""
        first = batch.record_start[record]
        for text, name in enumerate(batch.names(record), first):
            if text != place.text and _ANSWER_FIELD.search(name) and (match := _BARE.match(batch.text(text))):
                return text, match
        for text in range(first, batch.record_start[record + 1]):
            a, b = int(tokens.unit_start[text]), int(tokens.unit_start[text + 1])
            if (b <= after and text != place.text) or a >= region.stop:
                continue
            source = batch.text(text)
            begin = tokens.characters(text, max(0, after - a - 1), max(1, after - a))[1] if a < after <= b else 0
            end = tokens.characters(text, region.stop - a - 1, region.stop - a)[1] if region.stop < b else len(source)
            match = _declared(source, begin, end)
            if match:
                return text, match
        return None

    def _finding(
        self, batch: Batch, record: int, number: int, field: str, signal: str, score: float, evidence: dict[str, Any]
    ) -> dict[str, Any]:
        row = {
            "corpus_file": batch.file,
            "record": batch.numbers[record],
            "item_id": self.index.ids[number],
            "field": field,
            "signal": signal,
            "score": score,
            "against": self.index.against[number],
            **evidence,
        }
        row["severity"] = severity(row, self.index.field_units[number, field.partition("+")[0]])
        return row


def _whole(index: Index, hit: Hit) -> bool:
    """Whether a record holds the whole field, word for word."""
    return hit.cluster.end - hit.cluster.begin == int(index.units[hit.target])


def _told(hits: dict[tuple[int, int], dict[str, Hit]], record: int, target: Target) -> bool:
    """Whether a signal other than `span` tells of a copy of a field already."""
    names = (target.field.partition("+")[0], target.field)
    fields = hits.get((record, target.item), {})
    return any(set(fields[name].signals) - {"span"} for name in names if name in fields)


def _order(finding: dict[str, Any]) -> tuple[Any, ...]:
    return finding["record"], finding["item_id"], finding["field"], finding["signal"]


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


def _telling(fields: dict[str, Hit]) -> dict[str, list[str]]:
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


def _region(batch: Batch, tokens: Tokens, record: int, place: Place, near: int) -> range:
    """Units of the batch at most `near` away from a place, within its record."""
    first = int(tokens.unit_start[batch.record_start[record]])
    last = int(tokens.unit_start[batch.record_start[record + 1]])
    base = int(tokens.unit_start[place.text])
    return range(max(first, base + place.begin - near), min(last, base + place.end + near))


def _place(tokens: Tokens, first: int, last: int) -> Place:
    """Units of the batch as a place; what lies beyond the text of the first unit is cut off."""
    text = int(np.searchsorted(tokens.unit_start, first, side="right")) - 1
    base = int(tokens.unit_start[text])
    return Place(text, first - base, min(last, int(tokens.unit_start[text + 1])) - base)


def _corpus_evidence(batch: Batch, tokens: Tokens, place: Place) -> dict[str, Any]:
    begin, end = tokens.characters(*place)
    return {
        "corpus_field": batch.name(place.text),
        "corpus_span": [begin, end],
        "corpus_text": batch.text(place.text)[begin : min(end, begin + SHOWN)],
    }


def _item_evidence(texts: tuple[str, ...], tokens: Tokens, start: np.ndarray, first: int, last: int) -> dict[str, Any]:
    """Where shingles `first` to `last` of a target lie, in its texts joined by line feeds."""
    joined = "\n".join(texts)
    before = [0]
    for text in texts:
        before.append(before[-1] + len(text) + 1)
    a = int(np.searchsorted(start, first, side="right")) - 1
    b = int(np.searchsorted(start, last, side="right")) - 1
    begin = before[a] + tokens.characters(a, first - int(start[a]), first - int(start[a]) + SHINGLE)[0]
    end = before[b] + tokens.characters(b, last - int(start[b]), last - int(start[b]) + SHINGLE)[1]
    return {"item_span": [begin, end], "item_text": joined[begin : min(end, begin + SHOWN)]}


def _declared(text: str, begin: int, end: int) -> re.Match[str] | None:
    """The first place of `text[begin:end]` where letters are given as the answer."""
    found = [pattern.search(text, begin, end) for pattern in _DECLARATIONS]
    return min((match for match in found if match), key=lambda match: match.start(), default=None) or (
        _BARE.match(text, begin, end)
    )


def _letters(match: re.Match[str]) -> list[str]:
    """The letters that a declaration gives, in order."""
    return sorted(set(re.findall("[A-J]", unicodedata.normalize("NFKC", match["letters"]).upper())))


_LETTER = "[A-JＡ-Ｊ]"
_LIST = rf"(?P<letters>{_LETTER}(?:\s*(?:,|、|，|;|and|和|&)?\s*{_LETTER})*)(?![A-Za-z])"
_SAID = (
    r"(?i:\b(?:answer|correct\s+(?:option|choice|response)|correct(?=\s*[:：])|ans(?:\.|\b)|key)"
    r"|答案|正确选项|(?:[本此该]题|故|应该?|因此|所以)选|选择)"
    r"(?i:\s*(?:is|was|为|是|应为|应选|选项?|option|choice|[:：=(（【】\[\])*>-]))*"
)
_DECLARATIONS = [
    re.compile(_SAID + r"\s*" + _LIST),
    re.compile(_SAID + r"(?<=[:：=(（【】\[])\s*(?i:" + _LIST + ")"),  # a small letter may be a word: "answer a few"
    re.compile(r"\\boxed\{(?:\\text\{)?" + _LIST + r"\}"),
    re.compile(
        r"(?:\b[Oo]ption|\b[Cc]hoice|^|[.!?\n])\s*[(]?" + _LIST + r"[)]?\s+(?:is|are)\s+(?:the\s+)?(?:correct|right)\b"
    ),
    re.compile(r"[(（]\s*" + _LIST + r"\s*(?:正确|对)\s*[)）]"),
    re.compile(_LIST + r"\s*(?:项|选项)?(?:是)?(?:正确|对)(?:的|。|，|;|；|$)"),
]
_ANSWER_FIELD = re.compile(r"answer|label|correct|gold|solution|答案", re.IGNORECASE)
# The whole rest of the text is the letter, with or without its option: "C", "C. 出血量"
_BARE = re.compile(r"\s*[(（]?" + _LIST + r"\s*(?:[.．、:：)）]|$)")
