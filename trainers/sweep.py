"""`medbench sweep`: candidates x tasks x decoding settings x thinking modes, as one resumable Inspect eval set.

medbench sweep STUDY.yaml --out DIR [--dry-run]
medbench sweep STUDY.yaml --out DIR --workers 4         # processes of this machine; --engine ray: of a cluster
medbench sweep STUDY.yaml --out DIR --worker 0 --of 4   # one of them, started by something else (docs/scale.md)
"""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from inspect_ai.hooks import Hooks, TaskEnd, hooks

from medbench.errors import MedbenchError, without_secrets
from medbench.files.directories import full_disk_named
from medbench.files.manifest import sha256_file, write_manifest
from medbench.files.options import Here
from medbench.files.redact import shown_arguments
from medbench.private.inspect import replaced_logs_read_again
from medbench.provider.known import provider_of
from medbench.trainers import claims, launch, serving
from medbench.trainers.shares import share, stay_together
from medbench.trainers.study import Candidate, Run, Study, read_study
from medbench.trainers.study_plan import plan, status
from medbench.trainers.study_tasks import TaskSource, adapter_hashes, check

if TYPE_CHECKING:
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
    worker: int = 0,
    of: int = 1,
) -> tuple[bool, list[EvalLog]]:
    """Run a study, or one worker's share of it; what an earlier call finished in `out` is kept.

    Candidates of one base share its memory; other local models are loaded one after the other. Behind a server
    (`serve:`) their adapters are loaded there as their turn comes, and unloaded afterwards.

    Args:
        study: what to run.
        out: where the logs go; on a file system that all workers see.
        display: Inspect's display.
        on_task_end: called with the log of each run as it ends.
        worker: which share of the runs (`medbench.trainers.shares`).
        of: the number of shares.

    Returns whether every run of the share succeeded, and the headers of the logs, which lie in `out/logs`. The worker
    that ends the study writes its manifest.

    Raises:
        MedbenchError: a task, model or adapter that does not exist or does not fit; the same sweep is running in `out`.
    """
    tasks = TaskSource(study)
    check(study, tasks)
    # Absolute: after a kill Inspect finds the samples that were not yet in the log by the log's full path.
    out = Path(out).absolute()
    mine = share(study.runs, tasks.samples, worker, of, undivided=stay_together(study))
    record = claims.Record(worker, of, study=sha256_file(study.path), runs=len(mine))
    earlier = claims.read(claims.path_of(out / claims.FOLDER, record, "json"))
    ended: set[str] = set()

    def tell(log: EvalLog) -> None:
        if log.eval.task_id not in ended:  # not an earlier attempt of the same run
            ended.add(log.eval.task_id)
            claim.advance()
        if on_task_end is not None:
            on_task_end(log)

    with (
        full_disk_named(out, "What was logged is kept."),
        claims.claimed(out, record, lost=_thread.interrupt_main) as claim,
    ):
        _name_eval_set(out / "logs")
        kept = None if of == 1 else _kept(out, earlier, record)
        success, logs = (True, kept) if kept is not None else _evaluate(study, mine, tasks, out, display, tell, of == 1)
        claim.end(success, sorted(Path(log.location).name for log in logs if log.status == "success"))
        everyone = claims.complete(out, of, record.study)
        if of == 1 or everyone is not None:
            _remove_killed(out)
        if everyone is not None:
            _finish(study, out, everyone)
    return success, logs


def _evaluate(
    study: Study,
    runs: Sequence[Run],
    tasks: TaskSource,
    out: Path,
    display: str | None,
    on_task_end: Callable[[EvalLog], None],
    alone: bool,
) -> tuple[bool, list[EvalLog]]:
    """The runs of one process, group by group, as Inspect's eval sets in `out/logs`."""
    from inspect_ai import eval_set

    success, logs = True, []
    serve = study.serve
    if serve is not None and runs:
        serving.check(serve, study.candidates, study.base)
        tasks.ids = serving.adapter_ids(serve, list(study.document.get("adapters") or {}))
    for group in groups(runs, 0 if serve is None or serve.kind != "vllm" else serve.slots):
        models = {run.candidate.name: _model(run.candidate) for run in group}
        _listeners[:] = [on_task_end]
        try:
            made = list({run.candidate.name: run.candidate for run in group if run.candidate.adapters}.values())
            with serving.loaded(serve, made, study.base, out, adapter_hashes), replaced_logs_read_again():
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
                    # Beside others nothing is removed: each reads the headers of all logs that it has listed.
                    retry_cleanup=alone,
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
    return success, logs


