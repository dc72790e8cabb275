"""From runs to tables that may be compared: one task, one setting, the same items; and tidy rows for a notebook."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medbench.errors import MedbenchError
from medbench.extractors import EXTRACTORS
from medbench.reports.logs import Notice, Run, find_logs, read_run, setting_key, short_name

# The scores that tables are made of: metric -> the key whose values stand for it.
_HEADLINES = {
    "accuracy": "accuracy/answer",
    "bleu4": "bleu4/raw",
    "rougeL": "rougeL/raw",
    "refusal": "refusal/answer",
    "trace": "trace/raw",
}
# A candidate that lacks more than this share of a task's items would take them from everyone's comparison.
_MISSING_TOLERATED = 0.5


@dataclass
class TaskTable:
    """One task under one setting: every candidate on the same items.

    Attributes:
        items: sample ids, shape (n,), in the order of the columns below.
        values: metric key -> shape (candidates, n, replicates): seeds and epochs side by side, NaN where absent.
        statistics: ``bleu4/<view>`` ... -> shape (candidates, n, 10), summed over replicates.
        clusters: shape (n,) labels where items share a context or group, else None.
        facts: sample id -> category, pair and so on.
        runs: candidate -> its runs here.
    """

    task: str
    version: str
    setting: dict[str, Any]
    setting_name: str
    candidates: list[str]
    items: list[str]
    values: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    clusters: np.ndarray | None
    facts: dict[str, dict[str, Any]]
    runs: dict[str, list[Run]]

    def item_means(self, key: str) -> np.ndarray:
        """Means over replicates, shape (candidates, n); NaN where a candidate lacks the metric."""
        values = self.values[key]
        known = np.isfinite(values)
        count = known.sum(axis=2)
        total = np.where(known, values, 0.0).sum(axis=2)
        return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)

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
    """

    location: str
    runs: list[Run]
    notices: list[Notice]
    tables: dict[str, TaskTable]
    variants: dict[str, list[TaskTable]]
    candidates: list[str]
    weights: dict[str, dict[str, float]]
    series: dict[str, str]


def load_study(location: str, progress: Callable[[int, int], None] | None = None) -> Study:
    """Read all logs below `location` and arrange them.

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
    return arrange(location, runs, notices)


def arrange(location: str, runs: Sequence[Run], notices: Iterable[Notice] = ()) -> Study:
    """Drop re-runs and mixed versions, and build the tables."""
    notices = list(notices)
    kept = _one_version(_latest(runs, notices), notices)
    tables: dict[str, TaskTable] = {}
    variants: dict[str, list[TaskTable]] = defaultdict(list)
    by_task: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in kept:
        by_task[run.task][setting_key(run)].append(run)
    for task, settings in sorted(by_task.items()):
        # The main setting is the one that most candidates share; among equals the one with most rows.
        order = sorted(
            settings.values(), key=lambda rs: (-len({r.candidate for r in rs}), -sum(len(r.ids) for r in rs))
        )
        built = [_table(task, members, notices) for members in order]
        tables[task] = built[0]
        variants[task] = built[1:]
        if built[1:] and len(built[0].candidates) > 1:
            lacking = {r.candidate for r in kept if r.task == task} - set(built[0].candidates)
            if lacking:
                notices.append(
                    Notice(
                        "settings",
                        f"{task}: {_list(sorted(lacking))} ran only under other settings than {built[0].setting_name}; "
                        "not compared with the rest.",
                    )
                )
    candidates = _candidate_order(kept)
    return Study(
        location=location,
        runs=kept,
        notices=notices,
        tables=tables,
        variants=dict(variants),
        candidates=candidates,
        weights={run.candidate: run.weights for run in kept if run.weights},
        series={run.candidate: run.series for run in kept if run.series},
    )


def _latest(runs: Sequence[Run], notices: list[Notice]) -> list[Run]:
    groups: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[(run.task, run.version, run.candidate, setting_key(run), run.seed)].append(run)
    kept = []
    for members in groups.values():
        members.sort(key=lambda run: (run.created, run.file))
        kept.append(members[-1])
        if members[:-1]:
            older = _list([short_name(run.file) for run in members[:-1]])
            notices.append(
                Notice(
                    "rerun",
                    f"{members[-1].candidate} ran {members[-1].task} {len(members)} times under one setting and seed: "
                    f"the newest, {short_name(members[-1].file)}, is used; {older} left out, not averaged in.",
                )
            )
    return kept


def _one_version(runs: Sequence[Run], notices: list[Notice]) -> list[Run]:
    versions: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        versions[run.task][run.version] += 1
    chosen = {task: max(counts, key=lambda v: (counts[v], v)) for task, counts in versions.items()}
    for task, counts in versions.items():
        if len(counts) > 1:
            dropped = [
                f"{short_name(r.file)} (version {r.version})"
                for r in runs
                if r.task == task and r.version != chosen[task]
            ]
            notices.append(
                Notice(
                    "version",
                    f"{task} occurs in versions {_list(sorted(counts))}, whose scores are not comparable: version "
                    f"{chosen[task]} is used; left out: {_list(dropped)}.",
                )
            )
    return [run for run in runs if run.version == chosen[run.task]]


def _table(task: str, runs: list[Run], notices: list[Notice]) -> TaskTable:
    by_candidate: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_candidate[run.candidate].append(run)
    covered = {name: set.intersection(*[set(r.ids) for r in rs]) for name, rs in by_candidate.items()}
    common = _common_items(task, covered, notices)
    for run in runs:
        if run.unscored:
            notices.append(
                Notice(
                    "unscored",
                    f"{short_name(run.file)}: {len(run.unscored)} samples ended in an error or without a score. They "
                    "are missing, not wrong: the items are left out for every candidate.",
                )
            )
    candidates = [name for name in _candidate_order(runs) if name in covered]
    items = [i for i in dict.fromkeys(i for run in runs for i in run.ids) if i in common]
    facts = {i: run.items[i] for run in reversed(runs) for i in run.items}
    keys = sorted({key for run in runs for key in run.values})
    counted = sorted({key for run in runs for key in run.statistics})
    replicates = max(sum(max(run.epochs) for run in by_candidate[name]) for name in candidates)
    values = {key: np.full((len(candidates), len(items), replicates), np.nan) for key in keys}
    statistics = {key: np.zeros((len(candidates), len(items), 10)) for key in counted}
    column = {item: index for index, item in enumerate(items)}
    for row, name in enumerate(candidates):
        start = 0
        for run in by_candidate[name]:
            at = np.array([column.get(i, -1) for i in run.ids])
            used = at >= 0
            layer = start + np.array(run.epochs) - 1
            for key, x in run.values.items():
                values[key][row, at[used], layer[used]] = x[used]
            for key in counted:
                counts = run.statistics.get(key)
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
        clusters=_clusters(items, facts),
        facts=facts,
        runs={name: by_candidate[name] for name in candidates},
    )


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
        named = _list([f"{name} ({count})" for name, count in sorted(short.items())])
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
                f"{task}: {_list(metrics, 12)} {'is' if len(metrics) == 1 else 'are'} missing for {_list(without)}; "
                "`inspect score` adds what a log lacks.",
            )
        )
    used = {metric for has in families.values() for metric in has}
    if not used & _HEADLINES.keys():
        notices.append(
            Notice(
                "metric",
                f"{task}: scored for {_list(sorted(used))} only, of which this report makes no table; the values are "
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
                f"{task}: {', '.join(metrics)} {'has' if len(metrics) == 1 else 'have'} no value (NaN) on {count} of "
                f"{total} items for {_list(who)}; those items are left out of it for every candidate.",
            )
        )


def _reread(key: str) -> bool:
    """Whether a metric comes from the report's own judging of stored text rather than from a scorer."""
    return key.split("/")[0].removeprefix("accuracy_").removeprefix("answered_") in EXTRACTORS


