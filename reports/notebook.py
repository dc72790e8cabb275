"""For notebooks: logs as data frames, two candidates compared, the leaderboard, and the report, as plain functions.

Scores are in their own units: rates 0-1, BLEU and ROUGE 0-100. Intervals are at 95%.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from medbench.errors import MedbenchError, unknown
from medbench.reports.estimates import Analysis, Options
from medbench.reports.logs import Notice, Run
from medbench.reports.parquet import tidy
from medbench.reports.report import Report
from medbench.reports.results import headlines, results
from medbench.reports.rows import arrange, load_study, read_runs
from medbench.reports.write import make


def load_rows(logdir: str | Path) -> pd.DataFrame:
    """Every score of every output below a directory of eval logs.

    Of runs repeated under one setting the newest whole one counts, as in the report.

    Returns:
        One row per sample, epoch, metric and view: ``candidate, weights, series, task, version, sample_id, epoch,
        metric, view, value, reason, trace_status, decoding, seed, control, log``; `value` is NaN where a sample lacks
        the metric, `control` is empty for items as they are (`medbench.benchmark.controls`). Left-out logs are told in
        ``.attrs["notices"]``.

    Raises:
        MedbenchError: no logs there, or none that can be used.
    """
    study = load_study(str(logdir))
    frame: pd.DataFrame = pa.concat_tables([tidy(run) for run in study.runs], promote_options="default").to_pandas()
    frame.attrs["notices"] = [notice.text for notice in study.notices]
    return frame


def leaderboard(logdir: str | Path, *, resamples: int = Options.resamples, seed: int = Options.seed) -> pd.DataFrame:
    """The leaderboard's numbers, the best of each task and metric first.

    Returns:
        ``task, metric, candidate, score, low, high, n, chance, floor, rank_low, rank_high, tied``: `chance` for
        accuracies and `floor` for surface scores (NaN elsewhere); candidates of one task and metric that share a letter
        under `tied` are not told apart, and it is None where there are too few items to test.

    Raises:
        MedbenchError: no logs there, or none that can be used.
    """
    study = load_study(str(logdir))
    analysis = Analysis(study, Options(resamples=resamples, seed=seed))
    rows: list[dict[str, object]] = [
        {
            "task": result.task,
            "metric": result.metric,
            "candidate": result.candidate,
            "score": result.interval.estimate,
            "low": result.interval.low,
            "high": result.interval.high,
            "n": result.n,
            "chance": result.chance,
            "floor": result.floor,
            "rank_low": result.ranks[0],
            "rank_high": result.ranks[1],
            "tied": result.tied,
        }
        for result in results(analysis)
    ]
    return _framed(rows, study.notices)


def compare(
    a: str | Path,
    b: str | Path,
    *,
    logs: str | Path | None = None,
    resamples: int = Options.resamples,
    seed: int = Options.seed,
) -> pd.DataFrame:
    """Two candidates on the items that both answered: `b` minus `a`, for every task and metric that both have.

    Args:
        a, b: an eval log, or a directory of logs of one candidate; with `logs`, names of two candidates there.
        logs: a directory of eval logs.
        resamples: of the bootstrap that scores which are no means over items need.
        seed: of the bootstrap.

    Returns:
        ``task, metric, n, a, b, difference, low, high, p, detectable``: p of the paired test, uncorrected; `detectable`
        is the smallest true difference that this many items show four times in five.

    Raises:
        MedbenchError: a place holds several candidates, there is no such candidate, or the two share no task.
    """
    if logs is None:
        (first, some), (second, others) = _alone(a), _alone(b)
        if first == second:
            first, second = str(a), str(b)
        notices = [*some[1], *others[1]]
        runs = [replace(run, candidate=first) for run in some[0]] + [
            replace(run, candidate=second) for run in others[0]
        ]
        study = arrange(f"{a} and {b}", runs, notices)
    else:
        study = load_study(str(logs))
        first, second = str(a), str(b)
        for name in (first, second):
            if name not in study.candidates:
                raise MedbenchError(f"{logs}: {unknown('candidate', name, study.candidates)}")
    if first == second:
        raise MedbenchError(f"{first} would be compared with itself; name two candidates.")
    analysis = Analysis(study, Options(resamples=resamples, seed=seed))
    rows = []
    for task, metric, estimate in headlines(analysis):
        if not {first, second} <= set(estimate.candidates):
            continue
        change = estimate.difference(first, second)
        rows.append(
            {
                "task": task,
                "metric": metric,
                "n": estimate.n,
                "a": estimate.value(first),
                "b": estimate.value(second),
                **change._asdict(),
                "detectable": estimate.detectable(first, second),
            }
        )
    if not rows:
        said = " ".join(notice.text for notice in study.notices[:5])
        raise MedbenchError(
            f"{first} and {second} share no task under one version and one setting, so nothing can be compared. {said}"
        )
    frame = _framed(rows, study.notices)
    frame.attrs |= {"a": first, "b": second}
    return frame


def report(
    logdir: str | Path,
    out: str | Path,
    *,
    audit: str | Path | None = None,
    contamination: tuple[str, ...] = (),
    manifests: tuple[str, ...] = (),
    cards: tuple[str, ...] = (),
    margin: float | None = None,
    resamples: int = Options.resamples,
    seed: int = Options.seed,
    title: str = "medbench report",
) -> Report:
    """What `medbench report` does: compute the report of a directory of logs, and write it to `out`.

    Args:
        audit: findings.jsonl of `medbench audit`, or its directory.
        contamination: directories of `medbench contamination`.
        manifests: further directories of adapters, for their loss curves.
        cards: what metrics are worth against people, files of `medbench meta`.
        margin: points of accuracy (0-100) that do not matter.

    Returns:
        The report: `.headline`, `.lead`, `.sections` with their tables.

    Raises:
        MedbenchError: no logs there or none that can be used; `out` is a file or is being written.
    """
    built, _ = make(
        str(logdir),
        Path(out),
        audit=None if audit is None else str(audit),
        manifests=manifests,
        contamination=contamination,
        cards=cards,
        margin=margin,
        resamples=resamples,
        seed=seed,
        title=title,
    )
    return built


def _alone(place: str | Path) -> tuple[str, tuple[list[Run], list[Notice]]]:
    """The one candidate below a place, and its runs."""
    runs, notices = read_runs(str(place))
    names = sorted({run.candidate for run in runs})
    if len(names) > 1:
        raise MedbenchError(
            f"{place} holds {len(names)} candidates ({', '.join(names[:6])}): compare two of them by name with "
            f"logs={str(place)!r}."
        )
    return names[0], (runs, notices)


def _framed(rows: list[dict[str, object]], notices: list[Notice]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame.attrs["notices"] = [notice.text for notice in notices]
    return frame
