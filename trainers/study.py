"""Study files: what `medbench sweep` compares, from YAML to a list of runs.

base: models/Qwen3-0.6B            # or medbench/..., a hub id, or microlab
adapters: {pt: adapters/pt, sft: adapters/sft}
candidates:
  - {pt: 0..1 step 0.1, sft: 1 - pt}
  - {pt: 0.3, sft: 0.7, method: ties, density: 0.5}
  - {model: openai/gpt-5-mini}
  - {model: openai-api/server/mix, weights: {pt: 0.3, sft: 0.7}}   # a candidate that something else serves
controls: true                     # sft_only and pt_added beside the mixtures
tasks:
  - {task: medbench/f5, args: {source: valid.jsonl}}
  - task: medbench/medqa           # as it is, and under each cue control (docs/controls.md)
    cue_controls: [options_only, none_of_these, {control: reorder, orders: 4}]
# each candidate with its own prompt (medbench tune-prompt): {task: medbench/medqa, args: {prompt: tuned/medqa.yaml}}
decoding:
  - {temperature: 0}
  - {temperature: 0.6, top_p: 0.8, seeds: [1, 2, 3]}
thinking: [default]
system: training                   # the system prompt of the adapters' training data; or none, or a text
limit: 200
# candidates behind a server instead of in this process, see trainers/serving.py:
# serve: {kind: vllm, base_url: "http://localhost:8000/v1"}
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from medbench.benchmark.prompt_set import split_reference
from medbench.errors import MedbenchError, unknown
from medbench.files import places
from medbench.files.yaml_files import read_yaml
from medbench.provider.known import provider_of
from medbench.trainers.serving import SERVICE, Serve, model_name, read_serve

THINKING = ("default", "on", "off")
_KEYS = (
    "base", "adapters", "candidates", "controls", "tasks", "decoding", "thinking", "limit", "epochs", "model_args",
    "max_samples", "max_tasks", "system", "serve",
)  # fmt: skip
_RANGE = re.compile(r"(?P<first>[-+.\d]+)\s*\.\.\s*(?P<last>[-+.\d]+?)(?:\s+step\s+(?P<step>[.\d]+))?")
MOST_STEPS = 1000
MOST_CANDIDATES = 5000  # of a study; each is a model to evaluate
_REST = re.compile(r"(?P<total>[-+.\d]+)\s*-\s*(?P<name>[A-Za-z_]\w*)")


@dataclass(frozen=True)
class Candidate:
    """One model to evaluate.

    Attributes:
        name: unique in the study.
        series: ``mix``, ``sft_only``, ``pt_added``, ``other`` (weights of another pattern) or ``model`` (no weights).
        model: Inspect model name.
        model_args: its -M arguments.
        weights: adapter -> weight, empty for a plain model.
        method: how the adapters are merged.
        settings: that method's settings.
        adapters: what is merged, ``NAME=DIR:WEIGHT`` each; none for a plain model.
    """

    name: str
    series: str
    model: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    method: str = "linear"
    settings: Mapping[str, Any] = field(default_factory=dict)
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One eval log to be: a candidate on a task under one way of decoding."""

    candidate: Candidate
    task: str
    task_args: Mapping[str, Any]
    decoding: Mapping[str, Any]
    thinking: str


@dataclass(frozen=True)
class Study:
    """A checked study file."""

    path: Path
    document: dict[str, Any]
    candidates: list[Candidate]
    tasks: list[tuple[str, dict[str, Any]]]
    decodings: list[dict[str, Any]]
    thinking: list[str]
    serve: Serve | None = None

    @property
    def base(self) -> str:
        """The directory or hub id of the base that candidates are made of."""
        return _near(self.path.parent, str(self.document.get("base")).removeprefix("medbench/"))

    @property
    def runs(self) -> list[Run]:
        """Every combination; candidates vary slowest, so that weights are switched as rarely as can be."""
        return [
            Run(candidate, task, _own_prompt(args, candidate), decoding, thinking)
            for candidate in self.candidates
            for task, args in self.tasks
            for decoding in self.decodings
            for thinking in self.thinking
        ]


