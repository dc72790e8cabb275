"""3. Every surface score beside its floor: what the same outputs earn as answers to other questions."""

from __future__ import annotations

from collections import Counter

import numpy as np

from medbench import stats
from medbench.reports import worth
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap.labels import METRICS, SURFACE, VIEWS, metric_name
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, names, show
from medbench.reports.sources import Sources

PROFILES = {"": "standard", "_llamafactory": "paper's"}
# The reference itself scores 100 under every metric and profile.
CEILING = 100.0


def section(analysis: Analysis, sources: Sources) -> Section:
    """Scores, floors and their place between floor and ceiling, per free-text task."""
    found = Section("floor", "Floor and ceiling")
    if not analysis.surface_tasks:
        found.missing = "No surface scores in these logs. Run a task with reference texts, e.g. medbench/f5."
        return found
    without_floor: list[str] = []
    for task in analysis.surface_tasks:
        tables: list[Table] = []
        at_floor: dict[str, list[str]] = {}
        for profile, profile_name in PROFILES.items():
            rows: list[list[Cell]] = []
            for metric in SURFACE:
                for view in ("raw", "answer"):
                    key = f"{metric}{profile}/{view}"
                    score = analysis.estimators[task].estimate(key)
                    floor = analysis.estimators[task].estimate(f"{metric}{profile}_floor/{view}")
                    if score is None:
                        continue
                    if floor is None:
                        without_floor.append(f"{metric_name(key)} on {task}")
                        continue
                    for candidate in score.candidates:
                        if candidate not in floor.candidates:
                            continue
                        above = over_floor(score, floor, candidate)
                        warning = "at the floor" if above.low <= 0 else ""
                        if warning:
                            at_floor.setdefault(metric_name(key), []).append(candidate)
                        rows.append(
                            [
                                candidate,
                                METRICS[metric],
                                VIEWS[view],
                                score.intervals[score.index(candidate)],
                                floor.intervals[floor.index(candidate)],
                                above,
                                normalised(score, floor, candidate),
                                warning,
                            ]
                        )
            if rows:
                keys = [f"{metric}{profile}" for metric in SURFACE]
                said = worth.note_of(analysis.study.tables[task], keys, sources)
                tables.append(_table(task, profile_name, rows, said))
        if tables:
            found.tables += tables
            readings = len({(table.title, row[1], row[2]) for table in tables for row in table.rows})
            found.findings += _sentences(analysis, task, at_floor, readings)
            found.charts += _charts(analysis, task)
    if without_floor:
        found.notes.append(
            f"No floor was logged for {names(without_floor)}: such scores are not shown here. `inspect score` with "
            "medbench/surface_overlap adds it."
        )
    found.notes.append(
        "The floor is the same output scored against the reference of another question. The ceiling is 100, which the "
        "reference itself earns. Normalised: (score − floor) / (ceiling − floor)."
    )
    if not found.tables:
        found.missing = (
            "Surface scores were logged without their floors; `inspect score` with medbench/surface_overlap adds them."
        )
    return found


def over_floor(score: Estimate, floor: Estimate, candidate: str) -> stats.Interval:
    """Score minus floor of one candidate, paired on the same outputs."""
    i, j = score.index(candidate), floor.index(candidate)
    draws = score.replicates[:, i] - floor.replicates[:, j]
    return score.interval_of(draws, float(score.values[i] - floor.values[j]))


def normalised(score: Estimate, floor: Estimate, candidate: str) -> stats.Interval:
    """Where a score lies between floor (0) and ceiling (1)."""
    i, j = score.index(candidate), floor.index(candidate)
    draws = (score.replicates[:, i] - floor.replicates[:, j]) / (CEILING - floor.replicates[:, j])
    value = (score.values[i] - floor.values[j]) / (CEILING - floor.values[j])
    return score.interval_of(draws, float(value))


def _table(task: str, profile: str, rows: list[list[Cell]], note: str) -> Table:
    return Table(
        f"Surface scores on {task} beside their floors, {profile} profile",
        [
            Column("Candidate"),
            Column("Metric"),
            Column("View"),
            Column("Score", "score"),
            Column("Floor", "score", "against another question's reference"),
            Column("Above floor", "change", "paired difference"),
            Column("Normalised", "share", "0% is the floor, 100% the reference itself"),
            Column("Warning"),
        ],
        rows,
        note,
    )


def _sentences(analysis: Analysis, task: str, at_floor: dict[str, list[str]], readings: int) -> list[str]:
    """The best BLEU-4 beside its floor, and who lies at the floor. `readings`: metrics, views and profiles shown."""
    said = []
    for profile, called in (("", "in the standard profile"), ("_llamafactory", "in the paper's profile")):
        score = analysis.estimators[task].estimate(f"bleu4{profile}/raw")
        floor = analysis.estimators[task].estimate(f"bleu4{profile}_floor/raw")
        if score is None or floor is None or score.best not in floor.candidates:
            continue
        best = score.best
        said.append(
            f"On {task} the best BLEU-4 {called} is {show(score.value(best), 'score')} ({best}); the same outputs earn "
            f"{show(floor.value(best), 'score')} as answers to other questions, so "
            f"{show(normalised(score, floor, best).estimate, 'share')} "
            "of the way from floor to ceiling is covered."
        )
    lying = Counter(candidate for who in at_floor.values() for candidate in who)
    everywhere = [candidate for candidate, count in lying.items() if count == readings]
    if everywhere:
        under = f"any of {readings} readings" if readings > 1 else next(iter(at_floor))
        said.append(f"On {task}, {names(everywhere, 6)} cannot be told from {_their(everywhere)} floor under {under}.")
    for metric in (metric_name("bleu4/raw"), metric_name("bleu4_llamafactory/raw")):
        others = [candidate for candidate in at_floor.get(metric, []) if candidate not in everywhere]
        if others:
            said.append(f"On {task}, {names(others, 6)} cannot be told from {_their(others)} floor under {metric}.")
    some = [c for c in lying if c not in everywhere]
    if some:
        lie = "lies" if len(some) == 1 else "lie"
        said.append(
            f"Of {readings} readings (metric, view and profile), {names(some, 6)} {lie} "
            "at the floor under some: the tables' warnings name them."
        )
    return said


def _their(who: list[str]) -> str:
    return "its" if len(who) == 1 else "their"


def _charts(analysis: Analysis, task: str) -> list[Chart]:
    charts = []
    for key in ("bleu4/raw", "bleu4_llamafactory/raw"):
        score = analysis.estimators[task].estimate(key)
        floor = analysis.estimators[task].estimate(key.replace("/", "_floor/"))
        if score is None or floor is None:
            continue
        order = [name for name in score.candidates if name in floor.candidates]
        series = [_range(estimate, name, order) for estimate, name in ((score, "score"), (floor, "floor"))]
        gap = float(np.mean([score.value(n) - floor.value(n) for n in order]))
        charts.append(
            Chart(
                "ranges",
                f"{metric_name(key)} on {task}, and its floor",
                "0-100",
                "",
                series,
                f"Scores lie on average {show(gap, 'score')} above their floors.",
            )
        )
    return charts


def _range(estimate: Estimate, name: str, order: list[str]) -> Series:
    bounds = [estimate.intervals[estimate.index(candidate)] for candidate in order]
    return Series(name, order, [b.estimate for b in bounds], [b.low for b in bounds], [b.high for b in bounds])
