"""`medbench sweep`: candidates x tasks x decoding settings x thinking modes, as one resumable Inspect eval set.

medbench sweep STUDY.yaml --out DIR [--dry-run]
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from inspect_ai.hooks import Hooks, TaskEnd, hooks

from medbench.benchmark import catalog
from medbench.errors import MedbenchError
from medbench.files.manifest import NAME as MANIFEST
from medbench.files.manifest import read_manifest, sha256_file, write_manifest
from medbench.files.redact import shown_arguments
from medbench.provider.known import provider_of
from medbench.trainers import serving
from medbench.trainers.study import Candidate, Run, Study, read_study

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model

# A sample that fails is tried again this often before its task counts as failed.
RETRIES = 3


def sweep(
    study: Study,
    out: str | Path,
    *,
    display: str | None = None,
    on_task_end: Callable[[EvalLog], None] | None = None,
) -> tuple[bool, list[EvalLog]]:
    """Run a study; what an earlier call finished in `out` is kept.

    Candidates of one base share its memory; other local models are loaded one after the other. Behind a server
    (`serve:`) their adapters are loaded there as their turn comes, and unloaded afterwards.

    Args:
        study: what to run.
        out: where the logs go.
        display: Inspect's display.
        on_task_end: called with the log of each run as it ends.

    Returns whether every run succeeded, and the headers of the logs, which lie in `out/logs`.

    Raises:
        MedbenchError: a task, model or adapter that does not exist or does not fit.
    """
    from inspect_ai import eval_set

    tasks = TaskSource(study)
    check(study, tasks)
    # Absolute: after a kill Inspect finds the samples that were not yet in the log by the log's full path.
    out = Path(out).absolute()
    (out / "logs").mkdir(parents=True, exist_ok=True)
    success, logs = True, []
    serve = study.serve
    if serve is not None:
        serving.check(serve, study.candidates, study.base)
        tasks.ids = serving.adapter_ids(serve, list(study.document.get("adapters") or {}))
    for group in groups(study.runs, 0 if serve is None or serve.kind != "vllm" else serve.slots):
        models = {run.candidate.name: _model(run.candidate) for run in group}
        _listeners[:] = [on_task_end] if on_task_end else []
        try:
            made = list({run.candidate.name: run.candidate for run in group if run.candidate.adapters}.values())
            with serving.loaded(serve, made, study.base, out, adapter_hashes):
                done, headers = eval_set(
                    [tasks.prepared(run, models[run.candidate.name]) for run in group],
                    log_dir=str(out / "logs"),
                    model=None,
                    limit=study.document.get("limit"),
                    epochs=study.document.get("epochs"),
                    max_samples=study.document.get("max_samples"),
                    # One run at a time: candidates of one base would only take turns.
                    max_tasks=study.document.get("max_tasks", 1),
                    retry_attempts=RETRIES,
                    # The groups of a study share the directory.
                    log_dir_allow_dirty=True,
                    display=display,  # type: ignore[arg-type]
                )
        finally:
            _listeners[:] = []
            for model in models.values():
                close = getattr(model.api, "close", None)
                if close is not None and model.api.__class__.__module__.startswith("medbench."):
                    close()
        success = success and done
        logs += headers
    _remove_killed(out, logs)
    if success:
        write_manifest(
            out,
            "sweep",
            settings=study.document,
            inputs={"study": sha256_file(study.path)},
            runs=len(study.runs),
            logs=sorted(Path(log.location).name for log in logs),
        )
    return success, logs


def check(study: Study, tasks: TaskSource) -> None:
    """Whatever can be known to be wrong before the first generation: a study may run for days until it gets there.

    Raises:
        MedbenchError: a task or an argument that does not exist, an adapter that does not fit its base.
    """
    for run in study.runs:
        tasks.task(run)
    checked: set[tuple[str, str]] = set()
    for candidate in study.candidates:
        given = candidate.adapters
        unweighted = repr([text.rpartition(":")[0] for text in given])  # ratios of the same adapters are alike
        if given and (candidate.model, unweighted) not in checked:
            any_base = bool((study.document.get("model_args") or {}).get("any_base"))
            _check_adapters(study.base, given, any_base=any_base)
            checked.add((candidate.model, unweighted))


def _check_adapters(base_name: str, given: Sequence[str], *, any_base: bool) -> None:
    from medbench.merging.adapters import parse_adapter, read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    from medbench.merging.fitting import fit_adapters
    from medbench.provider.loading import resolve

    base = open_checkpoint(resolve(base_name))
    loaded = [read_adapter(name, path) for name, path, _ in map(parse_adapter, given)]
    fit_adapters(base, loaded, any_base=any_base)


def _remove_killed(out: Path, logs: Sequence[EvalLog]) -> None:
    """Remove the logs that a killed sweep left unfinished, once their samples are in a finished one."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    finished = {log.eval.task_id for log in logs if log.status == "success"}
    for info in list_eval_logs(str(out / "logs")):
        left = read_eval_log(info, header_only=True)
        if left.status != "success" and left.eval.task_id in finished:
            Path(info.name.removeprefix("file://")).unlink()


