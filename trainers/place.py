"""The directory of a training run: new, unfinished or finished, and the checkpoint from which it goes on.

A run writes `run.json` first and its manifest last. Called again with the same settings, an unfinished run goes on from
its last complete checkpoint, or from the start where it has none; a finished one is left as it is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.files.manifest import NAME, RUN
from medbench.trainers.recipe import Recipe

STATE = "trainer_state.json"  # which the Trainer writes last
# What a run that goes on may change without changing its loss curve. How many processes share the rows of a step, and
# in which batches, is free as well; how many rows there are, `rows_per_step`, is not.
_FREE = {
    "output_dir",
    "resume_from_checkpoint",
    "findings",
    "save_steps",
    "save_total_limit",
    "eval_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
}


@dataclass(frozen=True)
class Start:
    """Where a run begins: at a checkpoint, at the start (None), or not at all because it is done."""

    checkpoint: Path | None = None
    finished: bool = False


def start_of(recipe: Recipe, run: Mapping[str, Any]) -> Start:
    """Where the run that is described by `run` begins in `recipe.output_dir`.

    Raises:
        MedbenchError: the directory holds something else, or the run to go on with had other settings.
    """
    out, given = Path(recipe.output_dir), recipe.resume_from_checkpoint
    if isinstance(given, str):
        if not _complete(Path(given)):
            raise _nothing_there(recipe)
        _require_same(Path(given).parent, run)
        return Start(Path(given))
    holds = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if out.exists() and (not out.is_dir() or (holds and RUN not in holds)):
        raise MedbenchError(f"output_dir {out} is not empty; name a new one.")
    if not holds and given:
        raise _nothing_there(recipe)
    if holds:
        _require_same(out, run)
    return Start(finished=True) if NAME in holds else Start(_latest(out))


def clear(out: Path, start: Start) -> None:
    """Remove what a killed run left half written or half removed: checkpoints, and files on their way.

    The Trainer removes old checkpoints file by file, and counts what is left of one as the newest of all: its directory
    was the last to change. So one that lacks a file which the checkpoint to go on from has, is removed to its end.
    """
    whole = _files(start.checkpoint) if start.checkpoint is not None and start.checkpoint.parent == out else set()
    for path in list(out.iterdir()) if out.is_dir() else ():
        if path.is_dir() and _number(path) is not None:
            if start.checkpoint is None or not _complete(path) or whole - _files(path):
                shutil.rmtree(path)
        elif re.fullmatch(r"\.(run\.json|manifest\.json|loss_curve\.\w+)\.\w+", path.name):
            path.unlink()


def at_the_end(checkpoint: Path) -> bool:
    """Whether a checkpoint is of the run's last step."""
    state = json.loads((checkpoint / STATE).read_text("utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def _files(checkpoint: Path) -> set[str]:
    """What a checkpoint holds, whatever the step and the number of processes that stand in some of the names."""
    return {re.sub(r"_?\d+", "", path.name) for path in checkpoint.iterdir()}


def _latest(out: Path) -> Path | None:
    found = [path for path in out.glob("checkpoint-*") if _complete(path)]
    return max(found, key=lambda path: _number(path) or 0, default=None)


def _number(path: Path) -> int | None:
    named = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(named[1]) if named else None


def _complete(checkpoint: Path) -> bool:
    try:
        return "global_step" in json.loads((checkpoint / STATE).read_text("utf-8"))
    except (OSError, ValueError):  # cut short by a kill
        return False


def _nothing_there(recipe: Recipe) -> MedbenchError:
    return MedbenchError(
        f"resume_from_checkpoint={recipe.resume_from_checkpoint}: no complete checkpoint there "
        f"(output_dir is {recipe.output_dir}); leave it out to start anew."
    )


def _require_same(directory: Path, run: Mapping[str, Any]) -> None:
    """The run whose directory this is must be the one asked for."""
    try:
        before = json.loads((directory / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        raise MedbenchError(f"{directory / RUN} is missing or unreadable; start anew in another output_dir.") from None
    rows = before.get("rows_per_step", run["rows_per_step"])
    if rows != run["rows_per_step"]:
        raise MedbenchError(
            f"{directory} is of a run with {rows} rows in an optimizer step; this one would take "
            f"{run['rows_per_step']}. Processes x per_device_train_batch_size x gradient_accumulation_steps must be "
            f"{rows}."
        )
    fixed = [key for key in run if key not in _FREE | {"rows_per_step"}]
    changed = [f"{key} was {before.get(key)!r}, is {run[key]!r}" for key in fixed if before.get(key) != run[key]]
    if changed:
        raise MedbenchError(
            f"{directory} is of another run ({'; '.join(changed)}); name a new output_dir for these settings, or go on "
            "with the ones it had."
        )
