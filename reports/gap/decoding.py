"""7b. The same candidate under other decoding settings (the paper's Table 3), with seeds as replicates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimator
from medbench.reports.gap.labels import metric_name
from medbench.reports.page import Cell, Column, Section, Table, names, show
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources
from medbench.scoring.units import is_rate, mean_interval

KEYS = ("bleu4/raw", "rouge1/raw", "rouge2/raw", "rougeL/raw", "bleu4_llamafactory/raw", "accuracy/answer", "trace/raw")


def section(analysis: Analysis, sources: Sources) -> Section:
    """A grid of settings per candidate, paired contrasts to the main setting, and the variance between seeds."""
    found = Section("decoding", "Decoding sensitivity")
    grid: list[list[Cell]] = []
    contrasts: list[list[Cell]] = []
    variance: list[list[Cell]] = []
    common: list[str] = []
    for task, main in analysis.study.tables.items():
        tables = [main, *analysis.study.variants.get(task, [])]
        labels, shared = _short_settings([table.setting for table in tables])
        common += [f"{task}: {shared}"] if shared else []
        names_of = {id(table): label for table, label in zip(tables, labels, strict=True)}
        variance += _variance_rows(task, tables, labels, analysis.options.confidence)
        for candidate, here in _several_settings(analysis, task).items():
            rows, tests = _grid(analysis, task, candidate, here, [names_of[id(table)] for table in here])
            grid += rows
            contrasts += tests
    if contrasts:
        p = [float(row[-1]) if isinstance(row[-1], float) else math.nan for row in contrasts]
        adjusted = stats.holm(p)
        contrasts = [[*row, float(value)] for row, value in zip(contrasts, adjusted, strict=True)]
        found.tables += [_grid_table(grid), _contrast_table(contrasts)]
        found.findings.append(_sentence(contrasts, analysis.options.alpha))
    if variance:
        found.tables.append(_variance_table(variance))
        found.findings += _variance_sentence(variance)
    if not found.tables:
        found.missing = (
            "Each candidate ran under one setting and one seed. A `decoding` grid with `seeds` in the sweep's study "
            "file "
            "adds others."
        )
    if found.tables and common:
        found.notes.append(f"The same in all settings of a task: {'; '.join(common)}.")
    found.notes.append(
        "Contrasts are paired on the items that both settings share, seeds averaged per item; p-values are corrected "
        "over "
        "all contrasts of this section. Within-item variance is between seeds of one item, between-item variance "
        "what is "
        "left of the items' means; they answer different questions and are never added into one error bar."
    )
    return found


def _short_settings(settings: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """What tells each setting from the others, in words, and what they all share."""
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    missing = object()
    same = [key for key in keys if all(s.get(key, missing) == settings[0].get(key, missing) for s in settings)]
    if len(same) == len(keys):  # one setting only: its whole name
        return [_setting_text(setting, keys) for setting in settings], ""
    return [_setting_text(s, [key for key in keys if key not in same]) for s in settings], _setting_text(
        settings[0], same
    )


def _setting_text(setting: dict[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {setting[key]}" for key in keys if key in setting) or "default"


def _several_settings(analysis: Analysis, task: str) -> dict[str, list[TaskTable]]:
    tables = [analysis.study.tables[task], *analysis.study.variants.get(task, [])]
    candidates = [name for name in analysis.study.candidates if sum(name in t.candidates for t in tables) > 1]
    return {name: [t for t in tables if name in t.candidates] for name in candidates}


def _grid(
    analysis: Analysis, task: str, candidate: str, tables: list[TaskTable], labels: list[str]
) -> tuple[list[list[Cell]], list[list[Cell]]]:
    rows: list[list[Cell]] = []
    tests: list[list[Cell]] = []
    merged = _as_candidates(candidate, tables, labels)
    estimator = Estimator(merged, analysis.options)
    for key in KEYS:
        estimate = estimator.estimate(key)
        if estimate is None:
            continue
        scale = 100 if estimate.unit == "rate" else 1
        for setting, table in zip(merged.candidates, tables, strict=True):
            if setting in estimate.candidates:
                shown = stats.Interval(*(scale * x for x in estimate.intervals[estimate.index(setting)]))
                seeds = len(table.runs[candidate])
                rows.append([task, candidate, setting, metric_name(key), shown, estimate.n, seeds])
        for setting in merged.candidates[1:]:
            if setting in estimate.candidates and merged.candidates[0] in estimate.candidates:
                change = estimate.difference(merged.candidates[0], setting)
                shown = stats.Interval(*(scale * x for x in change[:3]))
                tests.append([task, candidate, metric_name(key), merged.candidates[0], setting, shown, change.p])
    return rows, tests


def _as_candidates(candidate: str, tables: list[TaskTable], labels: list[str]) -> TaskTable:
    """One candidate's settings as a table whose rows are settings, on the items that all settings share."""
    items = [item for item in tables[0].items if all(item in set(t.items) for t in tables[1:])]
    replicates = max(next(iter(t.values.values())).shape[2] for t in tables)
    # Only metrics of all settings: a contrast needs both sides.
    keys = set.intersection(*[set(t.values) for t in tables])
    counted = set.intersection(*[set(t.statistics) for t in tables])
    values = {key: np.full((len(tables), len(items), replicates), np.nan) for key in keys}
    statistics = {key: np.zeros((len(tables), len(items), 10)) for key in counted}
    letters = np.full((len(tables), len(items), replicates), None, dtype=object)
    top = np.full(letters.shape, np.nan)
    for row, table in enumerate(tables):
        column = {item: index for index, item in enumerate(table.items)}
        at = [column[item] for item in items]
        here = table.candidates.index(candidate)
        letters[row, :, : table.letters.shape[2]] = table.letters[here, at]
        top[row, :, : table.top.shape[2]] = table.top[here, at]
        for key in keys:
            kept = table.values[key][here, at]
            values[key][row, :, : kept.shape[1]] = kept
        for key in counted:
            statistics[key][row] = table.statistics[key][here, at]
    first = tables[0]
    known = {item: index for index, item in enumerate(first.items)}
    clusters = None if first.clusters is None else first.clusters[[known[item] for item in items]]
    return TaskTable(
        task=f"{first.task}/{candidate}",
        version=first.version,
        setting={},
        setting_name="all settings",
        candidates=labels,
        items=items,
        values=values,
        statistics=statistics,
        letters=letters,
        top=top,
        clusters=clusters,
        facts=first.facts,
        runs={label: table.runs[candidate] for label, table in zip(labels, tables, strict=True)},
    )