def _kept(out: Path, earlier: claims.Record | None, record: claims.Record) -> list[EvalLog] | None:
    """The logs of a share that this worker has done before, for which then no model need be loaded; else None."""
    from inspect_ai.log import read_eval_log

    if earlier is None or not (earlier.ended and earlier.success) or earlier.study != record.study:
        return None
    paths = [out / "logs" / name for name in earlier.logs]
    if not all(path.is_file() for path in paths):
        return None
    return [read_eval_log(str(path), header_only=True) for path in paths]


def _name_eval_set(logs: Path) -> None:
    """Give a log directory its id in one step; as Inspect writes it, another worker might read half of it."""
    from uuid import uuid4

    logs.mkdir(parents=True, exist_ok=True)
    if (logs / ".eval-set-id").exists():
        return
    own = logs / f".eval-set-id.{os.getpid()}.{uuid4().hex}"
    own.write_text(uuid4().hex[:22], "ascii")
    try:
        os.link(own, logs / ".eval-set-id")
    except FileExistsError:  # another worker was first
        pass
    except OSError:  # a file system without links
        os.replace(own, logs / ".eval-set-id")
    own.unlink(missing_ok=True)


def _finish(study: Study, out: Path, everyone: Sequence[claims.Record]) -> None:
    """Leave the directory as one process leaves it, once all runs have succeeded: all logs listed, and a manifest."""
    from inspect_ai.log import write_log_dir_manifest

    if len(everyone) > 1:
        write_log_dir_manifest(str(out / "logs"))
    write_manifest(
        out,
        "sweep",
        settings=study.document,
        inputs={"study": sha256_file(study.path)},
        runs=len(study.runs),
        logs=sorted(name for record in everyone for name in record.logs),
        workers=len(everyone),
    )


def _remove_killed(out: Path) -> None:
    """Remove the logs that killed and failed attempts left, once their samples are in a finished one."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    listed = []
    for info in list_eval_logs(str(out / "logs")):
        with contextlib.suppress(FileNotFoundError):  # two workers may end together, and both do this
            listed.append((info.name, read_eval_log(info, header_only=True)))
    finished = {log.eval.task_id for _, log in listed if log.status == "success"}
    for name, left in listed:
        if left.status != "success" and left.eval.task_id in finished:
            Path(name.removeprefix("file://")).unlink(missing_ok=True)
    for path in (out / "logs").iterdir():
        if _INSPECTS_OWN.fullmatch(path.name) and (path.suffix or not path.stat().st_size):
            path.unlink(missing_ok=True)


# What a killed sweep leaves among the logs: one on its way, an id, and the empty file that tells whether it may write.
_INSPECTS_OWN = re.compile(r"\.inspect_tmp_.+\.writing|\.eval-set-id\..+|[A-Za-z0-9]{22}")


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
        address = model.api.base_url or ""
        if without_secrets(address) != address:
            raise MedbenchError(
                f"candidate {candidate.name}: the base_url {address} holds a user, password or query, which Inspect "
                "writes into every log. Give the key as api_key, or in the provider's environment variable."
            )
        # What Inspect writes into the log; the provider has read the originals.
        model.model_args = shown_arguments(model.model_args)
        return model
    except PrerequisiteError as error:  # a package or a key that the provider needs
        why = reason(error)
    except (ValueError, OSError) as error:  # a provider that Inspect does not know, or a model that is not there
        why = str(error)
    raise MedbenchError(f"candidate {candidate.name}: {why}")


_listeners: list[Callable[[EvalLog], None]] = []


@hooks(name="sweep_progress", description="Tells a running medbench sweep which runs have ended.")
class _SweepProgress(Hooks):
    def enabled(self) -> bool:
        return bool(_listeners)

    async def on_task_end(self, data: TaskEnd) -> None:
        for listener in _listeners:
            listener(data.log)


@contextmanager
def _bar(runs: int, *, shown: bool) -> Iterator[Callable[[int, str], None]]:
    """A bar over the runs of a sweep, on the terminal's error stream: how many are done, and what ended last."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True, disable=not shown) as bar:
        task = bar.add_task("runs", total=runs)
        yield lambda done, text: bar.update(task, completed=done, description=text)


