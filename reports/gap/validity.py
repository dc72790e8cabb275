"""5. On items that have a key and a reference text: does a higher surface score mean a right answer?"""

from __future__ import annotations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis
from medbench.reports.gap.labels import metric_name
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, show, span
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources

KEYS = ("bleu4/raw", "bleu4/answer", "rougeL/raw", "rougeL/answer")
POOLED = "all candidates"


def section(analysis: Analysis, sources: Sources) -> Section:
    """AUC of each surface metric for being right, per candidate, pooled, and within items."""
    found = Section("validity", "Same-item validity")
    for task in analysis.choice_tasks:
        table = analysis.study.tables[task]
        keys = [key for key in KEYS if table.has(key)]
        if not keys:
            continue
        rows: list[list[Cell]] = []
        for key in keys:
            rows += _rows(table, key, analysis.options.confidence)
        found.tables.append(_table(task, rows))
        found.charts.append(_chart(task, keys, rows))
        # One candidate has nothing to be pooled with: it speaks for itself.
        spoken = POOLED if len(table.candidates) > 1 else table.candidates[0]
        pooled = {str(row[1]): row for row in rows if row[0] == spoken}
        for key in keys:
            if key.endswith("/answer") and metric_name(key) in pooled:
                sentence = _sentence(task, key, pooled[metric_name(key)])
                found.findings.append(f"{sentence}{_single_sentence(rows, key)}")
    if not found.tables:
        found.missing = (
            "No task scores one output both for its answer and against a reference text. medbench/cmexam_explain and "
            "medbench/pubmedqa_long do."
        )
        return found
    found.notes.append(
        "AUC: how often a right answer scores higher than a wrong one; 0.5 is chance. Pooled over candidates it "
        "counts an "
        "item's answers together (Obuchowski's clustered variance), and still mixes easy with hard items. Within items "
        "compares only answers to the same question, which is what choosing a model by the metric relies on."
    )
    return found


def _rows(table: TaskTable, key: str, confidence: float) -> list[list[Cell]]:
    """Every output counts, those of one item (or context) together: runs of an item are not averaged first."""
    scores, labels = table.values[key], table.values["accuracy/answer"]
    scores, labels = (
        np.where(np.isin(labels, (0.0, 1.0)), scores, np.nan),
        np.where(np.isfinite(scores), labels, np.nan),
    )
    usable = np.isfinite(scores) & np.isfinite(labels)
    contexts = (
        np.arange(len(table.items)) if table.clusters is None else np.unique(table.clusters, return_inverse=True)[1]
    )
    which = np.broadcast_to(contexts[None, :, None], scores.shape)
    rows: list[list[Cell]] = []
    for row, candidate in enumerate(table.candidates):
        here = usable[row]
        if here.any():
            area = stats.auc(scores[row][here], labels[row][here], which[row][here], confidence)
            within = (
                _within(scores[row], labels[row], table.clusters, confidence) if scores.shape[2] > 1 else (None, None)
            )
            outputs, right = int(here.sum()), int(labels[row][here].sum())
            rows.append([candidate, metric_name(key), area, right, outputs, *within])
    if len(table.candidates) > 1 and usable.any():
        area = stats.auc(scores[usable], labels[usable], which[usable], confidence)
        flat = [np.moveaxis(x, 0, 1).reshape(len(table.items), -1) for x in (scores, labels)]
        within = _within(flat[0], flat[1], table.clusters, confidence)
        outputs, right = int(usable.sum()), int(labels[usable].sum())
        rows.append([POOLED, metric_name(key), area, right, outputs, *within])
    return rows


def _within(
    scores: np.ndarray, labels: np.ndarray, clusters: np.ndarray | None, confidence: float
) -> tuple[Cell, Cell]:
    concordance, items = stats.within_item_concordance(scores, labels, clusters, confidence)
    return (concordance if items else None), items


def _table(task: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Surface scores as predictors of a right answer on {task}",
        [
            Column("Candidate"),
            Column("Metric"),
            Column("AUC", "number", "0.5 is chance, 1 perfect"),
            Column("Right", "count"),
            Column("Outputs", "count"),
            Column(
                "Within items", "number", "share of right-wrong pairs on one item in which the right one scores higher"
            ),
            Column("Items with both", "count"),
        ],
        rows,
    )


def _chart(task: str, keys: list[str], rows: list[list[Cell]]) -> Chart:
    series = []
    for key in keys:
        if not key.endswith("/answer"):
            continue
        here = [(str(row[0]), row[2]) for row in rows if row[1] == metric_name(key)]
        known = [(name, area) for name, area in here if isinstance(area, stats.Interval) and np.isfinite(area.estimate)]
        series.append(
            Series(
                metric_name(key),
                [name for name, _ in known],
                [area.estimate for _, area in known],
                [area.low for _, area in known],
                [area.high for _, area in known],
            )
        )
    return Chart(
        "ranges",
        f"AUC of surface scores for a right answer on {task}",
        "AUC",
        "",
        series,
        "Each dot is the AUC of one candidate's outputs; the line marks chance.",
        reference=0.5,
    )


def _single_sentence(rows: list[list[Cell]], key: str) -> str:
    """The range of AUC over candidates: what holds within each may not hold over all."""
    single = [
        row[2].estimate
        for row in rows
        if row[1] == metric_name(key)
        and row[0] != POOLED
        and isinstance(row[2], stats.Interval)
        and np.isfinite(row[2].low)
    ]
    if len(single) < 2:
        return ""
    return (
        f" Among the outputs of single candidates AUC runs from {show(min(single), 'number')} to "
        f"{show(max(single), 'number')} (median {show(float(np.median(single)), 'number')})."
    )


def _sentence(task: str, key: str, row: list[Cell]) -> str:
    area, within = row[2], row[5]
    assert isinstance(area, stats.Interval)
    if not np.isfinite(area.low):
        return f"On {task}, {metric_name(key)} cannot be checked: too few outputs are right, or too few wrong."
    holds = "does tell" if area.low > 0.5 else "tells the wrong way" if area.high < 0.5 else "is not shown to tell"
    where = f"Over the outputs of all candidates on {task}" if row[0] == POOLED else f"On {task}"
    text = (
        f"{where}, {metric_name(key)} {holds} right from wrong answers: AUC {show(area.estimate, 'number')} "
        f"(95% interval {span(area, 'number')}). 0.5 is chance."
    )
    if isinstance(within, stats.Interval) and np.isfinite(within.low):
        rate = f"{show(within.estimate, 'rate')} of the time (95% interval {span(within, 'rate')})"
        verdict = (
            f"the right one scores higher {rate}"
            if within.low > 0.5
            else f"the right one scores higher only {rate}: choosing by it prefers the wrong one"
            if within.high < 0.5
            else f"the right one scores higher {rate}, which cannot be told from chance"
        )
        text += f" Between a right and a wrong answer to one question, {verdict}."
    return text