def _variance_rows(task: str, tables: list[TaskTable], labels: list[str], level: float) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for table, label in zip(tables, labels, strict=True):
        for key in ("accuracy/answer", "bleu4/raw", "rougeL/raw", "trace/raw"):
            if key not in table.values:
                continue
            for row, candidate in enumerate(table.candidates):
                values = table.values[key][row]
                if np.isfinite(values).sum(axis=1).max(initial=0) < 2:
                    continue
                split = stats.variance_split(values, level, table.clusters)
                if split.within == split.between == 0:
                    continue  # the same value everywhere: there is nothing to split, and no interval
                scale = 100 if key.startswith(("accuracy", "trace")) else 1
                mean = _mean(table, row, key, level)
                rows.append(
                    [
                        task,
                        candidate,
                        label,
                        metric_name(key),
                        mean,
                        round(split.seeds, 2),
                        share if np.isfinite((share := split.within_share).low) else "cannot be estimated",
                        split.same_items_se * scale,
                    ]
                )
    return rows


def _mean(table: TaskTable, row: int, key: str, level: float) -> stats.Interval:
    """The mean over items and seeds by the same interval as everywhere; a rate's in percent."""
    values, runs = table.item_means(key)[row], table.runs_per_item(key)[row]
    known = np.isfinite(values)
    contexts = None if table.clusters is None else table.clusters[known]
    metric = key.split("/")[0]
    scale = 100 if is_rate(metric) else 1
    return stats.Interval(*(scale * x for x in mean_interval(metric, values[known], contexts, runs[known], level)))


def _grid_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Scores by decoding setting",
        [
            Column("Task"),
            Column("Candidate"),
            Column("Setting"),
            Column("Metric"),
            Column("Score", "score", "rates in percent"),
            Column("Items", "count"),
            Column("Seeds", "count"),
        ],
        rows,
    )


def _contrast_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Paired contrasts between settings",
        [
            Column("Task"),
            Column("Candidate"),
            Column("Metric"),
            Column("From"),
            Column("To"),
            Column("Change", "change", "rates in points"),
            Column("p", "p"),
            Column("p (Holm)", "p"),
        ],
        rows,
    )


def _variance_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Seeds: variance within and between items (means of per-item scores)",
        [
            Column("Task"),
            Column("Candidate"),
            Column("Setting"),
            Column("Metric"),
            Column("Mean", "score", "interval over items and seeds; rates in percent"),
            Column("Runs", "score", "per item"),
            Column("The seed's share", "share", "of one run's variance; the rest lies between items"),
            Column("SE, same items", "number", "of the mean, if only seeds change"),
        ],
        rows,
    )


def _sentence(rows: list[list[Cell]], alpha: float) -> str:
    shown = [row for row in rows if isinstance(row[-1], float) and row[-1] < alpha]
    if not shown:
        return f"No change is shown by any of {len(rows)} contrasts between settings, after Holm's correction."
    row = min(shown, key=lambda r: r[-1] if isinstance(r[-1], float) else 1.0)
    change = row[5]
    assert isinstance(change, stats.Interval)
    return (
        f"{len(shown)} of {len(rows)} contrasts between decoding settings hold after Holm's correction, in "
        f"{names(sorted({str(r[2]) for r in shown}))}; the clearest: {row[2]} of {row[1]} on {row[0]} changes by "
        f"{show(change.estimate, 'change')} from {row[3]} to {row[4]}."
    )


def _variance_sentence(rows: list[list[Cell]]) -> list[str]:
    # Most intervals are wide: what leaves everything open is left to the table.
    known = [row[6] for row in rows if isinstance(row[6], stats.Interval)]
    shares = [share.estimate for share in known if share.high - share.low < 0.5]
    if not shares:
        return []
    return [
        f"Where a setting ran with several seeds, the seed makes {show(min(shares), 'share')} to "
        f"{show(max(shares), 'share')} "
        "of one run's variance per item; the rest is between items."
    ]
