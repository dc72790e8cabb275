"""Loss curves of a run, as data and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medbench.files.manifest import write_atomic
from medbench.trainers.recipe import Stage

CURVE = "loss_curve"


def final_losses(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean training loss over all steps, and the last evaluation loss and perplexity, of a Trainer's log history.

    An entry holds the mean over the steps since the entry before, so the mean over the run weighs it by those steps;
    the Trainer's own `train_loss` would count only the steps since the last resumption.
    """
    losses: dict[str, float] = {}
    summed, done = 0.0, 0
    for entry in history:
        if "loss" in entry:
            summed, done = summed + float(entry["loss"]) * (entry["step"] - done), entry["step"]
            losses["train_loss"] = summed / done
        if "eval_loss" in entry:
            losses["eval_loss"] = float(entry["eval_loss"])
            losses["eval_perplexity"] = float(entry["eval_perplexity"])
    return losses


def save_curve(out: Path, history: Sequence[dict[str, Any]], stage: Stage) -> None:
    """The loss curves (the paper's Figures 1-2) as `loss_curve.csv` and `loss_curve.svg`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["step", "epoch", "split", "loss"])
    curves: dict[str, list[tuple[int, float]]] = {"training": [], "evaluation": []}
    for entry in history:
        for split, key in (("training", "loss"), ("evaluation", "eval_loss")):
            if key in entry:
                writer.writerow([entry["step"], entry.get("epoch", ""), split, entry[key]])
                curves[split].append((entry["step"], float(entry[key])))
    write_atomic(out / f"{CURVE}.csv", table.getvalue())
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for split, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 30 else None, label=split)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title(f"{stage.upper()} loss")
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    with rc_context({"svg.hashsalt": CURVE}):  # the same curve is the same file
        figure.savefig(picture, format="svg", metadata={"Date": None})
    write_atomic(out / f"{CURVE}.svg", picture.getvalue())
