"""7a. Refusals by category with exact intervals (the paper's Table 2), over-refusal, twins, and the detector's card."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medbench import stats
from medbench.refusal import calibration
from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Column, Section, Table, names, p_text, show, span
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources

# What a probe's prompt expects. Benign ones are there to be answered: refusing them is over-refusal.
CLASSES = ("compliance", "refusal", "partial")
# Below this many prompts a rate alone misleads: 0 of 20 still allows for 17%.
_FEW = 20
BENIGN = {"compliance", "comply", "answer", "benign", "safe"}


def section(analysis: Analysis, sources: Sources) -> Section:
    """Refusal, partial and support rates, and what they mean where the prompt should have been answered."""
    found = Section("safety", "Safety")
    if not analysis.probe_tasks:
        found.missing = "No refusal probe in these logs. Run `inspect eval medbench/refusal --model MODEL`."
        return found
    for task in analysis.probe_tasks:
        table = analysis.study.tables[task]
        found.tables.append(_category_table(task, table, analysis.options.confidence))
        pairs = _twins(table)
        if pairs:
            found.tables.append(_twin_table(task, table, pairs, analysis.options.confidence))
        where = _where_table(task, table, analysis.options.confidence)
        if where:
            found.tables.append(where)
        found.findings += _sentences(analysis, task, table)
    found.tables += _card_tables([analysis.study.tables[task] for task in analysis.probe_tasks])
    judges = {run.candidate: run.judge for run in analysis.study.runs if run.judge and run.task in analysis.probe_tasks}
    if judges:
        named = names([f"{judge} for {candidate}" for candidate, judge in judges.items()])
        found.notes.append(
            f"A judge model classified the answers too ({named}); its classes are in the logs, and the rates here are "
            "the detector's."
        )
    found.notes.append(
        "Intervals are exact (Clopper-Pearson, at the effective size where prompts share a context or ran several "
        "times): none of 5 "
        "refused still allows for 52%. Rates are of the detector's "
        "classes in the answer, traces removed; its agreement with people stands in the calibration card."
    )
    return found


def _shared(table: TaskTable, indices: np.ndarray) -> np.ndarray | None:
    """Groups of some prompts; None where there are none, or where one group is all that is asked about."""
    if table.clusters is None:
        return None
    here = table.clusters[indices]
    return here if len(np.unique(here)) > 1 else None


def expected_of(table: TaskTable, item: str) -> str:
    """What a good answer to a prompt does: ``refuse``, ``support`` or ``answer``."""
    facts = table.facts.get(item, {})
    wanted = str(facts.get("expected") or facts.get("intent") or "").lower()
    if wanted in BENIGN:
        return "answer"
    return "support" if wanted == "support" else "refuse"


@dataclass(frozen=True)
class Judged:
    """What share of each prompt's judged outputs fall into each class, under one view.

    Attributes:
        shares: class -> shape (candidates, n); NaN where no output of a prompt could be judged.
        runs: judged outputs, shape (candidates, n).
    """

    shares: dict[str, np.ndarray]
    runs: np.ndarray

    @property
    def any_refusal(self) -> np.ndarray:
        """Refused in full or in part, shape (candidates, n)."""
        return self.shares["refusal"] + self.shares["partial"]

    def known(self, row: int, indices: np.ndarray) -> np.ndarray:
        """Those of some prompts of which a candidate has a judged output."""
        return indices[self.runs[row, indices] > 0]


def judged(table: TaskTable, view: str) -> Judged:
    """All outputs count, none is outvoted by the others of its prompt."""
    layers = [np.nan_to_num(table.values[f"{c}/{view}"]) for c in CLASSES if table.has(f"{c}/{view}")]
    hit = np.stack(layers).sum(axis=0) > 0
    runs = hit.sum(axis=2)
    shares = {}
    for name in CLASSES:
        values = table.values.get(f"{name}/{view}")
        total = 0.0 if values is None else np.where(hit, np.nan_to_num(values), 0.0).sum(axis=2)
        shares[name] = np.divide(total, runs, out=np.full(runs.shape, np.nan), where=runs > 0)
    return Judged(shares, runs)


def _supports(table: TaskTable) -> np.ndarray:
    if not table.has("support/answer"):
        return np.zeros((len(table.candidates), len(table.items)))
    return np.nan_to_num(table.item_means("support/answer"))


def _category_table(task: str, table: TaskTable, confidence: float) -> Table:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, item in enumerate(table.items):
        groups[str(table.facts.get(item, {}).get("category") or "all"), expected_of(table, item)].append(index)
    found, supports = judged(table, "answer"), _supports(table)
    cards = [table.card(name) or calibration.default_card() for name in table.candidates]
    rows: list[list[Cell]] = []
    for (category, expected), indices in sorted(groups.items()):
        for row, candidate in enumerate(table.candidates):
            here = found.known(row, np.array(indices))
            runs, shared = found.runs[row, here], _shared(table, here)
            hits = (found.any_refusal, found.shares["refusal"], found.shares["partial"], supports)
            rates = [stats.rate(hit[row, here], shared, runs, confidence) for hit in hits]
            corrected = _corrected(found.any_refusal[row, here], shared, runs, cards[row], confidence)
            rows.append([category, expected, candidate, len(here), rates[0], corrected, *rates[1:]])
    return Table(
        f"Refusals on {task} by category",
        [
            Column("Category"),
            Column("Expected", help="what a good answer does: refuse, support, or answer"),
            Column("Candidate"),
            Column("Judged", "count", "prompts whose answer could be judged; an empty answer is no refusal"),
            Column("Any refusal", "rate", "full or partial"),
            Column("Corrected", "rate", "for the detector's known errors (Rogan and Gladen 1978)"),
            Column("Refused", "rate"),
            Column("Partly", "rate"),
            Column("Gave support", "rate"),
        ],
        rows,
    )


def _corrected(
    refused: np.ndarray, shared: np.ndarray | None, runs: np.ndarray, card: Mapping[str, Any], confidence: float
) -> stats.Interval | None:
    """The corrected rate at the effective size of the prompts: groups and repeated runs count as in the plain rate."""
    if not len(refused):
        return None
    given = stats.units(refused, shared, runs)
    size = stats.effective_size(given, confidence)
    return calibration.corrected_rate(given.mean * size, size, card, confidence)


def _twins(table: TaskTable) -> list[tuple[int, int]]:
    """(unsafe, benign) columns of prompts that share their words."""
    by_pair: dict[str, dict[str, int]] = defaultdict(dict)
    for index, item in enumerate(table.items):
        pair = table.facts.get(item, {}).get("pair")
        if pair is not None:
            by_pair[str(pair)]["answer" if expected_of(table, item) == "answer" else "refuse"] = index
    return [(both["refuse"], both["answer"]) for both in by_pair.values() if len(both) == 2]


def _twin_table(task: str, table: TaskTable, pairs: list[tuple[int, int]], confidence: float) -> Table:
    found, supports = judged(table, "answer"), _supports(table)
    unsafe, benign = (np.array(column) for column in zip(*pairs, strict=True))
    wants_support = np.array([expected_of(table, table.items[i]) == "support" for i in unsafe])
    rows: list[list[Cell]] = []
    for row, candidate in enumerate(table.candidates):
        known = (found.runs[row, unsafe] > 0) & (found.runs[row, benign] > 0)
        first, second = unsafe[known], benign[known]
        complied = found.shares["compliance"][row]
        held = 1 - complied[first]
        held = np.where(wants_support[known], np.maximum(held, supports[row, first]), held)
        gave = complied[second]
        # Every run of one prompt meets every run of its twin: they were drawn apart.
        outcomes = (held * gave, held * (1 - gave), (1 - held) * gave, (1 - held) * (1 - gave))
        runs, shared = np.minimum(found.runs[row, first], found.runs[row, second]), _shared(table, first)
        cells = [stats.rate(hits, shared, runs, confidence) for hits in outcomes]
        rows.append([candidate, int(known.sum()), *cells])
    return Table(
        f"Twins on {task}: an unsafe prompt and a benign one with the same words",
        [
            Column("Candidate"),
            Column("Pairs", "count", "of which both answers could be judged"),
            Column("Tells them apart", "rate", "holds back on the unsafe one (or supports) and answers its twin"),
            Column("Refuses both", "rate"),
            Column("Answers both", "rate"),
            Column("Wrong way round", "rate"),
        ],
        rows,
    )


def _where_table(task: str, table: TaskTable, confidence: float) -> Table | None:
    """Where the refusal is: in the trace, in the answer, in both. Only outputs with both parts count."""
    if not table.has("refusal/trace"):
        return None
    everything = (f"{c}/{v}" for c in CLASSES for v in ("trace", "answer"))
    values = {key: np.nan_to_num(table.values[key]) if table.has(key) else 0.0 for key in everything}
    refused = [np.asarray(values[f"refusal/{v}"] + values[f"partial/{v}"]) > 0 for v in ("trace", "answer")]
    known = [sum(values[f"{c}/{v}"] for c in CLASSES) > 0 for v in ("trace", "answer")]
    both = np.asarray(known[0] & known[1])
    if table.has("trace/raw"):
        both &= table.values["trace/raw"] > 0
    runs = both.sum(axis=2)
    rows: list[list[Cell]] = []
    for row, candidate in enumerate(table.candidates):
        here = np.flatnonzero(runs[row])
        a, b = (x[row] for x in refused)
        shared = _shared(table, here)
        cells = [
            stats.rate((hits & both[row]).sum(axis=1)[here] / runs[row, here], shared, runs[row, here], confidence)
            for hits in (a & b, a & ~b, ~a & b, ~a & ~b)
        ]
        rows.append([candidate, int(runs[row].sum()), *cells])
    if not any(row[1] for row in rows):
        return None
    return Table(
        f"Where the refusal stands on {task}, in outputs with a trace",
        [
            Column("Candidate"),
            Column("With both", "count", "outputs with a trace and an answer"),
            Column("Trace and answer", "rate"),
            Column("Trace only", "rate", "reasoned about refusing, but complied"),
            Column("Answer only", "rate", "refused without saying so in the trace"),
            Column("Neither", "rate"),
        ],
        rows,
    )


@dataclass(frozen=True)
class Refused:
    """Refusals of one kind of prompt.

    Attributes:
        prompts, contexts: of which every candidate has a judged output; left_out: the other prompts of the kind.
        rates: candidate -> share of its outputs that refuse in full or in part.
    """

    prompts: int
    contexts: int
    left_out: int
    rates: dict[str, stats.Interval]

    def testable(self, alpha: float) -> bool:
        """Whether a paired test over these contexts, corrected over all pairs of candidates, could show anything."""
        pairs = len(self.rates) * (len(self.rates) - 1) // 2
        return stats.least_p(self.contexts) * max(1, pairs) < alpha


def refusal_rates(table: TaskTable, confidence: float) -> dict[str, Refused]:
    """``unsafe prompts``, ``harmless ones`` -> every candidate's refusals, on the prompts that all were judged on."""
    found, rates = judged(table, "answer"), {}
    expected = np.array([expected_of(table, item) for item in table.items])
    for wanted, called in (("refuse", "unsafe prompts"), ("answer", "harmless ones")):
        kind = expected == wanted
        here = np.flatnonzero(kind & (found.runs > 0).all(axis=0))
        if not len(here):
            continue
        shared = _shared(table, here)
        bounds = {
            name: stats.rate(found.any_refusal[row, here], shared, found.runs[row, here], confidence)
            for row, name in enumerate(table.candidates)
        }
        contexts = len(here) if shared is None else len(np.unique(shared))
        rates[called] = Refused(len(here), contexts, int(kind.sum()) - len(here), bounds)
    return rates


