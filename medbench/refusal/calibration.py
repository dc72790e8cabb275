"""The refusal detector against human labels, and refusal rates corrected for its known errors.

`calibrate` makes a card: accuracy, kappa, confusion and intervals per model, with hashes of what was scored and with
what. The package ships its own card (`default_card`), computed from the three labelled XSTest models, so that every
rate can be printed beside the agreement of the detector that produced it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from medbench import __version__
from medbench.errors import MedbenchError, unknown
from medbench.files.cards import read_card
from medbench.refusal.detector import CLASSES, classify, fitted_to
from medbench.sources.records import Record, read_records
from medbench.stats import Interval, clopper_pearson, cohen_kappa, wilson
from medbench.stats.proportions import normal_quantile

# Spellings of the three labels: XSTest's, and plain ones.
_LABELS: dict[str, str] = {
    "1_full_compliance": "compliance",
    "2_full_refusal": "refusal",
    "3_partial_refusal": "partial",
    "full_compliance": "compliance",
    "full_refusal": "refusal",
    "partial_refusal": "partial",
    **{name: name for name in CLASSES},
}
_TEXT_COLUMNS = ("completion", "text", "response", "output")
_LABEL_COLUMNS = ("final_label", "label")
_PROMPT_COLUMNS = ("prompt", "instruction", "question")
_GROUP_COLUMNS = ("type", "category", "group")
_ANNOTATORS = ("annotation_1", "annotation_2")
CARD_KIND = "refusal-calibration"
# What decides a classification: a change in any of these makes a card stale.
_DETECTOR_FILES = (
    "cue.py", "segment.py", "rules.py", "request.py", "detector.py", "weights.json",
    "cues/english.yaml", "cues/chinese.yaml", "cues/request.yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """One output with its human label.

    Attributes:
        text: the output.
        label: one of `CLASSES`.
        prompt: the request it answers, or "" where the file has none.
        group: the type of prompt, or "" where the file has none; cross-validation and intervals keep it together.
        model: who wrote the output.
        annotations: what each of two annotators said, where the file tells.
    """

    text: str
    label: str
    prompt: str = ""
    group: str = ""
    model: str = ""
    annotations: tuple[str, ...] = ()


def read_labelled(source: str | Path, *, model: str | None = None) -> list[Labelled]:
    """Labelled outputs from a file in any format of `medbench.sources.records`.

    Columns: `completion` (or text, response, output); `final_label` (or label) with XSTest's labels or the plain class
    names; optionally `prompt` (or instruction, question), `type` (or category, group) and `model`, else `model` or the
    file's name.

    Raises:
        MedbenchError: a column is missing, or labels are unknown (every one of them is named).
    """
    rows = list(read_records(source))
    columns = list(rows[0].data)
    text_column = _column(source, columns, _TEXT_COLUMNS, "the output")
    label_column = _column(source, columns, _LABEL_COLUMNS, "the human label")
    prompt_column = next((name for name in _PROMPT_COLUMNS if name in columns), None)
    group_column = next((name for name in _GROUP_COLUMNS if name in columns), None)
    strange = sorted({_label(row, label_column) for row in rows} - set(_LABELS))
    if strange:
        counts = {name: sum(_label(row, label_column) == name for row in rows) for name in strange}
        named = ", ".join(f"{name!r} ({count} rows)" for name, count in counts.items())
        raise MedbenchError(
            f"{source}: unknown labels in column {label_column!r}: {named}. Known: {', '.join(sorted(_LABELS))}."
        )
    return [
        Labelled(
            text=row.text(text_column, empty_ok=True),
            label=_LABELS[_label(row, label_column)],
            prompt=str(row.data.get(prompt_column) or "") if prompt_column else "",
            group=str(row.data.get(group_column) or "") if group_column else "",
            model=str(row.data.get("model") or model or _model_name(source)),
            annotations=tuple(_LABELS.get(_label(row, name), "") for name in _ANNOTATORS if name in columns),
        )
        for row in rows
    ]


def _column(source: str | Path, columns: Sequence[str], wanted: Sequence[str], what: str) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise MedbenchError(
        f"{source} has no column for {what}: expected one of {', '.join(wanted)}; found {', '.join(columns)}."
    )


def _model_name(source: str | Path) -> str:
    return Path(source).name.split(".")[0].removeprefix("xstest_v2_completions_")


def _label(row: Record, column: str) -> str:
    return str(row.data.get(column) or "").strip().lower()


class Agreement(NamedTuple):
    """How far predicted classes agree with labels.

    Attributes:
        n: texts.
        accuracy: compliance against any refusal, with Wilson's interval; `.estimate` 0-1.
        kappa: Cohen's kappa of the same, with its large-sample interval.
        sensitivity: share of refusals of any kind that are detected, with the exact interval.
        specificity: share of compliance that is detected as such, with the exact interval.
        accuracy_3: share of texts whose class is right among the three.
        kappa_3: Cohen's kappa over the three classes.
        confusion: label -> predicted -> count.
    """

    n: int
    accuracy: Interval
    kappa: Interval
    sensitivity: Interval
    specificity: Interval
    accuracy_3: Interval
    kappa_3: Interval
    confusion: dict[str, dict[str, int]]


def agreement(labels: Sequence[str], predicted: Sequence[str]) -> Agreement:
    """Compare predicted classes with labels, text by text.

    Raises:
        MedbenchError: a class that is none of `CLASSES`.
    """
    for name in {*labels, *predicted} - set(CLASSES):
        raise unknown("class", name, CLASSES)
    pairs = list(zip(labels, predicted, strict=True))
    confusion: dict[str, dict[str, int]] = {
        label: {given: pairs.count((label, given)) for given in CLASSES} for label in CLASSES
    }
    n = len(pairs)
    complied = sum(confusion["compliance"].values())
    true_comply = confusion["compliance"]["compliance"]
    true_refuse = (n - complied) - sum(confusion[name]["compliance"] for name in ("refusal", "partial"))
    return Agreement(
        n,
        wilson(true_comply + true_refuse, n),
        cohen_kappa([name == "compliance" for name in labels], [name == "compliance" for name in predicted]),
        clopper_pearson(true_refuse, n - complied),
        clopper_pearson(true_comply, complied),
        wilson(sum(confusion[name][name] for name in CLASSES), n),
        cohen_kappa(labels, predicted),
        confusion,
    )


def calibrate(
    rows: Sequence[Labelled],
    *,
    judged: tuple[str, Sequence[str | None]] | None = None,
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The calibration card of the rules, or of another judge, on labelled outputs: figures and hashes, no text.

    Args:
        rows: the labelled outputs.
        judged: name and classes of another judge, one class per row, None where it gave none; such rows are counted
            as `unanswered` and left out of the figures.
        sources: file name -> SHA-256 of what `rows` were read from.

    Returns:
        `kind, medbench, detector` (the rules' hash, or the judge's name), `sources`, `developed_on` (those of them
        that the rules' weights were fitted to), `unanswered, overall, models` (figures per model), `prompts` (how many
        rows were read with their prompt), `without_prompt` (`overall, models` of the rules on the same rows without
        it; None where no row has one, and for a judge) and `humans` (the agreement of two annotators, where the rows
        hold both). A figure with an interval is `[estimate, low, high]`.
    """
    prompts = sum(bool(row.prompt) for row in rows) if judged is None else 0
    name, classes = judged or (detector_hash(), [classify(row.text, row.prompt) for row in rows])
    both = [row.annotations for row in rows if len(row.annotations) == 2 and all(row.annotations)]
    developed = fitted_to()["prompted" if prompts else "alone"]
    return {
        "kind": CARD_KIND,
        "medbench": __version__,
        "detector": name,
        "sources": dict(sources or {}),
        "developed_on": [file for file, sha in (sources or {}).items() if judged is None and sha in developed],
        "unanswered": sum(said is None for said in classes),
        **_by_model(rows, classes),
        "prompts": prompts,
        "without_prompt": _by_model(rows, [classify(row.text) for row in rows]) if prompts else None,
        "humans": _figures(agreement([a for a, _ in both], [b for _, b in both])) if both else None,
    }


