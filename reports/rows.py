"""From runs to tables that may be compared: one task, one setting, the same items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medbench.errors import MedbenchError
from medbench.reports.controlled import ControlTable, beside, split
from medbench.reports.header import key_of
from medbench.reports.logs import Notice, Run, find_logs, read_run
from medbench.reports.selection import latest, listed, one_version, say_apart, say_limits, say_prompts, say_unscored
from medbench.scoring.extractors import EXTRACTORS

# The scores that tables are made of: metric -> the key whose values stand for it.
_HEADLINES = {
    "accuracy": "accuracy/answer",
    "comprehensiveness": "comprehensiveness/answer",
    "bleu4": "bleu4/raw",
    "rougeL": "rougeL/raw",
    "refusal": "refusal/answer",
    "trace": "trace/raw",
}
# BLEU statistics of those outputs alone that refuse to answer, where a log classes them.
DECLINED = "bleu4_declined/answer"
# A candidate that lacks more than this share of a task's items would take them from everyone's comparison.
_MISSING_TOLERATED = 0.5


@dataclass
class TaskTable:
    """One task under one setting: every candidate on the same items.

    Attributes:
        items: sample ids, shape (n,), in the order of the columns below.
        values: metric key -> shape (candidates, n, replicates): seeds and epochs side by side, NaN where absent.
        statistics: ``bleu4/<view>`` ... -> shape (candidates, n, 10), summed over replicates; under `DECLINED` those of
            ``bleu4/answer`` summed over the outputs that refuse, NaN for candidates whose logs do not class outputs.
        letters: what the answer states, shape (candidates, n, replicates) of text, None where nothing was read.
        top: probability of the likeliest option among the options, shape as `letters`; NaN where it was not logged.
        clusters: shape (n,) labels where items share a context or group, else None.
        facts: sample id -> category, pair, gold and so on.
        runs: candidate -> its runs here.
        apart: candidate -> its setting, of those that ran under other settings only and are not in this table.
    """

    task: str
    version: str
    setting: dict[str, Any]
    setting_name: str
    candidates: list[str]
    items: list[str]
    values: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    letters: np.ndarray
    top: np.ndarray
    clusters: np.ndarray | None
    facts: dict[str, dict[str, Any]]
    runs: dict[str, list[Run]]
    apart: dict[str, str] = field(default_factory=dict)

    def card(self, candidate: str) -> dict[str, Any] | None:
        """The calibration card that a candidate's log names; None where it names none."""
        return next((run.card for run in self.runs[candidate] if run.card), None)

    def item_means(self, key: str) -> np.ndarray:
        """Means over replicates, shape (candidates, n); NaN where a candidate lacks the metric."""
        values = self.values[key]
        known = np.isfinite(values)
        count = known.sum(axis=2)
        total = np.where(known, values, 0.0).sum(axis=2)
        return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)

    def runs_per_item(self, key: str) -> np.ndarray:
        """Outputs behind each of `item_means`, shape (candidates, n)."""
        return np.isfinite(self.values[key]).sum(axis=2)

    def has(self, key: str) -> bool:
        """Whether any candidate has the metric on any item."""
        return key in self.values and bool(np.isfinite(self.values[key]).any())


@dataclass
class Study:
    """Everything that was read: runs in use, and what had to be said about the rest.

    Attributes:
        tables: task -> the table of its main setting.
        variants: task -> tables of the other settings.
        weights, series: by candidate; empty where no sweep wrote them.
        controls: task -> its tables under cue controls.
        effective: candidate -> adapter -> the weight that takes effect after rounding, where a log says so.
    """

    location: str
    runs: list[Run]
    notices: list[Notice]
    tables: dict[str, TaskTable]
    variants: dict[str, list[TaskTable]]
    candidates: list[str]
    weights: dict[str, dict[str, float]]
    series: dict[str, str]
    controls: dict[str, list[ControlTable]] = field(default_factory=dict)
    effective: dict[str, dict[str, float]] = field(default_factory=dict)


def load_study(location: str, progress: Callable[[int, int], None] | None = None) -> Study:
    """Read all logs below `location` and arrange them.

    Raises:
        MedbenchError: no logs there, or none that can be used.
    """
    return arrange(location, *read_runs(location, progress))


def read_runs(location: str, progress: Callable[[int, int], None] | None = None) -> tuple[list[Run], list[Notice]]:
    """All logs below `location` that can be used, and why others cannot.

    Raises:
        MedbenchError: no logs there, or none that can be used.
    """
    files = find_logs(location)
    runs: list[Run] = []
    notices: list[Notice] = []
    for done, file in enumerate(files, 1):
        found = read_run(file)
        if isinstance(found, Notice):
            notices.append(found)
        else:
            runs.append(found)
        if progress:
            progress(done, len(files))
    if not runs:
        reasons = " ".join(notice.text for notice in notices[:5])
        raise MedbenchError(f"{location}: none of {len(files)} logs can be used. {reasons}")
    return runs, notices


