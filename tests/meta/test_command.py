"""`medbench meta`, from a file to a card: what it says, and what it does with files that are not as they should be."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from meta import independent

from medbench.cli import cli
from medbench.errors import MedbenchError
from medbench.meta.card import CARD_KIND, load_cards, shipped
from medbench.meta.line import fitting, lines, of_key
from medbench.meta.measures import full_marks
from medbench.meta.replicate import compare, landed

WORDS = ["aspirin", "fever", "dose", "renal", "acute", "chronic", "therapy", "risk", "patient", "daily", "oral", "mild"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def judged(groups: int = 12, outputs: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """Outputs that keep more or fewer words of their reference, and two raters who see that roughly."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        reference = list(rng.choice(WORDS, 12))
        for _ in range(outputs):
            kept = rng.integers(2, 12)
            words = reference[:kept] + list(rng.choice(WORDS, 12 - kept))
            ratings = [int(np.clip(round(kept / 4 + rng.normal(0, 0.5)), 0, 3)) for _ in range(2)]
            rows.append(
                {
                    "q": f"g{group}",
                    "out": " ".join(words),
                    "ref": " ".join(reference),
                    "r1": ratings[0],
                    "r2": ratings[1],
                    "good": "yes" if ratings[0] > 1 else "no",
                    "judge": kept + rng.normal(),
                }
            )
    return rows


def run(*words: object, ok: bool = True) -> str:
    done = CliRunner().invoke(cli, ["meta", *map(str, words)], catch_exceptions=not ok)
    if ok:
        assert done.exit_code == 0, done.output
        return done.output
    assert isinstance(done.exception, MedbenchError), done.output
    return str(done.exception)


def card_of(path: Path, *words: object) -> dict[str, Any]:
    columns = ["--prediction", "out", "--reference", "ref"]
    found: dict[str, Any] = json.loads(run(path, *columns, *words, "--resamples", 200, "--json"))
    return found


def test_ratings_equal_an_independent_computation(tmp_path: Path) -> None:
    rows = judged()
    card = card_of(write(tmp_path / "a.csv", rows), "--human", "r1,r2", "--group", "q", "--score", "judge")
    value = [(row["r1"] + row["r2"]) / 2 for row in rows]
    groups, positive = [row["q"] for row in rows], [x >= 1.5 for x in value]
    for profile, measure in (
        ("standard", independent.standard_metrics),
        ("llamafactory", independent.llamafactory_metrics),
    ):
        measured = [measure(row["out"], row["ref"]) for row in rows]
        for metric in measured[0]:
            found = card["profiles"][profile]["metrics"][metric]
            expected = independent.association([row[metric] for row in measured], value, groups, positive, groups)
            assert {name: found[name]["estimate"] for name in expected} == pytest.approx(expected, abs=1e-9), metric
    expected = independent.association([row["judge"] for row in rows], value, groups, positive, groups)
    assert card["other"]["judge"]["spearman"]["estimate"] == pytest.approx(expected["spearman"], abs=1e-9)
    ratings = [[row["r1"], row["r2"]] for row in rows]
    for level, distance in (("nominal", independent.nominal), ("ordinal", independent.ordinal)):
        assert card["agreement"][0]["alpha"][level]["estimate"] == pytest.approx(independent.alpha(ratings, distance))
    figure = card["profiles"]["standard"]["metrics"]["rouge1"]
    assert figure["auc"]["interval"][0] < figure["auc"]["estimate"] < figure["auc"]["interval"][1]
    assert figure["auc"]["replication_interval"][0] < figure["auc"]["interval"][0]
    assert 0 < figure["kappa"]["threshold"] <= 100
    assert full_marks("standard", "rouge1_recall") == 1


def test_a_row_per_rating_is_compared_within_its_rater(tmp_path: Path) -> None:
    rows = judged(groups=8)
    long = [
        {**{k: row[k] for k in ("q", "out", "ref")}, "who": who, "said": row[who] + (9 if who == "r2" else 0)}
        for row in rows
        for who in ("r1", "r2")
    ]
    card = card_of(write(tmp_path / "a.csv", long), "--human", "said", "--rater", "who", "--group", "q")
    metric = independent.standard_metrics
    value = [row["said"] for row in long]
    within = [(row["q"], row["who"]) for row in long]
    scores = [metric(row["out"], row["ref"])["bleu4"] for row in long]
    expected = independent.association(scores, value, [row["q"] for row in long], [x >= 6 for x in value], within)
    found = card["profiles"]["standard"]["metrics"]["bleu4"]
    assert found["pairs"]["estimate"] == pytest.approx(expected["pairs"])
    assert card["agreement"][0]["raters"] == ["r1", "r2"]
    assert card["agreement"][0]["judged_by_several"] == len(rows)


