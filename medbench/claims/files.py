"""Verdict files and human labels: JSON lines, JSON, CSV, TSV or Parquet, one judged claim a row.

| columns | what they are |
|---|---|
| `question`, `claim` (or `statement`), `answer` (or `result`) | the texts, joined to items by their words |
| `importance` (or `category`) | `Must_have` or `Nice_to_have`; may be left out where the items tell |
| `verdict`, with `judge` where there are several; `raw`, `score` (0-1), `order` | a row per judge, medbench's own |
| `label_1`, `label_2`, ... | one column per judge, as K-QA publishes its physicians' labels |
| `label_is_entails`, `label_is_contradict` | true or false, as K-QA's own script writes its model's verdicts |
| `label` or `majority` | one judge |

A row without an answer speaks of any answer to its question. Labels are `entailed`, `neutral` and `contradicted`, or
K-QA's `Entailment`, `Neutral` and `Contradiction`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medbench.claims.verdicts import (
    CONTRADICTED,
    ENTAILED,
    MUST_HAVE,
    NEUTRAL,
    NICE_TO_HAVE,
    REASONS,
    SPELLINGS,
    Case,
    Verdict,
    majority,
    spelled,
)
from medbench.errors import MedbenchError, unknown
from medbench.sources.records import Record, read_records

_COLUMNS = {
    "question": ("question", "Question"),
    "claim": ("claim", "statement"),
    "answer": ("answer", "result"),
    "importance": ("importance", "category", "category_x"),
    "model": ("model", "llm_x"),
}
_RATER = re.compile(r"label_\d+$")
_KQA_JUDGE = ("label_is_entails", "label_is_contradict")
_SINGLE = ("label", "majority", "majority_label")
LISTED = 20  # rows of a file that are named one by one; the others are counted


@dataclass(frozen=True)
class Row:
    """One judged claim of a file.

    Attributes:
        case: the texts; `answer` is "" where the file names none.
        labels: judge -> the file's word, "" where that judge said nothing.
        model: who wrote the answer, "" where the file does not tell.
        record: where it was read.
        raw, score, order: of the verdict, where the file has them.
    """

    case: Case
    labels: dict[str, str]
    model: str
    record: Record
    raw: str = ""
    score: float | None = None
    order: str = ""

    @property
    def where(self) -> str:
        """The file and the row."""
        return f"{Path(self.record.file).name}, {self.record.row}"


@dataclass
class VerdictFile:
    """All rows of a file.

    Attributes:
        judges: in the order in which they appear.
        strange: words in place of a label -> how often.
    """

    path: str
    rows: list[Row]
    judges: list[str]
    strange: Counter[str] = field(default_factory=Counter)

    def has_answers(self) -> bool:
        """Whether every row says which answer it judges."""
        return all(row.case.answer for row in self.rows)


def read_verdicts(path: str | Path, *, encoding: str = "utf-8") -> VerdictFile:
    """Read a file of verdicts or labels.

    Raises:
        MedbenchError: a column is missing, or no label of the whole file is known (all words are named).
        BadRow: a row without its question or claim.
    """
    records = list(read_records(path, encoding=encoding))
    found = {part: _column(records[0], part) for part in _COLUMNS}
    for part in ("question", "claim"):
        if found[part] is None:
            raise MedbenchError(
                f"{path} has no column for the {part}: expected one of {', '.join(_COLUMNS[part])}; found "
                f"{', '.join(records[0].data)}."
            )
    labels_of = _reader(path, list(records[0].data))
    rows = [_row(record, found, labels_of(record)) for record in records]
    judges = list(dict.fromkeys(judge for row in rows for judge in row.labels))
    words = Counter(word for row in rows for word in row.labels.values() if word)
    strange = Counter({word: count for word, count in words.items() if spelled(word) is None})
    if not words:
        raise MedbenchError(f"{path} holds no label at all.")
    if len(strange) == len(words):
        raise MedbenchError(f"{path}: no label is known: {listed_words(strange)}. Known: {', '.join(SPELLINGS)}.")
    return VerdictFile(str(path), rows, judges, strange)


def listed_words(strange: Mapping[str, int]) -> str:
    """``'yes' (3 times), 'no' (once)``."""
    return ", ".join(f"{word!r} ({'once' if n == 1 else f'{n} times'})" for word, n in sorted(strange.items()))


def _column(record: Record, part: str) -> str | None:
    return next((name for name in _COLUMNS[part] if name in record.data), None)


def _reader(path: str | Path, columns: list[str]) -> Callable[[Record], dict[str, str]]:
    """How a row's labels are read: judge -> word."""
    raters = [name for name in columns if _RATER.match(name)]
    if "verdict" in columns:
        named = "judge" in columns
        return lambda record: {_word(record, "judge") or "verdict" if named else "verdict": _word(record, "verdict")}
    if raters:
        return lambda record: {name: _word(record, name) for name in raters}
    if set(_KQA_JUDGE) <= set(columns):
        return lambda record: {"K-QA's judge": _kqa(record)}
    for single in _SINGLE:
        if single in columns:
            return lambda record: {single: _word(record, single)}
    raise MedbenchError(
        f"{path} has no column of labels: expected verdict, label_1 and so on, {' and '.join(_KQA_JUDGE)}, or one of "
        f"{', '.join(_SINGLE)}; found {', '.join(columns)}."
    )


def _kqa(record: Record) -> str:
    entails, contradicts = (_word(record, name).lower() for name in _KQA_JUDGE)
    told = {("true", "false"): ENTAILED, ("false", "true"): CONTRADICTED, ("false", "false"): NEUTRAL}
    # both at once is no verdict, and neither is a gap
    return told.get((entails, contradicts), f"entails {entails}, contradicts {contradicts}")


