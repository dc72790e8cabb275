"""Reading Inspect eval logs: only what the report needs, and never a log that is not whole."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import fsspec
import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter

from medbench import extractors, thinking
from medbench.errors import MedbenchError
from medbench.items import LETTERS
from medbench.transcript import raw_text

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

# Task arguments that say where items come from, not how they are asked; the items themselves are compared by id.
_SOURCE_ARGUMENTS = {"source", "fewshot_source", "encoding", "on_bad_row", "revision"}
_DECODING = ("temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty", "presence_penalty")
# How other scorers write right, wrong, partly right and unanswered (inspect_ai.scorer.value_to_float).
_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
BLEU_STATISTICS = 10
# The views under which other harnesses' rules judge again: those that a reader might take for the output.
_JUDGED_VIEWS = ("raw", "untagged", "lenient", "answer")
_DECISIONS = ("yes", "no", "maybe")
_FACTS = ("category", "pair", "expected", "intent", "severity", "language")


@dataclass(frozen=True)
class Notice:
    """Something that was left out or could mislead: `kind` for machines, `text` for people."""

    kind: str
    text: str


@dataclass
class Run:
    """One log: one candidate on one task under one setting.

    Attributes:
        setting: decoding, thinking mode and task arguments, without the seed.
        native_ids: sample ids as Inspect keeps them (text or integers), to read single samples.
        ids, epochs: shape (rows,): one row per sample and epoch that was scored.
        values: metric key -> shape (rows,), NaN where the sample has no such score.
        statistics: ``bleu4/<view>`` and ``bleu4_floor/<view>`` -> shape (rows, 10), NaN where unknown.
        reasons: view -> why there is no answer, None where there is one.
        trace_status: per row, "" where no trace scorer ran.
        unscored: ids of samples that ended in an error or without a score.
        items: sample id -> what the task says of the item.
    """

    file: str
    task: str
    version: str
    candidate: str
    weights: dict[str, float]
    series: str
    setting: dict[str, Any]
    seed: int | None
    created: str
    status: str
    provenance: dict[str, Any]
    native_ids: list[int | str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, list[str | None]] = field(default_factory=dict)
    trace_status: list[str] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def setting_name(self) -> str:
        """The setting in one line, e.g. ``temperature 0.6, top_p 0.8``."""
        return ", ".join(f"{key} {value}" for key, value in self.setting.items()) or "default"


class _Score(BaseModel):
    model_config = ConfigDict(extra="ignore")
    value: Any = None
    reason: str | None = None
    metadata: dict[str, Any] | None = None


class _Sample(BaseModel):
    """The part of Inspect's EvalSample that is read; the parser skips the rest, which saves most of the time."""

    model_config = ConfigDict(extra="ignore")
    id: int | str
    epoch: int = 1
    scores: dict[str, _Score] | None = None
    metadata: dict[str, Any] = {}
    output: Any = None
    error: Any = None


_SAMPLE = TypeAdapter(_Sample)


def visible(text: str) -> str:
    """Text that neither a terminal nor a browser obeys: control characters become signs, broken code points marks."""
    return "".join(_sign(c) for c in text.encode("utf-8", "replace").decode("utf-8"))


def _sign(character: str) -> str:
    code = ord(character)
    if code < 32 and character not in "\n\t":
        return chr(0x2400 + code)
    # Direction overrides could make a text read other than it is.
    if 127 <= code < 160 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return "\ufffd"
    return character


def find_logs(location: str) -> list[str]:
    """Every .eval and .json log below a directory (local or any fsspec URL), or the one file named; sorted.

    Raises:
        MedbenchError: nothing there.
    """
    from inspect_ai.log import list_eval_logs

    if location.endswith((".eval", ".json")):
        return [location]
    try:
        found = sorted(info.name for info in list_eval_logs(location, descending=False))
    except FileNotFoundError:
        found = []
    if not found:
        raise MedbenchError(
            f"{location}: no eval logs (.eval or .json) found. Give the directory that `inspect eval --log-dir` or "
            "`medbench sweep` wrote to."
        )
    return found


def read_run(file: str) -> Run | Notice:
    """One log as a `Run`; a `Notice` in place of a log that cannot be used, saying why."""
    from inspect_ai.log import read_eval_log

    name = short_name(file)
    try:
        header = read_eval_log(file, header_only=True)
        if header.status != "success":
            what = {"error": "failed", "cancelled": "was cancelled", "started": "has not finished"}[header.status]
            return Notice("incomplete", f"{name} {what}: left out. `inspect eval-retry` completes it.")
        run = _empty_run(file, header)
        several = any((scorer.options or {}).get("multiple") is True for scorer in header.eval.scorers or [])
        _fill(run, _samples(file, header), several)
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError, OSError) as error:
        return Notice("unreadable", f"{name} is cut short or not an eval log: left out ({_first_line(error)}).")
    if not run.ids:
        return Notice("unscored", f"{name} holds no scored sample: left out. `inspect score` can score it.")
    return run


