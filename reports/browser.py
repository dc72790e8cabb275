"""Items to read: a sample small enough for one page, with prompt, trace, answer and scores of every candidate."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medbench import thinking
from medbench.reports.gap.labels import metric_name
from medbench.reports.logs import Run, output_prefilled, output_text, score_values
from medbench.reports.rows import Study, TaskTable
from medbench.reports.samples import ShownSample, some_samples
from medbench.reports.text import visible

# Outputs read and shown at most, and characters of each text: the page stays far below 10 MB.
MOST_OUTPUTS = 400
MOST_CHARACTERS = 6_000
BUDGET_CHARACTERS = 3_000_000
_SHOWN_SCORES = (
    "accuracy/answer",
    "comprehensiveness/answer",
    "bleu4/raw",
    "bleu4_floor/raw",
    "bleu4/answer",
    "rougeL/raw",
    "refusal/answer",
)


@dataclass
class Browser:
    """Items with their outputs as plain values, and a sentence on what was left out."""

    items: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


def browse(study: Study, seed: int) -> Browser:
    """Choose items per task and read their samples.

    Half of a task's share are items on which candidates differ most, half are drawn at random with `seed`.
    """
    found = Browser()
    share = max(1, MOST_OUTPUTS // max(1, sum(len(table.candidates) for table in study.tables.values())))
    said, used = [], 0
    for task, table in study.tables.items():
        picked = pick(table, min(share, 40), np.random.default_rng([seed, len(task)]))
        shown = 0
        for entry in _read_items(table, picked):
            size = sum(len(o["answer"]) + len(o["trace"]) for o in entry["outputs"]) + len(entry["prompt"])
            if used + size > BUDGET_CHARACTERS:
                break
            used += size
            shown += 1
            found.items.append(entry)
        said.append(f"{shown} of {len(table.items):,} items of {task}")
    found.note = (
        f"Shown: {', '.join(said)}: those on which the candidates differ most, and as many drawn at random. All "
        "others are "
        f"left out to keep the page small and are in the logs; texts are cut at {MOST_CHARACTERS:,} characters."
    )
    return found


def pick(table: TaskTable, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(item, why) of the items to show, without repeats."""
    key = next((k for k in ("accuracy/answer", "bleu4/raw", "refusal/answer", "trace/raw") if table.has(k)), None)
    chosen: dict[str, str] = {}
    if key is not None:
        means = table.item_means(key)
        known = np.isfinite(means).any(axis=0)
        spread = np.zeros(len(table.items))
        spread[known] = np.nanstd(means[:, known], axis=0)
        for index in np.argsort(-spread, kind="stable")[: (count + 1) // 2]:
            if spread[index] > 0:
                chosen[table.items[index]] = "candidates differ"
    for index in rng.permutation(len(table.items)):
        if len(chosen) >= min(count, len(table.items)):
            break
        chosen.setdefault(table.items[index], "drawn at random")
    return list(chosen.items())


def _read_items(table: TaskTable, picked: list[tuple[str, str]]) -> list[dict[str, Any]]:
    outputs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    prompts: dict[str, dict[str, str]] = {}
    for candidate in table.candidates:
        run = table.runs[candidate][0]
        for sample in _read_samples(run, [item for item, _ in picked]):
            identity = str(sample.id)
            prompts.setdefault(identity, _prompt(sample))
            outputs[identity].append(_output(candidate, run, sample))
    return [
        {"task": table.task, "id": item, "why": why, **prompts[item], "outputs": outputs[item]}
        for item, why in picked
        if item in prompts
    ]


def _read_samples(run: Run, ids: list[str]) -> list[ShownSample]:
    epochs = dict(reversed(list(zip(run.ids, run.epochs, strict=True))))
    return some_samples(run.file, [(identity, epochs[identity]) for identity in ids if identity in epochs])


def _prompt(sample: ShownSample) -> dict[str, str]:
    item = sample.metadata.get("item") or {}
    references = [str(text) for text in (item.get("reference"), *(item.get("more_references") or ())) if text]
    targets = [sample.target] if isinstance(sample.target, str) else list(sample.target)
    several = len(references) > 1 and targets == references
    target, reference = ", ".join(targets), "\n\n".join(references)
    if several:
        target = f"{len(references)} references"
    return {
        "prompt": clean(sample.prompt),
        "target": clean(target),
        "reference": clean(reference) if reference != target else "",
    }


def _output(candidate: str, run: Run, sample: ShownSample) -> dict[str, Any]:
    read_by = ""
    thought = thinking.split(output_text(sample.output), prefilled=output_prefilled(sample.output, sample.metadata))
    values: dict[str, float] = {}
    for name, score in (sample.scores or {}).items():
        values |= score_values(name, score, values)
        how = ((score.metadata or {}).get("extraction") or {}).get("answer") or {}
        if how.get("rule"):
            read_by = f"{how['rule']} ({how.get('slot') or 'no slot'})"
    shown = {_called(key): _shown(key, values[key]) for key in _SHOWN_SCORES if np.isfinite(values.get(key, np.nan))}
    if read_by:
        shown["read by"] = clean(read_by)
    return {
        "candidate": clean(candidate),
        "trace": clean(thought.trace),
        "answer": clean(thought.answer),
        "status": thought.status,
        "scores": shown,
        "log": run.provenance["log"],
        "epoch": sample.epoch,
    }


def _called(key: str) -> str:
    name = metric_name(key)
    return {"accuracy": "answer", "refusal rate": "refusal"}.get(name, name)


def _shown(key: str, value: float) -> str:
    """A score of one output: right or wrong, yes or no, or points of 100."""
    words = {"accuracy/answer": ("wrong", "right"), "refusal/answer": ("no", "yes")}.get(key)
    return words[int(value)] if words and value in (0.0, 1.0) else f"{value:.1f}"


def clean(text: str) -> str:
    """Text that can be shown: control characters and broken code points become visible, long ends are cut."""
    left = len(text) - MOST_CHARACTERS
    cut = text[:MOST_CHARACTERS]
    shown = visible(cut)
    return f"{shown}\n[… {left:,} more characters are in the log]" if left > 0 else shown
