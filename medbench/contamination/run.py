"""From a model and a task to per-item scores and a result per test, written to a directory."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medbench.contamination.likelihood import InspectLikelihoods, Likelihoods
from medbench.contamination.scoring import TESTS, Plan, score
from medbench.contamination.tests import FEWEST, Judged, Result, judge
from medbench.errors import MedbenchError, unknown
from medbench.files.directories import replace_directory, workplace
from medbench.files.manifest import NAME, read_manifest, write_atomic, write_manifest
from medbench.leakage.against import load
from medbench.sources.items import Item, describe
from medbench.sources.records import BadRows, OnBadRow

KIND = "contamination"
Say = Callable[[str, int, int], None]  # step, done, total


@dataclass
class Findings:
    """What the tests say of one model and one set.

    Attributes:
        model: its name.
        task: the set's name, as given.
        items: the set, in its order.
        judged: results, and scores per item.
        left_out: rows of the source that held no item.
        reference: the reference model's name, or None.
        controls: how many control items there are.
    """

    model: str
    task: str
    items: list[Item]
    judged: Judged
    left_out: list[str] = field(default_factory=list)
    reference: str | None = None
    controls: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """A row per item, for `items.jsonl`: joins logs and audits by `item_id`."""
        return [
            {"item_id": item.id, "source": item.source, "model": self.model, **scores}
            for item, scores in zip(self.items, self.judged.items, strict=True)
        ]

    def summary(self) -> dict[str, Any]:
        """Everything about the set as a whole, for `summary.json`; NaN is null."""
        results = [
            {**asdict(result), "p_holm": p} for result, p in zip(self.judged.results, self.judged.adjusted, strict=True)
        ]
        return {
            "model": self.model,
            "task": self.task,
            "reference": self.reference,
            "controls": self.controls,
            "items": describe(self.items),
            "left_out": self.left_out,
            "leak_shown": [f"{result.test}/{result.against}" for result in self.judged.shown],
            "results": _plain(results),
        }


def contamination(
    model: str | Likelihoods,
    task: str,
    *,
    model_args: Mapping[str, Any] | None = None,
    base_url: str | None = None,
    reference: str | Likelihoods | None = None,
    controls: str | None = None,
    limit: int | None = None,
    plan: Plan | None = None,
    on_bad_row: OnBadRow = "error",
    out: str | Path | None = None,
    say: Say = lambda step, done, total: None,
) -> Findings:
    """Test whether a model has seen a set.

    Args:
        model: an Inspect model name, or what scores texts.
        task: a task, ``task=FILE``, a log or a file of items, as `medbench audit --against` takes it.
        model_args: Inspect's ``-M`` arguments of `model`.
        base_url: Inspect's ``--model-base-url`` of it.
        reference: a model that has not seen the set, to subtract; best of the same family.
        controls: items drawn like the set that the model cannot have seen; named as `task` is.
        limit: the first so many items only.
        plan: what is scored.
        on_bad_row: ``error``, or ``skip`` to leave out rows that hold no item.
        out: where items.jsonl, summary.json and manifest.json are written; None writes nothing.
        say: called with (step, done, total).

    Raises:
        MedbenchError: an unknown task or test, a set without items or with too few, a provider without prompt
            log-probabilities, or an `out` that holds something else.
    """
    plan = plan or Plan()
    for test in plan.tests:
        if test not in TESTS:
            raise unknown("test", test, TESTS)
    if out is not None:
        _check_out(Path(out))
    bad_rows = BadRows(on_bad_row)
    items = _items(task, "--task", bad_rows, limit)
    others = _controls(controls, items, bad_rows) if controls else []
    with contextlib.ExitStack() as stack:
        suspect = _likelihoods(model, model_args, base_url, stack)
        mine = score(items, suspect, plan, progress=lambda done, total: say("the set", done, total))
        controlled = score(others, suspect, plan, controls=True) if others else None
        theirs = controlled_reference = None
        if reference is not None:
            innocent = _likelihoods(reference, None, None, stack)
            theirs = score(items, innocent, plan, progress=lambda done, total: say("the reference", done, total))
            controlled_reference = score(others, innocent, plan, controls=True) if others else None
    judged = judge(
        items,
        mine,
        tests=plan.tests,
        reference=theirs,
        controls=controlled,
        control_reference=controlled_reference,
        seed=plan.seed,
    )
    name = reference if isinstance(reference, str | None) else reference.name
    findings = Findings(suspect.name, task, items, judged, bad_rows.listed(), name, len(others))
    if out is not None:
        write(findings, Path(out), plan, {"controls": controls, "limit": limit, "model_args": dict(model_args or {})})
    return findings


def write(findings: Findings, out: Path, plan: Plan, settings: Mapping[str, Any]) -> None:
    """Write items.jsonl, summary.json and manifest.json, complete before anything that stood there is replaced.

    Raises:
        MedbenchError: another process writes the same directory.
    """
    with workplace(out) as work:
        new = work / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in findings.rows()]
        write_atomic(new / "items.jsonl", "".join(lines))
        write_atomic(new / "summary.json", json.dumps(findings.summary(), ensure_ascii=False, indent=1) + "\n")
        write_manifest(
            new,
            KIND,
            settings={"model": findings.model, "reference": findings.reference, **asdict(plan), **settings},
            inputs={findings.task: describe(findings.items)["items_sha256"]},
        )
        replace_directory(new, out, ("items.jsonl", "summary.json", NAME))
        shutil.rmtree(work)


def _check_out(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise MedbenchError(f"--out {out} is a file; expected a directory to write to.")
    if read_manifest(out).get("kind") != KIND:
        raise MedbenchError(f"--out {out} holds something else already; name a new directory.")


def _items(source: str, option: str, bad_rows: BadRows, limit: int | None = None) -> list[Item]:
    try:
        found = load(source, bad_rows)
    except MedbenchError as error:
        raise MedbenchError(str(error).replace("--against", option).replace("to audit against", "to test")) from error
    items = list({item.id: item for _, items in found for item in items}.values())[:limit]
    if len(items) < 2 * FEWEST:
        raise MedbenchError(
            f"{option} {source}: {len(items)} items are too few; a test of a set needs {2 * FEWEST} at least, and says "
            "little below 50. Join files, or raise --limit."
        )
    return items


def _controls(source: str, items: Sequence[Item], bad_rows: BadRows) -> list[Item]:
    found = _items(source, "--controls", bad_rows)
    tested = {item.id for item in items}
    controls = [item for item in found if item.id not in tested]
    if len(controls) < FEWEST:
        raise MedbenchError(
            f"--controls {source}: {len(found) - len(controls)} of its {len(found)} items are in the tested set too. "
            "Controls are other items, drawn as the set was, that the model cannot have seen."
        )
    return controls


def _likelihoods(
    model: str | Likelihoods, args: Mapping[str, Any] | None, base_url: str | None, stack: contextlib.ExitStack
) -> Likelihoods:
    if not isinstance(model, str):
        return model
    from inspect_ai.model import get_model

    from medbench.private.inspect import PrerequisiteError, reason

    try:
        made = get_model(model, base_url=base_url, **dict(args or {}))
    except PrerequisiteError as error:  # a package or a key that the provider needs
        raise MedbenchError(f"--model {model}: {reason(error)}") from error
    except ValueError as error:
        raise MedbenchError(f"--model {model}: {error}") from error
    return stack.enter_context(contextlib.closing(InspectLikelihoods(made)))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def largest_reasons(result: Result, most: int = 3) -> str:
    """Why items were not checked, in words: ``12 without options, 3 longer than the model's context``."""
    ordered = sorted(result.unchecked.items(), key=lambda pair: -pair[1])[:most]
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)
