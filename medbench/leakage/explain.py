"""From candidates of a batch to findings: compared in full, verified, and explained with the text of both sides."""

from __future__ import annotations

from typing import Any

import numpy as np

from medbench.leakage.beside import Record, beside, other_option_near
from medbench.leakage.corpus import Batch
from medbench.leakage.edited import LISTED, Edited, Verifier
from medbench.leakage.hits import Hit, compare_all, is_told, is_whole, telling
from medbench.leakage.index import Index
from medbench.leakage.kernel import compare
from medbench.leakage.kernel.text import SHINGLE, all_shingles
from medbench.leakage.places import SHOWN, Place, corpus_evidence, item_evidence
from medbench.leakage.severity import missed_by, severity, stands_alone
from medbench.leakage.short import WHOLE
from medbench.leakage.targets import Target
from medbench.leakage.tokens import Tokeniser, Tokens
from medbench.leakage.written import changes

BESIDE = 60  # units around a short question within which one of its options counts

Hits = dict[tuple[int, int], dict[str, Hit]]  # by record of the batch and item: its fields


class Explainer:
    """The index with one worker's arrays. Results do not depend on what was explained before."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._tokenise = Tokeniser(simplify=index.simplify)
        self._tokenise_item = Tokeniser(simplify=index.simplify)
        self._verify = Verifier(index.short, index.brief, index.thresholds.edited)
        self.judge = self._verify.judge

    def __call__(self, batch: Batch, candidates: np.ndarray) -> list[dict[str, Any]]:
        """The findings of a batch, ordered by record, item, field and signal.

        Args:
            candidates: int64 (candidates, 2), by record: record of the batch, and target as `table.sift` has it.
        """
        if not len(candidates):
            return []
        # from here on, only the records with a candidate
        records, candidates[:, 0] = np.unique(candidates[:, 0], return_inverse=True)
        batch = batch.part(records.tolist())
        tokens = self._tokenise(batch.texts)
        record_start = np.array(batch.record_start, np.int64)
        first_short, first_brief = int(self.index.short.first[0]), int(self.index.brief.first[0])
        long = candidates[candidates[:, 1] < first_short]
        near = candidates[(candidates[:, 1] >= first_short) & (candidates[:, 1] < first_brief)] - [0, first_short]
        short = candidates[candidates[:, 1] >= first_brief] - [0, first_brief]
        hits: Hits = {}
        for hit in compare_all(self.index, tokens, record_start, long):
            t = self.index.targets[hit.target]
            hits.setdefault((hit.record, t.item), {})[t.field] = hit
        bare = self._bare(batch, tokens, hits)
        rows = self._copies(batch, tokens, hits, bare)
        rows += self._edited(batch, tokens, hits, near)
        rows += self._whole_texts(batch, tokens, hits, short)
        rows += self._beside(batch, tokens, hits)
        for row in rows:
            row["severity"] = severity(row, self.index.field_units[self._number(row), row["field"].partition("+")[0]])
        missed_by(rows, looked_for_edited=self.index.thresholds.edited > 0)
        return sorted(rows, key=order)

    def _number(self, row: dict[str, Any]) -> int:
        return self.index.number_of[row["item_id"]]

    def _bare(self, batch: Batch, tokens: Tokens, hits: Hits) -> set[tuple[int, int]]:
        """Record and item where a whole short question stands among other words and without options; where only a part
        of a short one does, it is taken out of `hits`."""
        bare = set()
        for (record, item), fields in hits.items():
            if "question" in fields and not self._founded(batch, tokens, record, item, fields["question"]):
                if is_whole(self.index, fields["question"]):
                    bare.add((record, item))
                    continue
                for name in [name for name in fields if name.startswith("question")]:
                    del fields[name]
        return bare

    def _founded(self, batch: Batch, tokens: Tokens, record: int, number: int, hit: Hit) -> bool:
        """Whether a question that a record holds is surely more than common words: a long one; or one whose whole text
        stands for itself there, or with an option beside it that is not the key, which a statement of the fact names
        too. Short ones of which a part stands there are none without; whole ones are to be looked at."""
        index, item = self.index, self.index.items[number]
        if int(index.units[hit.target]) >= WHOLE or set(hit.signals) & {"exact", "jaccard"}:
            return True
        place = hit.cluster
        if is_whole(index, hit) and stands_alone(batch.text(place.text), *tokens.characters(*place)):
            return True
        if not item.options:
            return False
        (options,) = self._together([item.options])
        return other_option_near(Record(batch, tokens, record), item, options, place, BESIDE)

    def _together(self, groups: list[tuple[str, ...]]) -> list[Tokens]:
        """Tokens of each group of texts of the test side, valid until the next call."""
        tokens = self._tokenise_item([text.encode("utf-8", "replace") for group in groups for text in group])
        found, at = [], 0
        for group in groups:
            found.append(tokens.part(at, at + len(group)))
            at += len(group)
        return found

    def _copies(self, batch: Batch, tokens: Tokens, hits: Hits, bare: set[tuple[int, int]]) -> list[dict[str, Any]]:
        """Findings of the signals that count shingles."""
        told = [
            (hit, signals, key in bare)
            for key, fields in hits.items()
            for name, signals in telling(fields).items()
            if signals
            for hit in [fields[name]]
        ]
        # one call for all the items of the batch: for one item's few words, the call is most of the time
        targets = list(dict.fromkeys(hit.target for hit, _, _ in told))
        sides = dict(zip(targets, self._together([self.index.targets[t].texts for t in targets]), strict=True))
        rows = []
        for hit, signals, is_bare in told:
            for row in self._explain(batch, tokens, hit, signals, sides[hit.target]):
                if is_bare and row["signal"] in ("containment", "span"):
                    row["bare"] = True
                rows.append(row)
        return rows

    def _explain(
        self, batch: Batch, tokens: Tokens, hit: Hit, signals: list[str], item_tokens: Tokens
    ) -> list[dict[str, Any]]:
        """Findings of some signals of a hit, with the evidence of both sides."""
        target = self.index.targets[hit.target]
        hashes, start = all_shingles(item_tokens.unit_hash, item_tokens.unit_start, SHINGLE)
        evidence: dict[Place, dict[str, Any]] = {}
        rows = []
        for signal in signals:
            score, place = hit.signals[signal]
            if place not in evidence:
                base = int(tokens.unit_start[place.text])
                first, last = compare.align(tokens.unit_hash[base + place.begin : base + place.end], hashes)
                item_side = item_evidence(target.texts, item_tokens, start, first, last)
                corpus_side = corpus_evidence(batch, tokens, place)
                written = changes(corpus_side["corpus_text"], item_side["item_text"])
                evidence[place] = {**corpus_side, **item_side, **({"written": written} if written else {})}
            rows.append(self._finding(batch, hit.record, target.item, target.field, signal, score, evidence[place]))
        return rows

    def _edited(self, batch: Batch, tokens: Tokens, hits: Hits, near: np.ndarray) -> list[dict[str, Any]]:
        """Findings of edited copies; their places are entered in `hits`, so that what stands beside them is looked at.

        A field of which the record holds a copy by another signal than `span` is not looked at again.
        """
        targets = self.index.short.targets
        silent = [(r, n) for r, n in near.tolist() if not is_told(hits, r, targets[n])]
        # one call for all of them, as in `_copies`
        numbers = list(dict.fromkeys(number for _, number in silent))
        fields = [targets[n] for n in numbers]
        sides = self._together([texts for t in fields for texts in (t.texts, self.index.items[t.item].options)])
        laid = dict(zip(numbers, zip(sides[::2], sides[1::2], strict=True), strict=True))
        rows = []
        for record, number in silent:
            target, (side, options) = targets[number], laid[number]
            asked = target.field.startswith("question") and self.index.items[target.item].options
            edited = self._verify(tokens, batch.texts_of(record), number, side, options if asked else None)
            if edited is not None:
                rows.append(self._edited_finding(batch, tokens, record, target, edited, side, hits))
        return rows

    def _whole_texts(self, batch: Batch, tokens: Tokens, hits: Hits, near: np.ndarray) -> list[dict[str, Any]]:
        """Findings of short questions that are a whole text, edited; entered in `hits` as those of `_edited` are."""
        rows = []
        for record, number in near.tolist():
            target = self.index.brief.targets[number]
            # said already, or edited with its options
            if is_told(hits, record, target) or "question" in hits.get((record, target.item), {}):
                continue
            text = self._verify.text_of(tokens, batch.texts_of(record), number)
            if text is None:
                continue
            (side,) = self._together([target.texts])
            edited = self._verify.whole(tokens, text, number, side)
            if edited is not None:
                rows.append(self._edited_finding(batch, tokens, record, target, edited, side, hits))
        return rows

    def _edited_finding(
        self, batch: Batch, tokens: Tokens, record: int, target: Target, edited: Edited, side: Tokens, hits: Hits
    ) -> dict[str, Any]:
        place = Place(edited.text, edited.begin, edited.end)
        fields = hits.setdefault((record, target.item), {})
        fields.setdefault(target.field.partition("+")[0], Hit(record, -1, {}, place))
        begin, end = side.characters(edited.item_text, edited.item_begin, edited.item_end)
        corpus_side = corpus_evidence(batch, tokens, place)
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
            **({"whole_text": True} if edited.whole_text else {}),
        }
        return self._finding(batch, record, target.item, target.field, "edited", edited.share, evidence)

    def _beside(self, batch: Batch, tokens: Tokens, hits: Hits) -> list[dict[str, Any]]:
        """Findings of options and answers near the fields of choice items."""
        index = self.index
        chosen = list(dict.fromkeys(item for _, item in hits if index.items[item].options))
        options = dict(zip(chosen, self._together([index.items[i].options for i in chosen]), strict=True))
        rows = []
        for (record, number), fields in hits.items():
            if number in options:
                places = {name: hit.cluster for name, hit in fields.items()}
                for told in beside(
                    Record(batch, tokens, record), index.items[number], places, options[number],
                    index.thresholds.near, loose=number in index.loose,
                ):  # fmt: skip
                    rows.append(self._finding(batch, record, number, told.field, told.signal, 1.0, told.evidence))
        return rows

    def _finding(
        self, batch: Batch, record: int, number: int, field: str, signal: str, score: float, evidence: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "corpus_file": batch.file,
            "record": batch.numbers[record],
            "item_id": self.index.ids[number],
            "field": field,
            "signal": signal,
            "score": score,
            "against": self.index.against[number],
            **evidence,
        }


def order(finding: dict[str, Any]) -> tuple[Any, ...]:
    """By which findings are sorted."""
    return finding["record"], finding["item_id"], finding["field"], finding["signal"]
