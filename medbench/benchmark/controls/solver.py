"""`control=reorder` while a sample runs: its epoch says which order its options are shown in."""

from __future__ import annotations

from inspect_ai.model import ChatMessageUser
from inspect_ai.solver import Generate, Solver, TaskState, solver

from medbench.benchmark.controls.derive import reordered
from medbench.benchmark.prompts import option_lines
from medbench.errors import MedbenchError
from medbench.sources.items import Item


@solver
def reorder_options() -> Solver:
    """Show the options in the order of this epoch: in the last message and in the item that the scorers judge by.

    The sample's metadata then has ``control``: `order` (from 1) and `letters`, the original's letter of the option at
    each place, by which a log's reader takes answers back to the original's letters.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        item = Item.from_metadata(state.metadata["item"])
        moved, letters = reordered(item, state.epoch)
        asked = state.messages[-1]
        shown = option_lines(item)
        if shown not in asked.text:
            raise MedbenchError(f"sample {state.sample_id}: its prompt does not list its options, so none can move.")
        state.messages[-1] = ChatMessageUser(content=asked.text.replace(shown, option_lines(moved)))
        state.metadata = {
            **state.metadata,
            "item": moved.to_metadata(),
            "control": {"order": state.epoch, "letters": letters},
        }
        return state

    return solve
