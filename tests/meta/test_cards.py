"""The shipped cards: made by their commands, equal to an independent computation."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from meta import independent
from sklearn.metrics import cohen_kappa_score

from medbench.cli import cli
from medbench.files.manifest import sha256_file
from medbench.meta.card import shipped

CARDS = {card["data"]["file"]: card for card in shipped()}


def test_cards_hold_figures_and_their_origin_but_no_text() -> None:
    assert set(CARDS) == {"mslr_ratings.csv", "kqa_entailment.csv"}
    for card in CARDS.values():
        assert all((card["data"]["licence"], card["data"]["source"], card["versions"]["medbench"]))
        assert card["command"].startswith("medbench meta ")
        longest = max((text for text in _texts(card)), key=len)
        assert len(longest) < 500
        assert longest == card["command"]


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", CARDS)
def test_its_command_makes_the_card_again(name: str, tmp_path: Path, shared_data: Path) -> None:
    card, file = CARDS[name], shared_data / "human" / name
    assert sha256_file(file) == card["data"]["sha256"]
    words = shlex.split(card["command"])[1:]
    words[1] = str(file)
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "card.json")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    again = json.loads((tmp_path / "card.json").read_text("utf-8"))
    assert _numbers(again) == pytest.approx(_numbers(card), abs=1e-9)
    assert again["command"] == card["command"]


def _numbers(card: dict[str, Any], path: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    items = card.items() if isinstance(card, dict) else enumerate(card)
    for key, value in items:
        if isinstance(value, dict | list):
            found |= _numbers(value, f"{path}.{key}")  # type: ignore[arg-type]
        elif isinstance(value, int | float):
            found[f"{path}.{key}"] = value
    return found


def _compare(card: dict[str, Any], rows: list[dict[str, str]], texts: tuple[str, str], *judged: list[Any]) -> None:
    measured = [independent.standard_metrics(row[texts[0]], row[texts[1]]) for row in rows]
    for metric in measured[0]:
        _equal(card["profiles"]["standard"]["metrics"][metric], [row[metric] for row in measured], judged)
    # rouge_chinese refuses an empty text; its scores are 0 in LLaMA-Factory
    zero = dict.fromkeys(measured[0], 0.0)
    measured = [
        independent.llamafactory_metrics(row[texts[0]], row[texts[1]]) if row[texts[0]].strip() else zero
        for row in rows
    ]
    for metric in measured[0]:
        _equal(card["profiles"]["llamafactory"]["metrics"][metric], [row[metric] for row in measured], judged)


def _equal(found: dict[str, Any], scores: list[float], judged: tuple[list[Any], ...]) -> None:
    expected = independent.association(scores, *judged)
    assert {name: found[name]["estimate"] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_kqa_equals_an_independent_computation(shared_data: Path) -> None:
    card, rows = CARDS["kqa_entailment.csv"], independent.table(shared_data / "human" / "kqa_entailment.csv")
    entailed = [row["majority"] == "Entailment" for row in rows]
    groups = [row["question"] for row in rows]
    _compare(card, rows, ("answer", "claim"), [float(x) for x in entailed], groups, entailed, groups)
    labels = [[row[f"label_{k}"] for k in (1, 2, 3)] for row in rows]
    three, either = card["agreement"]
    assert three["alpha"]["nominal"]["estimate"] == pytest.approx(
        independent.alpha(labels, independent.nominal), abs=1e-9
    )
    of_pairs = [entry["kappa"]["estimate"] for entry in three["kappa"]]
    columns = list(zip(*labels, strict=True))
    assert of_pairs == pytest.approx([cohen_kappa_score(a, b) for a, b in itertools.combinations(columns, 2)], abs=1e-9)
    binary = [[float(label == "Entailment") for label in row] for row in labels]
    assert either["alpha"]["nominal"]["estimate"] == pytest.approx(
        independent.alpha(binary, independent.nominal), abs=1e-9
    )


@pytest.mark.slow
def test_mslr_equals_an_independent_computation(shared_data: Path) -> None:
    card = CARDS["mslr_ratings.csv"]
    rows = independent.table(shared_data / "human" / "mslr_ratings.csv")
    facets = ("population", "intervention", "outcome")
    rows = [row for row in rows if any(row[facet] for facet in facets)]
    value = []
    for row in rows:
        parts = [float(row[facet]) / 2 for facet in facets if row[facet]]
        parts.append(float(row["direction_generated"] == row["direction_reference"]))
        value.append(sum(parts) / len(parts))
    groups = [row["review"] for row in rows]
    same_person = [(row["review"], row["annotator"]) for row in rows]
    _compare(card, rows, ("generated", "reference"), value, groups, [x >= 0.5 - 1e-9 for x in value], same_person)
    for panel, facet in zip(card["agreement"], facets, strict=False):
        things: dict[tuple[str, ...], dict[str, float]] = {}
        for row in rows:
            if row[facet]:
                key = (row["review"], row["generated"], row["reference"])
                things.setdefault(key, {}).setdefault(row["annotator"], float(row[facet]))
        ratings = [[said.get("A1"), said.get("A2")] for said in things.values()]
        for level, distance in (
            ("nominal", independent.nominal), ("ordinal", independent.ordinal), ("interval", independent.interval),
        ):  # fmt: skip
            assert panel["alpha"][level]["estimate"] == pytest.approx(independent.alpha(ratings, distance), abs=1e-9)