def groups(runs: Sequence[Run], slots: int = 0) -> Iterator[list[Run]]:
    """Runs whose models may be in memory together: those of one local base, and all remote ones.

    `slots`: how many candidates with adapters a server holds at a time; 0 for any number.
    """

    def memory(run: Run) -> str:
        model = run.candidate.model
        return model if provider_of(model).local else ""

    if slots:
        names = list(dict.fromkeys(run.candidate.name for run in runs if run.candidate.adapters))
        for first in range(0, len(names), slots):
            yield [run for run in runs if run.candidate.name in names[first : first + slots]]
        runs = [run for run in runs if not run.candidate.adapters]
    for _, group in itertools.groupby(sorted(runs, key=memory), key=memory):
        yield list(group)


def _model(candidate: Candidate) -> Model:
    from inspect_ai.model import get_model

    from medbench.private.inspect import PrerequisiteError, reason

    try:
        model = get_model(candidate.model, memoize=False, **candidate.model_args)
        # What Inspect writes into the log; the provider has read the originals.
        model.model_args = shown_arguments(model.model_args)
        return model
    except PrerequisiteError as error:  # a package or a key that the provider needs
        why = reason(error)
    except (ValueError, OSError) as error:  # a provider that Inspect does not know, or a model that is not there
        why = str(error)
    raise MedbenchError(f"candidate {candidate.name}: {why}")


class TaskSource:
    """The study's Inspect tasks: each is made once a thinking mode, and its dataset is shared by all runs."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._system = system_prompt(study)
        self._made: dict[tuple[str, str, str], tuple[Task, bool]] = {}
        # Of the study's adapters at a llama.cpp server.
        self.ids: Mapping[str, int] = {}

    def task(self, run: Run) -> tuple[Task, bool]:
        """The task of a run, and whether it takes the thinking mode as its own argument.

        Raises:
            MedbenchError: there is no such task.
        """
        key = (run.task, repr(sorted(run.task_args.items())), run.thinking)
        if key not in self._made:
            task = catalog.make(run.task, dict(run.task_args))
            takes = "thinking" in catalog.parameters(task)
            if takes and run.thinking != "default":
                task = catalog.make(run.task, {**run.task_args, "thinking": run.thinking})
            self._made[key] = task, takes
        return self._made[key]

    def samples(self, run: Run) -> int:
        """Generations of one run."""
        task, _ = self.task(run)
        count = len(task.dataset)  # type: ignore[arg-type]
        limit = self._study.document.get("limit") or count
        return min(count, limit) * (self._study.document.get("epochs") or task.epochs or 1)

    def prepared(self, run: Run, model: Model) -> Task:
        """A task of its own for one run: its model, decoding and what the report needs to know."""
        from inspect_ai import task_with
        from inspect_ai.model import GenerateConfig

        from medbench.benchmark.solvers import thinking_arguments

        task, takes = self.task(run)
        settings = {key: value for key, value in run.decoding.items() if key != "name"}
        config = task.config.merge(GenerateConfig(**settings, system_message=self._system))
        if not takes and run.thinking != "default":
            config = config.merge(GenerateConfig(**thinking_arguments(model, run.thinking)))  # type: ignore[arg-type]
        if self._study.serve is not None and run.candidate.adapters:
            fields = serving.request_fields(self._study.serve, run.candidate.weights, self.ids)
            config = config.merge(GenerateConfig(extra_body={**(config.extra_body or {}), **fields} or None))
        about = {
            "candidate": run.candidate.name,
            "series": run.candidate.series,
            "weights": dict(run.candidate.weights),
            "method": run.candidate.method,
            "settings": dict(run.candidate.settings),
            "decoding": dict(run.decoding),
            "thinking": run.thinking,
            "hashes": adapter_hashes(run.candidate),
            # rounding, effective, update_kept: what a candidate in this process really is
            **getattr(model.api, "merged", {}),
        }
        return task_with(
            copy.copy(task), model=model, config=config, metadata={**(task.metadata or {}), "medbench": about}
        )


def system_prompt(study: Study) -> str | None:
    """What every candidate of a study is told first: the system prompt that the adapters were trained under, if any.

    A study's ``system`` says otherwise: ``none``, or the text itself. All candidates get the same, or they would be
    compared under unlike prompts.

    Raises:
        MedbenchError: two adapters were trained under different ones.
    """
    from medbench.merging.adapters import parse_adapter

    given = study.document.get("system", "training")
    if given != "training":
        return None if given == "none" else given
    directories = {
        name: directory
        for candidate in study.candidates
        for name, directory, _ in map(parse_adapter, candidate.adapters)
    }
    manifests = {name: read_manifest(path) for name, path in directories.items() if (Path(path) / MANIFEST).is_file()}
    found = {name: prompt for name, made in manifests.items() if (prompt := made.get("system_prompt"))}
    if len(set(found.values())) > 1:
        told = "; ".join(f"{name}: {prompt!r:.80}" for name, prompt in found.items())
        raise MedbenchError(
            f"the adapters were trained under different system prompts ({told}). Say which all candidates get, in the "
            "study file: `system: TEXT`, or `system: none`."
        )
    return next(iter(found.values()), None)


def adapter_hashes(candidate: Candidate) -> dict[str, str]:
    """SHA-256 of the weights of each adapter of a candidate, so that a log says what exactly was merged."""
    from medbench.merging.adapters import WEIGHTS, parse_adapter

    parsed = [parse_adapter(text) for text in candidate.adapters]
    return {name: _file_hash(Path(directory) / WEIGHTS) for name, directory, _ in parsed}


# A sweep asks for the same few files once a run.
_file_hash = functools.cache(sha256_file)


def speeds_of(out: Path) -> dict[str, float]:
    """Seconds per generation of the runs that are done in `out`, by log."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    if not (out / "logs").is_dir():
        return {}
    speeds = {}
    for info in list_eval_logs(str(out / "logs")):
        log = read_eval_log(info, header_only=True)
        if log.status == "success" and log.results and log.results.completed_samples:
            begin, end = (_seconds(text) for text in (log.stats.started_at, log.stats.completed_at))
            speeds[info.name] = (end - begin) / log.results.completed_samples
    return speeds


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def plan(study: Study, out: Path, seconds: float | None) -> list[str]:
    """The lines of a dry run: candidates, tasks, decodings, generations, and the time they will take if known.

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
    speeds = speeds_of(out)
    if seconds is None and speeds:
        seconds = sum(speeds.values()) / len(speeds)
        lines.append(f"{len(speeds)} runs in {out} are done, at {seconds:.3g} s a generation")
    if seconds is None:
        lines.append("time: unknown before a run is done; give --seconds-per-generation for an estimate")
    else:
        left = total * (1 - min(1.0, len(speeds) / len(runs)))
        lines.append(f"time: about {_duration(left * seconds)} to go")
    return lines


def _asked(run: Run) -> str:
    """A run's task, with its cue control if it has one."""
    control = run.task_args.get("control")
    return f"{run.task} under {control}" if control else run.task


