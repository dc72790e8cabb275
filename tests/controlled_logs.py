"""Logs of a choice task as it is and under cue controls, with the items that are answered right given."""

from __future__ import annotations

from typing import Any

import numpy as np
import simulated_logs as sim
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.scorer import Score


def log(candidate: sim.Candidate, right: np.ndarray, control: str | None = None, **about: Any) -> EvalLog:
    """A log in which item i is answered right where `right[i]`, under a control that leaves out items that are NaN."""
    kept = []
    for index, hit in enumerate(right):
        if np.isnan(hit):
            continue
        gold = "ABCD"[index % 4]
        said = {"status": "answer", "letters": [gold if hit else "ABCD"[index % 4 - 1]]}
        value = {f"{name}/{view}": x for view in sim.VIEWS for name, x in (("accuracy", float(hit)), ("answered", 1.0))}
        metadata = {"gold": [gold], "extraction": dict.fromkeys(sim.VIEWS, said)}
        item = {"question": f"Case {index}?", "options": list("wxyz"), "answer": [gold]}
        kept.append(
            EvalSample(
                id=sim.item_id("medqa", index),
                epoch=1,
                input=item["question"],
                target=gold,
                scores={"option_accuracy": Score(value=value, metadata=metadata)},
                metadata={"item": item},
            )
        )
    made = sim.log(candidate, "medqa", 0, samples=kept)
    if control:
        made.eval.task_args_passed = {**(made.eval.task_args_passed or {}), "control": control}
        made.eval.metadata = {
            **(made.eval.metadata or {}),
            "benchmark": {"control": {"name": control, "asked": len(kept), "left_out": {}, **about}},
        }
    return made
