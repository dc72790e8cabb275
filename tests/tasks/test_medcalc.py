"""MedCalc-Bench: rows written for this project in the published format, scored by the publisher's own rules."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from medbench.errors import MedbenchError
from medbench.sources.items import Item
from medbench.tasks.medcalc import medcalc

ROW = {
    "Row Number": "1",
    "Calculator ID": "6",
    "Calculator Name": "Body Mass Index (BMI)",
    "Category": "physical",
    "Output Type": "decimal",
    "Note ID": "1",
    "Note Type": "Handwritten",
    "Patient Note": "A 40-year-old man weighs 80 kg and is 200 cm tall.",
    "Question": "What is the patient's BMI in kg/m^2?",
    "Relevant Entities": "{'weight': [80.0, 'kg'], 'height': [200.0, 'cm']}",
    "Ground Truth Answer": "20.0",
    "Lower Limit": "19.0",
    "Upper Limit": "21.0",
    "Ground Truth Explanation": "80 kg / (2 m * 2 m) = 20.",
}
SCORE = {
    "Question": "What is the patient's CHA2DS2-VASc score?", "Output Type": "integer", "Category": "risk",
    "Ground Truth Answer": "3", "Lower Limit": "3", "Upper Limit": "3",
}  # fmt: skip
DUE = {
    "Question": "What is the due date?", "Output Type": "date", "Category": "date",
    "Ground Truth Answer": "06/12/2024", "Lower Limit": "06/12/2024", "Upper Limit": "06/12/2024",
}  # fmt: skip
AGE = {
    "Question": "What is the gestational age?", "Output Type": "integer", "Category": "date",
    "Ground Truth Answer": "('17 weeks', '4 days')", "Lower Limit": "('17 weeks', '4 days')",
    "Upper Limit": "('17 weeks', '4 days')",
}  # fmt: skip


def written(path: Path, *changes: dict[str, str]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(ROW | change for change in changes)
    return str(path)


def scored(task: Task, outputs: dict[str, str], folder: Path) -> EvalLog:
    """The log of a model that answers each question (by the word that it holds) with the given text."""

    def answer(input: Any, *_: Any) -> ModelOutput:
        text = next(said for word, said in outputs.items() if word in input[-1].text.rpartition("Task:")[2])
        output = ModelOutput.from_content("mockllm/model", text)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    (log,) = eval(task, get_model("mockllm/model", custom_outputs=answer), log_dir=str(folder), display="none")
    assert log.status == "success"
    return log


def test_rows_become_items_with_key_limits_and_note(tmp_path: Path) -> None:
    samples = list(medcalc(source=written(tmp_path / "test.csv", {}, SCORE, DUE, AGE)).dataset)
    assert [sample.target for sample in samples] == ["20", "3", "06/12/2024", "17 weeks 4 days"]
    items = [Item.from_metadata(sample.metadata["item"]) for sample in samples if sample.metadata]
    assert [item.limits for item in items] == [(19.0, 21.0), None, None, None]
    assert items[0].context == ROW["Patient Note"]
    assert dict(items[1].labels) == {"category": "risk", "output_type": "integer"}
    texts = [str(sample.input) for sample in samples]
    assert "X is the number alone" in texts[0]
    assert "MM/DD/YYYY" in texts[2]
    assert "(17 weeks, 4 days)" in texts[3]


def test_right_wrong_and_unread_are_three_things(tmp_path: Path) -> None:
    task = medcalc(source=written(tmp_path / "test.csv", {}, SCORE, DUE, AGE))
    outputs = {
        "BMI": "80 / 4 = 20.\nAnswer: 20.9 kg/m^2",
        "CHA2DS2": "One point each for age, sex and hypertension.\nAnswer: 4",
        "due date": "Answer: it cannot be known",
        "gestational": "Answer: 17 weeks and 4 days",
    }
    log = scored(task, outputs, tmp_path / "logs")
    scores = [sample.scores["quantity_accuracy"] for sample in log.samples or [] if sample.scores]
    values = [(score.value["accuracy/answer"], score.value["answered/answer"]) for score in scores]  # type: ignore[index]
    assert values == [(1, 1), (0, 1), (0, 0), (1, 1)]
    assert [score.answer for score in scores] == ["20.9", "4", None, "17 weeks 4 days"]
    assert "no_answer_found" in (scores[2].explanation or "")
    assert log.results is not None
    metrics = {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}
    assert metrics["accuracy_answered/answer"] == pytest.approx(2 / 3)
    assert metrics["accuracy_best/answer"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Ground Truth Answer": "twenty"}, "'Ground Truth Answer': expected a number, a date, or weeks and days"),
        ({"Output Type": "text"}, "'Output Type': is 'text' for the number 20; expected decimal or integer"),
        ({"Upper Limit": ""}, "'Upper Limit': expected a number, found ''"),
        ({"Patient Note": " "}, "'Patient Note': empty"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(MedbenchError, match=message):
        medcalc(source=written(tmp_path / "test.csv", change))


def test_limits_of_a_negative_key_may_stand_in_either_order(tmp_path: Path) -> None:
    change = {"Ground Truth Answer": "-10.0", "Lower Limit": "-9.5", "Upper Limit": "-10.5"}
    (sample,) = medcalc(source=written(tmp_path / "test.csv", change)).dataset
    assert sample.metadata is not None
    assert Item.from_metadata(sample.metadata["item"]).limits == (-10.5, -9.5)


def test_a_whole_number_that_is_none_is_left_out_and_listed(tmp_path: Path) -> None:
    task = medcalc(source=written(tmp_path / "test.csv", {}, SCORE | {"Ground Truth Answer": "2.5"}))
    assert len(list(task.dataset)) == 1
    assert "2.5 is no whole number" in (task.metadata or {})["benchmark"]["left_out"][0]
    task = medcalc(source=written(tmp_path / "limits.csv", {"Upper Limit": "19.5"}, SCORE))
    assert "19 to 19.5 do not hold the key 20" in (task.metadata or {})["benchmark"]["left_out"][0]


def test_worked_examples_end_in_the_answer_line(tmp_path: Path) -> None:
    examples = written(tmp_path / "train.csv", {"Question": "What is the BMI?", "Patient Note": "He is 2 m, 80 kg."})
    (sample,) = medcalc(source=written(tmp_path / "test.csv", {}), fewshot=1, fewshot_source=examples).dataset
    assert [message.text for message in sample.input][1] == "Answer: 20"  # type: ignore[union-attr]
