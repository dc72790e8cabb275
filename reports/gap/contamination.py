"""7c. Scores on clean and on contaminated items, from the leakage audit's findings joined by sample id."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap.labels import metric_name
from medbench.reports.page import Cell, Column, Section, Table, p_text, show, span
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources
from medbench.sources.items import asked_id

KEYS = ("accuracy/answer", "bleu4/answer", "rougeL/answer")
# A copied context alone (PubMedQA's abstracts are everywhere) gives no answer away.
HARMLESS_FIELDS = {"context"}
THRESHOLDS = (0.5, 0.65, 0.8, 0.95)
# With fewer items (or contexts) on a side no test is made: what one or two of them do is not a pattern.
FEWEST = 5


def section(analysis: Analysis, sources: Sources) -> Section:
    """Clean against contaminated items per candidate and task, and per signal and threshold."""
    found = Section("contamination", "Contamination")
    if sources.findings is None:
        found.missing = "No audit was given. Run `medbench audit CORPUS --against TASK --out DIR` and pass --audit DIR."
        return found
    rows: list[list[Cell]] = []
    doses: list[list[Cell]] = []
    for task, table in analysis.study.tables.items():
        scores = _signal_scores(sources, table.items)
        hit = np.array([bool(scores[item]) for item in table.items])
        found.findings.append(_count_sentence(task, int(hit.sum()), len(hit)))
        if not hit.any():
            continue
        for key in KEYS:
            if not table.has(key):
                continue
            for row, candidate in enumerate(table.candidates):
                cells = _contrast(table, row, hit, analysis.options, key)
                if cells:
                    rows.append([task, metric_name(key), candidate, *cells])
        doses += _doses(analysis, task, scores)
    if rows:
        adjusted = stats.holm([float(row[-1]) if isinstance(row[-1], float) else np.nan for row in rows])
        rows = [[*row, float(value)] for row, value in zip(rows, adjusted, strict=True)]
        found.tables.append(_table(rows))
        found.findings += _sentences(rows)
    if doses:
        found.tables.append(_dose_table(doses))
    found.notes.append(
        "Contaminated: a finding in any field but the context alone. Items are not drawn at random into the two "
        "groups: "
        "a difference shows that they differ, not that leakage is why. BLEU here is the mean of per-item scores."
    )
    return found


def _signal_scores(sources: Sources, items: list[str]) -> dict[str, dict[str, float]]:
    """The highest score of each signal per item."""
    assert sources.findings is not None
    scores: dict[str, dict[str, float]] = {}
    for item in items:
        best: dict[str, float] = defaultdict(float)
        for row in sources.findings.get(asked_id(item), []):
            if row.get("field") not in HARMLESS_FIELDS:
                signal = str(row.get("signal", "any"))
                best[signal] = max(best[signal], float(row.get("score", 1.0)))
        scores[item] = dict(best)
    return scores


def _contrast(table: TaskTable, row: int, hit: np.ndarray, options: Options, key: str) -> list[Cell]:
    """Sizes, scores, difference and p of one candidate; no test where either side has fewer than `FEWEST` units."""
    values, runs = table.item_means(key)[row], table.runs_per_item(key)[row]
    known = np.isfinite(values)
    sides = [known & ~hit, known & hit]
    if not all(side.any() for side in sides):
        return []
    clean, dirty = (values[side] for side in sides)
    clusters = None if table.clusters is None else (table.clusters[sides[0]], table.clusters[sides[1]])
    scale = 100 if key.startswith("accuracy") else 1
    p = float("nan")
    enough = min(len(np.unique(c)) for c in clusters or (np.arange(len(clean)), np.arange(len(dirty)))) >= FEWEST
    sides_of = (None, None) if clusters is None else clusters
    if scale == 100:
        counts = (runs[sides[0]], runs[sides[1]])
        change = stats.rate_difference(clean, dirty, clusters=clusters, runs=counts, confidence=options.confidence)
        scores = [
            stats.rate(x, own, count, options.confidence)
            for x, own, count in zip((clean, dirty), sides_of, counts, strict=True)
        ]
        if enough:
            rng = np.random.default_rng(options.seed)
            contexts = None if table.clusters is None else table.clusters[known]
            p = stats.label_p(values[known], hit[known], rng, contexts)
    else:
        found = stats.unpaired_mean_difference(clean, dirty, options.confidence, clusters=clusters)
        change = stats.Interval(*found[:3]) if enough else stats.Interval(found.difference, float("nan"), float("nan"))
        p = found.p if enough else p
        scores = [
            stats.bounded_mean(x, 100.0, own, options.confidence)
            for x, own in zip((clean, dirty), sides_of, strict=True)
        ]
    if p >= options.alpha:
        change = stats.Interval(change.estimate, min(change.low, 0.0), max(change.high, 0.0))
    first, second, shown = (stats.Interval(*(scale * x for x in bounds)) for bounds in (*scores, change))
    return [len(clean), first, len(dirty), second, shown, p]


def _doses(analysis: Analysis, task: str, scores: dict[str, dict[str, float]]) -> list[list[Cell]]:
    """Accuracy by signal and threshold, over all candidates' item means."""
    table = analysis.study.tables[task]
    if not table.has("accuracy/answer"):
        return []
    means = np.nanmean(table.item_means("accuracy/answer"), axis=0)
    rows: list[list[Cell]] = []
    for signal in sorted({name for found in scores.values() for name in found}):
        # Thresholds that the same items reach are one row.
        reached: dict[bytes, list[float]] = defaultdict(list)
        for threshold in THRESHOLDS:
            reached[np.array([scores[item].get(signal, 0.0) >= threshold for item in table.items]).tobytes()].append(
                threshold
            )
        for packed, thresholds in reached.items():
            hit = np.frombuffer(packed, dtype=bool)
            if not hit.any() or hit.all():
                continue
            span_text = f"{thresholds[0]:g}" if len(thresholds) == 1 else f"{thresholds[0]:g} to {thresholds[-1]:g}"
            bounds: Cell = "too few"
            if min(hit.sum(), (~hit).sum()) >= FEWEST:
                sides = None if table.clusters is None else (table.clusters[~hit], table.clusters[hit])
                change = stats.rate_difference(
                    means[~hit], means[hit], clusters=sides, confidence=analysis.options.confidence
                )
                bounds = stats.Interval(*(100 * x for x in change))
            own = None if table.clusters is None else table.clusters[hit]
            there = stats.rate(means[hit], own, confidence=analysis.options.confidence)
            score = stats.Interval(*(100 * x for x in there))
            rows.append([task, signal, span_text, int(hit.sum()), score, bounds])
    return rows