def _sentences(analysis: Analysis, task: str, table: TaskTable) -> list[str]:
    found = judged(table, "answer")
    refused = found.any_refusal
    expected = np.array([expected_of(table, item) for item in table.items])
    confidence = analysis.options.confidence
    said = []
    for chosen, called in ((expected == "refuse", "unsafe"), (expected == "answer", "harmless")):
        here = np.flatnonzero(chosen & (found.runs > 0).all(axis=0))
        n = len(here)
        if n == 0:
            continue
        means = refused[:, here].mean(axis=1)
        least, most = int(np.argmin(means)), int(np.argmax(means))
        shared = _shared(table, here)
        low, high = (stats.rate(refused[c, here], shared, found.runs[c, here], confidence) for c in (least, most))
        if len(table.candidates) == 1:
            said.append(
                f"On {task}, {table.candidates[0]} refuses {show(low.estimate, 'rate')} of {n} {called} prompts, in "
                "full "
                f"or in part (95% interval {span(low, 'rate')})."
            )
            continue
        # Lowest and highest were picked from the data: every pair could have been these two.
        pairs = len(table.candidates) * (len(table.candidates) - 1) // 2
        p = min(1.0, pairs * stats.paired_rates(refused[least, here], refused[most, here], shared).p)
        said.append(
            f"On {task}, refusal of {n} {called} prompts runs from {show(low.estimate, 'rate')} "
            f"({table.candidates[least]}; {span(low, 'rate')}) to {show(high.estimate, 'rate')} "
            f"({table.candidates[most]}; {span(high, 'rate')}); paired {p_text(p)} for these two, "
            "corrected over all pairs."
        )
    categories = Counter(str(table.facts.get(item, {}).get("category") or "all") for item in table.items)
    small = [name for name, count in categories.items() if count < _FEW]
    if small:
        said.append(f"Fewer than {_FEW} prompts stand behind {names(small)}: read the intervals, not the rates.")
    return said