def arrange(location: str, runs: Sequence[Run], notices: Iterable[Notice] = ()) -> Study:
    """Drop re-runs and mixed versions, and build the tables."""
    notices = list(notices)
    runs, controlled = split(runs, notices)
    # Not in the order in which they ended, which another number of workers changes: sums and resamples follow it.
    kept = sorted(one_version(latest(runs, notices), notices), key=_place)
    tables: dict[str, TaskTable] = {}
    variants: dict[str, list[TaskTable]] = defaultdict(list)
    by_task: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in kept:
        by_task[run.task][key_of(run.setting)].append(run)
    for task, settings in sorted(by_task.items()):
        # The main setting is the one that most candidates share; among equals the one with most rows.
        order = sorted(
            settings.values(), key=lambda rs: (-len({r.candidate for r in rs}), -sum(len(r.ids) for r in rs))
        )
        built = [_table(task, members, notices) for members in order]
        tables[task] = built[0]
        variants[task] = built[1:]
        members = [run for run in kept if run.task == task]
        built[0].apart = say_apart(task, members, order[0], notices)
        say_limits(task, members, notices)
        say_prompts(task, members, notices)
    candidates = _candidate_order(kept)
    under, used = beside(controlled, tables, variants, notices, _table)
    return Study(
        location=location,
        runs=[*kept, *used],
        notices=notices,
        tables=tables,
        variants=dict(variants),
        controls=under,
        candidates=candidates,
        weights={run.candidate: run.weights for run in kept if run.weights},
        series={run.candidate: run.series for run in kept if run.series},
        effective={run.candidate: run.effective for run in kept if run.effective},
    )


def _table(task: str, runs: list[Run], notices: list[Notice]) -> TaskTable:
    by_candidate: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_candidate[run.candidate].append(run)
    covered = {name: set.intersection(*[set(r.ids) for r in rs]) for name, rs in by_candidate.items()}
    common = _common_items(task, covered, notices)
    say_unscored(runs, notices)
    candidates = [name for name in _candidate_order(runs) if name in covered]
    items = [i for i in dict.fromkeys(i for run in runs for i in run.ids) if i in common]
    facts = {i: run.items[i] for run in reversed(runs) for i in run.items}
    keys = sorted({key for run in runs for key in run.values})
    counted = sorted({key for run in runs for key in _counts_of(run)})
    replicates = max(sum(max(run.epochs) for run in by_candidate[name]) for name in candidates)
    values = {key: np.full((len(candidates), len(items), replicates), np.nan) for key in keys}
    statistics = {key: np.zeros((len(candidates), len(items), 10)) for key in counted}
    letters = np.full((len(candidates), len(items), replicates), None, dtype=object)
    top = np.full(letters.shape, np.nan)
    column = {item: index for index, item in enumerate(items)}
    for row, name in enumerate(candidates):
        start = 0
        for run in by_candidate[name]:
            at = np.array([column.get(i, -1) for i in run.ids])
            used = at >= 0
            layer = start + np.array(run.epochs) - 1
            for key, x in run.values.items():
                values[key][row, at[used], layer[used]] = x[used]
            if run.letters:
                letters[row, at[used], layer[used]] = np.array(run.letters, dtype=object)[used]
                top[row, at[used], layer[used]] = _tops(run)[used]
            told = _counts_of(run)
            for key in counted:
                counts = told.get(key)
                if counts is None:
                    statistics[key][row] = np.nan
                else:
                    np.add.at(statistics[key][row], at[used], counts[used])
            start += max(run.epochs)
    _say_lacking_metrics(task, by_candidate, notices)
    _say_missing_values(task, candidates, values, notices)
    return TaskTable(
        task=task,
        version=runs[0].version,
        setting=runs[0].setting,
        setting_name=runs[0].setting_name,
        candidates=candidates,
        items=items,
        values=values,
        statistics=statistics,
        letters=letters,
        top=top,
        clusters=_clusters(items, facts),
        facts=facts,
        runs={name: by_candidate[name] for name in candidates},
    )


def _counts_of(run: Run) -> dict[str, np.ndarray]:
    """The statistics of a run's rows, those of its refusals among them."""
    counts, declined = run.statistics.get("bleu4/answer"), run.values.get("declined/answer")
    if counts is None or declined is None:
        return run.statistics
    return run.statistics | {DECLINED: counts * (np.nan_to_num(declined) == 1)[:, None]}


