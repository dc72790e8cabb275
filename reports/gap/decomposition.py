"""4. Each BLEU difference as a sum: traces, length, content.

Per candidate, corpus BLEU as generated is written as

    raw = (raw - answer) + (answer - matched) + matched
              trace             length          content

and a difference of two candidates is the sum of the differences of these terms: nothing is left over. The trace term is
split once more at the view that drops only the tags, (raw - untagged) + (untagged - answer). All scores come from the
per-item statistics in the logs. `matched` is BLEU of the answer at the reference's length; see `length_matched`.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimator, row_labels
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, show, span
from medbench.reports.sources import Sources

TERMS = ("trace", "length", "content")
VIEWS = ("raw", "untagged", "answer")
# Beyond this many candidates the table holds differences to the best only; the JSON keeps all pairs up to it.
_ALL_PAIRS_UP_TO = 12


def length_matched(statistics: np.ndarray) -> np.ndarray:
    """BLEU statistics of outputs brought to the length of their references, per item.

    Args:
        statistics: shape (..., 10): [sys_len, ref_len, correct 1-4, total 1-4].

    A longer output keeps all its matches and loses only n-grams that did not match: the most that cutting it could
    earn.
    A shorter one goes on to the reference's length at its own precision; an empty one stays without a match. What
    differs
    between two candidates after this is what they say, not how long they are.
    """
    statistics = np.asarray(statistics, dtype=float)
    reference = statistics[..., 1]
    correct, total = statistics[..., 2:6], statistics[..., 6:10]
    wanted = np.maximum(reference[..., None] - np.arange(4), 0.0)
    precision = np.divide(correct, total, out=np.zeros_like(correct), where=total > 0)
    kept = np.where(total >= wanted, np.minimum(correct, wanted), precision * wanted)
    return np.concatenate([reference[..., None], reference[..., None], kept, wanted], axis=-1)


def decompose(estimator: Estimator) -> tuple[list[str], np.ndarray, np.ndarray] | None:
    """Terms of each candidate's corpus BLEU: candidates, shape (c, 4), and replicates, shape (resamples, c, 4).

    The first three, trace, length and content, add up to BLEU as generated; the fourth is the part of the trace term
    that the tags alone make. None where the logs lack the statistics of a view.
    """
    table = estimator.table
    if any(f"bleu4/{view}" not in table.statistics for view in VIEWS):
        return None
    counts = np.stack([table.statistics[f"bleu4/{view}"] for view in VIEWS])
    present = np.isfinite(counts).all(axis=(0, 2, 3))
    if not present.any():
        return None
    counts = counts[:, present].transpose(2, 1, 0, 3)  # items, candidates, views, 10
    four = np.concatenate([counts, length_matched(counts[:, :, 2:])], axis=2)
    names = [name for name, here in zip(table.candidates, present, strict=True) if here]
    _, sums, draws = estimator.resampled_sums(four, names)
    return names, _terms(stats.bleu_statistic(sums)), _terms(stats.bleu_statistic(draws))


def _terms(scores: np.ndarray) -> np.ndarray:
    raw, untagged, answer, matched = np.moveaxis(scores, -1, 0)
    return np.stack([raw - answer, answer - matched, matched, raw - untagged], axis=-1)


def section(analysis: Analysis, sources: Sources) -> Section:
    """What the distance of each candidate to the one with the best BLEU consists of."""
    found = Section("decomposition", "Decomposition of BLEU differences")
    for task in analysis.surface_tasks:
        estimator = analysis.estimators[task]
        parts = decompose(estimator)
        if parts is None or len(parts[0]) < 2:
            continue
        candidates, terms, draws = parts
        groups = len(row_labels(estimator.table.clusters, len(estimator.table.items)))
        best = int(np.argmax(terms[:, :3].sum(1)))
        chosen = [(best, other) for other in range(len(candidates)) if other != best]
        if len(candidates) <= _ALL_PAIRS_UP_TO:
            chosen += [pair for pair in combinations(range(len(candidates)), 2) if best not in pair]
        rows: list[list[Cell]] = []
        for first, second in chosen:
            change, noise = terms[second] - terms[first], draws[:, second] - draws[:, first]
            cells = [
                stats.bootstrap_interval(float(value), column, groups, analysis.options.confidence)
                for value, column in zip(
                    [change[:3].sum(), *change], [noise[:, :3].sum(1), *np.moveaxis(noise, -1, 0)], strict=True
                )
            ]
            rows.append([candidates[first], candidates[second], *cells])
        found.tables.append(_table(task, rows))
        found.charts.append(_chart(task, candidates[best], rows[: len(candidates) - 1]))
        found.findings += _sentences(task, rows[: len(candidates) - 1])
    if not found.tables:
        found.missing = (
            "Needs BLEU statistics of the views raw, untagged and answer for two candidates; `inspect score` with "
            "medbench/surface_overlap adds them to a log."
        )
    found.notes.append(
        "Trace: what removing reasoning traces and their tags changes. Length: what bringing every answer to its "
        "reference's length would change; a longer answer keeps all its matches, a shorter one goes on at its own "
        "precision. "
        "Content: the rest. The terms add up to the difference exactly. Their intervals are of the terms one by one. A "
        "candidate without traces has a trace term all the same where its outputs hold empty think tags."
    )
    return found


def _table(task: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"BLEU-4 differences on {task}, as generated, second minus first",
        [
            Column("First"),
            Column("Second"),
            Column("Difference", "change"),
            *[Column(name.capitalize(), "change") for name in TERMS],
            Column("Of the trace: tags", "change", "what dropping only the tag marks changes"),
        ],
        rows,
    )


def _chart(task: str, best: str, rows: list[list[Cell]]) -> Chart:
    others = [str(row[1]) for row in rows]

    def values(column: int) -> list[float]:
        return [row[column].estimate for row in rows if isinstance(row[column], stats.Interval)]  # type: ignore[union-attr]

    series = [Series(name, others, values(3 + k)) for k, name in enumerate(TERMS)]
    return Chart(
        "stack",
        f"What separates each candidate from {best} on {task}",
        "BLEU-4 points",
        "",
        series,
        f"Differences to {best} in BLEU-4, split into {', '.join(TERMS)}.",
    )


def _sentences(task: str, rows: list[list[Cell]]) -> list[str]:
    """One sentence for the largest distance."""
    row = min(rows, key=lambda r: r[2].estimate if isinstance(r[2], stats.Interval) else 0.0)
    total, trace, length, content, tags = (cell for cell in row[2:7] if isinstance(cell, stats.Interval))
    if total.estimate >= 0 or not total.high < 0:
        return [f"On {task} no candidate's BLEU-4 is shown to lie below that of {row[0]}."]
    parts = {"reasoning traces": trace.estimate, "length": length.estimate, "content": content.estimate}
    cause = min(parts, key=lambda name: parts[name])
    marks = f" (their tags alone {show(tags.estimate, 'change')})" if show(trace.estimate, "change") != "0.0" else ""
    return [
        f"On {task}, {row[1]} lies {show(-total.estimate, 'score')} BLEU-4 points below {row[0]} (95% interval of the "
        f"difference {span(total, 'change')}). Of that difference, traces make {show(trace.estimate, 'change')}{marks}"
        f", length {show(length.estimate, 'change')} and content "
        f"{show(content.estimate, 'change')}; the largest part is {cause}."
        + (" A part with a plus works against the difference." if max(parts.values()) >= 0.05 else "")
    ]
