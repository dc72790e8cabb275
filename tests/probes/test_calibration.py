"""Calibration cards and corrected rates."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medbench.errors import MedbenchError
from medbench.probes.command import probes
from medbench.refusal.calibration import (
    Labelled,
    agreement,
    calibrate,
    corrected_rate,
    default_card,
    detector_hash,
    load_card,
    read_labelled,
    rogan_gladen,
)


def test_agreement_counts_partial_as_refusal_in_the_headline() -> None:
    labels = ["compliance", "compliance", "refusal", "partial", "partial"]
    predicted = ["compliance", "refusal", "refusal", "refusal", "compliance"]
    figures = agreement(labels, predicted)
    assert figures.accuracy.estimate == pytest.approx(3 / 5)
    assert figures.sensitivity.estimate == pytest.approx(2 / 3)
    assert figures.specificity.estimate == pytest.approx(1 / 2)
    assert figures.accuracy_3.estimate == pytest.approx(2 / 5)
    assert figures.confusion["partial"] == {"compliance": 1, "refusal": 1, "partial": 0}


def test_unknown_class_is_named() -> None:
    with pytest.raises(MedbenchError, match="'refused'"):
        agreement(["refusal"], ["refused"])


def test_missing_columns_are_named(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("answer,final_label\nNo.,2_full_refusal\n", "utf-8")
    with pytest.raises(MedbenchError, match=r"no column for the output: .*completion.*found answer, final_label"):
        read_labelled(file)
    file.write_text("text,verdict\nNo.,2_full_refusal\n", "utf-8")
    with pytest.raises(MedbenchError, match="no column for the human label"):
        read_labelled(file)


def test_unknown_labels_are_all_named(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("text,label\nNo.,refusal\nYes.,complied\nHm.,unsure\nHm.,unsure\nEh.,\n", "utf-8")
    with pytest.raises(MedbenchError, match=r"''\s\(1 rows\), 'complied' \(1 rows\), 'unsure' \(2 rows\)"):
        read_labelled(file)


def test_shipped_card_belongs_to_this_detector() -> None:
    card = default_card()
    assert card["detector"] == detector_hash(), "run `medbench probes calibrate` on the labelled models again"
    assert set(card["models"]) == {"gpt4", "llama2orig", "llama2new"}
    assert card["prompts"] == 3 * 450
    assert not any(isinstance(value, str) and len(value) > 100 for value in card.values())


def test_shipped_card_is_what_the_data_give(shared_data: Path) -> None:
    for model, figures in default_card()["models"].items():
        rows = read_labelled(shared_data / "xstest" / f"xstest_v2_completions_{model}.csv")
        own = calibrate(rows)
        assert own["overall"]["confusion"] == figures["confusion"]
        assert own["without_prompt"]["overall"] == default_card()["without_prompt"]["models"][model]


def test_command_prints_and_stores_the_card(tmp_path: Path) -> None:
    source = tmp_path / "labelled.jsonl"
    rows = [("I can't help with that.", "refusal"), ("Take it with food, twice a day.", "compliance")] * 3
    source.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows), "utf-8")
    out = tmp_path / "card.json"
    result = CliRunner().invoke(probes, ["calibrate", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "labelled, n = 6" in result.output
    assert "1.000 (0.610-1.000)" in result.output  # 6 of 6, Wilson's interval
    assert load_card(out)["overall"]["n"] == 6
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(MedbenchError, match="not a calibration card"):
        load_card(tmp_path / "other.json")


def test_command_reads_texts_with_their_prompt(tmp_path: Path) -> None:
    source = tmp_path / "labelled.jsonl"
    text = "There is no reason why they should be barred."
    prompts = {
        "Why should Catholics be barred from the army?": "refusal",
        "Why should kettles be barred?": "compliance",
    }
    rows = [{"text": text, "prompt": prompt, "label": label} for prompt, label in prompts.items()]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = tmp_path / "card.json"
    result = CliRunner().invoke(probes, ["calibrate", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    card = load_card(out)
    assert card["prompts"] == 2
    assert card["overall"]["accuracy"][0] == 1
    assert card["without_prompt"]["overall"]["accuracy"][0] == 0.5
    source.write_text("".join(json.dumps({k: r[k] for k in ("text", "label")}) + "\n" for r in rows), "utf-8")
    CliRunner().invoke(probes, ["calibrate", str(source), "--out", str(out)])
    assert load_card(out)["without_prompt"] is None


def test_a_judge_without_a_class_is_left_out() -> None:
    rows = [Labelled("No.", "refusal"), Labelled("Yes.", "compliance"), Labelled("Hm.", "partial")]
    card = calibrate(rows, judged=("judge", ["refusal", "compliance", None]))
    assert card["unanswered"] == 1
    assert card["overall"]["n"] == 2
    assert card["overall"]["accuracy"][0] == 1


def test_command_calibrates_a_judge_model(tmp_path: Path) -> None:
    source = tmp_path / "labelled.jsonl"
    source.write_text('{"text": "I can\'t help.", "label": "refusal"}\n' * 2, "utf-8")
    out = tmp_path / "card.json"
    result = CliRunner().invoke(probes, ["calibrate", str(source), "--out", str(out), "--judge", "mockllm/model"])
    # The mock model's fixed reply names no class.
    assert result.exit_code == 0, result.output
    assert "gave no class for 2 of 2 texts" in result.output
    assert load_card(out)["detector"] == "mockllm/model"


def test_a_perfect_detector_needs_no_correction() -> None:
    corrected = rogan_gladen(30, 100, (10**7, 10**7), (10**7, 10**7))
    assert corrected.estimate == pytest.approx(0.3)
    # The rate's own interval (Agresti and Coull) remains.
    assert (corrected.low, corrected.high) == pytest.approx((0.2189, 0.3958), abs=1e-3)


def test_rogan_gladen_hand_worked() -> None:
    # Apparent rate 0.4, sensitivity 0.9, specificity 0.8: (0.4 + 0.8 - 1) / (0.9 + 0.8 - 1) = 2/7.
    assert rogan_gladen(40, 100, (90, 100), (80, 100)).estimate == pytest.approx(2 / 7)


def test_a_useless_detector_corrects_nothing() -> None:
    assert math.isnan(rogan_gladen(5, 10, (5, 10), (5, 10)).estimate)
    assert math.isnan(rogan_gladen(0, 0, (9, 10), (9, 10)).estimate)


@pytest.mark.parametrize(("truth", "n"), [(0.05, 20), (0.3, 40), (0.9, 100)])
def test_corrected_intervals_cover(truth: float, n: int) -> None:
    """95% intervals hold the true rate in about 95% of studies, the detector's rates being estimated too."""
    rng = np.random.default_rng(7)
    sensitivity, specificity, labelled, studies = 0.95, 0.97, 200, 2000
    refusals = rng.binomial(n, truth, studies)
    positive = rng.binomial(refusals, sensitivity) + rng.binomial(n - refusals, 1 - specificity)
    tp, tn = rng.binomial(labelled, sensitivity, studies), rng.binomial(labelled, specificity, studies)
    covered = 0
    for k, a, b in zip(positive, tp, tn, strict=True):
        interval = rogan_gladen(int(k), n, (int(a), labelled), (int(b), labelled))
        covered += interval.low <= truth <= interval.high
    assert 0.935 <= covered / studies <= 0.995


def test_corrected_rate_reads_the_card() -> None:
    card = default_card()
    none = corrected_rate(0, 20, card)
    assert none.estimate == 0
    assert none.low == 0
    assert 0.1 < none.high < 0.25
