"""1e. Own prompts: what the candidates were asked with, and which differences hold for prompts like those tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from medbench import stats
from medbench.reports import compared
from medbench.reports.estimates import Analysis
from medbench.reports.header import tuned_prompt
from medbench.reports.page import Cell, Column, Section, Table, show, span
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources

_MOST_PAIRS = 40


@dataclass(frozen=True)
class _Pair:
    first: str
    second: str
    found: stats.TunedComparison


def section(analysis: Analysis, sources: Sources) -> Section:
    """Per task whose prompts were tuned: each candidate's wording, and differences with prompts counted as chance."""
    found = Section("prompts", "Own prompts")
    for task in analysis.choice_tasks:
        table = analysis.study.tables[task]
        tuned = {name: tuned_of(table, name) for name in table.candidates}
        if not all(tuned.values()):
            continue
        bits = {name: scores(told) for name, told in tuned.items() if told is not None}
        found.tables.append(_prompt_table(task, table, tuned, bits, analysis.options.confidence))
        pairs = _pairs(analysis, table, bits)
        if pairs:
            found.tables.append(_pair_table(task, pairs))
        found.findings += _sentences(task, tuned, pairs, analysis.options.alpha)
    if not found.tables:
        found.missing = (
            "All candidates were asked with the same prompts. `medbench tune-prompt STUDY.yaml` picks each one's best "
            "of a set, on items that are not tested; models differ in the wordings that suit them."
        )
        return found
    found.notes.append(
        "A prompt that suits one model by luck is no skill of it, and with enough items such luck is significant. So "
        "a candidate is called better than another only where that holds with the spread of their difference over the "
        "prompts tried counted as chance, as seen on the tuning items. All other sections' tests are of these prompts "
        "alone. docs/prompt-tuning.md has the error rates."
    )
    return found


def tuned_of(table: TaskTable, candidate: str) -> dict[str, Any] | None:
    """How a candidate's prompt was picked, from its logs; None where it was not."""
    found = [tuned_prompt(run.provenance.get("metadata") or {}) for run in table.runs[candidate]]
    return found[0] if found and all(found) else None


def scores(told: dict[str, Any]) -> np.ndarray:
    """A candidate's tuning scores, shape (wordings, items), in the order that all candidates of a tuning share."""
    return np.array([[float(bit) for bit in told["scores"][name]] for name in told["wordings"]])


def _pairs(analysis: Analysis, table: TaskTable, bits: dict[str, np.ndarray]) -> list[_Pair]:
    """Every other candidate against the base; all pairs where there is none."""
    base = [name for name in compared.of_kind(analysis, "base") if name in bits]
    wanted = [(base[0], name) for name in bits if name != base[0]] if base else list(combinations(bits, 2))
    means = table.item_means("accuracy/answer")
    found = []
    for first, second in wanted[:_MOST_PAIRS]:
        if bits[first].shape != bits[second].shape:
            continue
        a, b = means[table.candidates.index(first)], means[table.candidates.index(second)]
        known = np.isfinite(a) & np.isfinite(b)
        clusters = None if table.clusters is None else table.clusters[known]
        both = stats.tuned_rates(a[known], b[known], bits[first], bits[second], clusters, analysis.options.confidence)
        found.append(_Pair(first, second, both))
    return found


def _prompt_table(
    task: str, table: TaskTable, tuned: dict[str, Any], bits: dict[str, np.ndarray], confidence: float
) -> Table:
    means, runs = table.item_means("accuracy/answer"), table.runs_per_item("accuracy/answer")
    rows: list[list[Cell]] = []
    for row, name in enumerate(table.candidates):
        told = tuned[name]
        own = str(told.get("of") or "").partition("#")[2]
        shares = bits[name].mean(axis=1)
        known = np.isfinite(means[row])
        clusters = None if table.clusters is None else table.clusters[known]
        tested = stats.rate(means[row][known], clusters, runs[row][known], confidence)
        picked = told["wordings"].index(own) if own in told["wordings"] else int(shares.argmax())
        rows.append([name, own, float(shares[picked]), float(shares.min()), told["items"], tested])
    return Table(
        f"The prompt that each candidate was asked with on {task}",
        [
            Column("Candidate"),
            Column("Prompt"),
            Column("On tuning items", "rate", "right with this prompt"),
            Column("Worst prompt there", "rate"),
            Column("Tuning items", "count"),
            Column("On tested items", "rate", bar=True),
        ],
        rows,
    )


def _pair_table(task: str, pairs: Sequence[_Pair]) -> Table:
    rows: list[list[Cell]] = []
    for pair in pairs:
        asked, general = pair.found.asked, pair.found.general
        rows.append(
            [
                pair.first,
                pair.second,
                stats.Interval(*asked[:3]),
                asked.p,
                stats.Interval(*general[:3]),
                general.p,
                pair.found.spread,
            ]
        )
    return Table(
        f"Differences on {task} under own prompts",
        [
            Column("First"),
            Column("Second"),
            Column("With these prompts", "points"),
            Column("p", "p"),
            Column("With prompts like these", "points", "bounds count the spread over prompts", key=True),
            Column("p, prompts like these", "p"),
            Column("Spread over prompts", "points", "standard deviation of the difference, on tuning items"),
        ],
        rows,
    )


def _sentences(task: str, tuned: dict[str, Any], pairs: Sequence[_Pair], alpha: float) -> list[str]:
    told = next(iter(tuned.values()))
    said = [
        f"On {task} each candidate was asked with its own best of {len(told['wordings'])} prompts, picked on "
        f"{told['items']:,} other items; {_tested_too(tuned)}."
    ]
    for pair in pairs:
        asked, general = pair.found.asked, pair.found.general
        way = "better" if asked.difference > 0 else "worse"
        change = f"by {show(abs(asked.difference), 'points').lstrip('+')} points"
        if general.p < alpha:
            said.append(
                f"{pair.second} is {way} than {pair.first} {change}, and would be with prompts like these "
                f"({span(general[:3], 'points')})."
            )
        elif asked.p < alpha:
            said.append(
                f"With these prompts {pair.second} answers {way} than {pair.first} {change} "
                f"({span(asked[:3], 'points')}); that the model is {way} is not shown: with prompts like these the "
                f"difference is {span(general[:3], 'points')}."
            )
    if len(said) == 1 and pairs:
        several = f"none of {len(pairs)} differences" if len(pairs) > 1 else "no difference"
        said.append(f"On {task} {several} is shown, with these prompts or with others like them.")
    return said


def _tested_too(tuned: dict[str, Any]) -> str:
    """What the logs say of tuning items among the tested ones."""
    shared = max(int(told.get("tuning_items_tested") or 0) for told in tuned.values())
    return "none of them is tested" if not shared else f"{shared} of them are tested as well, which flatters the scores"
