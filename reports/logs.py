"""Reading Inspect eval logs: only what the report needs, and never a log that is not whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import numpy as np

from medbench import thinking
from medbench.errors import MedbenchError, without_secrets
from medbench.files import places
from medbench.files.redact import shown_arguments
from medbench.reports import header as told
from medbench.reports.samples import Sample, StoredScore, samples
from medbench.reports.text import visible_name
from medbench.scoring import extractors
from medbench.scoring.transcript import raw_text
from medbench.sources.items import DECISIONS, LETTERS

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

# How other scorers write right, wrong, partly right and unanswered (inspect_ai.scorer.value_to_float).
_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
BLEU_STATISTICS = 10
# The views under which other harnesses' rules judge again: those that a reader might take for the output.
_JUDGED_VIEWS = ("raw", "untagged", "lenient", "answer")
_SUBJECTS = ("subject", "department", "disease_group", "medical_discipline", "topic", "step", "meta_info")
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
        setting: decoding, thinking mode and task arguments, without the seed (`header.setting_of`) and the control.
        control: the cue control that the items were asked under, None for the items as they are.
        native_ids: sample ids as Inspect keeps them (text or integers), to read single samples.
        ids, epochs: shape (rows,): one row per sample and epoch that was scored.
        values: metric key -> shape (rows,), NaN where the sample has no such score.
        statistics: ``bleu4/<view>`` and ``bleu4_floor/<view>`` -> shape (rows, 10), NaN where unknown.
        reasons: view -> why there is no answer, None where there is one.
        probabilities: per row the options' probabilities, where the task logged them (``mode=logprob``), else None.
        letters: per row what the answer states (``C``, ``yes``), None where nothing was read; where a control moves the
            options, in the letters of the original.
        trace_status: per row, "" where no trace scorer ran.
        unscored: ids of samples that ended in an error or without a score, once per epoch.
        limits: kind of limit (``time``, ``token``, ``message`` ...) -> outputs that it ended, which were scored as they
            stood; ``max_tokens`` counts those cut off at the length asked for.
        card: the facts of the calibration card that the log names (`medbench.refusal.scorer.card_facts`).
        judge: the model that had the role of judge.
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
    control: str | None = None
    effective: dict[str, float] = field(default_factory=dict)
    native_ids: list[int | str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    statistics: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, list[str | None]] = field(default_factory=dict)
    probabilities: list[dict[str, float] | None] = field(default_factory=list)
    letters: list[str | None] = field(default_factory=list)
    trace_status: list[str] = field(default_factory=list)
    unscored: list[str] = field(default_factory=list)
    limits: Counter[str] = field(default_factory=Counter)
    card: dict[str, Any] | None = None
    judge: str | None = None
    items: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def setting_name(self) -> str:
        """The setting in one line, e.g. ``temperature 0.6, top_p 0.8``."""
        return told.name_of(self.setting)


def find_logs(location: str) -> list[str]:
    """Every .eval and .json log below a directory (local or any fsspec URL), or the one file named; sorted.

    Raises:
        MedbenchError: nothing there.
    """
    from inspect_ai.log import list_eval_logs

    if location.endswith((".eval", ".json")):
        return [location]
    try:
        if places.is_remote(location):
            with places.named(location, "listed"):
                places.filesystem(location)  # which refuses what Inspect would fail on without a message
                listed = list_eval_logs(location, descending=False)
        else:
            listed = list_eval_logs(location, descending=False)
        found = sorted(info.name for info in listed)
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
        _fill(run, samples(file), several)
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file fails anywhere between the zip's directory and the last field; one bad log must not take the
        # others with it.
        return Notice("unreadable", f"{name} is damaged, cut short or no eval log: left out ({_first_line(error)}).")
    if not run.ids:
        return Notice("unscored", f"{name} holds no scored sample: left out. `inspect score` can score it.")
    return run


def short_name(file: str) -> str:
    """A log's file name without its directory."""
    return visible_name(unquote(file.rstrip("/").rsplit("/", 1)[-1]))


def local_path(file: str) -> str | None:
    """The path of a local log, None for a remote one."""
    parsed = urlparse(file)
    if parsed.scheme in ("", "file"):
        return unquote(parsed.path) if parsed.scheme else file
    return None


def _empty_run(file: str, header: EvalLog) -> Run:
    spec = header.eval
    setting, seed = told.setting_of(header)
    weights = told.weights_of(header)
    control = told.control_of(header)
    return Run(
        file=file,
        task=visible_name(spec.task.rsplit("/", 1)[-1]),
        version=str(spec.task_version),
        candidate=told.candidate_of(header, weights),
        weights=weights,
        series=str(told.about(header).get("series") or ""),
        effective=told.effective_of(header),
        setting=told.without_control(setting) if control else setting,
        seed=seed,
        control=control,
        created=str(spec.created),
        status=header.status,
        card=(spec.metadata or {}).get("refusal_card"),
        judge=told.judge_of(header),
        provenance={
            "log": short_name(file),
            "model": spec.model,
            "run_id": spec.run_id,
            "created": str(spec.created),
            "task": spec.task,
            "task_version": spec.task_version,
            "task_args": shown_arguments(spec.task_args_passed or spec.task_args or {}),
            "task_file": spec.task_file,
            "model_args": shown_arguments(spec.model_args or {}),
            "generation": told.generation_of(header),
            "dataset": {
                "name": spec.dataset.name,
                "location": spec.dataset.location and without_secrets(spec.dataset.location),
                "samples": spec.dataset.samples,
            },
            "revision": spec.revision.model_dump() if spec.revision else None,
            "packages": spec.packages,
            "metadata": spec.metadata or {},
        },
    )


