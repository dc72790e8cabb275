"""4. Each BLEU difference as a sum: traces, refusals, length, content.

Per candidate, corpus BLEU as generated is written as

    raw = (raw - answer) + (answer - answered) + (answered - matched) + matched
              trace             refusals               length          content

`answered` is BLEU of the answers among the outputs that do not refuse, as if the others had earned per reference word
what these earn. Where logs do not class outputs (`medbench/declined`), it is that of all, and the term is not shown.
A difference of two candidates is the sum of the differences of these terms: nothing is left over. The trace term is
split once more at the view that drops only the tags, (raw - untagged) + (untagged - answer). All scores come from the
per-item statistics in the logs. `matched` is BLEU of these answers at their references' lengths; see `length_matched`.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimator, row_labels
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, names, show, span
from medbench.reports.rows import DECLINED
from medbench.reports.sources import Sources

TERMS = ("trace", "refusals", "length", "content")
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
    """Terms of each candidate's corpus BLEU: candidates, shape (c, 5), and replicates, shape (resamples, c, 5).

    The first four, as in `TERMS`, add up to BLEU as generated; the fifth is the part of the trace term that the tags
    alone make. None where the logs lack the statistics of a view.
    """
    table = estimator.table
    if any(f"bleu4/{view}" not in table.statistics for view in VIEWS):
        return None
    counts = np.stack([table.statistics[f"bleu4/{view}"] for view in VIEWS])
    present = np.isfinite(counts).all(axis=(0, 2, 3))
    if not present.any():
        return None
    counts = counts[:, present].transpose(2, 1, 0, 3)  # items, candidates, views, 10
    answered = counts[:, :, 2]
    if knows_refusals(estimator):
        answered = answered - table.statistics[DECLINED][present].transpose(1, 0, 2)
    five = np.concatenate([counts, answered[:, :, None], length_matched(answered)[:, :, None]], axis=2)
    who = [name for name, here in zip(table.candidates, present, strict=True) if here]
    _, sums, draws = estimator.resampled_sums(five, who)
    return who, _terms(sums), _terms(draws)


def knows_refusals(estimator: Estimator) -> bool:
    """Whether the outputs of all candidates that have BLEU statistics are classed as refusing or not."""
    table = estimator.table
    if DECLINED not in table.statistics:
        return False
    scored = np.isfinite(table.statistics["bleu4/answer"]).all(axis=(1, 2))
    return bool(np.isfinite(table.statistics[DECLINED][scored]).all())


def _terms(sums: np.ndarray) -> np.ndarray:
    """Terms from sums of raw, untagged, answer, answered and matched statistics, shape (..., 5, 10) to (..., 5)."""
    scores = stats.bleu_statistic(sums)
    raw, untagged, answer, answered, matched = np.moveaxis(scores, -1, 0)
    # Where all outputs refuse, there is no answer whose content could be told: the whole is a matter of refusals.
    none = sums[..., 3, 1] <= 0
    answered, matched = np.where(none, 0.0, answered), np.where(none, 0.0, matched)
    return np.stack([raw - answer, answer - answered, answered - matched, matched, raw - untagged], axis=-1)


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
        best = int(np.argmax(terms[:, :4].sum(1)))
        chosen = [(best, other) for other in range(len(candidates)) if other != best]
        if len(candidates) <= _ALL_PAIRS_UP_TO:
            chosen += [pair for pair in combinations(range(len(candidates)), 2) if best not in pair]
        rows: list[list[Cell]] = []
        for first, second in chosen:
            change, noise = terms[second] - terms[first], draws[:, second] - draws[:, first]
            cells = [
                stats.bootstrap_interval(float(value), column, groups, analysis.options.confidence)
                for value, column in zip(
                    [change[:4].sum(), *change], [noise[:, :4].sum(1), *np.moveaxis(noise, -1, 0)], strict=True
                )
            ]
            rows.append([candidates[first], candidates[second], *cells])
        classed = knows_refusals(estimator)
        found.tables.append(_table(task, rows, classed))
        found.charts.append(_chart(task, candidates[best], rows[: len(candidates) - 1], classed))
        found.findings += _sentences(task, rows[: len(candidates) - 1], classed)
        if not classed:
            found.notes.append(
                f"The outputs of {task} are not classed as refusals or answers, so refusals count as content and "
                "length here. `inspect score LOG --scorer medbench/declined --action append` adds the classes."
            )
    if not found.tables:
        found.missing = (
            "Needs BLEU statistics of the views raw, untagged and answer for two candidates; `inspect score` with "
            "medbench/surface_overlap adds them to a log."
        )
    found.notes.append(
        "Trace: what removing reasoning traces and their tags changes. Refusals: what the outputs that refuse cost "
        "against outputs that score like the candidate's others. Length: what bringing every answer to its "
        "reference's length would change; a longer answer keeps all its matches, a shorter one goes on at its own "
        "precision. "
        "Content: the rest. The terms add up to the difference exactly. Their intervals are of the terms one by one. A "
        "candidate without traces has a trace term all the same where its outputs hold empty think tags."
    )
    return found


def _shown(classed: bool) -> list[tuple[int, str]]:
    """Column of each term in a row, and its name; no refusals where they are not classed."""
    return [(3 + k, name) for k, name in enumerate(TERMS) if classed or name != "refusals"]


def _table(task: str, rows: list[list[Cell]], classed: bool) -> Table:
    shown = _shown(classed)
    keep = [1, 0, 2, *[column for column, _ in shown], 3 + len(TERMS)]
    return Table(
        f"BLEU-4 differences on {task}, as generated",
        [
            Column("Candidate"),
            Column("Minus"),
            Column("Difference", "change"),
            *[Column(name.capitalize(), "change") for _, name in shown],
            Column("Of the trace: tags", "change", "what dropping only the tag marks changes"),
        ],
        [[row[column] for column in keep] for row in rows],
    )


def _chart(task: str, best: str, rows: list[list[Cell]], classed: bool) -> Chart:
    others = [str(row[1]) for row in rows]

    def values(column: int) -> list[float]:
        return [row[column].estimate for row in rows if isinstance(row[column], stats.Interval)]  # type: ignore[union-attr]

    shown = _shown(classed)
    return Chart(
        "stack",
        f"What separates each candidate from {best} on {task}",
        "BLEU-4 points",
        "",
        [Series(name, others, values(column)) for column, name in shown],
        f"Differences to {best} in BLEU-4, split into {', '.join(name for _, name in shown)}.",
    )


_CAUSES = {"trace": "reasoning traces", "refusals": "refusals", "length": "length", "content": "content"}


def _sentences(task: str, rows: list[list[Cell]], classed: bool) -> list[str]:
    """One sentence for the largest distance."""
    row = min(rows, key=lambda r: r[2].estimate if isinstance(r[2], stats.Interval) else 0.0)
    total, tags = row[2], row[3 + len(TERMS)]
    assert isinstance(total, stats.Interval)
    assert isinstance(tags, stats.Interval)
    if total.estimate >= 0 or not total.high < 0:
        return [f"On {task} no candidate's BLEU-4 is shown to lie below that of {row[0]}."]
    parts = {
        _CAUSES[name]: cell.estimate
        for column, name in _shown(classed)
        if isinstance(cell := row[column], stats.Interval)
    }
    said = [f"{name} {show(value, 'change')}" for name, value in parts.items()]
    if show(parts["reasoning traces"], "change") != "0.0":
        said[0] += f" (their tags alone {show(tags.estimate, 'change')})"
    return [
        f"On {task}, {row[1]} lies {show(-total.estimate, 'score')} BLEU-4 points below {row[0]} (95% interval of the "
        f"difference {span(total, 'change')}). That difference is made of {names(said)}; the largest part is "
        f"{min(parts, key=lambda name: parts[name])}."
        + (" A part with a plus works against the difference." if max(parts.values()) >= 0.05 else "")
    ]