_listeners: list[Callable[[EvalLog], None]] = []


@hooks(name="sweep_progress", description="Tells a running medbench sweep which runs have ended.")
class _SweepProgress(Hooks):
    def enabled(self) -> bool:
        return bool(_listeners)

    async def on_task_end(self, data: TaskEnd) -> None:
        for listener in _listeners:
            listener(data.log)


@contextmanager
def _progress(runs: int, *, shown: bool) -> Iterator[Callable[[EvalLog], None]]:
    """A bar over the runs of a sweep, on the terminal's error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task("runs", total=runs)

        def advance(log: EvalLog) -> None:
            bar.update(task, advance=1, description=_ended(log))

        yield advance


def _ended(log: EvalLog) -> str:
    """Which run a log is of, and how it ended."""
    candidate = (log.eval.metadata or {}).get("medbench", {}).get("candidate", log.eval.model)
    return f"{candidate}, {log.eval.task}: {log.status}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Default: the study's name beside it.")
@click.option("--dry-run", is_flag=True, help="Print the plan, its generations and an estimate; run nothing.")
@click.option("--seconds-per-generation", type=float, default=None, help="For the estimate of a dry run.")
@click.option("--display", default=None, help="Inspect's display: full, rich, plain, log, none.")
def command(
    study: Path, out: Path | None, dry_run: bool, seconds_per_generation: float | None, display: str | None
) -> None:
    """Evaluate candidates x tasks x decoding settings; run again to go on where it stopped."""
    checked = read_study(study)
    out = out or study.with_suffix("")
    if dry_run:
        click.echo("\n".join(plan(checked, out, seconds_per_generation)))
        return
    with _progress(len(checked.runs), shown=display is None) as advance:
        # Inspect's rich display, "none" included, lays out every run's table of metrics again: a second a run.
        success, logs = sweep(checked, out, display=display or "log", on_task_end=advance)
    click.echo(f"{sum(log.status == 'success' for log in logs)} of {len(checked.runs)} runs done: {out / 'logs'}")
    if not success:
        for log in logs:
            if log.status != "success":
                reason = log.error.message.strip() if log.error else "it did not end"
                click.echo(f"{_ended(log)}: {reason:.500}", err=True)
        click.echo("Some runs failed; the same command tries them again.", err=True)
        raise SystemExit(1)
