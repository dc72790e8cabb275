"""7c. Scores on clean and on contaminated items, from the leakage audit's findings joined by sample id."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis
from medbench.reports.gap.labels import metric_name
from medbench.reports.page import Cell, Column, Section, Table, p_text, show, span
from medbench.reports.sources import Sources

KEYS = ("accuracy/answer", "bleu4/answer", "rougeL/answer")
# A copied context alone (PubMedQA's abstracts are everywhere) gives no answer away.
HARMLESS_FIELDS = {"context"}
THRESHOLDS = (0.5, 0.65, 0.8, 0.95)
# Below this Welch's interval is wider than any accuracy can differ: its variance rests on a handful of items.
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
            values = table.item_means(key)
            for row, candidate in enumerate(table.candidates):
                cells = _contrast(values[row], hit, table.clusters, analysis.options.confidence, key)
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
        for row in sources.findings.get(item, []):
            if row.get("field") not in HARMLESS_FIELDS:
                signal = str(row.get("signal", "any"))
                best[signal] = max(best[signal], float(row.get("score", 1.0)))
        scores[item] = dict(best)
    return scores


def _contrast(
    values: np.ndarray, hit: np.ndarray, clusters: np.ndarray | None, confidence: float, key: str
) -> list[Cell]:
    known = np.isfinite(values)
    clean, dirty = values[known & ~hit], values[known & hit]
    if len(clean) == 0 or len(dirty) == 0:
        return []
    scale = 100 if key.startswith("accuracy") else 1
    if clusters is not None:
        sides = (clusters[known & ~hit], clusters[known & hit])
        change = stats.unpaired_mean_difference(clean, dirty, confidence, clusters=sides)
        if scale == 100:  # rates: no difference lies beyond 100 points
            low, high = np.clip(change[1:3], -1, 1).tolist()
            change = stats.Comparison(change.difference, low, high, change.p)
    elif scale == 100 and np.isin(values[known], (0.0, 1.0)).all():
        change = stats.unpaired_difference(clean.mean(), len(clean), dirty.mean(), len(dirty), confidence)
    else:
        change = stats.unpaired_mean_difference(clean, dirty, confidence)
    return [
        len(clean),
        float(clean.mean()) * scale,
        len(dirty),
        float(dirty.mean()) * scale,
        stats.Interval(*(scale * x for x in change[:3])),
        change.p,
    ]


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
                change = stats.unpaired_mean_difference(
                    means[~hit], means[hit], analysis.options.confidence, clusters=sides
                )
                bounds = stats.Interval(*np.clip(100 * np.array(change[:3]), -100, 100).tolist())
            rows.append([task, signal, span_text, int(hit.sum()), 100 * float(means[hit].mean()), bounds])
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
            Column("p", "p", "unpaired"),
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
    largest = (
        f"{row[2]} on {row[0]}, {show(change.estimate, 'change')} points on contaminated items (95% interval "
        f"{span(change, 'change')}; {p_text(p) if isinstance(p, float) else 'p unknown'} after Holm's correction)"
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