def _table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Clean against contaminated items",
        [
            Column("Task"),
            Column("Metric"),
            Column("Candidate"),
            Column("Clean", "count"),
            Column("Score", "score", "on clean items; rates in percent"),
            Column("Contaminated", "count"),
            Column("Score there", "score"),
            Column("Difference", "change", "contaminated minus clean; rates in points"),
            Column("p", "p", f"unpaired exact test (Fisher, or flags dealt anew); none under {FEWEST} items on a side"),
            Column("p (Holm)", "p", "corrected over the rows of this table"),
        ],
        rows,
    )


def _dose_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Dose and response: mean accuracy of all candidates, by signal and threshold",
        [
            Column("Task"),
            Column("Signal"),
            Column("Threshold", help="score of the finding; thresholds that the same items reach are one row"),
            Column("Items at or above", "count"),
            Column("Accuracy there", "score", "percent"),
            Column("Against the rest", "change", f"points; no interval where either side has under {FEWEST} items"),
        ],
        rows,
    )


def _count_sentence(task: str, hit: int, total: int) -> str:
    if not hit:
        return f"{task}: the audit found none of its {total:,} items in the corpus."
    bound = stats.clopper_pearson(hit, total)
    return f"{task}: {hit:,} of {total:,} items ({show(bound.estimate, 'rate')}) occur in the audited corpus."


def _sentences(rows: list[list[Cell]]) -> list[str]:
    accuracy = [row for row in rows if row[1] == "accuracy"]
    if not accuracy:
        return []
    row = max(accuracy, key=lambda r: abs(r[7].estimate) if isinstance(r[7], stats.Interval) else 0.0)
    change, p = row[7], row[9]
    assert isinstance(change, stats.Interval)
    shown = sum(isinstance(r[9], float) and r[9] < 0.05 for r in accuracy)
    tested = isinstance(p, float) and np.isfinite(p)
    said = f"{p_text(float(p))} after Holm's correction" if tested else "too few for a test"  # type: ignore[arg-type]
    largest = (
        f"{row[2]} on {row[0]}, {show(change.estimate, 'change')} points on contaminated items (95% interval "
        f"{span(change, 'change')}; {said})"
    )
    if len(accuracy) == 1:
        return [f"Accuracy on contaminated against clean items: {largest}."]
    if not shown:
        return [
            f"For none of {len(accuracy)} accuracies, each of one candidate on one task, is a difference between "
            f"contaminated and clean items shown; the largest is that of {largest}."
        ]
    return [
        f"For {shown} of {len(accuracy)} accuracies, each of one candidate on one task, a difference between "
        f"contaminated and clean items is shown; the largest is that of {largest}."
    ]
