"""7e. Does the conclusion survive other readings of the same outputs: views, profiles, extractors, and abstentions?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap.labels import METRICS, SURFACE, SURFACE_VIEWS, VIEWS, common_candidates
from medbench.reports.page import Cell, Column, Section, Table, names, show
from medbench.reports.sources import Sources
from medbench.scoring.extractors import EXTRACTORS

PROFILES = {"": "standard", "_llamafactory": "paper's"}
ANSWERS = {
    "accuracy": "abstention is wrong",
    "answered_accuracy": "abstentions left out",
    "accuracy_best": "abstention is right",
}
OWN = "medbench"
# A rule that finds an answer in fewer outputs than this was written for another prompt; what it says is set apart.
_READS_FROM = 0.5


@dataclass(frozen=True)
class Reading:
    """One way to read the same outputs, and whom it chooses.

    Attributes:
        family: ``surface`` or ``accuracy``.
        label: the reading in words.
        estimate: of the candidates that all readings of the family share, among others.
        winners: those with the highest value; empty where all have the same.
    """

    family: str
    label: str
    estimate: Estimate
    winners: tuple[str, ...]


def section(analysis: Analysis, sources: Sources) -> Section:
    """The winner under every reading, the share of readings that keep it, and accuracy by extractor."""
    found = Section("robustness", "Robustness of the conclusion")
    surface_task = next(iter(analysis.surface_tasks), None)
    accuracy_task = next(iter(analysis.choice_tasks), None)
    surface = _surface_readings(analysis, surface_task)
    accuracy, extractors = _accuracy_readings(analysis, accuracy_task)
    if len(surface) < 2 and len(accuracy) + len(extractors) < 2:
        found.missing = "Needs two candidates scored under several views; medbench's own scorers log them all."
        return found
    if accuracy_task and extractors:
        shares = {e: _answered(analysis, accuracy_task, e) for e in sorted({e for e, _ in extractors})}
        weak = [e for e in _in_order(shares) if shares[e].estimate < _READS_FROM]
        found.findings += _grid_sentences(surface, accuracy, extractors, weak)
        found.findings += _spread_sentences(extractors, weak, accuracy_task)
        found.tables += [
            _rule_table(accuracy_task, extractors, shares),
            _candidate_table(accuracy_task, extractors, _in_order(shares)),
        ]
    for readings, called in ((list(surface.values()), "surface metrics"), (list(accuracy.values()), "accuracy")):
        if readings:
            found.findings.append(_family_sentence(readings, called))
    rows = [_row(reading) for reading in (*surface.values(), *accuracy.values())]
    rows += [_row(reading) for (extractor, _), reading in extractors.items() if extractor != OWN]
    found.tables.append(
        Table(
            "Winner under each reading",
            [Column("Family"), Column("Reading"), Column("Winner"), Column("Not told apart from it")],
            rows,
        )
    )
    found.notes.append(
        "All readings judge the same stored generations, so they are not independent evidence: the share says how much "
        "the choice of reading matters, not how sure the conclusion is. A winner stays the winner where no candidate "
        "scores higher; a reading under which all score the same keeps nothing."
    )
    return found


def _winners(estimate: Estimate, shared: Sequence[str]) -> tuple[str, ...]:
    values = np.array([estimate.value(name) for name in shared])
    top = values >= values.max() - 1e-9
    return () if top.all() and len(shared) > 1 else tuple(name for name, here in zip(shared, top, strict=True) if here)


def _readings(analysis: Analysis, task: str | None, family: str, keys: Sequence[tuple[str, str]]) -> dict[str, Reading]:
    """key -> reading, for those keys that were logged for two candidates or more."""
    if task is None:
        return {}
    known = []
    for key, label in keys:
        estimate = analysis.estimators[task].estimate(key)
        if estimate is not None and len(estimate.candidates) > 1:
            known.append((key, label, estimate))
    shared = common_candidates(analysis, *[estimate for *_, estimate in known]) if known else []
    if len(shared) < 2:
        return {}
    return {key: Reading(family, f"{task}: {label}", e, _winners(e, shared)) for key, label, e in known}


def _surface_readings(analysis: Analysis, task: str | None) -> dict[str, Reading]:
    keys = [
        (f"{metric}{profile}/{view}", f"{METRICS[metric]}, {PROFILES[profile]}, {VIEWS[view]}")
        for metric, profile, view in product(SURFACE, PROFILES, SURFACE_VIEWS)
    ]
    return _readings(analysis, task, "surface", keys)


def _accuracy_readings(
    analysis: Analysis, task: str | None
) -> tuple[dict[str, Reading], dict[tuple[str, str], Reading]]:
    """Readings by abstention and view, and readings by (extractor, view) with abstentions as wrong."""
    keys = [
        (f"{metric}/{view}", f"{ANSWERS[metric]}, {VIEWS[view]}") for metric, view in product(ANSWERS, SURFACE_VIEWS)
    ]
    keys += [
        (f"accuracy_{name}/{view}", f"{name}'s extractor, {VIEWS[view]}")
        for name, view in product(EXTRACTORS, SURFACE_VIEWS)
    ]
    read = _readings(analysis, task, "accuracy", keys)
    own = {key: reading for key, reading in read.items() if key.split("/")[0] in ANSWERS}
    by_rule: dict[tuple[str, str], Reading] = {}
    for name, view in product((OWN, *EXTRACTORS), SURFACE_VIEWS):
        key = f"accuracy/{view}" if name == OWN else f"accuracy_{name}/{view}"
        if key in read:
            by_rule[name, view] = read[key]
    # Without another harness's rule there is nothing to compare medbench's own with.
    return own, by_rule if any(name != OWN for name, _ in by_rule) else {}


def _in_order(extractors: object) -> list[str]:
    return [name for name in (OWN, *EXTRACTORS) if name in extractors]  # type: ignore[operator]


def _answered(analysis: Analysis, task: str, extractor: str) -> stats.Interval:
    """Share of outputs in which a rule finds an answer, over all candidates."""
    key = "answered/answer" if extractor == OWN else f"answered_{extractor}/answer"
    table = analysis.study.tables[task]
    if not table.has(key):
        return stats.Interval(*[float("nan")] * 3)
    return _over_candidates(table.item_means(key), table.clusters, analysis.options.confidence)


def _over_candidates(values: np.ndarray, clusters: np.ndarray | None, confidence: float) -> stats.Interval:
    """The mean over candidates of item means, shape (candidates, n): an item counts once, whoever answered it."""
    known = np.isfinite(values).any(axis=0)
    means = np.nanmean(values[:, known], axis=0)
    return stats.rate(means, None if clusters is None else clusters[known], confidence=confidence)


def _mean_accuracy(estimate: Estimate) -> Cell:
    if estimate.item_values is None:
        return None
    return _over_candidates(estimate.item_values, estimate.clusters, estimate.options.confidence)


def _grid_sentences(
    surface: dict[str, Reading],
    accuracy: dict[str, Reading],
    extractors: dict[tuple[str, str], Reading],
    weak: Sequence[str],
) -> list[str]:
    """How many of views x profiles x extractors keep what the headline says."""
    first_surface, first_accuracy = surface.get("bleu4/raw"), accuracy.get("accuracy/answer")
    if not (first_surface and first_accuracy and first_surface.winners and first_accuracy.winners):
        return []
    by_surface, by_accuracy = first_surface.winners[0], first_accuracy.winners[0]
    names_of = _in_order({name for name, _ in extractors})

    def kept(allowed: Sequence[str]) -> tuple[int, int, int, int]:
        cells = [
            (by_surface in surface[f"bleu4{profile}/{view}"].winners, by_accuracy in extractors[name, view].winners)
            for view, profile, name in product(SURFACE_VIEWS, PROFILES, allowed)
            if f"bleu4{profile}/{view}" in surface and (name, view) in extractors
        ]
        return len(cells), sum(s for s, _ in cells), sum(a for _, a in cells), sum(s and a for s, a in cells)

    total, surfaces, accuracies, both = kept(names_of)
    if not total:
        return []
    views = len({view for _, view in extractors})
    profiles = len({key.split("/")[0] for key in surface if key.startswith("bleu4")})
    said = [
        f"Under {views} views × {profiles} BLEU profiles × {len(names_of)} extractors, {total} readings, BLEU-4 still "
        f"chooses {by_surface} in {show(surfaces / total, 'share')}, accuracy still chooses {by_accuracy} in "
        f"{show(accuracies / total, 'share')}, and both stay as they are in {show(both / total, 'share')}."
    ]
    reading = [name for name in names_of if name not in weak]
    if weak and reading:
        total, surfaces, accuracies, both = kept(reading)
        said.append(
            f"{names(weak, 5)} {'finds' if len(weak) == 1 else 'find'} an answer in fewer than half of these outputs, "
            f"because they state it in another way. Without {'it' if len(weak) == 1 else 'them'}, {total} readings are "
            f"left: accuracy's choice stays in {show(accuracies / total, 'share')} of them, both choices in "
            f"{show(both / total, 'share')}."
        )
    return said


def _spread_sentences(extractors: dict[tuple[str, str], Reading], weak: Sequence[str], task: str) -> list[str]:
    """By how many points extractors that can read these outputs put one candidate's accuracy apart."""
    used = {name: r.estimate for (name, view), r in extractors.items() if view == "answer" and name not in weak}
    if len(used) < 2:
        return []
    shared = [name for name in next(iter(used.values())).candidates if all(name in e.candidates for e in used.values())]
    spread = {}
    for candidate in shared:
        values = {name: estimate.value(candidate) for name, estimate in used.items()}
        low, high = min(values, key=lambda n: values[n]), max(values, key=lambda n: values[n])
        spread[candidate] = (values[high] - values[low], low, values[low], high, values[high])
    widest = max(spread, key=lambda name: spread[name][0])
    gap, low, least, high, most = spread[widest]
    mean = sum(entry[0] for entry in spread.values()) / len(spread)
    if gap == 0:
        return [f"On {task} all extractors that can read these outputs give every candidate the same accuracy."]
    return [
        f"On {task} the extractor alone moves the accuracy of {widest} by {100 * gap:.1f} points, from "
        f"{show(least, 'rate')} ({low}) to {show(most, 'rate')} ({high}); on average over candidates by "
        f"{100 * mean:.1f} points."
    ]