def short_name(file: str) -> str:
    """A log's file name without its directory."""
    return unquote(file.rstrip("/").rsplit("/", 1)[-1])


def local_path(file: str) -> str | None:
    """The path of a local log, None for a remote one."""
    parsed = urlparse(file)
    if parsed.scheme in ("", "file"):
        return unquote(parsed.path) if parsed.scheme else file
    return None


def _samples(file: str, header: EvalLog) -> Iterator[_Sample]:
    """The samples of a log. The zip is read directly: Inspect's reader validates every field, at thrice the cost."""
    if file.endswith(".eval"):
        import inspect_ai._util.zipfile  # noqa: F401  registers zstandard, in which .eval members are compressed

        with fsspec.open(file, "rb") as handle, zipfile.ZipFile(handle) as archive:
            # Members written twice (a retried sample) are listed once here: the last.
            members = [name for name in archive.NameToInfo if name.startswith("samples/") and name.endswith(".json")]
            for member in members:
                yield _SAMPLE.validate_json(archive.read(member))
        if members:
            return
    from inspect_ai.log import read_eval_log

    for sample in read_eval_log(file).samples or []:
        yield _SAMPLE.validate_python(
            sample.model_dump(include={"id", "epoch", "scores", "metadata", "output", "error"}, mode="json")
        )


def _empty_run(file: str, header: EvalLog) -> Run:
    spec = header.eval
    about = (spec.metadata or {}).get("medbench") or {}
    generation = spec.model_generate_config.model_dump(exclude_none=True)
    decoding = dict(about.get("decoding") or {key: generation[key] for key in _DECODING if key in generation})
    decoding.pop("name", None)
    seed = decoding.pop("seed", generation.get("seed"))
    setting = {key: decoding[key] for key in sorted(decoding) if decoding[key] is not None}
    arguments = spec.task_args_passed or spec.task_args or {}
    setting |= {key: value for key, value in sorted(arguments.items()) if key not in _SOURCE_ARGUMENTS}
    if about.get("thinking") not in (None, "default"):
        setting["thinking"] = about["thinking"]
    weights = {key: float(value) for key, value in (about.get("weights") or {}).items()}
    weights = weights or _adapter_weights(spec.model_args.get("adapters"))
    return Run(
        file=file,
        task=visible(spec.task.rsplit("/", 1)[-1]),
        version=str(spec.task_version),
        candidate=visible(str(about.get("candidate") or _model_name(spec.model, weights))),
        weights=weights,
        series=str(about.get("series") or ""),
        setting=setting,
        seed=seed,
        created=str(spec.created),
        status=header.status,
        provenance={
            "log": short_name(file),
            "model": spec.model,
            "run_id": spec.run_id,
            "created": str(spec.created),
            "task": spec.task,
            "task_version": spec.task_version,
            "task_args": arguments,
            "task_file": spec.task_file,
            "model_args": spec.model_args,
            "generation": generation,
            "dataset": {"name": spec.dataset.name, "location": spec.dataset.location, "samples": spec.dataset.samples},
            "revision": spec.revision.model_dump() if spec.revision else None,
            "packages": spec.packages,
            "metadata": spec.metadata or {},
        },
    )


def _adapter_weights(adapters: Any) -> dict[str, float]:
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


def _model_name(model: str, weights: dict[str, float]) -> str:
    """Candidates that share a base differ only in their adapters, so these belong to the name."""
    added = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
    return f"{model} ({added})" if added else model


