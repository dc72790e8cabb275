"""A cue control beside the plain task, item by item: what the sections on controls compute from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medbench import stats
from medbench.benchmark.controls.control import KINDS
from medbench.reports.controlled import ControlTable
from medbench.reports.estimates import Options
from medbench.reports.page import Cell

KEY = "accuracy/answer"
# In sentences: where a control's answers come from.
WORDS = {
    "options_only": "without the question",
    "no_options": "without the options",
    "none_of_these": "with the right option replaced by none of the others",
    "no_labels": "without letters",
    "reorder": "with the options in other orders",
    "rephrase": "with the question in other words",
}


@dataclass(frozen=True)
class Paired:
    """One control beside the plain task, item by item.

    Attributes:
        candidates: those that ran both.
        plain, under: item means on the items of both, shape (candidates, items).
        outputs: outputs behind `under`, shape (candidates, items).
        clusters: as in `TaskTable`.
    """

    control: ControlTable
    candidates: list[str]
    plain: np.ndarray
    under: np.ndarray
    outputs: np.ndarray
    clusters: np.ndarray | None

    @property
    def kind(self) -> str:
        """The control without its file."""
        return self.control.control.split(" ")[0]

    @property
    def shows_options(self) -> bool:
        """Whether guessing among the options is what its accuracy has to be compared with."""
        return self.kind in KINDS and KINDS[self.kind].shows_options

    @property
    def words(self) -> str:
        """Where its answers come from, in a sentence."""
        return WORDS.get(self.kind, f"under {self.control.control}")

    def change(self, candidate: str, options: Options) -> stats.Comparison:
        """Accuracy under the control minus as it is."""
        row = self.candidates.index(candidate)
        return stats.paired_rates(self.plain[row], self.under[row], self.clusters, options.confidence)


def in_order(controls: list[ControlTable]) -> list[ControlTable]:
    """As the kinds of control are listed, so that the question stands first."""
    kinds = list(KINDS)
    return sorted(
        controls,
        key=lambda one: (kinds.index(name) if (name := one.control.split(" ")[0]) in kinds else 99, one.control),
    )


def paired_of(control: ControlTable) -> Paired | None:
    """None where no candidate ran both, or no item has both."""
    plain, table = control.plain, control.table
    shared = [name for name in plain.candidates if name in table.candidates]
    if not (shared and plain.has(KEY) and table.has(KEY)):
        return None
    there = {item: column for column, item in enumerate(table.items)}
    here = [column for column, item in enumerate(plain.items) if item in there]
    at = [there[plain.items[column]] for column in here]
    before = plain.item_means(KEY)[[plain.candidates.index(name) for name in shared]][:, here]
    rows = [table.candidates.index(name) for name in shared]
    after, outputs = table.item_means(KEY)[rows][:, at], table.runs_per_item(KEY)[rows][:, at]
    known = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
    if not known.any():
        return None
    clusters = None if plain.clusters is None else plain.clusters[here][known]
    return Paired(control, shared, before[:, known], after[:, known], outputs[:, known], clusters)


def keeps_answer(paired: Paired) -> bool:
    """Whether who knows the answer can still give it under the control."""
    return paired.kind in KINDS and KINDS[paired.kind].keeps_answer


def interval_in(cell: Cell) -> stats.Interval:
    """A cell that holds an interval."""
    assert isinstance(cell, stats.Interval)
    return cell


def number_in(cell: Cell) -> float:
    """A cell that holds a number."""
    assert isinstance(cell, int | float)
    return float(cell)