def _by_model(rows: Sequence[Labelled], classes: Sequence[str | None]) -> dict[str, Any]:
    """`overall` and `models`: the figures of all rows with a class, and of each model's."""
    known = [(row, said) for row, said in zip(rows, classes, strict=True) if said is not None]
    models = {}
    for model in sorted({row.model for row, _ in known}):
        own = [(row.label, said) for row, said in known if row.model == model]
        models[model] = _figures(agreement([label for label, _ in own], [said for _, said in own]))
    overall = _figures(agreement([row.label for row, _ in known], [said for _, said in known]))
    return {"overall": overall, "models": models}


def _figures(figures: Agreement) -> dict[str, Any]:
    return {
        name: [round(float(x), 4) if math.isfinite(x) else None for x in value]
        if isinstance(value, Interval)
        else value
        for name, value in figures._asdict().items()
    }


def detector_hash() -> str:
    """SHA-256 over the files that decide a classification."""
    digest = hashlib.sha256()
    for name in _DETECTOR_FILES:
        digest.update(files("medbench.refusal").joinpath(name).read_bytes())
    return digest.hexdigest()


def default_card() -> dict[str, Any]:
    """The card that medbench ships: its rules on three labelled XSTest models (docs/refusal-detection.md)."""
    card: dict[str, Any] = json.loads(files("medbench.refusal").joinpath("card.json").read_text("utf-8"))
    return card


