"""JSON that users hand over: what is wrong with it is a sentence that says where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medbench.claims.card import lexical_card
from medbench.claims.card import load as load_judge
from medbench.errors import MedbenchError
from medbench.files.json_files import ANY, misfit, read_json
from medbench.files.manifest import read_manifest
from medbench.refusal.calibration import default_card, load_card


@pytest.mark.parametrize(
    ("value", "shape", "said"),
    [
        ({"a": {"b": 1}}, {"a": {"b": float}}, None),
        ({"a": {"b": "x"}}, {"a": {"b": float}}, "a.b is 'x', not a number"),
        ({"a": True}, {"a": int}, "a is True, not a whole number"),
        ({"a": float("nan")}, {"a": float}, "a is nan, not a number"),
        ({}, {"a": str}, "a is missing"),
        ([], {"a": str}, "it is [], not an object"),
        ({"a": [1, None, "x"]}, {"a": [(float, None)]}, "a[2] is 'x', not a number"),
        ({"a": [1, 2]}, {"a": [float, float, float]}, "a is [1, 2], not a list of 3"),
        ({"a": None}, {"a": (None, {"b": int})}, None),
        ({"x": {"n": 1}, "y": {"n": "1"}}, {ANY: {"n": int}}, "y.n is '1', not a whole number"),
    ],
)
def test_where_a_document_does_not_fit(value: object, shape: object, said: str | None) -> None:
    assert misfit(value, shape) == said


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff\xfe", b"[" + b"9" * 5000 + b"]"])
def test_no_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(MedbenchError, match=r"card\.json is not valid JSON"):
        read_json(path)


def test_a_card_that_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    card = default_card()
    card["overall"]["confusion"]["refusal"]["partial"] = [3]
    path.write_text(json.dumps(card), "utf-8")
    with pytest.raises(MedbenchError, match=r"overall\.confusion\.refusal\.partial is \[3\], not a whole number"):
        load_card(path)
    judge = lexical_card()
    judge["agreement"]["kappa"][0] = "0.5"
    path.write_text(json.dumps(judge), "utf-8")
    with pytest.raises(MedbenchError, match=r"agreement\.kappa\[0\] is '0\.5'"):
        load_judge(path)


@pytest.mark.parametrize("document", ["[]", '{"kind": 3, "settings": {}, "inputs": {}}', '{"settings": {}}', "null"])
def test_a_manifest_of_something_else(document: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(document, "utf-8")
    with pytest.raises(MedbenchError, match="is no manifest of medbench"):
        read_manifest(tmp_path)
