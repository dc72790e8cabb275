"""Inspect metrics over dict-valued scores: intervals, accuracy among the answered, views that differ, macro-F1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from inspect_ai.scorer import Metric, SampleScore, mean, metric, stderr

from medbench import stats, thinking

_NAN = float("nan")


@metric(name="ci")  # two names of this length fit Inspect's table on the terminal
def interval() -> Metric:
    """95% interval of a rate, as `low` and `high`: the report's (`stats.rate`), so that both print the same numbers.

    Exact (Clopper-Pearson) at the effective size: items of one group or context count together, which the `stderr`
    beside it does not do. Over epochs Inspect hands on each item's mean, so items count, never their repetitions.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        known = [score for score in scores if math.isfinite(score.score.as_float())]
        values = [score.score.as_float() for score in known]
        found = stats.rate(values, [_context(score, number) for number, score in enumerate(known)])
        return {"low": found.low, "high": found.high}

    return compute


def _context(score: SampleScore, number: int) -> str:
    item = (score.sample_metadata or {}).get("item") or {}
    shared = item.get("group") or item.get("context")
    return f"context {shared}" if shared else f"item {number}"


@metric
def other_views(but: Sequence[str] = ()) -> Metric:
    """Means under the views whose values are not those of the answer view: what is equal everywhere is shown once.

    Args:
        but: metrics that are left to another function.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        values = [score.score.as_dict() for score in scores]
        found: dict[str, float] = {}
        for key in values[0] if values else ():
            name, _, view = key.partition("/")
            if view in ("", "answer") or name in but or name.endswith("_floor"):
                continue
            if differs(values, name, view):
                known = [x for x in (_float(value[key]) for value in values) if not math.isnan(x)]
                found[key] = sum(known) / len(known) if known else _NAN
        return found

    return compute


def differs(values: list[dict[str, Any]], name: str, view: str) -> bool:
    """Whether any sample has another value under a view than under the answer view; an empty trace tells nothing."""
    key, head = f"{name}/{view}", f"{name}/answer"
    if head not in values[0] or key not in values[0]:
        return False
    mine = np.array([_float(value[key]) for value in values])
    if view == "trace" and not np.nan_to_num(mine).any():
        return False
    return not np.array_equal(mine, [_float(value[head]) for value in values], equal_nan=True)


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else _NAN


@metric
def abstention_bounds() -> Metric:
    """Accuracy (0-1), then the two other ways: among answered items, and with every abstention right.

    Under the answer view, and under those views whose accuracy differs from it.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found: dict[str, float] = {}
        values = [score.score.as_dict() for score in scores]
        for key in values[0] if values else ():
            if key.startswith("accuracy/"):
                view = key.removeprefix("accuracy/")
                if view != "answer" and not (differs(values, "accuracy", view) or differs(values, "answered", view)):
                    continue
                right = [float(value[key] or 0) for value in values]
                # Inspect prints this block first, so it begins with the headline.
                if view == "answer":
                    found = {key: sum(right) / len(right)} | found
                answered = [float(value[f"answered/{view}"] or 0) for value in values]
                found[f"accuracy_answered/{view}"] = sum(right) / sum(answered) if any(answered) else _NAN
                found[f"accuracy_best/{view}"] = (sum(right) + len(answered) - sum(answered)) / len(answered)
        return found

    return compute


@metric
def macro_f1() -> Metric:
    """Macro-averaged F1 over the gold classes, under each view; an abstention counts for no class (0-1).

    The convention of PubMedQA's own evaluation: the unweighted mean of the classes' F1.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found: dict[str, float] = {}
        rows = [score.score.metadata for score in scores if score.score.metadata]
        for view in thinking.VIEWS:
            gold = ["".join(row["gold"]) for row in rows]
            said = ["".join(row["extraction"][view]["letters"]) for row in rows]
            classes = sorted(set(gold))
            if classes:
                found[f"macro_f1/{view}"] = sum(_f1(gold, said, name) for name in classes) / len(classes)
        return found

    return compute


def _f1(gold: list[str], said: list[str], name: str) -> float:
    hits = sum(g == name and s == name for g, s in zip(gold, said, strict=True))
    total = gold.count(name) + said.count(name)
    return 2 * hits / total if total else 0.0


# Keys named in full come first: they are the headlines, and Inspect looks for them before any sample is scored.
ACCURACY = {
    "accuracy/answer": [mean(), stderr(), interval()],
    "answered/answer": [mean()],
    "accuracy_*/answer": [mean(), stderr(), interval()],
}