# What is read of a card.
_SHAPE = {"overall": {"confusion": {name: dict.fromkeys(CLASSES, int) for name in CLASSES}}}


def load_card(path: str | Path | None = None) -> dict[str, Any]:
    """A stored card, or the shipped one.

    Raises:
        MedbenchError: the file is missing, no JSON, or not a calibration card.
    """
    if path is None:
        return default_card()
    return read_card(path, CARD_KIND, "not a calibration card", "medbench probes calibrate FILE", _SHAPE)


def rogan_gladen(
    positive: float, n: float, detected: tuple[int, int], passed: tuple[int, int], confidence: float = 0.95
) -> Interval:
    """A rate corrected for the errors of the detector that counted it (Rogan and Gladen 1978).

    The interval is Lang and Reiczigel's (Preventive Veterinary Medicine 113, 2014, 13-22): it carries the uncertainty
    of the rate, of the sensitivity and of the specificity, and keeps its coverage at small counts.

    Args:
        positive: outputs that the detector calls refusals; with `n` at an effective size it may be a fraction.
        n: outputs classified, or independent outputs that know the rate as well.
        detected: (detected, all) refusals in the labelled set: the sensitivity.
        passed: (passed as compliance, all) compliant texts in the labelled set: the specificity.
        confidence: of the two-sided interval.

    Returns:
        Rates 0-1, cut to that range. NaN where n is 0 or the detector is no better than a coin.
    """
    (tp, n_se), (tn, n_sp) = detected, passed
    if n == 0 or n_se == 0 or n_sp == 0 or tp / n_se + tn / n_sp <= 1:
        return Interval(float("nan"), 0.0, 1.0)
    rate, se, sp = positive / n, tp / n_se, tn / n_sp
    estimate = (rate + sp - 1) / (se + sp - 1)
    z = normal_quantile(confidence)
    # Pseudo-observations: z squared for the rate (Agresti and Coull), one success and one failure for the others.
    weight, rate = n + z**2, (positive + z**2 / 2) / (n + z**2)
    se, n_se = (tp + 1) / (n_se + 2), n_se + 2
    sp, n_sp = (tn + 1) / (n_sp + 2), n_sp + 2
    youden = se + sp - 1
    centre = (rate + sp - 1) / youden
    of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * z**2 * (centre * of_se - (1 - centre) * of_sp)
    spread = z * math.sqrt(rate * (1 - rate) / weight + centre**2 * of_se + (1 - centre) ** 2 * of_sp) / youden
    return Interval(*(min(1.0, max(0.0, x)) for x in (estimate, centre + shift - spread, centre + shift + spread)))


def corrected_rate(positive: float, n: float, card: Mapping[str, Any], confidence: float = 0.95) -> Interval:
    """`rogan_gladen` with the sensitivity and specificity of a card, over all its models."""
    confusion = card["overall"]["confusion"]
    refused = [confusion[label] for label in ("refusal", "partial")]
    missed = sum(row["compliance"] for row in refused)
    labelled = sum(sum(row.values()) for row in refused)
    complied = confusion["compliance"]
    return rogan_gladen(
        positive, n, (labelled - missed, labelled), (complied["compliance"], sum(complied.values())), confidence
    )
