"""`medbench metrics` on files as LLaMA-Factory and others write them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from medbench.cli import cli
from medbench.errors import MedbenchError

ROWS = [
    {
        "prompt": "多饮多尿怎么办？",
        "predict": "建议检测血糖，控制饮食。",
        "label": "建议尽快检测空腹血糖，并控制饮食。",
    },
    {"prompt": "血压高怎么办？", "predict": "低盐饮食，规律服用降压药。", "label": "低盐饮食，坚持规律服药。"},
    {"prompt": "头痛怎么办？", "predict": "休息，必要时服用布洛芬。", "label": "注意休息，必要时可以服用止痛药。"},
]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["metrics", *arguments], catch_exceptions=True)


def failure(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, MedbenchError), result.output
    return str(result.exception)


def test_both_profiles_with_floor_and_signature(tmp_path: Path) -> None:
    result = run(write(tmp_path / "generated_predictions.jsonl", ROWS))
    assert result.exit_code == 0, result.output
    for expected in (
        "standard profile, 3 items",
        "llamafactory profile",
        "BLEU-4",
        "floor",
        "tok:zh",
        "smooth:method3",
    ):
        assert expected in result.output
    assert "answer" not in result.output.split("signature")[0]  # without traces there is one view


def test_json_under_every_view_where_there_are_traces(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0] | {"predict": "<think>患者多饮多尿，考虑糖尿病。</think>" + ROWS[0]["label"]}]
    rows.append(ROWS[1] | {"predict": "<think>血压"})
    rows.append(ROWS[2] | {"prompt": "头痛怎么办？<think>\n", "predict": "想一想</think>" + ROWS[2]["label"]})
    data = json.loads(run(write(tmp_path / "p.jsonl", rows), "--profile", "llamafactory", "--json").stdout)
    assert data["items"] == 6
    assert data["traces"] == {"absent": 3, "closed": 2, "unterminated": 1}
    assert list(data["profiles"]) == ["llamafactory"]
    views = data["profiles"]["llamafactory"]["views"]
    assert list(views) == ["raw", "untagged", "lenient", "answer"]
    assert views["answer"]["bleu4"]["score"] > views["raw"]["bleu4"]["score"]
    assert views["answer"]["bleu4"]["low"] < views["answer"]["bleu4"]["score"] < views["answer"]["bleu4"]["high"]
    assert views["answer"]["bleu4"]["floor"] < views["answer"]["bleu4"]["score"]
    assert any("1 of 6 predictions hold a trace and no answer" in note for note in data["notes"])


def test_own_columns_csv_and_encoding(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    with path.open("w", encoding="gb18030", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows([["回答", "参考"], *([row["predict"], row["label"]] for row in ROWS)])
    options = ["--prediction", "回答", "--reference", "参考", "--json"]
    assert "gb18030" in failure(str(path), *options)
    mine = json.loads(run(str(path), *options, "--encoding", "gb18030").stdout)["profiles"]
    assert mine == json.loads(run(write(tmp_path / "p.jsonl", ROWS), "--json").stdout)["profiles"]


def test_references_from_another_file(tmp_path: Path) -> None:
    predictions = write(tmp_path / "p.jsonl", [{"output": row["predict"]} for row in ROWS])
    references = write(tmp_path / "r.jsonl", [{"output": row["label"]} for row in ROWS])
    assert "cannot both be column 'output'" in failure(predictions)
    both = json.loads(run(predictions, "--references", references, "--json").stdout)["profiles"]
    assert both == json.loads(run(write(tmp_path / "both.jsonl", ROWS), "--json").stdout)["profiles"]
    shorter = write(tmp_path / "short.jsonl", [{"output": "x"}] * 2)
    assert "holds 3 predictions and" in failure(predictions, "--references", shorter)
    assert "pair the wrong rows" in failure(predictions, "--references", references, "--on-bad-row", "skip")


def test_bad_rows_are_named_or_listed(tmp_path: Path) -> None:
    broken = write(tmp_path / "p.jsonl", [*ROWS, {"predict": None, "label": "x"}, {"predict": "y", "label": [3]}])
    message = failure(broken)
    assert "line 4, field 'predict': expected text, found missing" in message
    result = run(broken, "--on-bad-row", "skip", "--json")
    data = json.loads(result.stdout)
    assert data["items"] == 3
    assert len([note for note in data["notes"] if note.startswith("left out")]) == 2
    assert "no reference column" in failure(write(tmp_path / "q.jsonl", [{"predict": "x"}]))
    assert "no column 'gold'" in failure(broken, "--reference", "gold")


def test_empty_answers_score_zero_and_are_named(tmp_path: Path) -> None:
    result = run(write(tmp_path / "p.jsonl", [*ROWS, {"predict": " ", "label": "好"}, {"predict": "好", "label": ""}]))
    assert "1 of 5 predictions are empty and score 0: line 4" in result.output
    assert "1 of 5 references are empty and score 0: line 5" in result.output
    assert "references read 'nan'" in run(write(tmp_path / "p.jsonl", [*ROWS, ROWS[0] | {"label": "nan"}])).output


def test_answers_to_other_questions_are_said_to_be_at_the_floor(tmp_path: Path) -> None:
    labels = [f"Take {n} tablets of the {word} twice a day" for n, word in enumerate(["red", "blue", "green", "white"])]
    rotated = [{"predict": other, "label": own} for own, other in zip(labels, labels[2:] + labels[:2], strict=True)]
    own = [{"predict": label, "label": label} for label in labels]
    assert "At the floor: BLEU-4" in run(write(tmp_path / "rotated.jsonl", rotated)).output
    assert "At the floor" not in run(write(tmp_path / "own.jsonl", own)).output


def test_one_item_has_no_floor(tmp_path: Path) -> None:
    data = json.loads(run(write(tmp_path / "p.jsonl", ROWS[:1]), "--json").stdout)
    assert data["profiles"]["standard"]["views"]["raw"]["bleu4"]["floor"] is None
    assert data["profiles"]["standard"]["views"]["raw"]["bleu4"]["above_floor"] is None


@pytest.mark.parametrize(("profile", "bleu4"), [("standard", 8.2), ("llamafactory", 36.3)])
def test_answers_to_other_questions(shared_data: Path, tmp_path: Path, profile: str, bleu4: float) -> None:
    """The design's figures for the first 200 English answers, references rotated by one."""
    with (shared_data / "medical_qa" / "en_valid.jsonl").open(encoding="utf-8") as lines:
        answers = [json.loads(next(lines))["output"] for _ in range(200)]
    path = write(tmp_path / "p.jsonl", [{"output": answer} for answer in answers])
    result = run(path, "--prediction", "output", "--reference", "output", "--json", "--profile", profile)
    data = json.loads(result.stdout)
    figures = data["profiles"][profile]["views"]["raw"]["bleu4"]
    assert figures["score"] == pytest.approx(100)
    assert round(figures["floor"], 1) == bleu4