def test_labels_by_majority_and_ties_are_listed(tmp_path: Path) -> None:
    rows = judged()
    labels = ["Good", "bad", "GOOD ", "bad"]
    for i, row in enumerate(rows):
        row |= {"a": labels[i % 4], "b": labels[i % 4], "c": labels[(i + 1) % 4]}
    path = write(tmp_path / "a.csv", rows)
    card = card_of(path, "--human", "a,b,c", "--positive", "good", "--group", "q")
    assert card["human"]["positives"] == len(rows) // 2  # Good and "GOOD " are one label
    assert card["human"]["target"] == "the majority of a, b, c is Good"
    assert "no row has a judgement" in run(
        path, "--prediction", "out", "--reference", "ref", "--human", "a,c", "--positive", "good", ok=False
    )
    rows[0]["c"] = "good"
    card = card_of(write(path, rows), "--human", "a,c", "--positive", "good", "--labels", "good,bad", "--group", "q")
    assert card["rows"]["left_out"] == {"no majority among its raters": len(rows) - 1}


def test_none_is_a_label_and_labels_with_numbers_are_a_scale(tmp_path: Path) -> None:
    rows = judged()
    for row in rows:
        row["harm"] = "severe" if row["r1"] > 2 else "mild" if row["r1"] > 1 else "none"
    path = write(tmp_path / "a.csv", rows)
    card = card_of(path, "--human", "harm", "--positive", "none", "--group", "q")
    assert card["rows"]["used"] == len(rows)
    assert card["human"]["positives"] == sum(row["harm"] == "none" for row in rows)
    card = card_of(path, "--human", "harm", "--labels", "none=0,mild=1,severe=2,fatal=4", "--group", "q")
    assert card["human"]["kind"] == "ratings"
    assert card["human"]["positive"] == "at least 2 of 0 to 4"


def test_the_line_says_which_figure_and_survives_a_round_trip(tmp_path: Path) -> None:
    path, out = write(tmp_path / "a.csv", judged()), tmp_path / "cards"
    columns = ["--prediction", "out", "--reference", "ref", "--human", "r1,r2", "--group", "q"]
    printed = run(path, *columns, "--name", "toy ratings", "--out", out, "--resamples", 200, "--against", "mslr")
    assert "On toy ratings, BLEU-4 picks the preferred one of two in" in printed
    assert "against ratings of medical summaries (MSLR)" in printed
    assert "but the two were asked otherwise" in printed
    (card,) = load_cards([out / "a-card.json"])
    assert card["kind"] == CARD_KIND
    assert card["command"].startswith("medbench meta a.csv --prediction out --reference ref --human r1,r2 --group q")
    assert str(tmp_path) not in json.dumps(card)
    (text,) = lines(["bleu4", "rougeL"], "standard", [card])
    assert text.startswith("On toy ratings, BLEU-4 picks the preferred one of two in ")
    assert ", ROUGE-L in " in text
    done = CliRunner().invoke(
        cli, ["metrics", str(path), "--prediction", "out", "--reference", "ref", "--card", str(out / "a-card.json")]
    )
    assert "What people say: On toy ratings" in done.output


def test_the_card_that_fits_best_is_chosen() -> None:
    mslr, kqa = shipped()
    assert fitting("bleu4", "standard") is mslr
    assert fitting("bleu4", "standard", reference=12) is kqa
    assert fitting("bleu4", "standard", reference=90) is mslr
    assert fitting("chrf", "standard") is None
    assert lines(["chrf"], "standard") == []
    assert "those are English texts" in lines(["bleu4"], "llamafactory", language="zh")[0]
    assert of_key("rougeL_llamafactory/answer") == ("rougeL", "llamafactory")