def _rule_table(task: str, extractors: dict[tuple[str, str], Reading], shares: dict[str, stats.Interval]) -> Table:
    rows: list[list[Cell]] = []
    for name in _in_order(shares):
        reading = extractors.get((name, "answer"))
        if reading is None:
            continue
        extractor = EXTRACTORS.get(name)
        rows.append(
            [
                name,
                extractor.reads if extractor else "what the sentence states, by letter or by the option's text",
                extractor.follows if extractor else "medbench.answers, the extractor of every other section",
                shares[name],
                _mean_accuracy(reading.estimate),
                names(reading.winners) if reading.winners else "all the same",
            ]
        )
    return Table(
        f"Extractors on {task} (answer only)",
        [
            Column("Extractor"),
            Column("Takes as the answer"),
            Column("Whose rule"),
            Column("Answer found", "rate", "share of all candidates' outputs"),
            Column("Mean accuracy", "rate", "over candidates; no answer is wrong"),
            Column("Winner"),
        ],
        rows,
    )


def _candidate_table(task: str, extractors: dict[tuple[str, str], Reading], order: Sequence[str]) -> Table:
    estimates = {name: extractors[name, "answer"].estimate for name in order if (name, "answer") in extractors}
    rows: list[list[Cell]] = []
    for candidate in next(iter(estimates.values())).candidates:
        values = {
            n: e.intervals[e.index(candidate)] if candidate in e.candidates else None for n, e in estimates.items()
        }
        rows.append([candidate, *values.values()])
    return Table(
        f"Accuracy on {task} by extractor (answer only)",
        [
            Column("Candidate"),
            *[
                Column(name, "rate", EXTRACTORS[name].reads if name in EXTRACTORS else "medbench's own extractor")
                for name in estimates
            ],
        ],
        rows,
    )


def _family_sentence(readings: Sequence[Reading], called: str) -> str:
    first = next((reading.winners[0] for reading in readings if reading.winners), None)
    if first is None:
        return f"Under {len(readings)} readings of {called} all candidates score the same."
    kept = sum(first in reading.winners for reading in readings)
    others = sorted({reading.winners[0] for reading in readings if reading.winners and first not in reading.winners})
    text = f"Among {len(readings)} readings of {called}, {first} wins in {kept} ({show(kept / len(readings), 'share')})"
    return f"{text}; the others choose {names(others)}." if others else f"{text}."


def _row(reading: Reading) -> list[Cell]:
    estimate = reading.estimate
    if not reading.winners:
        return [reading.family, reading.label, "all the same", "–"]
    tied = [name for name in estimate.tied_with(reading.winners[0]) if name not in reading.winners]
    return [reading.family, reading.label, names(reading.winners), names(tied or ["–"])]
