"""The workers of a sweep: as processes of this machine, or as tasks of a Ray cluster. Slurm starts them itself.

Each worker is `medbench sweep STUDY --worker I --of N`, whoever starts it. One that was killed is started again and
goes on where it was; one that says that something is wrong is not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medbench.advice import install
from medbench.errors import MedbenchError
from medbench.trainers import claims

if TYPE_CHECKING:
    from ray import ObjectRef

# A worker that is killed more often is given up: something kills it on purpose, the system for want of memory say.
RESTARTS = 3
# Exit codes of `medbench sweep`: all is done; some runs failed; the study or the machine is not as it must be.
DONE, FAILED, WRONG = 0, 1, 2
# Names the process that starts a worker: should that one be killed, the worker ends too.
PARENT = "MEDBENCH_SWEEP_PARENT"
_LOOK_EVERY = 0.3


@dataclass
class Worker:
    """One worker process.

    Attributes:
        number: from 0.
        command: what starts it.
        environment: its variables.
        output: the file its output goes to, behind what earlier sweeps said.
        begin: where in that file its own begins.
        process: while it runs, and after its end.
        restarts: how often it was started again.
    """

    number: int
    command: list[str]
    environment: dict[str, str]
    output: Path
    begin: int = 0
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0

    def start(self) -> None:
        """Start the process; its output is added to what an earlier one said."""
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the launcher alone, which stops its workers once: a second one would cut their logs.
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """The last lines of its output."""
        lines = self.output.read_bytes()[self.begin :].decode("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-5:])


@dataclass
class Launch:
    """How the workers are started.

    Attributes:
        study: the study file.
        out: the sweep's directory.
        count: how many workers.
        options: further options of `medbench sweep`.
        say: prints a line.
        progress: told, now and then, how many runs have ended.
    """

    study: Path
    out: Path
    count: int
    options: list[str] = field(default_factory=list)
    say: Callable[[str], None] = print
    progress: Callable[[int], None] = lambda done: None

    def command(self, number: int) -> list[str]:
        """The command line of one worker."""
        words = ["sweep", str(self.study), "--out", str(self.out), "--worker", str(number), "--of", str(self.count)]
        return [sys.executable, "-m", "medbench.cli", *words, *self.options]


def local(launch: Launch) -> int:
    """Run the workers as processes of this machine until all have ended; the sweep's exit code.

    Each gets its part of the GPUs that this process may use, by CUDA_VISIBLE_DEVICES, or its part of the processors.
    """
    folder = launch.out / claims.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    devices = gpus()
    if devices and launch.count > len(devices):
        launch.say(f"{launch.count} workers share {len(devices)} GPUs: each model is in memory more than once on one.")
    workers = []
    for number in range(launch.count):
        output = folder / f"{number}-of-{launch.count}.log"
        begin = output.stat().st_size if output.exists() else 0
        environment = surroundings(number, launch.count, devices)
        workers.append(Worker(number, launch.command(number), environment, output, begin))
    with _stopped_with_us(workers):
        for worker in workers:
            worker.start()
        codes = _wait(workers, launch)
    told: set[str] = set()
    for worker, code in zip(workers, codes, strict=True):
        if code != DONE and worker.said not in told:  # all of them say the same of a study that is wrong
            launch.say(f"worker {worker.number}: {ended(code)} ({worker.output})\n{worker.said}")
            told.add(worker.said)
    return max(code if code in (DONE, FAILED, WRONG) else FAILED for code in codes)


def _wait(workers: Sequence[Worker], launch: Launch) -> list[int]:
    """Wait for all, starting again those that were killed; their last exit codes."""
    running = list(workers)
    while running:
        time.sleep(_LOOK_EVERY)
        launch.progress(sum(r.done for r in claims.records(launch.out) if r.of == launch.count))
        for worker in list(running):
            assert worker.process is not None
            code = worker.process.poll()
            if code is None:
                continue
            if killed(code) and worker.restarts < RESTARTS:
                worker.restarts += 1
                launch.say(f"worker {worker.number}: {ended(code)}; started again, {worker.restarts} of {RESTARTS}")
                worker.start()
            else:
                running.remove(worker)
    return [worker.process.returncode for worker in workers if worker.process is not None]


@contextlib.contextmanager
def _stopped_with_us(workers: Sequence[Worker]) -> Iterator[None]:
    """Whatever ends this process early ends the workers: they log what they have, and are waited for."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        running = [w.process for w in workers if w.process is not None and w.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def end_with(parent: int) -> None:
    """Let the kernel end this process when `parent` ends, even by SIGKILL. Only Linux can; elsewhere it goes on."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def killed(code: int) -> bool:
    """Whether an exit code is that of a process that was killed, by itself or under a shell."""
    return code < 0 or code > 128


def ended(code: int) -> str:
    """How a worker ended, in words."""
    if not killed(code):
        said = {DONE: "done", FAILED: "some of its runs failed", WRONG: "it could not work"}
        return said.get(code, f"ended with exit code {code}")
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    advice = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"killed ({name}{advice})"


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none without CUDA."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # As CUDA reads it: what follows a number below 0 does not count.
        names = [name.strip() for name in given.split(",")]
        cut = next((place for place, name in enumerate(names) if not name or name.startswith("-")), len(names))
        return names[:cut]
    try:
        import torch
    except ImportError:
        return []
    return [str(number) for number in range(torch.cuda.device_count())]


def surroundings(number: int, count: int, devices: Sequence[str]) -> dict[str, str]:
    """The environment of one of `count` workers: its GPUs, or its threads where there are none.

    GPUs are dealt in equal runs of neighbours (4 of them to 2 workers: 0,1 and 2,3); more workers than GPUs share them
    in turn. What a user set for threads stands.
    """
    environment = {**os.environ, PARENT: str(os.getpid())}
    if devices:
        begin, end = number * len(devices) // count, (number + 1) * len(devices) // count
        mine = devices[begin:end] if count <= len(devices) else [devices[number % len(devices)]]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    else:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, _processors() // count)))
    return environment


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_ray(launch: Launch, address: str | None, gpus_each: float | None) -> int:
    """Run the workers as tasks of a Ray cluster until all have ended; the sweep's exit code.

    Args:
        launch: what to run; study, models and `out` must lie under the same paths on all machines.
        address: a running cluster; None starts one on this machine.
        gpus_each: GPUs of one worker; by default one where the cluster has any.

    Raises:
        MedbenchError: Ray is not installed, or the cluster has too few GPUs for one worker.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to anyone
    try:
        import ray
    except ImportError:
        raise MedbenchError(f"--engine ray needs Ray: {install('cluster')}.") from None
    here: dict[str, Any] = {} if address else {"num_cpus": max(launch.count, _processors())}
    ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        there = float(ray.cluster_resources().get("GPU", 0))
        each = gpus_each if gpus_each is not None else float(there > 0)
        if each > there:
            raise MedbenchError(f"--gpus-each {each:g}: the Ray cluster has {there:g} GPUs.")
        # A process of its own for each worker, since a model's memory is given back for certain only by its end. Ray
        # starts a task again whose process or machine is gone.
        task = ray.remote(num_cpus=1, num_gpus=each, max_calls=1, max_retries=RESTARTS)(_ray_worker)
        arguments = [launch.command(number)[3:] for number in range(launch.count)]
        waiting = {task.remote(words): number for number, words in enumerate(arguments)}
        codes = []
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=2)
            launch.progress(sum(r.done for r in claims.records(launch.out) if r.of == launch.count))
            for done in ready:
                number = waiting.pop(done)
                codes.append(_ray_code(ray, done, number, launch))
        return max(codes)
    finally:
        ray.shutdown()


def _ray_worker(words: list[str]) -> tuple[int, str]:
    """In a Ray task: one worker's exit code, and what it said where it could not work."""
    from medbench.cli import cli

    try:
        cli.main(words, standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0), ""
    except MedbenchError as error:
        return WRONG, str(error)
    return DONE, ""


def _ray_code(ray: ModuleType, done: ObjectRef, number: int, launch: Launch) -> int:
    try:
        code, said = ray.get(done)
    except ray.exceptions.RayError as error:
        launch.say(f"worker {number}: lost {1 + RESTARTS} times: {str(error).splitlines()[0]}")
        return FAILED
    if code != DONE:
        launch.say(f"worker {number}: {said or ended(code)}")
    return int(code)