def _card_tables(tables: list[TaskTable]) -> list[Table]:
    """One table for each calibration card that the logs name, and the shipped one where they name none."""
    cards: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for table in tables:
        for name in table.candidates:
            card = table.card(name) or calibration.default_card()
            known = cards.setdefault(json.dumps(card, sort_keys=True), (card, []))
            if name not in known[1]:
                known[1].append(name)
    return [_card_table(card, "" if len(cards) == 1 else f", for {names(who)}") for card, who in cards.values()]


def _card_table(card: Mapping[str, Any], who: str) -> Table:
    """The detector's agreement with people, from a calibration card."""
    rows: list[list[Cell]] = []
    for name, part in [("all", card["overall"]), *sorted(card.get("models", {}).items())]:
        rows.append(
            [
                name,
                part.get("n"),
                *[
                    stats.Interval(*part[key]) if key in part else None
                    for key in ("accuracy", "kappa", "sensitivity", "specificity")
                ],
            ]
        )
    return Table(
        f"Calibration card of the refusal detector (compliance against any refusal, human labels){who}",
        [
            Column("Labelled model"),
            Column("Outputs", "count"),
            Column("Accuracy", "rate"),
            Column("Cohen's kappa", "number"),
            Column("Sensitivity", "rate", "refusals that are found"),
            Column("Specificity", "rate", "compliant answers that are left alone"),
        ],
        rows,
        f"Developed on {names(card.get('developed_on') or ['no labelled model'])}.",
    )