def read_study(path: str | Path) -> Study:
    """Read and check a study file.

    Raises:
        MedbenchError: not YAML, unknown keys (with the nearest known ones), values of another kind, nothing to run.
    """
    path = Path(path)
    document = read_yaml(path, "study file")
    try:
        return _study(path, document)
    except MedbenchError as error:
        raise MedbenchError(f"{path}: {error}") from None


def _study(path: Path, document: dict[str, Any]) -> Study:
    _known("key", document, _KEYS)
    args = document.get("model_args") or {}
    if not isinstance(args, dict):
        raise MedbenchError(f"model_args is {args!r:.80}; expected a mapping such as {{dtype: float32}}.")
    for key in ("candidates", "tasks"):
        if not isinstance(document.get(key), list) or not document[key]:
            raise MedbenchError(f"{key} must be a list with at least one entry.")
    candidates = list(_candidates(path.parent, document))
    if len(candidates) > MOST_CANDIDATES:
        raise MedbenchError(f"candidates: over {MOST_CANDIDATES:,}; each is a model to evaluate.")
    twice = Counter(candidate.name for candidate in candidates).most_common(1)[0]
    if twice[1] > 1:
        raise MedbenchError(f"candidates: two are called {twice[0]!r}; give one of them another name.")
    for key in ("thinking", "decoding"):
        if document.get(key, [{}]) in ([], None):
            raise MedbenchError(f"{key} is empty; list at least one, or leave the key out.")
    thinking = _listed(document.get("thinking", "default"))
    # YAML reads on and off as booleans.
    thinking = [("on" if mode else "off") if isinstance(mode, bool) else mode for mode in thinking]
    for mode in thinking:
        if mode not in THINKING:
            raise unknown("thinking mode", str(mode), THINKING)
    if not isinstance(document.get("system", "training"), str):
        raise MedbenchError(f"system is {document['system']!r}; expected training, none, or the system prompt itself.")
    for key in ("limit", "epochs", "max_samples", "max_tasks"):
        value = document.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MedbenchError(f"{key} is {value!r}; expected a whole number above 0.")
    tasks = [task for entry in document["tasks"] for task in _tasks(path.parent, entry)]
    decodings = list(_decodings(document.get("decoding", [{}])))
    return Study(path, document, candidates, tasks, decodings, thinking, read_serve(document.get("serve")))


