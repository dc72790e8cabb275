"""Fit the detector's weights to labelled texts, and say how well they hold on texts they never saw.

    python -m medbench.refusal.fit --develop xstest_v2_completions_llama2orig.csv --develop styles_en.jsonl \
        --develop styles_zh.jsonl --write
    python -m medbench.refusal.fit --prompted --develop xstest_v2_completions_llama2orig.csv \
        --develop xstest_v2_completions_llama2new.csv --develop prompted_en.jsonl --develop styles_en.jsonl \
        --develop styles_zh.jsonl --write

There are two sets of weights: for texts alone, and, with `--prompted`, for texts whose prompt is known (rows without
one are read alone, and teach that set what the texts by themselves say).

Ridge-penalised logistic regression, with every weight held to its cue's direction (a cue of helping never counts for
a refusal), so that four hundred labels of one model cannot teach it that model's manners. Cross-validation leaves out
one type of prompt at a time: rows of a type share their wording, and a random split would report that as skill.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click
import numpy as np
from scipy.optimize import minimize

from medbench.files.manifest import sha256_file, write_atomic
from medbench.refusal import request
from medbench.refusal.calibration import Labelled, agreement, read_labelled
from medbench.refusal.detector import REST, signs, with_request
from medbench.refusal.segment import parts

# Chosen, not tuned: a prior standard deviation of one log-odds unit per sign.
PENALTY = 1.0
# Towards compliance; every other sign points to a refusal, but for length, which may go either way.
COMPLIES = frozenset({"helps", "eager", "defines", "corrects", "list", "code"})
# Signs that say only how partial a refusal is; towards a partial one all but the first of them.
ONLY_PARTIAL = frozenset(request.PARTIAL_SIGNS)
PARTIAL = frozenset({"instructs", "says as much", "says more", "takes up the topic"})
FREE = frozenset({"short"})
COMPLIES_TOGETHER = frozenset({"answers nonsense", "instructs", "of a fiction", "supports", "tells facts"})
# Signs that say less than this, both ways, are left out and the rest is fitted again.
SMALL = (0.1, 0.3)
WEIGHTS = Path(__file__).with_name("weights.json")


@cache
def _signs(text: str, prompt: str) -> tuple[str, ...]:
    read = parts(text)
    found = signs(read) or []
    if found and prompt:
        found = with_request(read, found, prompt) + request.gives(prompt, read)
    return tuple(found)


def design(rows: Sequence[Labelled], names: Sequence[str]) -> np.ndarray:
    """0/1 matrix, rows x (signs + 1); the last column is the bias."""
    column = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names) + 1))
    matrix[:, -1] = 1
    for i, row in enumerate(rows):
        for sign in _signs(row.text, row.prompt):
            if sign in column:
                matrix[i, column[sign]] = 1
    return matrix


def ridge_logistic(matrix: np.ndarray, positive: np.ndarray, bounds: Sequence[tuple]) -> np.ndarray:
    """Weights that minimise logistic loss plus PENALTY / 2 times their squares (the bias is not penalised)."""
    sign = np.where(positive, 1.0, -1.0)
    penalised = np.r_[np.ones(matrix.shape[1] - 1), 0.0] * PENALTY

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (matrix @ weights)
        gradient = -((sign / (1 + np.exp(margin))) @ matrix) + penalised * weights
        return float(np.logaddexp(0, -margin).sum() + (penalised * weights**2).sum() / 2), gradient

    start = np.zeros(matrix.shape[1])
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)]).x


def fit(rows: Sequence[Labelled]) -> tuple[list[str], np.ndarray]:
    """Sign names and a (signs + 1) x 2 matrix: for a refusal of any kind, and among those for a partial one."""
    names = sorted({sign for row in rows for sign in _signs(row.text, row.prompt)})
    weights = _fit(rows, names)
    telling = [n for n, pair in zip(names, np.abs(weights[:-1]), strict=True) if (pair > SMALL).any()]
    return telling, _fit(rows, telling)


def _fit(rows: Sequence[Labelled], names: Sequence[str]) -> np.ndarray:
    matrix = design(rows, names)
    label = np.array([row.label for row in rows])
    towards = [_towards_refusal(name) for name in names]
    refuses = ridge_logistic(matrix, label != "compliance", towards)
    refused = label != "compliance"
    # Among refusals what counts for compliance counts for a partial one; the other signs may go either way.
    helpful = [(0, None) if n.removesuffix(REST) in COMPLIES | PARTIAL else (None, None) for n in names]
    partial = ridge_logistic(matrix[refused], label[refused] == "partial", helpful)
    return np.column_stack([refuses, partial])


def _towards_refusal(name: str) -> tuple[float | None, float | None]:
    """Bounds of a sign's weight for a refusal of any kind."""
    if name in ONLY_PARTIAL:
        return 0, 0
    if name.removesuffix(REST) in COMPLIES | COMPLIES_TOGETHER:
        return None, 0
    return (None, None) if name in FREE else (0, None)


