"""Own sets without code: columns found or named, mapping files, and every place that takes the name of a task."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.log import read_eval_log
from inspect_ai.util import registry_info

from medbench import leakage
from medbench.benchmark import catalog
from medbench.errors import MedbenchError
from medbench.predictions.importing import import_predictions
from medbench.private.inspect import parsed_arguments
from medbench.sources.items import LETTERS, Item
from medbench.tasks.custom import custom

DRUGS = ["Paracetamol", "Salt", "Iron"]
WARD = [
    {"stem": f"Which drug lowers fever number {n}?", "choices": DRUGS, "key": "A", "case": n // 2} for n in range(6)
]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def items(task: Task) -> list[Item]:
    return [Item.from_metadata(sample.metadata["item"]) for sample in task.dataset]  # type: ignore[index]


def scorers(task: Task) -> set[str]:
    return {registry_info(scorer).name.removeprefix("medbench/") for scorer in task.scorer or []}


def test_named_columns(tmp_path: Path) -> None:
    source = lines(tmp_path / "ward.jsonl", WARD)
    task = custom(source=source, question="stem", options="choices", answer="key", group="case")
    first = items(task)[0]
    assert (first.options, first.answer, first.group) == (("Paracetamol", "Salt", "Iron"), ("A",), "0")
    assert [item.group for item in items(task)] == ["0", "0", "1", "1", "2", "2"]
    assert task.name == "ward"
    assert scorers(task) == {"option_accuracy", "trace_statistics"}


def test_one_column_an_option_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    with open(path, "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["q", "a1", "a2", "a3", "right"])
        table.writerow(["Two plus two?", "3", "4", "5", "B"])
        table.writerow(["Is iron a metal?", "yes", "no", "", "yes"])
    task = custom(source=str(path), question="q", options="a1, a2, a3", answer="right")
    assert [item.options for item in items(task)] == [("3", "4", "5"), ("yes", "no")]
    assert [item.answer for item in items(task)] == [("B",), ("A",)]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"question": "Does it help?", "context": "It did.", "answer": "yes"}, "decision_accuracy"),
        ({"问题": "头痛怎么办?", "参考答案": "多休息,多喝水。"}, "surface_overlap"),
        ({"题干": "下列哪项是退烧药?", "选项": "A. 布洛芬\nB. 食盐", "答案": "A"}, "option_accuracy"),
        ({"题干": "下列哪些是维生素?", "选项": ["维C", "维D", "食盐"], "答案": "AB"}, "option_accuracy"),
        ({"instruction": "What helps?", "input": "I cough.", "output": "Warm drinks."}, "surface_overlap"),
        ({"question": "Which?", "choices": ["x", "y"], "label": 1}, "option_accuracy"),
    ],
)
def test_columns_and_kind_are_found(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    other = {
        key: f"{value} 2" if key in ("question", "问题", "题干", "instruction") else value for key, value in row.items()
    }
    task = custom(source=lines(tmp_path / "own.jsonl", [row, other]))
    assert kind in scorers(task)
    assert len(items(task)) == 2


def test_a_mapping_file_stands_for_a_task_everywhere(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    lines(tmp_path / "sets" / "ward.jsonl", WARD)
    mapping = tmp_path / "sets" / "own.yaml"
    keys = {"name": "ward exam", "source": "ward.jsonl", "question": "stem", "options": "choices", "answer": "key"}
    mapping.write_text(yaml.safe_dump(keys))
    task = catalog.make(str(mapping))
    assert task.name == "ward exam"
    assert len(items(task)) == 6
    # beside it: what is given wins
    assert len(items(catalog.make(str(mapping), {"shuffle_options": 3}))) == 6

    predictions = lines(
        tmp_path / "predictions.jsonl", [{"prompt": row["stem"], "prediction": "The answer is A."} for row in WARD]
    )
    log = import_predictions(predictions, form="csv", task=str(mapping), model="m", log_dir=str(tmp_path / "logs"))
    scores = [score for sample in read_eval_log(log.location).samples or [] for score in (sample.scores or {}).values()]
    assert {score.value["accuracy/answer"] for score in scores if "accuracy/answer" in score.value} == {1.0}
    assert log.eval.task.endswith("ward exam")

    corpus = lines(tmp_path / "corpus.jsonl", [{"text": WARD[2]["stem"] + " Paracetamol Salt Iron"}])
    findings = leakage.audit([corpus], str(mapping))
    assert {row["item_id"] for row in findings} == {items(task)[2].id}


@pytest.mark.parametrize(
    "names", [["A", "B", "C"], ["option_a", "option_b", "option_c"], ["opa", "opb", "opc"], ["选项1", "选项2", "选项3"]]
)
def test_one_column_an_option_is_found(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "own.csv"
    path.write_text(f"Question,{','.join(names)},Answer\nWhich is iron?,Fe,Cu,Zn,A\nTwo or one?,two,one,,B\n", "utf-8")
    task = custom(source=str(path))
    assert [item.options for item in items(task)] == [("Fe", "Cu", "Zn"), ("two", "one")]
    assert [item.answer for item in items(task)] == [("A",), ("B",)]
    path.write_text(f"Question,{','.join(names)},Answer\nWhich is iron?,Fe,,Zn,C\n", "utf-8")
    with pytest.raises(MedbenchError, match=r"option '.+' is empty, and '.+' after it is not"):
        custom(source=str(path))


def test_a_number_as_key_of_numbered_columns_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("question,option 1,option 2,answer\nWhich is iron?,Fe,Cu,1\n", "utf-8")
    with pytest.raises(MedbenchError, match="the key 1 could be the option of that number, or be counted from 0"):
        custom(source=str(path))
    assert items(custom(source=str(path), options=["option 1", "option 2"]))[0].answer == ("B",)
    path.write_text("question,A,B,answer\nWhich is iron?,Fe,Cu,0\nTwo?,1,2,2\n", "utf-8")
    assert [item.answer for item in items(custom(source=str(path)))] == [("A",), ("B",)]


def test_columns_are_named_on_the_command_line_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("q,x,y,1\nWhich is iron?,Fe,Cu,A\n", "utf-8")
    arguments = parsed_arguments(("question=q", "options=x,y", "answer=1"))
    assert arguments["options"] == ["x", "y"]  # so Inspect reads it
    assert [item.options for item in items(custom(source=str(path), **arguments))] == [("Fe", "Cu")]


def test_keys_without_options_are_no_reference_texts(tmp_path: Path) -> None:
    source = lines(
        tmp_path / "own.jsonl", [{"question": "Which is iron?", "first": "Fe", "second": "Cu", "answer": "B"}]
    )
    with pytest.raises(MedbenchError, match=r"'B' reads like a key of options; name their columns with -T options="):
        custom(source=source)
    assert scorers(custom(source=source, options="first,second")) == {"option_accuracy", "trace_statistics"}
    assert items(custom(source=source, kind="free_text"))[0].reference == "B"


def test_a_misspelt_file_is_answered_with_the_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "ward.yaml").write_text(f"source: {lines(tmp_path / 'ward.jsonl', WARD)}\n", "utf-8")
    misspelt = str(tmp_path / "wrad.yaml")
    with pytest.raises(MedbenchError, match=r"mapping file .*wrad.yaml does not exist. Did you mean .*ward.yaml\?$"):
        catalog.make(misspelt)
    with pytest.raises(MedbenchError, match=r"--against .*wrad.yaml does not exist. Did you mean .*ward.yaml\?$"):
        leakage.audit([], misspelt)
    (tmp_path / "wards.py").write_text("", "utf-8")
    with pytest.raises(MedbenchError, match=r"page .*ward.py does not exist. Did you mean .*wards.py\?$"):
        catalog.make(str(tmp_path / "ward.py@ward"))
    with pytest.raises(MedbenchError, match=r"mapping file .*wrad.yaml does not exist. Did you mean .*ward.yaml\?$"):
        custom(mapping=misspelt)
    with pytest.raises(MedbenchError, match=r"wrad.jsonl does not exist. Did you mean .*ward.jsonl\?"):
        custom(source=str(tmp_path / "wrad.jsonl"))
    with pytest.raises(MedbenchError, match=r"nor does the folder .*nowhere"):
        custom(source=str(tmp_path / "nowhere" / "ward.jsonl"))


def test_a_dry_run_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("requests.get", refused)  # as Inspect's mock fetches the vocabulary by which it counts
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    source = lines(tmp_path / "ward.jsonl", WARD)
    task = custom(source=source, question="stem", options="choices", answer="key")
    (log,) = evaluate(task, model="mockllm/model", log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "success", log.error
    assert log.samples is not None
    assert len(log.samples) == 6


def test_a_page_by_path_stands_for_a_task(tmp_path: Path) -> None:
    source = lines(tmp_path / "ward.jsonl", WARD)
    page = Path(__file__).parents[2] / "tasks" / "custom.py"
    arguments = {"source": source, "question": "stem", "options": "choices", "answer": "key"}
    assert len(items(catalog.make(str(page), arguments))) == 6


def test_an_argument_of_another_task_is_refused_where_the_task_is_named_with_it(tmp_path: Path) -> None:
    rows = [{"instruction": "What helps?", "input": "", "output": "Warm drinks."}]
    with pytest.raises(MedbenchError, match=r"unknown argument of task medbench/f5 'mode'\. .*Known: encoding"):
        catalog.make("f5", {"source": lines(tmp_path / "f5.jsonl", rows), "mode": "logprob"})


@pytest.mark.parametrize(
    ("rows", "arguments", "match"),
    [
        (WARD, {"question": "stme"}, "column for question 'stme'. Did you mean stem"),
        (WARD, {"question": "stem", "answer": "stem"}, "its key names none of its options"),
        ([{**WARD[0], "key": "D"}], {"question": "stem"}, "its key names none of its options"),
        ([{"a": "b"}], {}, "no question found; the row has 'a'"),
        ([{"question": "Why?"}], {}, "holds neither options"),
        ([{"question": "Why?", "options": ["one"], "answer": "A"}], {}, "expected 2 to 26 options, found 1"),
        (WARD, {"kind": "essay"}, "unknown kind of set 'essay'"),
        (WARD, {"kind": "decision", "question": "stem"}, "is no decision: expected a key that is yes, no or maybe"),
        (WARD, {"sauce": "x"}, "unknown parameter of custom \\(-T\\) 'sauce'. Did you mean source"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, rows: list[dict[str, Any]], arguments: dict[str, Any], match: str
) -> None:
    with pytest.raises(MedbenchError, match=match):
        custom(source=lines(tmp_path / "own.jsonl", rows), **arguments)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("- a", "expected keys and values"),
        ("{question", "not valid YAML"),
        ("sauce: x", "unknown parameter of medbench/custom 'sauce'. Did you mean source"),
        ("question: stem", "an own set needs its file"),
    ],
)
def test_bad_mappings_are_named(tmp_path: Path, text: str, match: str) -> None:
    mapping = tmp_path / "own.yaml"
    mapping.write_text(text)
    with pytest.raises(MedbenchError, match=match):
        custom(mapping=str(mapping))


def test_a_set_of_two_kinds_is_refused_at_the_row(tmp_path: Path) -> None:
    rows = [{"question": "A?", "answer": "yes"}, {"question": "B?", "answer": "It is a long story."}]
    with pytest.raises(MedbenchError, match="line 2: is no decision"):
        custom(source=lines(tmp_path / "own.jsonl", rows))
    task = custom(source=str(tmp_path / "own.jsonl"), on_bad_row="skip")
    assert len(items(task)) == 1


def test_twenty_six_options_are_asked_and_read(tmp_path: Path) -> None:
    words = [f"drug number {n}" for n in range(26)]
    rows = [{"question": f"Which is number {n}?", "options": words, "answer": n} for n in range(26)]
    source = lines(tmp_path / "many.jsonl", rows)
    assert [item.answer for item in items(custom(source=source))] == [(letter,) for letter in LETTERS]
    answers = [
        {"question": row["question"], "prediction": f"The answer is {LETTERS[n]}."} for n, row in enumerate(rows)
    ]
    log = import_predictions(
        lines(tmp_path / "answers.jsonl", answers),
        form="csv",
        task="custom",
        model="m",
        log_dir=str(tmp_path / "logs"),
        source=source,
    )
    found = [sample.scores["option_accuracy"].value["accuracy/answer"] for sample in log.samples or []]  # type: ignore[index,call-overload]
    assert found == [1.0] * 26
    too_many = lines(tmp_path / "more.jsonl", [{"question": "Which?", "options": [*words, "one more"], "answer": 0}])
    with pytest.raises(MedbenchError, match="expected 2 to 26 options, found 27"):
        custom(source=too_many)


def test_a_spreadsheet_is_a_table(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["题干", "A", "B", "C", "答案"])
    sheet.append(["下列哪项是退烧药?", "布洛芬", "食盐", "铁", "A"])
    sheet.append([])
    sheet.append(["成人静息心率约为每分钟多少次?", 7, 70.0, 700, "B"])
    path = tmp_path / "own.xlsx"
    book.save(path)
    found = items(custom(source=str(path), options="A,B,C"))
    assert [item.options for item in found] == [("布洛芬", "食盐", "铁"), ("7", "70", "700")]
    assert [item.source for item in found] == ["own.xlsx, row 2", "own.xlsx, row 4"]
    sheet.append(["one", "two", "three", "four", "A", "stray"])
    book.save(path)
    with pytest.raises(MedbenchError, match=r"row 5.*beyond the 5 named columns"):
        custom(source=str(path), options="A,B,C")
    (tmp_path / "no.xlsx").write_bytes(b"PK\x03\x04 not a book")
    with pytest.raises(MedbenchError, match="cannot be read as a spreadsheet"):
        custom(source=str(tmp_path / "no.xlsx"))


def test_letters_before_options_are_dropped_only_where_all_have_them(tmp_path: Path) -> None:
    rows = [
        {"question": "Which widens airways?", "options": "A) salbutamol\nB) salt\nC) iron", "answer": "A"},
        {"question": "Which channel?", "options": "K channel\nNa channel\nX ray", "answer": "B"},
    ]
    found = items(custom(source=lines(tmp_path / "own.jsonl", rows)))
    assert [item.options for item in found] == [("salbutamol", "salt", "iron"), ("K channel", "Na channel", "X ray")]


def test_a_key_beyond_the_options_is_refused(tmp_path: Path) -> None:
    source = lines(tmp_path / "own.jsonl", [{"question": "Which?", "options": ["a", "b"], "answer": "C"}])
    with pytest.raises(MedbenchError, match="its key names none of its options"):
        custom(source=source)
