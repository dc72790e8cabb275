"""5c. Does a candidate know when it is right? Calibration of its option probabilities (`-T mode=logprob`)."""

from __future__ import annotations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, show, span
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources
from medbench.scoring.units import mean_interval

_COVERAGES = (1.0, 0.5, 0.2)
_POINTS = 40
# Lines in a chart; more cannot be told apart, and the table has them all.
_MOST_LINES = 5


def section(analysis: Analysis, sources: Sources) -> Section:
    """Calibration, Brier score and risk against coverage, per accuracy task that logged probabilities."""
    found = Section("probability", "Confidence and being right")
    for task in analysis.choice_tasks:
        table = analysis.study.tables[task]
        rows: list[list[Cell]] = []
        drawn = _drawn(analysis, task)
        spread: list[list[Cell]] = []
        reliable: list[Series] = []
        risks: list[Series] = []
        for row, candidate in enumerate(table.candidates):
            known = np.isfinite(table.top[row]) & np.isin(table.values["accuracy/answer"][row], (0.0, 1.0))
            if known.sum() < 2:
                continue
            sure, right = table.top[row][known], table.values["accuracy/answer"][row][known]
            labels = _contexts(table)[known]
            judged = stats.calibration(np.clip(sure, 0, 1), right, labels, level=analysis.options.confidence)
            coverage, risk = stats.risk_coverage(sure, right)
            at = [stats.risk_at(sure, right, share, labels, analysis.options.confidence) for share in _COVERAGES]
            told = stats.auc(sure, right, labels, analysis.options.confidence)
            rows.append([candidate, judged.n, judged.over, judged.ece, judged.brier, told, *at])
            spread += _spread(table, row, candidate, known)
            if candidate not in drawn:
                continue
            reliable.append(_reliability(candidate, judged))
            few = np.unique(np.linspace(0, len(risk) - 1, _POINTS).astype(int))
            risks.append(Series(candidate, coverage[few].tolist(), (100 * risk[few]).tolist()))
        if rows:
            found.tables += [_table(task, rows), *([_spread_table(task, spread)] if spread else [])]
            found.charts += _charts(task, reliable, risks, len(rows))
            found.findings += [_sentence(task, row) for row in rows[:3]]
    if not found.tables:
        found.missing = "No option probabilities in these logs; `-T mode=logprob` on a multiple-choice task logs them."
        return found
    found.notes.append(
        "Confidence is the probability of the stated option among the options. Calibration error: root mean square "
        "over bins of equal size, with the part that chance adds taken off. Brier: mean squared distance of confidence "
        "from right or wrong; its interval is wider than it need be."
    )
    return found


def _drawn(analysis: Analysis, task: str) -> list[str]:
    """The most accurate candidates, at most `_MOST_LINES`."""
    accuracy = analysis.estimators[task].estimate("accuracy/answer")
    return [] if accuracy is None else sorted(accuracy.candidates, key=lambda n: -accuracy.value(n))[:_MOST_LINES]


def _contexts(table: TaskTable) -> np.ndarray:
    """The context (else the item) of every output, shape (n, replicates)."""
    labels = (
        np.arange(len(table.items)) if table.clusters is None else np.unique(table.clusters, return_inverse=True)[1]
    )
    return np.broadcast_to(labels[:, None], table.top.shape[1:])


def _spread(table: TaskTable, row: int, candidate: str, known: np.ndarray) -> list[list[Cell]]:
    """Entropy and margin of right and of wrong answers."""
    rows: list[list[Cell]] = []
    right = table.values["accuracy/answer"][row]
    for key, name in (("entropy/answer", "entropy, bits"), ("margin/answer", "margin, first minus second")):
        if not table.has(key):
            continue
        x = table.values[key][row]
        sides = [known & np.isfinite(x) & (right == value) for value in (1.0, 0.0)]
        metric = key.split("/")[0]
        means = [mean_interval(metric, x[side], _contexts(table)[side]) if side.any() else None for side in sides]
        rows.append([candidate, name, *means])
    return rows


def _reliability(candidate: str, judged: stats.Calibration) -> Series:
    return Series(
        candidate,
        [100 * b.confidence for b in judged.bins],
        [100 * b.accuracy.estimate for b in judged.bins],
        [100 * b.accuracy.low for b in judged.bins],
        [100 * b.accuracy.high for b in judged.bins],
    )


def _charts(task: str, reliable: list[Series], risks: list[Series], count: int) -> list[Chart]:
    left_out = f" (the {len(risks)} most accurate of {count})" if len(risks) < count else ""
    ideal = Series("perfectly calibrated", [0.0, 100.0], [0.0, 100.0])
    return [
        Chart(
            "lines",
            f"Reliability on {task}{left_out}",
            "confidence, %",
            "% right",
            [*reliable, ideal],
            "Below the straight line a candidate is surer than it is right.",
        ),
        Chart(
            "lines",
            f"Risk against coverage on {task}{left_out}",
            "share of answers kept, surest first",
            "% wrong",
            risks,
            "Where confidence tells right from wrong, keeping fewer answers leaves fewer wrong ones.",
        ),
    ]


def _table(task: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Confidence on {task}",
        [
            Column("Candidate"),
            Column("Outputs", "count"),
            Column("Overconfident by", "points", "mean confidence minus accuracy"),
            Column("Calibration error", "rate", "root mean square, corrected for chance"),
            Column("Brier", "number", "0 is perfect"),
            Column("Right above wrong", "number", "AUC of confidence: 0.5 knows nothing, 1 all"),
            *[Column(f"Wrong in surest {100 * c:.0f}%", "rate") for c in _COVERAGES],
        ],
        rows,
    )


def _spread_table(task: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Entropy and margin of right and wrong answers on {task}",
        [Column("Candidate"), Column("Measure"), Column("When right", "number"), Column("When wrong", "number")],
        rows,
    )


def _sentence(task: str, row: list[Cell]) -> str:
    over, told = row[2], row[5]
    assert isinstance(over, stats.Interval)
    assert isinstance(told, stats.Interval)
    by = f"{show(over.estimate, 'points')} points, {span(over, 'points')}"
    if over.low <= 0 <= over.high:
        text = f"On {task}, {row[0]} is not shown to be surer or less sure than it is right ({by})"
    else:
        text = f"On {task}, {row[0]} is {'surer' if over.low > 0 else 'less sure'} than it is right ({by})"
    if not np.isfinite(told.low):
        return f"{text}."
    knows = "does tell" if told.low > 0.5 else "is not shown to tell"
    return f"{text}; its confidence {knows} its right answers from its wrong ones (AUC {show(told, 'number')})."