def test_a_card_replicates_itself_and_not_its_opposite(tmp_path: Path) -> None:
    rows = judged()
    columns = ["--human", "r1,r2:0-3", "--group", "q"]
    card = card_of(write(tmp_path / "a.csv", rows), *columns)
    assert all(inside for *_, inside in landed(card, card))
    for row in rows:
        row["r1"], row["r2"] = 3 - row["r1"], 3 - row["r2"]
    opposite = card_of(write(tmp_path / "b.csv", rows), *columns)
    outside = {name for name, figure, *_, inside in landed(card, opposite) if figure == "spearman" and not inside}
    assert {"standard bleu4", "llamafactory rougeL_recall"} <= outside
    assert "length" not in outside  # which says nothing either way
    # A smaller file may land farther away.
    wide = {key[:2]: key[3] for key in landed(card, opposite | {"groups": {"count": 3}})}
    same = {key[:2]: key[3] for key in landed(card, opposite)}
    low, high = wide["standard bleu4", "auc"]
    assert low < same["standard bleu4", "auc"][0]
    assert high > same["standard bleu4", "auc"][1]
    text = compare(card, opposite)
    assert text[0].startswith("against a.csv (12 groups): ")
    assert any(line.startswith("outside: standard bleu4 spearman -") for line in text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--human", "r3"], "unknown column 'r3'"),
        (["--human", "r1,r1"], "names a column twice"),
        (["--human", "r1:3-0"], "the scale must rise"),
        (["--human", "good"], "most cells of 'good' are no rating: 'yes'"),
        (["--human", "good", "--positive", "maybe"], "no cell of good says 'maybe'"),
        (["--human", "good", "--labels", "yes=1,no"], "give every label a number"),
        (["--human", "good", "--labels", "yes,no", "--positive", "yess"], "Did you mean yes?"),
        (["--human", "r1", "--positive", ">=high"], "expected a number after >="),
        (["--human", "good", "--human", "r1", "--positive", "yes"], "labels take one --human"),
        (["--human", "r1,r2", "--rater", "good"], "each row is one rating"),
        (["--human", "r1", "--score", "q"], "holds no number"),
        (["--human", "r1", "--group", "topic"], "unknown column 'topic'"),
        (["--human", "r1", "--against", "nothing.json"], "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(tmp_path: Path, words: list[str], said: str) -> None:
    path = write(tmp_path / "a.csv", judged(3))
    assert said in run(path, "--prediction", "out", "--reference", "ref", *words, ok=False)


def test_missing_and_odd_cells_are_named_counted_and_listed(tmp_path: Path) -> None:
    rows = judged()
    rows[0]["r1"], rows[0]["r2"] = "", "n/a"
    rows[1]["r1"] = "?"
    rows[2]["r2"] = "7"
    rows[3]["q"] = ""
    rows[4]["out"] = ""
    rows[5]["judge"] = "none given"
    path = write(tmp_path / "a.csv", rows)
    columns = ["--prediction", "out", "--reference", "ref", "--human", "r1,r2:0-3", "--group", "q", "--score", "judge"]
    printed = run(path, *columns, "--resamples", 200)
    assert "left out, no group: 1 row (line 5)" in printed
    assert "left out, no rating: 1 row (line 2)" in printed
    assert "r1: 1 cell outside its labels: '?' (1: line 3)" in printed
    assert "r2: 1 cell outside its labels: '7' (1: line 4)" in printed
    assert "r1: 1 row without a judgement (line 2)" in printed
    assert printed.count("prediction empty, which scores 0, in 1 row (line 6)") == 1
    assert "judge: 1 value no number: 'none given' (1: line 7)" in printed
    assert "judge: 1 of 46 rows without a score are left out for it" in printed
    card = card_of(path, *columns[4:])
    assert card["rows"] == {"read": 48, "used": 46, "left_out": {"no group": 1, "no rating": 1}}


def test_one_rater_one_group_and_a_constant_metric_are_said(tmp_path: Path) -> None:
    rows = judged(1, 6)
    for row in rows:
        row["judge"] = 3
    path = write(tmp_path / "a.csv", rows)
    card = card_of(path, "--human", "r1", "--group", "q", "--score", "judge")
    notes = " | ".join(card["notes"])
    assert "all rows are one group" in notes
    assert "one rater: whether another person would say the same is unknown" in notes
    assert "the same for every output, so that all its pairs are ties: length, length_ratio, judge" in notes
    assert card["agreement"] == []
    found = card["profiles"]["standard"]["metrics"]["bleu4"]
    assert found["spearman"]["interval"] is None
    assert found["spearman"]["why"] == "one group: how far it varies is unknown"
    assert found["kappa"]["why"] == "one group: nothing to hold out"
    assert card["other"]["judge"]["spearman"] == {
        "estimate": None,
        "interval": None,
        "replication_interval": None,
        "why": "the metric is constant",
    }
    assert card["other"]["judge"]["pairs"]["estimate"] == 0.5
    assert "(no interval)" in lines(["bleu4"], "standard", [card])[0]


def test_groups_of_one_and_people_who_see_no_difference(tmp_path: Path) -> None:
    rows = judged(6, 1)
    for row in rows:
        row["r1"] = 2
    card = card_of(write(tmp_path / "a.csv", rows), "--human", "r1", "--group", "q", "--positive", ">=1")
    found = card["profiles"]["standard"]["metrics"]["rougeL"]
    assert found["pairs"]["estimate"] is None
    assert found["auc"]["why"] == "people judge every output alike"
    assert "6 of 6 groups hold one row, which has no other to be preferred to" in card["notes"]
    assert "only 6 groups: intervals are rough, and may be too narrow" in card["notes"]
    assert lines(["rougeL"], "standard", [card]) == []


def test_nothing_to_judge_by_is_an_error_and_malformed_rows_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"out": "a b", "ref": "a b", "r": null}\nnot json\n{"out": 3, "ref": "x", "r": 1}\n', "utf-8")
    said = run(path, "--prediction", "out", "--reference", "ref", "--human", "r", ok=False)
    assert "no row holds a rating" in said
    path.write_text('{"out": "a b", "ref": "a c", "r": 2}\nnot json\n{"out": 3, "ref": "x", "r": 1}\n', "utf-8")
    printed = run(path, "--prediction", "out", "--reference", "ref", "--human", "r")
    assert "not valid JSON" in printed
    assert "left out, prediction is no text: 1 row (line 3)" in printed


def test_a_file_that_is_no_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text('{"kind": "refusal-calibration"}', "utf-8")
    with pytest.raises(MedbenchError, match="not a card of"):
        load_cards([path])
    path.write_text(json.dumps({"kind": CARD_KIND}), "utf-8")
    with pytest.raises(MedbenchError, match="name is missing"):
        load_cards([path])
    with pytest.raises(MedbenchError, match="is a directory"):
        load_cards([tmp_path])
