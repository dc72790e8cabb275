"""Several processes of one training: how they are started, which one writes, and which one tells of an error.

accelerate and torchrun start the processes and number them in the environment (`RANK`, `WORLD_SIZE`); TRL's trainer
lets them exchange gradients. What is left is here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from medbench.errors import MedbenchError
from medbench.trainers.recipe import SHIPPED, Recipe

_ENDED_SOON = 120  # seconds: torchrun ends the others within two of the first one's end
_KILLED_BY_THEN = 5  # seconds: torchrun looks ten times a second whether a process was killed, and ends the others
_FAILED = "medbench/first process to fail"


def rank() -> int:
    """The number of this process, from 0; process 0 prints and writes."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together.

    Raises:
        MedbenchError: several were asked for and accelerate started one.
    """
    # accelerate's launcher for one process, which --cpu always takes; it tells only the address of a group
    alone = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ and "RANK" not in os.environ
    if alone:
        raise MedbenchError(
            "accelerate launch started a single process: with --cpu it does not look at --num_processes. Use medbench "
            "train ... --processes N, or accelerate launch with a --config_file and without --cpu; where there is no "
            "GPU the processes compute on the CPU by themselves."
        )
    return int(os.environ.get("WORLD_SIZE", "1"))


def step_of(recipe: Recipe) -> dict[str, int]:
    """How many rows an optimizer step takes, and how they come together."""
    own = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
    return {
        "processes": world_size(),
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
        "rows": own * world_size(),
    }


def join() -> None:
    """Join the group of processes, if there are several; before the base is loaded, which one may do for all."""
    if world_size() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.accelerator.is_available())


@contextlib.contextmanager
def one_error() -> Iterator[None]:
    """Let only the first process that fails raise its error; the others wait in silence for the launcher to end them.

    What fails in the others is mostly that the first is gone. A killed process tells nobody that it was the first: so
    the one that is waits until the launcher would have ended it for another's sake.
    """
    try:
        yield
    except Exception:
        if world_size() > 1:
            if not _first():
                time.sleep(_ENDED_SOON)
                sys.exit(2)
            time.sleep(_KILLED_BY_THEN)
        raise


def _first() -> bool:
    """Whether no other process has failed yet, by the launcher's own store of keys."""
    import torch.distributed

    me = str(rank())
    try:
        store = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=10),
        )
        return store.compare_set(_FAILED, "", me).decode() == me
    except RuntimeError:  # of a store that went with process 0, which has told what happened
        return rank() == 0


def launch(
    words: Sequence[str],
    accelerate: str | None,
    processes: int | None,
    *,
    program: Sequence[str] = ("--module", "medbench"),
) -> None:
    """Run ``medbench WORDS`` in several processes, as ``accelerate launch -m medbench WORDS`` does.

    Args:
        words: the command's arguments, without those that ask for several processes.
        accelerate: a configuration file of accelerate, or the name of one that comes with the package.
        processes: their number; none for the configuration's.
        program: what takes the words, in accelerate launch's way.

    Raises:
        MedbenchError: no such configuration, or a process was ended by a signal.
        SystemExit: a process failed; it has said why.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = ["--config_file", str(configuration(accelerate or "ddp"))]
    if processes is not None:
        options += ["--num_processes", str(processes)]
    asked = launch_command_parser().parse_args([*options, *program, *words])
    try:
        launch_command(asked)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            sys.exit(failure.exitcode)
        raise MedbenchError(
            f"process {number} was ended by {signal.Signals(-failure.exitcode).name}, and the others with it; SIGKILL "
            "is mostly the system's, for want of memory. Checkpoints are kept: resume_from_checkpoint=true goes on."
        ) from None
    except (ImportError, ValueError) as error:
        raise MedbenchError(f"accelerate cannot start this with {options[1]}: {error}") from error


def configuration(name: str) -> Path:
    """The file of accelerate's settings: one that comes with the package, by name, or a file.

    Raises:
        MedbenchError: neither.
    """
    shipped = SHIPPED / "accelerate" / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    if not Path(name).is_file():
        known = ", ".join(sorted(path.stem for path in shipped.parent.glob("*.yaml")))
        raise MedbenchError(
            f"no accelerate configuration {name}: expected a file that accelerate config wrote, or one of {known}."
        )
    return Path(name)