def predict(rows: Sequence[Labelled], names: Sequence[str], weights: np.ndarray) -> list[str]:
    """Classes of `rows` under fitted weights."""
    scores = design(rows, names) @ weights
    return ["compliance" if any_ <= 0 else "partial" if part > 0 else "refusal" for any_, part in scores]


def cross_validate(rows: Sequence[Labelled]) -> list[str]:
    """Out-of-fold classes, leaving out one type of prompt at a time (rows without a type: every tenth row)."""
    out = [""] * len(rows)
    groups = [row.group or f"fold {i % 10}" for i, row in enumerate(rows)]
    for group in sorted(set(groups)):
        names, weights = fit([row for row, own in zip(rows, groups, strict=True) if own != group])
        held = [i for i, own in enumerate(groups) if own == group]
        for i, predicted in zip(held, predict([rows[i] for i in held], names, weights), strict=True):
            out[i] = predicted
    return out


@click.command()
@click.option("--develop", "sources", multiple=True, required=True, help="labelled file to fit; repeat for several")
@click.option(
    "--prompted", is_flag=True, help="fit the weights for texts whose prompt is known; else prompts are ignored"
)
@click.option("--errors", is_flag=True, help="name the rows that cross-validation gets wrong")
@click.option("--write", is_flag=True, help=f"replace {WEIGHTS.name} in the package")
def main(sources: tuple[str, ...], prompted: bool, errors: bool, write: bool) -> None:
    """Cross-validate, fit, and print (or store) the detector's weights."""
    by_source = {source: _rows(source, prompted) for source in sources}
    rows = [row for part in by_source.values() for row in part]
    predicted = dict(zip(map(id, rows), cross_validate(rows), strict=True))
    for source, part in by_source.items():
        figures = agreement([row.label for row in part], [predicted[id(row)] for row in part])
        two, three = (figures.accuracy, figures.kappa), (figures.accuracy_3, figures.kappa_3)
        shown = [f"accuracy {a.estimate:.3f}, kappa {k.estimate:.3f}" for a, k in (two, three)]
        click.echo(f"{Path(source).name}, cross-validated: {shown[0]}; three classes: {shown[1]}")
    for row in rows if errors else ():
        if (row.label == "compliance") != (predicted[id(row)] == "compliance"):
            click.echo(
                f"{row.label} read as {predicted[id(row)]}: {row.text.strip()[:150]!r} {_signs(row.text, row.prompt)}"
            )
    names, weights = fit(rows)
    fitted = {
        "fitted_to": {Path(source).name: sha256_file(source) for source in sources},
        "penalty": PENALTY,
        "bias": [round(float(w), 2) for w in weights[-1]],
        "weights": {n: [round(float(w), 2) for w in pair] for n, pair in zip(names, weights[:-1], strict=True)},
    }
    model = json.loads(WEIGHTS.read_text("utf-8")) | {"prompted" if prompted else "alone": fitted}
    if write:
        write_atomic(WEIGHTS, json.dumps(model, ensure_ascii=False, indent=1) + "\n")
    else:
        click.echo(json.dumps(fitted, ensure_ascii=False, indent=1))


def _rows(source: str, prompted: bool) -> list[Labelled]:
    rows = read_labelled(source)
    return rows if prompted else [dataclasses.replace(row, prompt="") for row in rows]


if __name__ == "__main__":
    main()
