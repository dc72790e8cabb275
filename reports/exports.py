"""Headline results in the formats of others: Every Eval Ever, lm-eval's results, and a model card with `model-index`.

Each function takes results of one candidate (the tables of any number) and returns the file's text. Every number stands
with its items, its 95% interval, the task's version, and chance or floor.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from medbench import __version__
from medbench.provider.known import provider_of
from medbench.reports.gap.labels import METRICS
from medbench.reports.results import Result

# Of `eval.schema.json` in the package every-eval-ever.
SCHEMA_VERSION = "0.3.0"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
AVAILABILITIES = ("open_weights", "closed_weights", "unknown")
_HUB = "hf://datasets/"
_LIBRARY = "medbench"
_INTERVAL = "as in medbench's report: docs/statistics.md"


def every_eval_ever(
    results: Sequence[Result],
    *,
    organization: str,
    relationship: str,
    resamples: int,
    availability: str = "unknown",
    developer: str | None = None,
    now: float | None = None,
) -> str:
    """One candidate's record in the schema of Every Eval Ever, as JSON.

    Args:
        results: of one candidate.
        organization: who reports the numbers.
        relationship: of who ran the evaluation to who made the model, one of `RELATIONSHIPS`.
        resamples: of the bootstrap behind the standard errors.
        availability: of the model's weights, one of `AVAILABILITIES`.
        developer: who made the model; their collection asks for it where the candidate is not named ``ORG/NAME``.
        now: seconds since 1970; None for the clock's.
    """
    first = results[0]
    model = str(first.run.provenance["model"])
    created = min(result.run.created for result in results)
    evaluated = f"{datetime.fromisoformat(created).timestamp():.0f}"
    # the record's identity is the evaluation's, so that exporting twice gives one record
    logs = json.dumps(sorted({str(result.run.provenance["run_id"]) for result in results}))
    record = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{_LIBRARY}/{first.candidate}/{evaluated}-{hashlib.sha256(logs.encode()).hexdigest()[:8]}",
        "evaluation_timestamp": evaluated,
        "retrieved_timestamp": f"{time.time() if now is None else now:.0f}",
        "source_metadata": {
            "source_name": _LIBRARY,
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": relationship,
        },
        "eval_library": {
            "name": "inspect_ai",
            "version": str(first.run.provenance["packages"].get("inspect_ai", "unknown")),
            "additional_details": {_LIBRARY: __version__},
        },
        "model_info": {
            "name": first.candidate,
            "id": first.candidate,
            **({"developer": developer} if developer else {}),
            "additional_details": {
                "deployment_type": "self_deployed" if provider_of(model).local else "unknown",
                "model_availability": availability,
                "inspect_model": model,
            },
        },
        "evaluation_results": [_evaluation(result, resamples) for result in results],
    }
    return json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _evaluation(result: Result, resamples: int) -> dict[str, Any]:
    metric, _, view = result.metric.partition("/")
    rate = result.unit == "rate"
    plain = metric == "accuracy"
    details = {"view": view, "task_version": result.version} | _floors(result) | _about_control(result)
    config = {
        "evaluation_description": f"{_title(result)} on {result.asked}, version {result.version}",
        "metric_id": "accuracy" if plain else f"{_LIBRARY}.{metric.replace(' ', '_')}",
        "metric_name": _title(result),
        "metric_kind": "accuracy" if plain else metric.replace(" ", "_"),
        "metric_unit": "proportion" if rate else "points",
        "lower_is_better": result.lower_is_better,
        "score_type": "continuous",
        "min_score": 0.0,
        "max_score": 1.0 if rate else 100.0,
    }
    uncertainty: dict[str, Any] = {"num_samples": result.n}
    if not math.isnan(result.interval.low):  # one item has no interval
        uncertainty |= {
            "standard_error": {"value": result.error, "method": "bootstrap"},
            "confidence_interval": {
                "lower": result.interval.low,
                "upper": result.interval.high,
                "confidence_level": 0.95,
                "method": _INTERVAL,
            },
            "num_bootstrap_samples": resamples,
        }
    generation = result.run.provenance.get("generation") or {}
    known = {key: generation[key] for key in ("temperature", "top_p", "top_k", "max_tokens") if key in generation}
    more = {key: json.dumps(value) for key, value in generation.items() if key not in known}
    return {
        "evaluation_result_id": f"{result.asked}.{result.metric}".replace("/", ".").replace(" ", "_"),
        "evaluation_name": f"{_LIBRARY}.{result.asked}".replace(" ", "_"),
        "source_data": _source(result),
        "metric_config": config,
        "score_details": {
            "score": result.interval.estimate,
            "details": {key: str(value) for key, value in details.items()},
            "uncertainty": uncertainty,
        },
        "generation_config": {"generation_args": known, "additional_details": more},
    }


def _about_control(result: Result) -> dict[str, str]:
    """Under which cue control the items were asked, and how many of them."""
    told = result.benchmark.get("control") or {}
    return {"control": result.control, "control_asked": str(told.get("asked", result.n))} if result.control else {}


def _source(result: Result) -> dict[str, Any]:
    """Where the items are from, in the schema's words; `additional_details` holds what says which items exactly."""
    benchmark = result.benchmark
    source, revision = str(benchmark.get("source") or ""), str(benchmark.get("revision") or "")
    if source.startswith(_HUB):
        found: dict[str, Any] = {
            "dataset_name": result.task,
            "source_type": "hf_dataset",
            "hf_repo": source.removeprefix(_HUB),
            "samples_number": result.n,
        }
        if benchmark.get("split"):
            found["hf_split"] = str(benchmark["split"])
        return found | ({"additional_details": {"revision": revision}} if revision else {})
    identity = str(benchmark.get("sha256") or benchmark.get("items_sha256") or "")
    found = {"dataset_name": result.task, "source_type": "other"}
    return found | ({"additional_details": {"sha256": identity}} if identity else {})