def _known(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise unknown(what, str(name), known)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _near(folder: Path, name: str) -> str:
    """A path as the study file sees it, a copy of what lies at a URL, or the name as it is."""
    if places.is_remote(name):
        return str(places.local(name))
    try:
        beside = folder / Path(name).expanduser()
        return str(beside.resolve()) if beside.exists() else name
    except (OSError, RuntimeError, ValueError):  # no path: too long, an unknown user's ~, a zero byte
        return name


def _tasks(folder: Path, entry: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """The task as it is, then under each of its cue controls."""
    if isinstance(entry, str):
        entry = {"task": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("task"), str):
        raise MedbenchError(f"tasks: {entry!r}; expected a name such as medbench/medqa, a file, or {{task:, args:}}.")
    _known("key of a task", entry, ("task", "args", "cue_controls"))
    file, at, name = entry["task"].partition("@")
    args = entry.get("args") or {}
    if not isinstance(args, dict):
        raise MedbenchError(f"tasks: args of {entry['task']} must be a mapping.")
    # What lies beside the study file is meant by its place there, wherever the command is run.
    where = _near(folder, file) + at + name
    yield where, _near_files(folder, args)
    for control in _listed(entry.get("cue_controls") or []):
        yield where, _near_files(folder, args | _cue_control(entry["task"], control, args))


def _near_files(folder: Path, args: dict[str, Any]) -> dict[str, Any]:
    near = {"source": _near, "rephrased": _near, "prompt": _near_prompt}
    return {
        key: near[key](folder, value) if key in near and isinstance(value, str) else value
        for key, value in args.items()
    }


def _cue_control(task: str, control: object, args: Mapping[str, Any]) -> dict[str, Any]:
    """The task's arguments that ask for a cue control: its name alone, or with its settings."""
    from medbench.benchmark.task import CONTROLS

    given = {"control": control} if isinstance(control, str) else control
    if not isinstance(given, dict) or "control" not in given:
        raise MedbenchError(
            f"cue_controls of {task}: {control!r}; expected a name ({', '.join(CONTROLS)}), or {{control: reorder, "
            "orders: 4}}."
        )
    _known(f"setting of a cue control of {task}", given, ("control", "orders", "rephrased"))
    if given["control"] not in CONTROLS:
        raise unknown(f"cue control of {task}", str(given["control"]), CONTROLS)
    if args.get("control") is not None:
        raise MedbenchError(f"tasks: args of {task} name a control; list it under cue_controls, or leave those out.")
    return given


def _own_prompt(args: dict[str, Any], candidate: Candidate) -> dict[str, Any]:
    """A prompt set without the name of a wording holds each candidate's own (`medbench tune-prompt`)."""
    prompt = args.get("prompt")
    if not isinstance(prompt, str) or split_reference(prompt)[1]:
        return args
    return {**args, "prompt": f"{prompt}#{candidate.name}"}


def _near_prompt(folder: Path, prompt: str) -> str:
    source, name = split_reference(prompt)
    return _near(folder, source) + (f"#{name}" if name else "")


def _decodings(entries: object) -> Iterator[dict[str, Any]]:
    for entry in _listed(entries):
        if not isinstance(entry, dict):
            raise MedbenchError(f"decoding: {entry!r}; expected a mapping such as {{temperature: 0.6, top_p: 0.8}}.")
        _known("decoding setting", entry, tuple(_EXPECTED))
        if "seed" in entry and "seeds" in entry:
            raise MedbenchError("decoding: give seed or seeds, not both.")
        for key, value in entry.items():
            wrong = [one for one in _listed(value) if not _fits(key, one)]
            if wrong or (isinstance(value, list) and key != "seeds"):
                raise MedbenchError(f"decoding: {key} is {value!r}; expected {_EXPECTED[key]}.")
        settings = {"temperature": 0, **{key: value for key, value in entry.items() if key != "seeds"}}
        for seed in _listed(entry.get("seeds", [None])):
            yield settings if seed is None else {**settings, "seed": seed}


# Of each decoding setting, what its value must be.
_EXPECTED = {
    "name": "a name",
    "temperature": "a number of 0 or more",
    "top_p": "a number above 0 and at most 1",
    "top_k": "a whole number above 0",
    "max_tokens": "a whole number above 0",
    "seed": "a whole number",
    "seeds": "a list of whole numbers",
}


def _fits(key: str, value: object) -> bool:
    if key == "name":
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if key == "temperature":
        return 0 <= value < math.inf
    if key == "top_p":
        return 0 < value <= 1
    return isinstance(value, int) and (value > 0 or key.startswith("seed"))


def _candidates(folder: Path, document: dict[str, Any]) -> Iterator[Candidate]:
    adapters = document.get("adapters") or {}
    if not isinstance(adapters, dict) or not all(isinstance(value, str) for value in adapters.values()):
        raise MedbenchError("adapters must map names to directories: {pt: adapters/pt, sft: adapters/sft}.")
    paths = {name: _near(folder, value) for name, value in adapters.items()}
    found: list[Candidate] = []
    for entry in document["candidates"]:
        if not isinstance(entry, dict):
            raise MedbenchError(f"candidates: {entry!r}; expected weights ({{pt: 0.3, sft: 0.7}}) or {{model: NAME}}.")
        if "model" in entry:
            found.append(_plain(folder, entry))
        else:
            if not paths:  # only models by name can be meant
                _known("key of a candidate", entry, ("model", "name", "args", "weights"))
            for weights, settings in _expand(entry, paths):
                found.append(_weighted(folder, document, paths, weights, entry, settings))
    made = [candidate for candidate in found if candidate.adapters]
    mixtures = [candidate for candidate in made if candidate.method == "linear"]
    if document.get("controls", True) and {"pt", "sft"} <= paths.keys() and mixtures:
        steps = sorted({candidate.weights["pt"] for candidate in mixtures} | {0.0, 1.0})
        controls = [{"pt": 0.0, "sft": step} for step in reversed(steps)] + [{"pt": step, "sft": 1.0} for step in steps]
        found += [_weighted(folder, document, paths, weights, {}, {}) for weights in controls]
    # Full SFT belongs to every series, and other candidates may be named twice: each is run once.
    seen = set()
    for candidate in found:
        key = (candidate.model, repr(candidate.model_args))
        if key not in seen:
            seen.add(key)
            yield candidate


def _series(weights: Mapping[str, float]) -> str:
    if abs(sum(weights.values()) - 1) < 1e-9:
        return "mix"
    if weights.get("pt") == 0:
        return "sft_only"
    return "pt_added" if weights.get("sft") == 1 else "other"


def _plain(folder: Path, entry: dict[str, Any]) -> Candidate:
    _known("key of a plain model", entry, ("model", "name", "args", "weights"))
    provider, slash, rest = entry["model"].partition("/") if isinstance(entry["model"], str) else ("", "", "")
    if not slash:
        raise MedbenchError(
            f"candidates: model {entry['model']!r:.80}; expected PROVIDER/NAME, e.g. openai/gpt-5-mini."
        )
    args = entry.get("args") or {}
    if not isinstance(args, dict):
        raise MedbenchError(f"candidates: args of {entry['model']} are {args!r:.80}; expected a mapping.")
    model = f"{provider}/{_near(folder, rest)}" if provider_of(provider).files else entry["model"]
    weights = _stated_weights(entry)
    series = _series(weights) if weights else "model"
    return Candidate(_name(entry, entry["model"]), series, model, args, weights)


def _name(entry: Mapping[str, Any], default: str) -> str:
    """What a candidate is called: by the user, or else by default."""
    name = entry.get("name") or default
    if not isinstance(name, str):
        raise MedbenchError(f"candidates: name is {name!r:.80}; expected a text.")
    return name


def _stated_weights(entry: Mapping[str, Any]) -> dict[str, float]:
    """The weights that a plain model is said to have been merged with: what puts it on the curve."""
    weights = entry.get("weights") or {}
    numbers = isinstance(weights, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        for value in weights.values()
    )
    if not numbers:
        raise MedbenchError(
            f"candidates: weights of {entry['model']} are {weights!r}; expected a number for each adapter: "
            "{pt: 0.3, sft: 0.7}."
        )
    return {str(name): float(value) for name, value in weights.items()}


def _expand(entry: dict[str, Any], paths: Mapping[str, str]) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    """The weights of one entry: ranges and lists in every combination, then what depends on them."""
    from medbench.merging.methods import method

    named = entry.get("method", "linear")
    if not isinstance(named, str):
        raise MedbenchError(f"candidates: method is {named!r:.80}; expected the name of a merge method, e.g. ties.")
    declared = method(named).inputs
    _known("adapter or setting of a candidate", entry, ("model", "name", "method", *paths, *declared))
    settings = {key: value for key, value in entry.items() if key in declared}
    free = {name: _values(name, entry[name]) for name in paths if name in entry and not _depends(entry[name])}
    if not free:
        raise MedbenchError(f"candidates: {entry!r} names no weight; known adapters: {', '.join(paths) or 'none'}.")
    if math.prod(map(len, free.values())) > MOST_CANDIDATES:
        sizes = ", ".join(f"{name} has {len(values):,}" for name, values in free.items())
        raise MedbenchError(
            f"candidates: over {MOST_CANDIDATES:,} combinations ({sizes}); each is a model to evaluate. "
            "Take larger steps, or tie one weight to another: '1 - pt'."
        )
    for combination in itertools.product(*free.values()):
        weights = dict(zip(free, combination, strict=True))
        for name in paths:
            if name in entry and name not in free:
                weights[name] = _rest(name, entry[name], weights)
        yield {name: float(weight) for name, weight in weights.items()}, settings


def _depends(value: object) -> bool:
    return isinstance(value, str) and _REST.fullmatch(value.strip()) is not None


def _rest(name: str, text: str, weights: Mapping[str, Decimal]) -> Decimal:
    match = _REST.fullmatch(text.strip())
    assert match is not None
    if match["name"] not in weights:
        raise unknown(f"adapter in {name}: {text!r}", match["name"], weights)
    try:
        return Decimal(match["total"]) - weights[match["name"]]
    except InvalidOperation:
        raise MedbenchError(f"candidates: {name}: {text!r:.80}; expected '1 - OTHER'.") from None


def _values(name: str, value: object) -> list[Decimal]:
    """A number, a list of numbers, or ``0..1 step 0.1`` (both ends included)."""
    if isinstance(value, list):
        return [number for item in value for number in _values(name, item)]
    if isinstance(value, str) and (match := _RANGE.fullmatch(value.strip())):
        try:
            first, last, step = (Decimal(match[group] or "0.1") for group in ("first", "last", "step"))
        except InvalidOperation:
            raise MedbenchError(f"candidates: {name}: {value!r:.80} is no range; write '0..1 step 0.1'.") from None
        if step <= 0 or last < first:
            raise MedbenchError(f"candidates: {name}: {value!r} is an empty range.")
        if (last - first) / step > MOST_STEPS:
            raise MedbenchError(
                f"candidates: {name}: {value!r} has over {MOST_STEPS} steps; each is a model to evaluate."
            )
        return [first + number * step for number in range(int((last - first) / step) + 1)]
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("nan")
    if isinstance(value, bool) or not number.is_finite():
        raise MedbenchError(
            f"candidates: {name} is {value!r}; expected a weight, a list, '0..1 step 0.1', or '1 - OTHER'."
        )
    return [number]


def _weighted(
    folder: Path,
    document: Mapping[str, Any],
    paths: Mapping[str, str],
    weights: Mapping[str, float],
    entry: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Candidate:
    base = document.get("base")
    if not isinstance(base, str):
        raise MedbenchError("base must name the model that the adapters were trained on.")
    weights = {name: weights.get(name, 0.0) for name in paths}
    merge = entry.get("method", "linear")
    name = ",".join(f"{adapter}={weight:g}" for adapter, weight in weights.items())
    if merge != "linear":
        name = f"{merge}({','.join(f'{key}={value}' for key, value in settings.items())}) {name}"
    name = _name(entry, name)
    args = dict(document.get("model_args") or {})
    merged = tuple(f"{adapter}={paths[adapter]}:{weight!r}" for adapter, weight in weights.items())
    serve = read_serve(document.get("serve"))
    if serve is not None:
        model, args = _served(serve, weights, name, args)
    else:
        model, args["adapters"] = f"medbench/{_near(folder, base.removeprefix('medbench/'))}", list(merged)
        if merge != "linear":
            args |= {"merge_method": merge, "merge_settings": dict(settings)}
    if serve is not None and serve.kind == "llamacpp" and merge != "linear":
        raise MedbenchError(f"candidates: {name}: llama.cpp adds adapters by their scales; it has no method {merge}.")
    return Candidate(name, _series(weights), model, args, weights, merge, settings, merged)


def _served(serve: Serve, weights: Mapping[str, float], name: str, args: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Inspect's name of a candidate behind the study's server, and its -M arguments."""
    called = model_name(serve, weights, name)
    return f"openai-api/{SERVICE}/{called}", {"base_url": serve.base_url, "api_key": serve.key or "none", **args}