def _fill(run: Run, samples: Iterable[Sample], several: bool) -> None:
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
        probabilities: dict[str, float] | None = None
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
            probabilities = metadata.get("option_probability") or probabilities
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
        run.probabilities.append(probabilities)
        run.letters.append(_original(_stated(extraction.get("answer")), sample.metadata))
        run.limits.update(_limits(sample))
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


def score_values(scorer: str, score: StoredScore, known: dict[str, float]) -> dict[str, float]:
    """The values of one scorer, from its `value`. A plain right/wrong score counts as accuracy of the answer."""
    if isinstance(score.value, dict):
        # Nearly all are floats already, and a large log has millions.
        return {key: value if type(value) is float else _number(value) for key, value in score.value.items()}
    if isinstance(score.value, bool | str) and str(score.value) in (*_LETTERS, "True", "False"):
        key = "accuracy/answer" if "accuracy/answer" not in known else f"{scorer}/raw"
        return {key: _number(score.value)}
    return {f"{scorer}/raw": _number(score.value)} if isinstance(score.value, int | float) else {}


def _rejudged(sample: Sample, several: bool) -> dict[str, float]:
    """The stored output judged once more by other harnesses' rules; empty where the item has no key of labels."""
    item = sample.metadata.get("item") or {}
    gold = tuple(item.get("answer") or ())
    letters = tuple(LETTERS[: len(item.get("options") or ())])
    labels = next((known for known in (letters, DECISIONS) if gold and set(gold) <= set(known)), None)
    if labels is None:
        return {}
    views = thinking.views(output_text(sample.output), prefilled=output_prefilled(sample.output, sample.metadata))
    return extractors.accuracies({view: views[view] for view in _JUDGED_VIEWS}, labels, gold, multiple=several)


def output_text(output: dict[str, Any] | None) -> str:
    """The generation in a log's `output`, as plain values: its text where it is one, else put together from parts."""
    choices = (output or {}).get("choices") or []
    content = choices[0]["message"]["content"] if choices else ""
    if isinstance(content, str):
        return content
    from inspect_ai.model import ModelOutput

    return raw_text(ModelOutput.model_validate(output))


def output_prefilled(output: dict[str, Any] | None, metadata: dict[str, Any]) -> bool:
    """Whether the prompt already held the opening think tag: the provider's word before the task's."""
    told = ((output or {}).get("metadata") or {}).get("prefilled_think")
    return bool(metadata.get("prefilled", False) if told is None else told)


def _number(value: object) -> float:
    if isinstance(value, str):
        return _LETTERS.get(value, float("nan"))
    return float(value) if isinstance(value, bool | int | float) else float("nan")


def _reason(extraction: dict[str, Any] | None) -> str | None:
    if not extraction or extraction.get("status") == "answer":
        return None
    return str(extraction.get("reason") or extraction.get("status") or "unknown")


def _stated(extraction: dict[str, Any] | None) -> str | None:
    if not extraction or extraction.get("status") != "answer":
        return None
    return "".join(map(str, extraction.get("letters") or ())) or None


def _original(stated: str | None, metadata: dict[str, Any]) -> str | None:
    """Letters of options that were moved, as those of the original (`medbench.benchmark.controls.solver`)."""
    letters = (metadata.get("control") or {}).get("letters")
    if not stated or not letters or not set(stated) <= set(LETTERS[: len(letters)]):
        return stated
    return "".join(sorted(letters[LETTERS.index(letter)] for letter in stated))


def _limits(sample: Sample) -> list[str]:
    """The limits that ended an output before it was done."""
    found = [str((sample.limit or {}).get("type"))] if isinstance(sample.limit, dict) else []
    choices = (sample.output or {}).get("choices") or []
    if choices and choices[0].get("stop_reason") == "max_tokens":
        found.append("max_tokens")
    return found


def _item_facts(metadata: dict[str, Any]) -> dict[str, Any]:
    """What the estimates need of an item: its cluster, its key, and the probe's category, pair and severity.

    ``gold`` is the tuple of keys, ``options`` how many there are to choose from (three for yes, no and maybe),
    ``subject`` how the data set sorts the item: label -> value.
    """
    item = metadata.get("item") or {}
    facts = {key: metadata.get(key, item.get(key)) for key in _FACTS}
    group = item.get("group") or item.get("context")
    facts["cluster"] = str(group) if group else None
    facts["validity"] = bool(item.get("answer")) and bool(item.get("reference"))
    gold = tuple(map(str, item.get("answer") or ()))
    if gold:
        facts["gold"] = gold
        decided = set(gold) <= set(DECISIONS)
        facts["options"] = len(DECISIONS) if decided else len(item.get("options") or ()) or None
    named = {key: metadata.get(key, item.get(key)) for key in _SUBJECTS} | (item.get("labels") or {})
    facts["subject"] = {key: visible_name(value) for key, value in named.items() if isinstance(value, str) and value}
    return {key: value for key, value in facts.items() if value not in (None, {})}


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


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