def _bounds(result: Result) -> dict[str, Any]:
    """The items and the interval; the bounds are null where one item has none."""
    low, high = (None if math.isnan(bound) else bound for bound in result.interval[1:])
    return {"n": result.n, "low": low, "high": high, "confidence": 0.95}


def _floors(result: Result) -> dict[str, str]:
    name, _, value = result.beside.partition(" ")
    return {name: value} if name else {}


def _title(result: Result) -> str:
    metric, _, view = result.metric.partition("/")
    named = METRICS.get(metric, metric)
    return named if not view or metric == "accuracy" else f"{named}, {view} view"


def _lm_eval_metric(result: Result) -> tuple[str, str]:
    """(metric, filter): lm-eval's filters say what was read of an output, as views do here."""
    metric, _, view = result.metric.partition("/")
    return "acc" if metric == "accuracy" else metric.replace(" ", "_"), view or "none"


def lm_eval_json(results: Sequence[Result]) -> str:
    """One candidate's results as lm-eval writes `results_*.json`; intervals, chance and floors under `medbench`."""
    tasks: dict[str, dict[str, Any]] = {}
    beside: dict[str, dict[str, Any]] = {}
    better: dict[str, dict[str, bool]] = {}
    for result in results:
        metric, view = _lm_eval_metric(result)
        scores = tasks.setdefault(result.asked, {"alias": result.asked, "sample_len": result.n})
        scores[f"{metric},{view}"] = result.interval.estimate
        scores[f"{metric}_stderr,{view}"] = "N/A" if math.isnan(result.interval.low) else result.error
        better.setdefault(result.asked, {})[metric] = not result.lower_is_better
        beside.setdefault(result.asked, {})[f"{metric},{view}"] = {
            **_bounds(result),
            **{key: float(value) for key, value in _floors(result).items()},
        }
    sizes = {
        task: {"original": scores["sample_len"], "effective": scores["sample_len"]} for task, scores in tasks.items()
    }
    document = {
        "results": tasks,
        "group_subtasks": {task: [] for task in tasks},
        "versions": {result.asked: result.version for result in results},
        "n-shot": {result.asked: result.benchmark.get("fewshot", 0) for result in results},
        "higher_is_better": better,
        "n-samples": sizes,
        "config": {"model": str(results[0].run.provenance["model"])},
        "model_name": results[0].candidate,
        "medbench": {"version": __version__, "intervals": beside},
    }
    return json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def lm_eval_table(results: Sequence[Result]) -> str:
    """The table that lm-eval prints, with interval, items, and chance or floor behind it.

    Its columns, their order and alignment are lm-eval's. Of several candidates each row names its own, and no cell is
    left out as lm-eval leaves out those of a task's second metric.
    """
    several = len({result.candidate for result in results}) > 1
    rows: list[list[str]] = []
    named = ""
    for result in results if several else sorted(results, key=lambda one: (one.asked, *_lm_eval_metric(one))):
        metric, view = _lm_eval_metric(result)
        alone = math.isnan(result.interval.low)
        span = "none" if alone else f"{result.interval.low:.4f} to {result.interval.high:.4f}"
        task = ["", ""] if result.asked == named and not several else [_cell(result.asked), result.version]
        named = result.asked
        cells = [*task, view, str(result.benchmark.get("fewshot", 0)), metric, "↓" if result.lower_is_better else "↑"]
        cells += [f"{result.interval.estimate:.4f}", "±", "N/A" if alone else f"{result.error:.4f}"]
        rows.append(([_cell(result.candidate)] if several else []) + [*cells, span, str(result.n), result.beside])
    head = ["Model"] * several + ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"]
    return _markdown([*head, "95% interval", "n", "Beside"], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table as pytablewriter writes lm-eval's: headings centred, columns of numbers to the right."""
    columns = list(zip(*rows, strict=True))
    width = [max(3, len(title), *map(len, cells)) for title, cells in zip(head, columns, strict=True)]
    right = [all(re.fullmatch(r"-?\d+(\.\d+)?|", cell) for cell in cells) and any(cells) for cells in columns]
    lines = [[title.center(size) for title, size in zip(head, width, strict=True)]]
    lines.append(["-" * (size - 1) + ":" if to else "-" * size for size, to in zip(width, right, strict=True)])
    for row in rows:
        lines.append([cell.rjust(n) if to else cell.ljust(n) for cell, n, to in zip(row, width, right, strict=True)])
    return "".join(f"|{'|'.join(line)}|\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def model_index(results: Sequence[Result]) -> str:
    """One candidate's model card: `model-index` metadata as the hub reads it, and the table under it."""
    from huggingface_hub import EvalResult, ModelCardData

    entries = [
        EvalResult(
            task_type="question-answering" if result.unit == "rate" else "text-generation",
            task_name=f"{result.asked}, version {result.version}",
            dataset_type=_source(result).get("hf_repo") or result.task,
            dataset_name=result.asked,
            dataset_config=result.control or None,
            dataset_split=_source(result).get("hf_split"),
            dataset_revision=str(result.benchmark.get("revision") or "") or None,
            metric_type=result.metric.partition("/")[0].replace(" ", "_"),
            metric_name=f"{_title(result)} (n = {result.n}, {_span(result)}{_after(result)})",
            metric_value=round(result.interval.estimate, 6),
            metric_args={"task_version": result.version, "view": result.metric.partition("/")[2], **_bounds(result)}
            | {key: float(value) for key, value in _floors(result).items()},
        )
        for result in results
    ]
    name = results[0].candidate
    data = ModelCardData(model_name=name, eval_results=entries)
    rows = ["|Task|Version|Metric|Score|95% interval|n|Chance or floor|", "|---|---|---|---|---|---|---|"]
    for result in results:
        cells = [_cell(result.asked), result.version, _title(result), _shown(result, result.interval.estimate)]
        rows.append(f"|{'|'.join([*cells, _span(result), str(result.n), result.beside])}|")
    says = f"Measured with medbench {__version__}; BLEU and ROUGE mean nothing without the floor beside them."
    heading = name.replace("\n", " ")
    return f"---\n{data.to_yaml()}\n---\n\n# {heading}\n\n## Evaluation\n\n" + "\n".join([*rows, "", says]) + "\n"


def _shown(result: Result, value: float) -> str:
    return f"{value:.3f}" if result.unit == "rate" else f"{value:.2f}"


def _span(result: Result) -> str:
    if math.isnan(result.interval.low):
        return "no interval"
    return f"{_shown(result, result.interval.low)} to {_shown(result, result.interval.high)}"


def _after(result: Result) -> str:
    return f", {result.beside}" if result.beside else ""