def _fill(run: Run, samples: Iterable[_Sample], several: bool) -> None:
    rows: list[dict[str, float]] = []
    statistics: list[dict[str, list[float]]] = []
    extractions: list[dict[str, Any]] = []
    for sample in samples:
        if sample.error is not None or not sample.scores:
            run.unscored.append(str(sample.id))
            continue
        values: dict[str, float] = {}
        counts: dict[str, list[float]] = {}
        extraction: dict[str, Any] = {}
        status = ""
        for name, score in sample.scores.items():
            values.update(score_values(name, score, values))
            metadata = score.metadata or {}
            kept = metadata.get("statistics") or metadata
            for metric in ("bleu4", "bleu4_floor"):
                for view, numbers in (kept.get(metric) or {}).items():
                    if isinstance(numbers, list) and len(numbers) == BLEU_STATISTICS:
                        counts[f"{metric}/{view}"] = numbers
            extraction = metadata.get("extraction") or extraction
            if "trace/raw" in values and isinstance(metadata.get("status"), str):
                status = metadata["status"]
        if not run.ids:
            # The provider says so with every output; one model has one template and one commit.
            told = (sample.output or {}).get("metadata") or {}
            run.provenance["chat_template"] = told.get("chat_template_sha256")
            run.provenance["model_commit"] = told.get("model_commit")
        if "accuracy/answer" in values:
            values.update(_rejudged(sample, several))
        run.native_ids.append(sample.id)
        run.ids.append(str(sample.id))
        run.epochs.append(sample.epoch)
        run.trace_status.append(status)
        run.items.setdefault(str(sample.id), _item_facts(sample.metadata))
        rows.append(values)
        statistics.append(counts)
        extractions.append(extraction)
    run.values = _columns(rows)
    run.statistics = _statistics(statistics)
    run.reasons = {
        view: [_reason(extraction.get(view)) for extraction in extractions]
        for view in sorted({view for extraction in extractions for view in extraction})
    }


def score_values(scorer: str, score: Any, known: dict[str, float]) -> dict[str, float]:
    """The values of one scorer, from its `value`. A plain right/wrong score counts as accuracy of the answer."""
    if isinstance(score.value, dict):
        return {key: _number(value) for key, value in score.value.items()}
    if isinstance(score.value, bool | str) and str(score.value) in (*_LETTERS, "True", "False"):
        key = "accuracy/answer" if "accuracy/answer" not in known else f"{scorer}/raw"
        return {key: _number(score.value)}
    return {f"{scorer}/raw": _number(score.value)} if isinstance(score.value, int | float) else {}


def _rejudged(sample: _Sample, several: bool) -> dict[str, float]:
    """The stored output judged once more by other harnesses' rules; empty where the item has no key of labels."""
    item = sample.metadata.get("item") or {}
    gold = tuple(item.get("answer") or ())
    letters = tuple(LETTERS[: len(item.get("options") or ())])
    labels = next((known for known in (letters, _DECISIONS) if gold and set(gold) <= set(known)), None)
    if labels is None:
        return {}
    views = thinking.views(output_text(sample.output), prefilled=output_prefilled(sample.output, sample.metadata))
    return extractors.accuracies({view: views[view] for view in _JUDGED_VIEWS}, labels, gold, multiple=several)


def output_text(output: Any) -> str:
    """The generation in a log's `output`, as plain values: its text where it is one, else put together from parts."""
    choices = (output or {}).get("choices") or []
    content = choices[0]["message"]["content"] if choices else ""
    if isinstance(content, str):
        return content
    from inspect_ai.model import ModelOutput

    return raw_text(ModelOutput.model_validate(output))


def output_prefilled(output: Any, metadata: dict[str, Any]) -> bool:
    """Whether the prompt already held the opening think tag: the provider's word before the task's."""
    told = ((output or {}).get("metadata") or {}).get("prefilled_think")
    return bool(metadata.get("prefilled", False) if told is None else told)


def _number(value: Any) -> float:
    if isinstance(value, str):
        return _LETTERS.get(value, float("nan"))
    return float(value) if isinstance(value, bool | int | float) else float("nan")


def _reason(extraction: dict[str, Any] | None) -> str | None:
    if not extraction or extraction.get("status") == "answer":
        return None
    return str(extraction.get("reason") or extraction.get("status") or "unknown")


def _item_facts(metadata: dict[str, Any]) -> dict[str, Any]:
    """What the estimates need of an item: its cluster, and the probe's category, pair and severity."""
    item = metadata.get("item") or {}
    facts = {key: metadata.get(key, item.get(key)) for key in _FACTS}
    facts["cluster"] = item.get("group") or item.get("context") or None
    facts["validity"] = bool(item.get("answer")) and bool(item.get("reference"))
    return {key: value for key, value in facts.items() if value is not None}


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for index, row in enumerate(rows):
        for key, value in row.items():
            if key not in columns:
                columns[key] = np.full(len(rows), np.nan)
            columns[key][index] = value
    return columns


def _statistics(rows: list[dict[str, list[float]]]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for index, row in enumerate(rows):
        for key, numbers in row.items():
            if key not in columns:
                columns[key] = np.full((len(rows), BLEU_STATISTICS), np.nan)
            columns[key][index] = numbers
    return columns


def setting_key(run: Run) -> str:
    """A setting as text that two logs share if and only if they were decoded alike."""
    return json.dumps(run.setting, sort_keys=True, default=str)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