def _word(record: Record, column: str) -> str:
    value = record.data.get(column)
    return "" if value is None else str(value).strip()


def _row(record: Record, found: Mapping[str, str | None], labels: dict[str, str]) -> Row:
    texts = {part: _word(record, name) if name else "" for part, name in found.items()}
    for part in ("question", "claim"):
        if not texts[part]:
            raise record.error(found[part], "empty; a verdict names its question and its claim")
    said = texts["importance"].lower().replace(" ", "_").replace("-", "_")
    if said not in ("", MUST_HAVE, NICE_TO_HAVE):
        raise record.error(found["importance"], f"expected Must_have or Nice_to_have, found {texts['importance']!r}")
    case = Case(texts["question"], texts["claim"], texts["answer"], said or MUST_HAVE)
    return Row(case, labels, texts["model"], record, _word(record, "raw"), _score(record), _word(record, "order"))


def _score(record: Record) -> float | None:
    value = record.data.get("score")
    if value in (None, ""):
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise record.error("score", f"expected a number from 0 to 1, found {value!r}")
    return number


def same(text: str) -> str:
    """A text as it is compared with others: NFKC, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


@dataclass(frozen=True)
class Labelled:
    """A claim with what people said of it.

    Attributes:
        label: the label of most of them, None where they are divided or none said anything.
        raters: rater -> label, None where that person said nothing.
    """

    case: Case
    label: str | None
    raters: dict[str, str | None]
    model: str
    where: str


def labelled(file: VerdictFile) -> list[Labelled]:
    """The rows of a file as human labels, one rater per judge of the file.

    Raises:
        MedbenchError: a label is unknown (all are named), or rows have no answer.
    """
    if file.strange:
        known = "entailed, neutral, contradicted, or K-QA's Entailment, Neutral, Contradiction"
        raise MedbenchError(f"{file.path}: unknown labels {listed_words(file.strange)}. Known: {known}.")
    without = [row for row in file.rows if not row.case.answer]
    if without:
        raise MedbenchError(f"{without[0].where}: no answer; labelled claims need the answer that people read.")
    merged: dict[tuple[str, str, str], Row] = {}
    for row in file.rows:
        key = (same(row.case.question), same(row.case.claim), same(row.case.answer))
        if key in merged:
            merged[key].labels.update(row.labels)
        else:
            merged[key] = row
    found = []
    for row in merged.values():
        raters = {name: spelled(word) for name, word in row.labels.items()}
        votes = [Verdict(label, judge=name) for name, label in raters.items() if label is not None]
        label = majority(votes).label if votes else None
        found.append(Labelled(row.case, label, raters, row.model, row.where))
    return found


class Replay:
    """A judge whose verdicts stand in a file.

    Attributes:
        name: of one of the file's judges.
    """

    def __init__(self, file: VerdictFile, judge: str) -> None:
        if judge not in file.judges:
            raise unknown(f"judge in {file.path}", judge, file.judges)
        self.name = judge
        self._said: dict[tuple[str, str], list[tuple[str, Row]]] = defaultdict(list)
        for row in file.rows:
            if judge in row.labels:
                key = (same(row.case.question), same(row.case.claim))
                self._said[key].append((same(row.case.answer), row))

    async def verdict(self, case: Case) -> Verdict:
        """The file's first verdict on this claim and answer."""
        return self.look_up(case)

    def look_up(self, case: Case) -> Verdict:
        """The file's first verdict on this claim and answer, without waiting."""
        rows = self.rows(case)
        if not rows:
            known = (same(case.question), same(case.claim)) in self._said
            return Verdict(None, "other_answer" if known else "missing", self.name)
        return self.of_row(rows[0])

    def of_row(self, row: Row) -> Verdict:
        """The verdict that one of the judge's rows holds; a row without a label says why in `reason`."""
        word = row.labels[self.name]
        label = spelled(word)
        if label is not None:
            return Verdict(label, "", self.name, row.raw, row.score)
        told = str(row.record.data.get("reason") or "")
        reason = told if told in REASONS else "unknown_label" if word else "missing"
        return Verdict(None, reason, self.name, row.raw or word)

    def rows(self, case: Case) -> list[Row]:
        """All rows on this claim and answer: the first is the verdict, others are repetitions of the judgement."""
        answer = same(case.answer)
        said = self._said.get((same(case.question), same(case.claim)), [])
        return [row for given, row in said if given in ("", answer)]


def unmatched(file: VerdictFile, items: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rows that speak of no item's question, or of no claim of it, one line each.

    Args:
        items: as in `Sample.metadata["item"]`.

    Raises:
        MedbenchError: no row of the file matches.
    """
    claims = {
        same(item["question"]): {same(claim) for claim in (*item["must_have"], *item["nice_to_have"])} for item in items
    }
    # Verdicts on an answer by another question's claims are there for the floor: they name that other question.
    lines = []
    for row in file.rows:
        known = claims.get(same(row.case.question))
        if known is None:
            lines.append(f"{row.where}: no item asks {row.case.question!r:.80}")
        elif same(row.case.claim) not in known:
            lines.append(f"{row.where}: not a claim of its question: {row.case.claim!r:.80}")
    if len(lines) == len(file.rows):
        raise MedbenchError(
            f"{file.path}: none of its {len(lines)} verdicts speaks of a claim of these items; the first: {lines[0]}. "
            "Name the items' own file with -T source=, or the verdicts' own with -T verdicts=."
        )
    return lines


def listed(lines: Sequence[str]) -> list[str]:
    """The first `LISTED` lines, and how many more there are."""
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [*lines[:LISTED], *more]