def _clusters(items: list[str], facts: dict[str, dict[str, Any]]) -> np.ndarray | None:
    labels = [facts.get(i, {}).get("cluster") or i for i in items]
    return np.array(labels) if len(set(labels)) < len(labels) else None


def _candidate_order(runs: Sequence[Run]) -> list[str]:
    """By series and weights where a sweep wrote them, else by name."""
    weights = {run.candidate: (run.series, run.weights.get("pt", 0.0), -run.weights.get("sft", 0.0)) for run in runs}
    return sorted({run.candidate for run in runs}, key=lambda name: (weights[name], name))


def _list(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


_SCHEMA = pa.schema(
    [
        *[
            (name, pa.dictionary(pa.int32(), pa.string()))
            for name in ("candidate", "weights", "series", "task", "version")
        ],
        ("sample_id", pa.string()),
        ("epoch", pa.int32()),
        *[(name, pa.dictionary(pa.int32(), pa.string())) for name in ("metric", "view")],
        ("value", pa.float64()),
        *[(name, pa.dictionary(pa.int32(), pa.string())) for name in ("reason", "trace_status", "decoding")],
        ("seed", pa.int64()),
        ("log", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def tidy(run: Run) -> pa.Table:
    """One row per sample, epoch, metric and view. `value` is null where a sample lacks the metric that others have."""
    n, keys = len(run.ids), sorted(run.values)

    def constant(text: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n * len(keys), dtype=np.int32)), pa.array([text]))

    def coded(texts: Sequence[str | None], repeat: int) -> pa.DictionaryArray:
        encoded = pa.array(list(texts), type=pa.string()).dictionary_encode()
        return pa.DictionaryArray.from_arrays(pa.concat_arrays([encoded.indices] * repeat), encoded.dictionary)

    metrics = [key.rsplit("/", 1) if "/" in key else [key, ""] for key in keys]
    view_index = pa.array(np.repeat(np.arange(len(keys), dtype=np.int32), n))
    values = pa.array(np.concatenate([run.values[key] for key in keys]))
    reasons = [r for _, view in metrics for r in run.reasons.get(view, [None] * n)]
    columns = [
        constant(run.candidate),
        constant(json.dumps(run.weights, sort_keys=True)),
        constant(run.series),
        constant(run.task),
        constant(run.version),
        pa.array(run.ids * len(keys)),
        pa.array(run.epochs * len(keys), type=pa.int32()),
        pa.DictionaryArray.from_arrays(view_index, pa.array([metric for metric, _ in metrics])),
        pa.DictionaryArray.from_arrays(view_index, pa.array([view for _, view in metrics])),
        pa.compute.if_else(pa.compute.is_nan(values), pa.scalar(None, pa.float64()), values),
        coded(reasons, 1),
        coded(run.trace_status, len(keys)),
        constant(json.dumps(run.setting, sort_keys=True, default=str)),
        pa.array([run.seed] * (n * len(keys)), type=pa.int64()),
        constant(short_name(run.file)),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def write_parquet(runs: Sequence[Run], path: Path) -> int:
    """Write the tidy rows of all runs to one Parquet file, a row group per run; returns the number of rows."""
    total = 0
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for run in runs:
            table = tidy(run)
            writer.write_table(table)
            total += len(table)
    return total
