"""MedXpertQA, CMB and CareQA: rows written for this project in the published formats, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai.dataset import Sample

from medbench.errors import MedbenchError
from medbench.sources.items import Item
from medbench.tasks.careqa import careqa
from medbench.tasks.cmb import cmb
from medbench.tasks.medxpertqa import medxpertqa

STEM = "A 40-year-old woman has a stiff hand for two months. Which syndrome is the likeliest?"
TEN = {letter: f"Syndrome {number}" for number, letter in enumerate("ABCDEFGHIJ", 1)}
MEDXPERT = {
    "id": "Text-0",
    "question": f"{STEM}\nAnswer Choices: " + " ".join(f"({letter}) {text}" for letter, text in TEN.items()),
    "options": TEN,
    "label": "J",
    "medical_task": "Diagnosis",
    "body_system": "Skeletal",
    "question_type": "Reasoning",
}
CMB = {
    "exam_type": "医师考试",
    "exam_class": "执业医师",
    "exam_subject": "口腔执业医师",
    "question": "下列属于水溶性维生素的是",
    "answer": "BC",
    "question_type": "多项选择题",
    "option": {"A": "维生素A", "B": "维生素C", "C": "维生素B1", "D": "维生素D", "E": "", "F": None},
}
CAREQA = {
    "exam_id": 33,
    "question": "Which bone is in the thigh?",
    "op1": "Humerus",
    "op2": "Ulna",
    "op3": "Tibia",
    "op4": "Femur",
    "cop": 4,
    "year": 2021,
    "category": "Medicine",
    "unique_id": "af2b",
}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    return str(path)


def samples(task: Task) -> list[Sample]:
    return list(task.dataset)  # type: ignore[arg-type]


def item(sample: Sample) -> Item:
    assert sample.metadata is not None
    return Item.from_metadata(sample.metadata["item"])


def benchmark(task: Task) -> dict[str, Any]:
    assert task.metadata is not None
    return dict(task.metadata["benchmark"])


def test_medxpertqa_shows_its_options_once(tmp_path: Path) -> None:
    (sample,) = samples(medxpertqa(source=written(tmp_path / "test.json", [MEDXPERT])))
    assert sample.target == "J"
    assert str(sample.input).count("Syndrome 10") == 1
    assert "Answer Choices" not in str(sample.input)
    assert item(sample).question.endswith("Which syndrome is the likeliest?")
    assert dict(item(sample).labels) == {
        "medical_task": "Diagnosis", "body_system": "Skeletal", "question_type": "Reasoning",
    }  # fmt: skip
    plain = {**MEDXPERT, "question": STEM}
    (other,) = samples(medxpertqa(source=written(tmp_path / "plain.json", [plain])))
    assert other.id == sample.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "K"}, "field 'label': answer 'K' does not name options"),
        ({"label": "AB"}, "field 'label': expected one letter, found AB"),
        ({"options": {"A": "x", "C": "y"}}, "field 'options': expected an object with the keys A, B, C"),
        ({"question": "Which?\nAnswer Choices: (A) Syndrome 1"}, "name A, not all 10 options"),
        ({"question": MEDXPERT["question"].split("\n")[1]}, "nothing stands before its 'Answer Choices'"),  # type: ignore[attr-defined]
    ],
)
def test_a_bad_medxpertqa_row_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(MedbenchError, match=message):
        medxpertqa(source=written(tmp_path / "test.json", [MEDXPERT | change]))


def test_cmb_drops_blank_options_and_scores_sets(tmp_path: Path) -> None:
    single = {**CMB, "question": "坏血病缺乏的是", "answer": "D", "explanation": "缺乏维生素C。"}
    single["option"] = {"A": "维生素A", "B": "", "C": "维生素D", "D": "维生素C"}
    task = cmb(source=written(tmp_path / "val.json", [CMB, single]))
    both, one = samples(task)
    assert both.choices == ["维生素A", "维生素C", "维生素B1", "维生素D"]
    assert both.target == "BC"
    assert (one.choices, one.target) == (["维生素A", "维生素D", "维生素C"], "C")
    assert item(one).reference == "缺乏维生素C。"
    assert dict(item(both).labels) == {"exam_type": "医师考试", "exam_class": "执业医师"}
    assert benchmark(task)["multiple_answers"] == 1
    assert "可能有一个或多个" in str(one.input)
    letters = cmb(source=str(tmp_path / "val.json"), mode="logprob")
    assert [s.target for s in samples(letters)] == ["C"]
    assert benchmark(letters)["left_out"] == ["val.json, record 1: several correct letters; mode=logprob scores one"]


def test_cmb_joins_the_keys_of_its_test_split(tmp_path: Path) -> None:
    asked = [{key: value for key, value in CMB.items() if key != "answer"} | {"id": 1}]
    asked.append(asked[0] | {"id": 2, "question": "下列属于脂溶性维生素的是"})
    told = {key: CMB[key] for key in ("exam_type", "exam_class", "exam_subject", "question_type")}
    keys = [{"id": 2, "answer": "AD", **told}, {"id": 1, "answer": "BC", **told}]
    source, answers = written(tmp_path / "test.json", asked), written(tmp_path / "keys.json", keys)
    assert [s.target for s in samples(cmb(source=source, answers=answers))] == ["BC", "AD"]
    with pytest.raises(MedbenchError, match="the keys of the test split are a file of their own"):
        cmb(source=source)
    with pytest.raises(MedbenchError, match=r"field 'id': short.json has no answer with the id 2 \(1 others\)"):
        cmb(source=source, answers=written(tmp_path / "short.json", keys[1:]))
    skipped = cmb(source=source, answers=str(tmp_path / "short.json"), on_bad_row="skip")
    assert len(samples(skipped)) == 1
    assert "has no answer with the id 2" in benchmark(skipped)["left_out"][0]
    other = [{**keys[0], "exam_subject": "护理学"}, keys[1]]
    with pytest.raises(MedbenchError, match=r"'exam_subject': is '口腔执业医师', but other.json says '护理学' of id 2"):
        cmb(source=source, answers=written(tmp_path / "other.json", other))
    with pytest.raises(MedbenchError, match="field 'id': 1 occurs twice"):
        cmb(source=source, answers=written(tmp_path / "twice.json", [keys[1], keys[1]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "E"}, "field 'answer': names option E, which is blank"),
        ({"answer": ""}, "field 'answer': empty"),
        ({"option": ["甲", "乙"]}, "field 'option': expected an object"),
        ({"option": {"A": "甲", "B": ""}}, "expected 2 to 26 options, found 1"),
    ],
)
def test_a_bad_cmb_row_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(MedbenchError, match=message):
        cmb(source=written(tmp_path / "val.json", [CMB | change]))


def test_careqa_counts_options_from_one(tmp_path: Path) -> None:
    rows = [{**CAREQA, "question": f"Bone {number}?", "cop": number} for number in (1, 2, 3, 4)]
    found = samples(careqa(source=written(tmp_path / "en.json", rows)))
    assert [s.target for s in found] == list("ABCD")
    assert dict(item(found[0]).labels) == {"category": "Medicine", "year": "2021"}


@pytest.mark.parametrize("number", [0, 5, 1.5, True, "1", None])
def test_a_number_that_names_no_option_is_a_bad_row(tmp_path: Path, number: Any) -> None:
    with pytest.raises(MedbenchError, match="record 1, field 'cop'"):
        careqa(source=written(tmp_path / "en.json", [CAREQA | {"cop": number}]))


def test_an_item_that_the_publisher_repeats_is_left_out_and_listed(tmp_path: Path) -> None:
    other = CAREQA | {"unique_id": "other", "cop": 1}
    task = careqa(source=written(tmp_path / "en.json", [CAREQA, CAREQA | {"question": "Which is a nerve?"}, other]))
    assert len(samples(task)) == 2
    (listed,) = benchmark(task)["left_out"]
    assert "record 3: the same item as record 1" in listed
    assert listed.endswith("with another key")
