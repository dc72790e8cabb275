"""Every benchmark reads its publisher's own formats, names what is wrong with a row, and keeps ids stable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from inspect_ai import Task
from inspect_ai.dataset import Sample

from medbench.errors import MedbenchError
from medbench.tasks.cmexam import cmexam
from medbench.tasks.cmexam_explain import cmexam_explain
from medbench.tasks.f5_f6 import f5, f6
from medbench.tasks.medmcqa import medmcqa
from medbench.tasks.medqa import medqa
from medbench.tasks.mmlu_med import mmlu_med
from medbench.tasks.pubmedqa import pubmedqa
from medbench.tasks.pubmedqa_long import pubmedqa_long

MEDQA = {
    "question": "A child has a barking cough and stridor. What is the likeliest cause?",
    "answer": "Parainfluenza virus",
    "options": {"A": "Rhinovirus", "B": "Parainfluenza virus", "C": "Measles virus", "D": "Adenovirus"},
    "meta_info": "step1",
    "answer_idx": "B",
}
PUBMED = {
    "QUESTION": "Does walking daily lower blood pressure?",
    "CONTEXTS": ["Adults walked for 30 minutes.", "Pressure was taken weekly."],
    "LONG_ANSWER": "Daily walking lowered systolic pressure slightly.",
    "final_decision": "yes",
}
MEDMCQA = {"question": "Which vitamin prevents scurvy?", "opa": "A", "opb": "B12", "opc": "C", "opd": "D", "exp": None}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def samples(task: Task) -> list[Sample]:
    return list(task.dataset)  # type: ignore[arg-type]


def benchmark(task: Task) -> dict[str, Any]:
    assert task.metadata is not None
    return dict(task.metadata["benchmark"])


def test_medqa_from_the_publishers_lines(tmp_path: Path) -> None:
    task = medqa(source=written(tmp_path / "test.jsonl", [MEDQA]))
    (sample,) = samples(task)
    assert sample.target == "B"
    assert sample.choices == list(MEDQA["options"].values())
    assert "B. Parainfluenza virus\nC. Measles virus" in str(sample.input)
    assert sample.metadata is not None
    assert sample.metadata["item"]["source"] == "test.jsonl, line 1"
    assert benchmark(task)["items"] == 1
    turned = {**MEDQA, "options": dict(reversed(MEDQA["options"].items()))}
    assert samples(medqa(source=written(tmp_path / "turned.jsonl", [turned])))[0].choices == sample.choices
    assert len(benchmark(task)["sha256"]) == 64


def test_parquet_gives_the_same_ids(tmp_path: Path) -> None:
    lines = medqa(source=written(tmp_path / "test.jsonl", [MEDQA]))
    pandas.DataFrame([MEDQA]).to_parquet(tmp_path / "test.parquet")
    assert [s.id for s in samples(medqa(source=str(tmp_path / "test.parquet")))] == [s.id for s in samples(lines)]


def test_shuffling_moves_the_key_along_and_keeps_the_id(tmp_path: Path) -> None:
    rows = [{**MEDQA, "question": f"Question {n}?"} for n in range(40)]
    path = written(tmp_path / "test.jsonl", rows)
    plain, first, again, other = (samples(medqa(source=path, shuffle_options=s)) for s in (None, 1, 1, 2))
    assert [s.id for s in plain] == [s.id for s in first]
    assert [s.choices for s in first] == [s.choices for s in again]
    assert [s.choices for s in first] != [s.choices for s in other]
    for sample in first:
        assert sample.choices is not None
        assert sample.choices["ABCD".index(str(sample.target))] == "Parainfluenza virus"
    assert {str(s.target) for s in first} == set("ABCD")


def test_fewshot_examples_come_as_turns_and_never_from_the_tests(tmp_path: Path) -> None:
    pool = [{**MEDQA, "question": f"Example {n}?"} for n in range(5)]
    source = written(tmp_path / "test.jsonl", [MEDQA])
    examples = written(tmp_path / "train.jsonl", [MEDQA, *pool])
    (sample,) = samples(medqa(source=source, fewshot=3, fewshot_source=examples))
    roles = [message.role for message in sample.input]  # type: ignore[union-attr]
    assert roles == ["user", "assistant"] * 3 + ["user"]
    asked = [message.text for message in sample.input[:-1]]  # type: ignore[union-attr]
    assert all("barking cough" not in text for text in asked)
    assert asked[1] == "Answer: B"
    (chinese,) = samples(medqa(source=source, fewshot=1, fewshot_source=examples, prompt_language="zh"))
    assert [message.text for message in chinese.input][1] == "答案：B"  # type: ignore[union-attr]
    with pytest.raises(MedbenchError, match="only 5 examples are not test items"):
        medqa(source=source, fewshot=6, fewshot_source=examples)
    with pytest.raises(MedbenchError, match="fewshot_source"):
        medqa(source=source, fewshot=1)
    broken = written(tmp_path / "broken.jsonl", [{"question": "Q"}, *pool])
    with pytest.raises(MedbenchError, match="line 1, field 'options': missing"):
        medqa(source=source, fewshot=3, fewshot_source=broken)
    assert len(samples(medqa(source=source, fewshot=3, fewshot_source=broken, on_bad_row="skip"))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_idx": "E"}, r"line 2, field 'answer_idx': answer 'E' does not name options among A, B, C, D"),
        ({"answer_idx": ""}, r"line 2, field 'answer_idx': empty"),
        ({"answer_idx": None}, r"line 2, field 'answer_idx': missing"),
        ({"answer_idx": "AB"}, r"line 2, field 'answer_idx': expected one letter"),
        ({"options": {"A": "x", "B": " ", "C": "y", "D": "z"}}, r"line 2, field 'options': option B is empty"),
        ({"options": ["x", "y"]}, r"line 2, field 'options': expected an object"),
        ({"question": " "}, r"line 2, field 'question': empty"),
        ({"question": MEDQA["question"]}, r"line 2: the same item as line 1"),
    ],
)
def test_a_bad_row_is_named_or_left_out_and_listed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "test.jsonl", [MEDQA, {**MEDQA, "question": "Another?"} | change])
    with pytest.raises(MedbenchError, match=message):
        medqa(source=path)
    task = medqa(source=path, on_bad_row="skip")
    with pytest.raises(MedbenchError, match="-T on_bad_row=skip"):
        medqa(source=path)
    assert len(samples(task)) == 1
    (listed,) = benchmark(task)["left_out"]
    assert "test.jsonl, line 2" in listed


def test_a_source_of_another_benchmark_is_told_by_its_fields(tmp_path: Path) -> None:
    path = written(tmp_path / "f.jsonl", [{"instruction": "Q", "input": "", "output": "A"}] * 2)
    for task, field in ((medqa, "options"), (cmexam, "Options"), (pubmedqa, "CONTEXTS"), (mmlu_med, "subject")):
        with pytest.raises(MedbenchError, match=f"field '{field}': missing; the row has 'instruction', 'input'"):
            task(source=path)
    with pytest.raises(MedbenchError, match=r"no usable items: every row was left out \(2\), the first because of"):
        medqa(source=path, on_bad_row="skip")


def test_cmexam_reads_csv_and_hub_form_alike(tmp_path: Path) -> None:
    csv = tmp_path / "val.csv"
    csv.write_text(
        "Question,Options,Answer,Explanation\n"
        '咳嗽伴铁锈色痰见于,"A 肺炎球菌肺炎\\nB 哮喘\\nC 肺结核",A,铁锈色痰是肺炎球菌肺炎的特征。\n'
        '下列属于维生素的是,"A 核黄素\\nB 抗坏血酸\\nC 葡萄糖",BA,前两项是。\n'
        '没有答案的题,"A 甲\\nB 乙",nan,nan\n',
        "utf-8",
    )
    hub = [
        {
            "Question": "下列属于维生素的是",
            "Options": [{"key": k, "value": v} for k, v in zip("ABC", ["核黄素", "抗坏血酸", "葡萄糖"], strict=True)],
            "Answer": "AB",
            "Explanation": "前两项是。",
        }
    ]
    task = cmexam(source=str(csv))
    first, second = samples(task)
    assert (first.target, second.target) == ("A", "AB")
    assert "可能有一个或多个" in str(first.input)
    assert benchmark(task)["left_out"] == [
        f"{csv}, line 4, field 'Answer': the publisher gives no key for this question"
    ]
    assert samples(cmexam(source=written(tmp_path / "hub.json", hub)))[0].id == second.id
    single = cmexam(source=str(csv), mode="logprob")
    assert len(samples(single)) == benchmark(single)["items"] == 1
    assert benchmark(single)["multiple_answers"] == 0
    assert benchmark(single)["left_out"][1:] == ["val.csv, line 3: several correct letters; mode=logprob scores one"]
    with pytest.raises(MedbenchError, match="only 0 examples"):  # one is the test item, the other has two letters
        cmexam(source=str(csv), mode="logprob", fewshot=1, fewshot_source=str(csv))
    explain = samples(cmexam_explain(source=str(csv)))
    assert [s.id for s in explain] == [first.id, second.id]
    assert explain[0].metadata is not None
    assert explain[0].metadata["floor_reference"] == "前两项是。"
    hub.append({**hub[0], "Question": "没有解析的题", "Explanation": ""})
    some = cmexam_explain(source=written(tmp_path / "some.jsonl", hub))
    assert len(samples(some)) == benchmark(some)["items"] == 1
    assert benchmark(some)["left_out"] == ["some.jsonl, line 2: no explanation"]


def test_gb18030_is_named_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "val.csv"
    path.write_bytes("Question,Options,Answer,Explanation\n问,A 甲\\nB 乙,A,解\n".encode("gb18030"))
    with pytest.raises(MedbenchError, match="encoding=gb18030"):
        cmexam(source=str(path))
    assert len(samples(cmexam(source=str(path), encoding="gb18030"))) == 1


def test_pubmedqa_publisher_and_hub_forms(tmp_path: Path) -> None:
    path = tmp_path / "ori_pqal.json"
    path.write_text(json.dumps({"11": PUBMED, "12": {**PUBMED, "QUESTION": "Another?", "final_decision": "maybe"}}))
    hub = {
        "pubid": 11,
        "question": PUBMED["QUESTION"],
        "context": {"contexts": PUBMED["CONTEXTS"]},
        "long_answer": PUBMED["LONG_ANSWER"],
        "final_decision": "yes",
    }
    both = samples(pubmedqa(source=str(path)))
    assert [s.target for s in both] == ["yes", "maybe"]
    assert "Adults walked for 30 minutes.\nPressure was taken weekly." in str(both[0].input)
    assert "lowered systolic" not in str(both[0].input)
    assert samples(pubmedqa(source=written(tmp_path / "hub.jsonl", [hub])))[0].id == both[0].id
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps({"12": "maybe"}))
    assert [s.id for s in samples(pubmedqa_long(source=str(path), ids=str(ids)))] == [both[1].id]
    ids.write_text(json.dumps({"99": "maybe"}))
    with pytest.raises(MedbenchError, match="1 ids that the source does not hold, 99"):
        pubmedqa(source=str(path), ids=str(ids))


def test_medmcqa_counts_options_from_one_or_zero(tmp_path: Path) -> None:
    publisher = [{**MEDMCQA, "question": f"Q{n}", "cop": n} for n in (1, 2, 3, 4)]
    hub = [{**MEDMCQA, "question": f"Q{n}", "cop": n - 1} for n in (1, 2, 3, 4)]
    for rows in (publisher, hub):
        found = samples(medmcqa(source=written(tmp_path / "dev.json", rows)))
        assert [s.target for s in found] == list("ABCD")
    with pytest.raises(MedbenchError, match="cannot be told"):
        medmcqa(source=written(tmp_path / "dev.json", publisher[:2]))
    with pytest.raises(MedbenchError, match="neither from 0 nor from 1"):
        medmcqa(source=written(tmp_path / "dev.json", publisher + hub))
    train = written(tmp_path / "train.json", [{**row, "question": f"Example {row['cop']}"} for row in publisher])
    dev = written(tmp_path / "dev.json", publisher)
    for sample in samples(medmcqa(source=dev, fewshot=4, fewshot_source=train)):
        turns = [message.text for message in sample.input]  # type: ignore[union-attr]
        shown = {
            asked.partition("Example ")[2][0]: reply for asked, reply in zip(turns[:-1:2], turns[1::2], strict=True)
        }
        assert shown == {"1": "Answer: A", "2": "Answer: B", "3": "Answer: C", "4": "Answer: D"}


@pytest.mark.parametrize("index", [True, 1.5, 4, -2, "1", None])
def test_an_index_that_names_no_option_is_a_bad_row(index: Any, tmp_path: Path) -> None:
    row = {"question": "Which vitamin prevents scurvy?", "subject": "anatomy", "choices": ["A", "B12", "C", "D"]}
    with pytest.raises(MedbenchError, match=r"line 1, field 'answer': expected the index of an option \(0 to 3\)"):
        mmlu_med(source=written(tmp_path / "rows.jsonl", [{**row, "answer": index}]))


def test_a_column_with_gaps_gives_whole_floats(tmp_path: Path) -> None:
    row = {"question": "Which vitamin prevents scurvy?", "subject": "anatomy", "choices": ["A", "B12", "C", "D"]}
    (sample,) = samples(mmlu_med(source=written(tmp_path / "rows.jsonl", [{**row, "answer": 2.0}])))
    assert sample.target == "C"


def test_mmlu_publisher_csv_without_header_and_subjects(tmp_path: Path) -> None:
    path = tmp_path / "anatomy_test.csv"
    path.write_text(
        "Which bone is in the arm?,Femur,Humerus,Tibia,Fibula,B\nWhich is a nerve?,Aorta,Vagus,Liver,Skin,B\n"
    )
    task = mmlu_med(source=str(path))
    assert [s.target for s in samples(task)] == ["B", "B"]
    dev = tmp_path / "anatomy_dev.csv"
    dev.write_text("Which letter marks type B?,A,B,C,D,B\n", "utf-8-sig")  # a first row that would make no header
    (first, _) = samples(mmlu_med(source=str(path), fewshot=1, fewshot_source=str(dev)))
    assert [message.text for message in first.input][1] == "Answer: B"  # type: ignore[union-attr]
    with pytest.raises(MedbenchError, match="does not exist"):
        mmlu_med(source=str(tmp_path / "missing.csv"))
    dev.write_bytes("哪一块骨头在手臂？,股骨,肱骨,胫骨,腓骨,B\n".encode("gb18030"))
    with pytest.raises(MedbenchError, match="encoding=gb18030"):
        mmlu_med(source=str(dev))
    dev.write_text("Which bone is in the arm?,Femur,Humerus,B\n")
    with pytest.raises(MedbenchError, match="line 1: expected 6 columns"):
        mmlu_med(source=str(dev))
    rows = [
        {"question": "Q1?", "subject": "anatomy", "choices": list("wxyz"), "answer": 0},
        {"question": "Q2?", "subject": "astronomy", "choices": list("wxyz"), "answer": 1},
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "test.parquet")
    assert [s.target for s in samples(mmlu_med(source=str(tmp_path / "test.parquet")))] == ["A"]
    with pytest.raises(MedbenchError, match="Did you mean anatomy"):
        mmlu_med(source=str(path), subjects="anatomi")


def test_free_text_pairs_every_item_with_another_reference(tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {n}", "input": "", "output": f"Answer {n}"} for n in range(3)]
    rows[0]["input"] = "I cough."
    found = samples(f5(source=written(tmp_path / "valid.json", rows)))
    assert str(found[0].input) == "Question 0\nI cough."
    assert [s.target for s in found] == ["Answer 0", "Answer 1", "Answer 2"]
    assert [s.metadata and s.metadata["floor_reference"] for s in found] == ["Answer 2", "Answer 0", "Answer 1"]
    with pytest.raises(MedbenchError, match="field 'output': empty"):
        f6(source=written(tmp_path / "valid.json", [{"instruction": "问", "input": "", "output": " "}]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thinking": "of"}, "unknown thinking mode 'of'. Did you mean"),
        ({"prompt_language": "cn"}, "unknown prompt_language"),
        ({"mode": "greedy"}, "unknown mode"),
        ({"on_bad_row": "ignore"}, "on_bad_row must be"),
        ({"fewshot": -1}, "fewshot must be 0 or more"),
        ({"fewshot": "two"}, "fewshot must be 0 or more"),
        ({"shuffle_options": True}, "shuffle_options is the seed"),
    ],
)
def test_settings_are_checked(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MedbenchError, match=message):
        medqa(source=written(tmp_path / "test.jsonl", [MEDQA]), **arguments)


def test_without_network_the_error_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MedbenchError, match="-T source=FILE"):
        cmexam()


def test_real_files(shared_data: Path) -> None:
    counts = {
        "medqa": (medqa(source=str(shared_data / "medqa/us_4_options_test.jsonl")), 1273, 0),
        "cmexam": (cmexam(source=str(shared_data / "cmexam/val_even.csv")), 3404, 2),
        "pubmedqa": (pubmedqa(source=str(shared_data / "pubmedqa/ori_pqal.json")), 1000, 0),
        "f5": (f5(source=str(shared_data / "medical_qa/en_valid.jsonl")), 500, 0),
        "f6": (f6(source=str(shared_data / "medical_qa/zh_valid.jsonl")), 500, 0),
    }
    for name, (task, items, left_out) in counts.items():
        assert (len(samples(task)), len(benchmark(task)["left_out"])) == (items, left_out), name
        assert len({s.id for s in samples(task)}) == items
    ids = str(shared_data / "pubmedqa/test_ground_truth.json")
    assert len(samples(pubmedqa(source=str(shared_data / "pubmedqa/ori_pqal.json"), ids=ids))) == 500