@contextmanager
def _progress(runs: int, *, shown: bool) -> Iterator[Callable[[EvalLog], None]]:
    counted = itertools.count(1)
    with _bar(runs, shown=shown) as update:
        yield lambda log: update(next(counted), _ended(log))


def _ended(log: EvalLog) -> str:
    """Which run a log is of, and how it ended."""
    candidate = (log.eval.metadata or {}).get("medbench", {}).get("candidate", log.eval.model)
    return f"{candidate}, {log.eval.task}: {log.status}"


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--out", type=Here(), default=None, help="Default: the study's name beside it.")
@click.option("--dry-run", is_flag=True, help="Print the plan, its generations and an estimate; run nothing.")
@click.option("--seconds-per-generation", type=float, default=None, help="For the estimate of a dry run.")
@click.option("--display", default=None, help="Inspect's display: full, rich, plain, log, none.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share the work."
)
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where they run."
)
@click.option("--address", default=None, help="A running Ray cluster, e.g. auto.")
@click.option(
    "--gpus-each", type=click.FloatRange(min=0), default=None, help="GPUs of a worker on Ray; 1 if it has any."
)
@click.option("--worker", type=int, default=None, help="Do one worker's share, counted from 0 (Slurm; needs --of).")
@click.option("--of", type=int, default=None, help="How many workers share the work.")
@click.option("--status", "tell", is_flag=True, help="Say how far the workers are; run nothing.")
def command(
    study: Path, out: Path | None, dry_run: bool, seconds_per_generation: float | None, display: str | None,
    workers: int, engine: str, address: str | None, gpus_each: float | None, worker: int | None, of: int | None,
    tell: bool,
) -> None:  # fmt: skip
    """Evaluate candidates x tasks x decoding settings; run again to go on where it stopped."""
    parent = os.environ.pop(launch.PARENT, None)
    if parent is not None:
        launch.end_with(int(parent))
    if (worker is None) != (of is None):
        raise MedbenchError("--worker and --of belong together: --worker 0 --of 4 is the first of four.")
    if worker is not None and workers > 1:
        raise MedbenchError("--workers starts all of them; --worker and --of are one of them. Give one or the other.")
    checked = read_study(study)
    out = out or study.with_suffix("")
    if dry_run or tell:
        click.echo("\n".join(plan(checked, out, seconds_per_generation, of or workers) if dry_run else status(out)))
    elif workers > 1 or engine == "ray":
        options = ["--display", display] if display else []
        how = launch.Launch(study.absolute(), out.absolute(), workers, options, say=_say)
        _launch(how, len(checked.runs), engine, address, gpus_each)
    else:
        _run(checked, out, display, worker or 0, of or 1)


def _run(study: Study, out: Path, display: str | None, worker: int, of: int) -> None:
    with _progress(len(study.runs), shown=display is None) as advance:
        # Inspect's rich display, "none" included, lays out every run's table of metrics again: a second a run.
        success, logs = sweep(study, out, display=display or "log", on_task_end=advance, worker=worker, of=of)
    done = sum(log.status == "success" for log in logs)
    whose = f"{len(study.runs)} runs" if of == 1 else f"{len(logs)} runs of worker {worker} of {of}"
    click.echo(f"{done} of {whose} done: {out / 'logs'}")
    if not success:
        for log in logs:
            if log.status != "success":
                reason = log.error.message.strip() if log.error else "it did not end"
                _say(f"{_ended(log)}: {reason:.500}")
        _say("Some runs failed; the same command tries them again.")
        raise SystemExit(launch.FAILED)


def _launch(how: launch.Launch, runs: int, engine: str, address: str | None, gpus_each: float | None) -> None:
    with _bar(runs, shown=True) as update:
        how.progress = lambda done: update(done, f"{how.count} workers")
        code = launch.local(how) if engine == "local" else launch.on_ray(how, address, gpus_each)
    done = sum(len(record.logs) for record in claims.records(how.out) if record.of == how.count)
    click.echo(f"{done} of {runs} runs done by {how.count} workers: {how.out / 'logs'}")
    if code:
        _say("Not all is done; the same command goes on, with any number of workers.")
        raise SystemExit(code)


def _say(text: str) -> None:
    click.echo(text, err=True)
