"""What a study will take before it is run: `medbench sweep --dry-run`."""

from __future__ import annotations

from pathlib import Path

from medbench.private.inspect import replaced_logs_read_again
from medbench.trainers import claims
from medbench.trainers.shares import share, stay_together
from medbench.trainers.study import Run, Study
from medbench.trainers.study_tasks import TaskSource, check, system_prompt


def speeds_of(out: Path) -> dict[str, float]:
    """Seconds per generation of the runs that are done in `out`, by log."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    if not (out / "logs").is_dir():
        return {}
    speeds = {}
    for info in list_eval_logs(str(out / "logs")):
        with replaced_logs_read_again():  # as those of running workers are
            log = read_eval_log(info, header_only=True)
        if log.status == "success" and log.results and log.results.completed_samples:
            begin, end = (_seconds(text) for text in (log.stats.started_at, log.stats.completed_at))
            speeds[info.name] = (end - begin) / log.results.completed_samples
    return speeds


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def plan(study: Study, out: Path, seconds: float | None, workers: int = 1) -> list[str]:
    """The lines of a dry run: candidates, tasks, decodings, generations, and the time they will take if known.

    `workers`: of several, the share of each is told.

    Raises:
        MedbenchError: as `check`.
    """
    source = TaskSource(study)
    check(study, source)
    runs = study.runs
    lines = [f"{len(study.candidates)} candidates"]
    lines += [f"  {candidate.series:9} {candidate.name}" for candidate in study.candidates]
    first = {run.task + repr(run.task_args): run for run in runs}
    plain = sum("control" not in args for _, args in study.tasks)
    under = f", {len(study.tasks) - plain} times under a cue control" if 0 < plain < len(study.tasks) else ""
    lines.append(f"{plain or len(study.tasks)} tasks{under}")
    lines += dict.fromkeys(f"  {_asked(run)}: {source.samples(run)} generations a run" for run in first.values())
    system = system_prompt(study)
    if system is not None:
        why = "that of training" if study.document.get("system", "training") == "training" else "the study file's"
        lines.append(f"system prompt of all candidates ({why}): {system!r}")
    lines.append(f"{len(study.decodings)} decoding settings x {len(study.thinking)} thinking modes")
    lines += ["  " + ", ".join(f"{key}={value}" for key, value in d.items()) for d in study.decodings]
    total = sum(source.samples(run) for run in runs)
    lines.append(f"{len(runs)} runs, {total:,} generations")
    if workers > 1:
        lines += [f"  worker {number}: {_share(study, source, number, workers)}" for number in range(workers)]
    speeds = speeds_of(out)
    if seconds is None and speeds:
        seconds = sum(speeds.values()) / len(speeds)
        lines.append(f"{len(speeds)} runs in {out} are done, at {seconds:.3g} s a generation")
    if seconds is None:
        lines.append("time: unknown before a run is done; give --seconds-per-generation for an estimate")
    else:
        left = total * (1 - min(1.0, len(speeds) / len(runs)))
        each = f" if {workers} workers each do so" if workers > 1 else ""
        lines.append(f"time: about {_duration(left * seconds / workers)} to go{each}")
    return lines


def status(out: Path) -> list[str]:
    """The lines of `--status`: how far each worker of the sweep in `out` is, and whether it is running.

    Where the number of workers has changed, those that started last are told.
    """
    lines = []
    found = claims.records(out)
    shares = max(found, key=lambda record: record.started).of if found else 0
    for record in (record for record in found if record.of == shares):
        if record.ended is not None:
            state = f"ended {record.ended}" + ("" if record.success else "; not all of its runs succeeded")
        elif claims.alive(out / claims.FOLDER, record):
            state = f"running since {record.started}"
        else:
            state = f"killed or lost; started {record.started}"
        where = f"process {record.pid} on {record.host.split()[0]}"
        lines.append(f"worker {record.name}: {record.done} of {record.runs} runs, {state} ({where})")
    return lines or [f"no sweep has been started in {out}"]


def _share(study: Study, source: TaskSource, worker: int, of: int) -> str:
    mine = share(study.runs, source.samples, worker, of, undivided=stay_together(study))
    candidates = len({run.candidate.name for run in mine})
    return f"{len(mine)} runs of {candidates} candidates, {sum(map(source.samples, mine)):,} generations"


def _asked(run: Run) -> str:
    """A run's task, with its cue control if it has one."""
    control = run.task_args.get("control")
    return f"{run.task} under {control}" if control else run.task


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
