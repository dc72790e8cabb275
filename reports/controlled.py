"""Runs under cue controls: never pooled with the plain benchmark, and each paired with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medbench.reports.header import key_of
from medbench.reports.logs import Notice, Run
from medbench.reports.selection import latest

if TYPE_CHECKING:
    from medbench.reports.rows import TaskTable


@dataclass
class ControlTable:
    """A task under a cue control, beside the same task as it is under the same setting.

    Attributes:
        control: its name (`header.control_of`).
        table: under the control; its sample ids are those of `plain`.
        about: what the logs tell of it: ``asked``, ``left_out`` (reason -> items) and so on.
    """

    control: str
    plain: TaskTable
    table: TaskTable
    about: dict[str, Any]


def split(runs: Sequence[Run], notices: list[Notice]) -> tuple[list[Run], list[Run]]:
    """Runs of items as they are, and runs under a control of a task that also ran as it is.

    A task that ran under controls only is no plain benchmark: it stands by itself, under a name that says so.
    """
    plain = [run for run in runs if run.control is None]
    known = {run.task for run in plain}
    alone = [
        replace(run, task=f"{run.task} under {run.control}") for run in runs if run.control and run.task not in known
    ]
    for task in sorted({run.task for run in alone}):
        notices.append(
            Notice("control", f"{task}: the task did not run as it is, so there is nothing that this is compared with.")
        )
    return [*plain, *alone], [run for run in runs if run.control and run.task in known]


def beside(
    runs: Sequence[Run],
    tables: dict[str, TaskTable],
    variants: dict[str, list[TaskTable]],
    notices: list[Notice],
    build: Callable[[str, list[Run], list[Notice]], TaskTable],
) -> tuple[dict[str, list[ControlTable]], list[Run]]:
    """task -> tables under controls, each beside the plain table of its setting; and the runs in them.

    Args:
        build: makes a table of a name and its runs.
    """
    groups: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.task, str(run.control), key_of(run.setting)].append(run)
    found: dict[str, list[ControlTable]] = defaultdict(list)
    used: list[Run] = []
    for (task, control, key), members in sorted(groups.items()):
        plain = [t for t in (tables[task], *variants.get(task, [])) if key_of(t.setting) == key]
        fitting = [run for run in members if plain and run.version == plain[0].version]
        if not fitting:
            ran = f"version {members[0].version}" if plain else members[0].setting_name
            notices.append(
                Notice(
                    "control",
                    f"{task} under {control}: ran under {ran}, and the task as it is did not, so the two cannot be "
                    "compared.",
                )
            )
            continue
        kept = latest(fitting, notices)
        table = build(f"{task} under {control}", kept, notices)
        about = ((kept[0].provenance.get("metadata") or {}).get("benchmark") or {}).get("control") or {}
        found[task].append(ControlTable(control, plain[0], table, about))
        used += kept
    return dict(found), used
