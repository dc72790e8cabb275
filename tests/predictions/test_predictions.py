"""Layouts of predictions files: told by their fields, contradicted with a reason, and columns of any name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medbench.cli import cli
from medbench.errors import MedbenchError
from medbench.predictions.command import import_command, named_columns
from medbench.predictions.formats import FORMATS, detect_format, read_predictions
from medbench.sources.records import BadRows

ROWS: dict[str, dict[str, Any]] = {
    "llamafactory": {"prompt": "Q", "predict": "B", "label": "B"},
    "lm-eval": {"doc": {}, "target": "B", "arguments": [["Q"]], "resps": [["B"]]},
    "evalscope": {"index": 0, "model_output": {}, "messages": []},
    "opencompass": {"origin_prompt": "Q", "prediction": "B"},
    "helm": {"instance_id": "id1", "predicted_text": "B"},
    "csv": {"question": "Q", "prediction": "B"},
    "plain": {"prompt": "Q", "output": "B"},
}


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def test_every_format_is_told_by_its_fields(tmp_path: Path) -> None:
    assert ROWS.keys() | {"inspect"} == FORMATS.keys()
    for name, row in ROWS.items():
        assert detect_format(written(tmp_path / f"{name}.jsonl", row), "utf-8") == name


@pytest.mark.parametrize(
    ("row", "form", "said"),
    [
        ("llamafactory", "lm-eval", "whose rows have doc and resps. This looks like llamafactory: it has predict and"),
        ("opencompass", "llamafactory", "This looks like opencompass: it has origin_prompt and prediction."),
        ("csv", "evalscope", "have index and model_output or index and sample_score. This looks like csv: it has pred"),
    ],
)
def test_a_format_that_the_file_contradicts(row: str, form: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(MedbenchError) as caught:
        read_predictions(written(tmp_path / "rows.jsonl", ROWS[row]), form, BadRows())
    assert said in str(caught.value)


def test_a_misspelt_format(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match="Did you mean llamafactory"):
        read_predictions(written(tmp_path / "rows.jsonl", ROWS["llamafactory"]), "llama-factory", BadRows())


def test_a_csv_that_is_also_opencompass_may_be_read_as_a_table(tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", {**ROWS["opencompass"], "question": "Q"})
    assert read_predictions(file, "csv", BadRows())[0].prompt == "Q"


def test_columns_of_any_name(tmp_path: Path) -> None:
    rows = "问题,标准答案,模型输出\n感冒怎么办？,多休息。,请多休息。\n发烧怎么办？,多喝水。,多喝温水。\n"
    file = tmp_path / "结果.csv"
    file.write_text(rows, "utf-8")
    asked = ["--column", "prediction=模型输出", "--column", "question=问题", "--column", "reference=标准答案"]
    arguments = [str(file), *asked, "--task", "f6", "--model", "m", "--log-dir", str(tmp_path / "logs")]
    result = CliRunner().invoke(import_command, arguments, catch_exceptions=False, env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert "2 predictions" in result.output
    assert "bleu4_llamafactory" in result.output


def test_columns_take_the_place_of_columns_of_that_name(tmp_path: Path) -> None:
    row = {"prediction": "old", "new": "new one", "id": 7, "prompt": "Q"}
    (found,) = read_predictions(written(tmp_path / "rows.jsonl", row), "csv", BadRows(), columns={"prediction": "new"})
    assert (found.output, found.item_id, found.prompt) == ("new one", "7", "Q")


@pytest.mark.parametrize(
    ("columns", "form", "said"),
    [
        ({"prediction": "模型输"}, "csv", "line 1: unknown column for prediction '模型输'. Did you mean 模型输出"),
        ({"predicton": "模型输出"}, "csv", "unknown part of --column 'predicton'. Did you mean prediction"),
        ({"prediction": "模型输出"}, "llamafactory", "llamafactory has its own fields"),
        ({"question": "问题"}, "csv", "field 'prediction': missing"),
    ],
)
def test_columns_that_do_not_fit(columns: dict[str, str], form: str, said: str, tmp_path: Path) -> None:
    file = written(tmp_path / "rows.jsonl", {"问题": "Q", "模型输出": "B"})
    with pytest.raises(MedbenchError) as caught:
        read_predictions(file, form, BadRows(), columns=columns)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["prediction"], "takes PART=NAME"),
        (["=output"], "takes PART=NAME"),
        (["prediction=a", "prediction=b"], "two columns for prediction"),
    ],
)
def test_columns_on_the_command_line(given: list[str], said: str) -> None:
    with pytest.raises(MedbenchError, match=said):
        named_columns(given)
    assert named_columns(["prediction=a=b"]) == {"prediction": "a=b"}


def test_help_names_every_format() -> None:
    said = CliRunner().invoke(cli, ["import", "--help"]).output
    for name in FORMATS:
        assert f"\n  {name} " in said, name
