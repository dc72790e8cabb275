"""What a log's header tells: who ran, with which adapters, and how it was decoded, down to whose defaults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medbench.files.redact import told_apart
from medbench.reports.text import visible_name

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

_DECODING = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty")
# Of no effect where the likeliest token is always taken.
_SAMPLING_ONLY = ("top_p", "top_k")
# Providers that take the likeliest token where no temperature is asked for; any other may sample.
_GREEDY_BY_DEFAULT = ("medbench",)
# Task arguments that say where items come from or what judges the outputs, not how the model is asked.
_NOT_ASKED = {
    "source",
    "answers",
    "fewshot_source",
    "encoding",
    "on_bad_row",
    "revision",
    "calibration",
    "judge",
    "verdicts",
}


def about(header: EvalLog) -> dict[str, Any]:
    """What `medbench sweep` wrote of the candidate; empty in other logs."""
    return (header.eval.metadata or {}).get("medbench") or {}


def setting_of(header: EvalLog) -> tuple[dict[str, Any], int | None]:
    """Decoding, thinking mode and task arguments of a log, and its seed.

    A temperature that nobody set is a text that names the provider, so that it never equals one that was set.
    """
    spec = header.eval
    sweep = about(header)
    asked = generation_of(header) | dict(sweep.get("decoding") or {})
    seed = asked.get("seed")
    decoding = {key: asked[key] for key in _DECODING if asked.get(key) is not None}
    if (spec.metadata or {}).get("import"):
        decoding = {"decoding": "unknown (imported)"}
    elif "temperature" not in decoding:
        provider = visible_name(spec.model.split("/")[0])
        decoding["temperature"] = 0.0 if provider in _GREEDY_BY_DEFAULT else f"not set (default of {provider})"
    if decoding.get("temperature") == 0:
        decoding = {key: value for key, value in decoding.items() if key not in _SAMPLING_ONLY}
    setting = {key: _plain(decoding[key]) for key in sorted(decoding)}
    arguments = spec.task_args_passed or spec.task_args or {}
    setting |= {key: value for key, value in sorted(told_apart(arguments).items()) if key not in _NOT_ASKED}
    tuned = tuned_prompt(spec.metadata or {})
    if tuned is not None:  # candidates under prompts of their own are compared on purpose
        kind = f"{len(tuned['wordings'])} on {tuned['items']} other items [{str(tuned['ids_sha256'])[:6]}]"
        setting["prompt"] = f"each candidate's best of {kind}"
    judged_by = claim_judge_of(header)
    if judged_by:  # what two judges counted is not compared
        setting["judged by"] = judged_by
    if sweep.get("thinking") not in (None, "default"):
        setting["thinking"] = sweep["thinking"]
    return setting, seed


def tuned_prompt(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """How a log's prompt was picked (`medbench tune-prompt`), with all scores; None where it was not tuned."""
    told = ((metadata.get("benchmark") or {}).get("prompt") or {}).get("tuned")
    complete = isinstance(told, dict) and told.get("wordings") and told.get("scores") and told.get("ids_sha256")
    return told if complete else None


# Task arguments that say which cue control an item is asked under.
_CONTROL = ("control", "orders", "rephrased")


def control_of(header: EvalLog) -> str | None:
    """The cue control that a log's items were asked under, with its file where it has one."""
    told = ((header.eval.metadata or {}).get("benchmark") or {}).get("control")
    if not isinstance(told, dict) or not told.get("name"):
        return None
    name = str(told["name"])
    return visible_name(f"{name} ({told['file']})" if told.get("file") else name)


def without_control(setting: dict[str, Any]) -> dict[str, Any]:
    """A setting as the plain log beside it has it, so that the two can be paired."""
    return {key: value for key, value in setting.items() if key not in _CONTROL}


def generation_of(header: EvalLog) -> dict[str, Any]:
    """Generation settings in force: the model's own, overridden by the task's and the user's flags."""
    return header.eval.model_generate_config.merge(header.plan.config).model_dump(exclude_none=True)


def name_of(setting: dict[str, Any]) -> str:
    """A setting in one line, e.g. ``temperature 0.6, top_p 0.8``."""
    return visible_name(", ".join(f"{key} {value}" for key, value in setting.items())) or "default"


def key_of(setting: dict[str, Any]) -> str:
    """A setting as text that two logs share if and only if they were asked and decoded alike."""
    return json.dumps(setting, sort_keys=True, default=str)


def weights_of(header: EvalLog) -> dict[str, float]:
    """Adapter -> weight: the sweep's word, else the provider's argument."""
    told = about(header).get("weights") or {}
    return {key: float(value) for key, value in told.items()} or _adapter_weights(
        header.eval.model_args.get("adapters")
    )


def effective_of(header: EvalLog) -> dict[str, float]:
    """Adapter -> weight that takes effect after rounding, where the sweep measured it."""
    told = about(header).get("effective") or {}
    return {key: float(value) for key, value in told.items()}


def candidate_of(header: EvalLog, weights: dict[str, float]) -> str:
    """The sweep's name, else the model's; candidates that share a base differ in their adapters, which then follow."""
    model = header.eval.model
    added = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
    return visible_name(str(about(header).get("candidate") or (f"{model} ({added})" if added else model)))


def judge_of(header: EvalLog) -> str | None:
    """The model that had the role ``judge``."""
    role = (header.eval.model_roles or {}).get("judge")
    first = role[0] if isinstance(role, list) else role
    return visible_name(first.model) if first else None


def claim_judge_of(header: EvalLog) -> str | None:
    """Who judged claims (`medbench.claims`), a role by the model that had it."""
    judges = ((header.eval.metadata or {}).get("benchmark") or {}).get("judges")
    if not isinstance(judges, list) or not judges:
        return None
    roles = header.eval.model_roles or {}
    named = []
    for judge in map(str, judges):
        role = roles.get(judge)
        first = role[0] if isinstance(role, list) else role
        named.append(str(first.model) if first else judge)
    return visible_name(" + ".join(named))


def _adapter_weights(adapters: object) -> dict[str, float]:
    """Weights from the provider's argument ``pt=DIR:0.3,sft=DIR:0.7``, text or list; empty for anything else."""
    weights = {}
    parts = adapters if isinstance(adapters, list) else str(adapters or "").split(",")
    for part in filter(None, map(str, parts)):
        name, _, rest = part.partition("=")
        _, _, weight = rest.rpartition(":")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            return {}
    return weights


def _plain(value: object) -> object:
    """Numbers that are equal are written alike: a temperature of 0 and of 0.0 is one setting."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