def _common_items(task: str, covered: dict[str, set[str]], notices: list[Notice]) -> set[str]:
    """The items that all candidates share; candidates that lack most items are taken out of `covered`, and named."""
    everything = set.union(*covered.values())
    for name in sorted(covered, key=lambda n: len(covered[n])):
        lacking = len(everything - covered[name])
        if len(covered) > 1 and lacking > _MISSING_TOLERATED * len(everything):
            del covered[name]
            everything = set.union(*covered.values())
            notices.append(
                Notice(
                    "items",
                    f"{task}: {name} lacks {lacking} items that others have, more than half of them, and is not "
                    "compared on this task.",
                )
            )
    common = set.intersection(*covered.values())
    if not common and len(covered) > 1:
        notices.append(
            Notice(
                "items",
                f"{task}: its {len(covered)} candidates share no item, so nothing is compared on it. Run them on the "
                "same items (the same source, --limit and --sample-id).",
            )
        )
        return common
    short = {name: len(everything - ids) for name, ids in covered.items() if everything - ids}
    if short:
        named = listed([f"{name} ({count})" for name, count in sorted(short.items())])
        notices.append(
            Notice(
                "items",
                f"{task}: {len(everything) - len(common)} of {len(everything)} items are missing for some candidates "
                f"({named}); comparisons use the {len(common)} that all have.",
            )
        )
    return common


def _say_lacking_metrics(task: str, by_candidate: dict[str, list[Run]], notices: list[Notice]) -> None:
    families = {
        name: {key.split("/")[0] for run in runs for key in run.values if "_floor" not in key and not _reread(key)}
        for name, runs in by_candidate.items()
    }
    lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for metric in sorted(set.union(*families.values())):
        without = tuple(sorted(name for name, has in families.items() if metric not in has))
        if without:
            lacking[without].append(metric)
    for without, metrics in lacking.items():
        notices.append(
            Notice(
                "metric",
                f"{task}: {listed(metrics, 12)} {'is' if len(metrics) == 1 else 'are'} missing for {listed(without)}; "
                "`inspect score` adds what a log lacks.",
            )
        )
    used = {metric for has in families.values() for metric in has}
    if not used & _HEADLINES.keys():
        notices.append(
            Notice(
                "metric",
                f"{task}: scored for {listed(sorted(used))} only, of which this report makes no table; the values are "
                "in rows.parquet.",
            )
        )


def _say_missing_values(task: str, candidates: list[str], values: dict[str, np.ndarray], notices: list[Notice]) -> None:
    """Items on which a score was logged as NaN: they are left out of that metric for every candidate."""
    said: dict[tuple[int, int, tuple[str, ...]], list[str]] = defaultdict(list)
    for metric, key in _HEADLINES.items():
        if key not in values or values[key].shape[1] == 0:
            continue
        missing = ~np.isfinite(values[key]).any(axis=2)
        scored = ~missing.all(axis=1)
        hit = missing[scored].any(axis=0)
        if hit.any():
            who = tuple(name for name, lacks in zip(candidates, missing.any(axis=1) & scored, strict=True) if lacks)
            said[int(hit.sum()), len(hit), who].append(metric)
        elif not scored.any():
            said[len(hit), len(hit), tuple(candidates)].append(metric)
    for (count, total, who), metrics in said.items():
        notices.append(
            Notice(
                "values",
                f"{task}: {', '.join(metrics)} {'has' if len(metrics) == 1 else 'have'} no value on {count} of "
                f"{total} items for {listed(who)}; those items are left out of it for every candidate.",
            )
        )


def _reread(key: str) -> bool:
    """Whether a metric comes from the report's own judging of stored text rather than from a scorer."""
    return key.split("/")[0].removeprefix("accuracy_").removeprefix("answered_") in EXTRACTORS


def _tops(run: Run) -> np.ndarray:
    return np.array([max(p.values()) / sum(p.values()) if p and sum(p.values()) else np.nan for p in run.probabilities])


def _clusters(items: list[str], facts: dict[str, dict[str, Any]]) -> np.ndarray | None:
    labels = [facts.get(i, {}).get("cluster") or i for i in items]
    return np.array(labels) if len(set(labels)) < len(labels) else None


def _place(run: Run) -> tuple[str, str, str, int, str]:
    return run.task, run.candidate, key_of(run.setting), -1 if run.seed is None else run.seed, run.created


def _candidate_order(runs: Sequence[Run]) -> list[str]:
    """By series and weights where a sweep wrote them, else by name."""
    weights = {run.candidate: (run.series, run.weights.get("pt", 0.0), -run.weights.get("sft", 0.0)) for run in runs}
    return sorted({run.candidate for run in runs}, key=lambda name: (weights[name], name))
