"""Run in each process that accelerate starts for test_processes.py: several trainings, or one that goes wrong.

many.py jobs FILE        a JSON list of {stage, settings, mistake?}
many.py WAY train ...    `medbench train ...`, of which process 1 fails in its second step: WAY is error or kill
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.trainers.loop import StageTrainer

RANK = int(os.environ["RANK"])


def jobs(file: str) -> None:
    from medbench.trainers.recipe import load_recipe
    from medbench.trainers.train import train

    made, loader = StageTrainer.__init__, StageTrainer.get_train_dataloader
    for job in json.loads(Path(file).read_text()):
        recipe, origin = load_recipe(job["stage"], None, job["settings"])
        if job.get("mistake") == "mean over processes":

            def wrong(self: Any, **settings: Any) -> None:
                settings["args"].average_tokens_across_devices = False
                made(self, **settings)

            StageTrainer.__init__ = wrong  # type: ignore[method-assign]
        if job.get("mistake") == "rows twice":
            StageTrainer.get_train_dataloader = StageTrainer.__mro__[1].get_train_dataloader  # type: ignore[attr-defined, method-assign]
        train(job["stage"], recipe, origin)
        StageTrainer.__init__, StageTrainer.get_train_dataloader = made, loader  # type: ignore[method-assign]


def broken(way: str) -> None:
    whole = StageTrainer.training_step

    def step(self: Any, *given: Any, **named: Any) -> Any:
        if RANK == 1 and self.state.global_step == 1:
            if way == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise MedbenchError("process 1 has had enough.")
        return whole(self, *given, **named)

    StageTrainer.training_step = step  # type: ignore[method-assign]
    from medbench.cli import main

    main()


if __name__ == "__main__":
    way = sys.argv.pop(1)
    if way == "jobs":
        jobs(sys.argv[1])
    else:
        broken(way)
