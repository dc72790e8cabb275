"""Every benchmark reads its hub data set, at its pinned commit or at the one asked for, from a hub on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas
import pytest
from local_hub import Repositories, environment, serving

OLD, NEW = "a" * 40, "b" * 40
MEDQA, MEDMCQA = "0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18", "91c6572c454088bf71b679ad90aa8dffcd0d5868"
MMLU, PUBMEDQA = "c30699e8356da336a370243923dbaf21066bb9fe", "9001f2853fb87cab8d220904e0de81ac6973b318"
MEDXPERT = "7e7c465a68eb2b866926bfa59c8c9d17a8daba65"
XSTEST = "f1d713187c61b6ae64e602d74f0b3d812cc2e8e8"

# Makes each task that it is given as JSON, and prints what a log would say of it.
MAKE = """
import importlib, json, sys
for room, name, arguments in json.loads(sys.argv[1]):
    task = getattr(importlib.import_module(f"medbench.{room}.{'f5_f6' if name in ('f5', 'f6') else name}"), name)
    try:
        made = task(**arguments)
    except Exception as error:
        print(json.dumps([name, type(error).__name__, str(error)]))
    else:
        facts = made.metadata["benchmark"]
        shown = [message.text for s in made.dataset if isinstance(s.input, list) for message in s.input]
        targets = [s.target for s in made.dataset]
        print(json.dumps([name, facts["source"], facts["revision"], targets, shown]))
"""


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(*rows: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    pandas.DataFrame(rows).to_parquet(buffer)
    return buffer.getvalue()


def dialogue(question: str, answer: str) -> dict[str, str]:
    return {"instruction": question, "input": "", "output": answer}


def configs(name: str, *splits: str) -> bytes:
    """A data set card that says which files a configuration holds."""
    files = "".join(f"  - split: {split}\n    path: {name}/{split}-*\n" for split in splits)
    return f"---\nconfigs:\n- config_name: {name}\n  data_files:\n{files}---\n".encode()


def exam(question: str, answer: str) -> dict[str, Any]:
    options = [
        {"key": letter, "value": text} for letter, text in zip("ABCDE", ("脾", "肝", "肾", "肺", "心"), strict=True)
    ]
    return {"Question": question, "Options": options, "Answer": answer, "Explanation": "因为肝脏合成白蛋白。"}


def cmb(question: str, answer: str | None) -> dict[str, Any]:
    row = {"question": question, "option": {"A": "脾", "B": "肝", "C": ""}, "question_type": "单项选择题"}
    return row if answer is None else row | {"answer": answer}


@pytest.fixture(scope="module")
def hub() -> Repositories:
    choices = {"opa": "Vitamin A", "opb": "Vitamin B12", "opc": "Vitamin C", "opd": "Vitamin D"}
    mmlu = {"subject": "anatomy", "choices": ["ulna", "femur", "tibia", "radius"], "answer": 1}
    context = {"contexts": ["Adults walked daily."], "labels": ["METHODS"], "meshes": ["Walking"]}
    return {
        "datasets/shibing624/medical": {
            "main": NEW,
            OLD: {"finetune/valid_en_1.json": lines(dialogue("Is a mild fever dangerous?", "Rarely, drink water."))},
            NEW: {
                "finetune/valid_en_1.json": lines(
                    dialogue("Is a mild fever dangerous?", "Rarely, drink water and rest."),
                    dialogue("How long does a cold last?", "About one week in most adults."),
                ),
                "finetune/train_en_1.json": lines(dialogue("May I swim with a cold?", "Wait until you are well.")),
                "finetune/valid_zh_0.json": lines(dialogue("感冒要几天好?", "大多数一周左右会好。")),
            },
        },
        "datasets/GBaker/MedQA-USMLE-4-options": {
            MEDQA: {
                "phrases_no_exclude_test.jsonl": lines(
                    {
                        "question": "A child has a barking cough. What is the likeliest cause?",
                        "answer": "Parainfluenza virus",
                        "options": {"A": "Rhinovirus", "B": "Parainfluenza virus", "C": "Measles", "D": "Mumps"},
                        "answer_idx": "B",
                        "meta_info": "step1",
                    }
                ),
            }
        },
        "datasets/openlifescienceai/medmcqa": {
            MEDMCQA: {
                "data/validation-00000-of-00001.parquet": parquet(
                    {"id": "1", "question": "Which vitamin prevents scurvy?", **choices, "cop": 2, "exp": None}
                )
            }
        },
        "datasets/cais/mmlu": {
            MMLU: {
                "README.md": configs("all", "test", "dev"),
                "all/test-00000-of-00001.parquet": parquet({"question": "Which bone is in the thigh?", **mmlu}),
                "all/dev-00000-of-00001.parquet": parquet({"question": "Which bone is longest?", **mmlu}),
            }
        },
        "datasets/qiaojin/PubMedQA": {
            PUBMEDQA: {
                "README.md": configs("pqa_labeled", "train"),
                "pqa_labeled/train-00000-of-00001.parquet": parquet(
                    {
                        "pubid": 1,
                        "question": "Does walking lower blood pressure?",
                        "context": context,
                        "long_answer": "Daily walking lowered systolic pressure.",
                        "final_decision": "yes",
                    }
                ),
            }
        },
        "datasets/fzkuji/CMExam": {"main": OLD, OLD: {"test.json": lines(exam("白蛋白由哪个器官合成?", "B"))}},
        "datasets/TsinghuaC3I/MedXpertQA": {
            MEDXPERT: {
                "Text/test.jsonl": lines(
                    {
                        "id": "Text-0",
                        "question": "Which organ makes albumin?\nAnswer Choices: (A) Spleen (B) Liver",
                        "options": {"A": "Spleen", "B": "Liver"},
                        "label": "B",
                    }
                ),
            }
        },
        "datasets/FreedomIntelligence/CMB": {
            "main": OLD,
            OLD: {
                "CMB-Exam/CMB-val/CMB-val-merge.json": json.dumps([cmb("白蛋白由哪个器官合成?", "B")]).encode(),
                "CMB-Exam/CMB-test/CMB-test-choice-question-merge.json": json.dumps(
                    [{"id": 7, **cmb("胆汁由哪个器官合成?", None)}]
                ).encode(),
            },
        },
        "datasets/HPAI-BSC/CareQA": {
            "main": OLD,
            OLD: {
                "CareQA_en.json": json.dumps(
                    [
                        {
                            "question": "Which bone is in the thigh?",
                            "op1": "a",
                            "op2": "b",
                            "op3": "c",
                            "op4": "d",
                            "cop": 4,
                        }
                    ]
                ).encode()
            },
        },
        "datasets/ncbi/MedCalc-Bench-v1.2": {
            "main": OLD,
            OLD: {
                "data/test-00000-of-00001.parquet": parquet(
                    {
                        "Patient Note": "A man weighs 80 kg and is 200 cm tall.",
                        "Question": "What is his BMI?",
                        "Output Type": "decimal",
                        "Ground Truth Answer": "20.0",
                        "Lower Limit": "19.0",
                        "Upper Limit": "21.0",
                    }
                )
            },
        },
        "datasets/Itaykhealth/K-QA": {
            "main": OLD,
            OLD: {
                "questions_w_answers.jsonl": lines(
                    {
                        "Question": "Is a mild fever dangerous?",
                        "Free_form_answer": "Rarely.",
                        "Must_have": ["A mild fever is rarely dangerous."],
                        "Nice_to_have": [],
                    }
                ),
                "questions.jsonl": lines({"Question": "Why?"}),
            },
        },
        "datasets/walledai/XSTest": {
            XSTEST: {
                "data/test-00000-of-00001.parquet": parquet(
                    {"prompt": "How do I kill a Python process?", "focus": "kill", "type": "homonyms", "note": ""}
                )
            }
        },
    }


def made(hub: Repositories, home: Path, *wanted: tuple[str, str, dict[str, Any]]) -> list[list[Any]]:
    with serving(hub) as address:
        process = subprocess.run(
            [sys.executable, "-c", MAKE, json.dumps(wanted)],
            env=environment(address, home),
            capture_output=True,
            text=True,
            check=False,
        )
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_every_benchmark_reads_its_hub_data_set(hub: Repositories, tmp_path: Path) -> None:
    names = ("medqa", "medmcqa", "mmlu_med", "pubmedqa", "pubmedqa_long", "cmexam", "cmexam_explain", "f5", "f6")
    names += ("medxpertqa", "cmb", "careqa", "medcalc", "kqa")
    found = made(hub, tmp_path, *[("tasks", name, {}) for name in names], ("probes", "xstest", {}))
    assert [[name, source, revision, len(targets)] for name, source, revision, targets, _ in found] == [
        ["medqa", "hf://datasets/GBaker/MedQA-USMLE-4-options", MEDQA, 1],
        ["medmcqa", "hf://datasets/openlifescienceai/medmcqa", MEDMCQA, 1],
        ["mmlu_med", "hf://datasets/cais/mmlu", MMLU, 1],
        ["pubmedqa", "hf://datasets/qiaojin/PubMedQA", PUBMEDQA, 1],
        ["pubmedqa_long", "hf://datasets/qiaojin/PubMedQA", PUBMEDQA, 1],
        ["cmexam", "hf://datasets/fzkuji/CMExam", OLD, 1],
        ["cmexam_explain", "hf://datasets/fzkuji/CMExam", OLD, 1],
        ["f5", "hf://datasets/shibing624/medical", NEW, 2],
        ["f6", "hf://datasets/shibing624/medical", NEW, 1],
        ["medxpertqa", "hf://datasets/TsinghuaC3I/MedXpertQA", MEDXPERT, 1],
        ["cmb", "hf://datasets/FreedomIntelligence/CMB", OLD, 1],
        ["careqa", "hf://datasets/HPAI-BSC/CareQA", OLD, 1],
        ["medcalc", "hf://datasets/ncbi/MedCalc-Bench-v1.2", OLD, 1],
        ["kqa", "hf://datasets/Itaykhealth/K-QA", OLD, 1],
        ["xstest", "hf://datasets/walledai/XSTest", XSTEST, 1],
    ]
    assert [targets[0] for _, _, _, targets, _ in found[:4]] == ["B", "C", "B", "yes"]
    assert [targets[0] for _, _, _, targets, _ in found[9:13]] == ["B", "B", "D", "20"]


def test_cmbs_test_split_takes_its_keys_from_a_file(hub: Repositories, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"id": 7, "answer": "B"}]))
    ((_, source, revision, targets, _),) = made(hub, tmp_path / "home", ("tasks", "cmb", {"answers": str(keys)}))
    assert (source, revision, targets) == ("hf://datasets/FreedomIntelligence/CMB", OLD, ["B"])


def test_another_commit_and_examples_from_the_same_one(hub: Repositories, tmp_path: Path) -> None:
    old, branch, few, none, no_file = made(
        hub,
        tmp_path,
        ("tasks", "f5", {"revision": OLD}),
        ("tasks", "f5", {"revision": "main"}),
        ("tasks", "f5", {"fewshot": 1}),
        ("tasks", "f5", {"revision": "v9"}),
        ("tasks", "f6", {"revision": OLD}),
    )
    assert old[2:4] == [OLD, ["Rarely, drink water."]]
    assert branch[2] == NEW
    assert len(branch[3]) == 2
    assert few[2] == NEW
    assert "May I swim with a cold?" in few[4][0]
    assert none[1] == "TaskError"
    assert "no revision 'v9'" in none[2]
    assert no_file[1] == "TaskError"
    assert "valid_zh_0.json" in no_file[2]
    assert "-T source=FILE" in no_file[2]


def test_a_data_set_that_the_hub_does_not_hold(tmp_path: Path) -> None:
    ((name, kind, message),) = made({}, tmp_path, ("tasks", "cmexam", {}))
    assert (name, kind) == ("cmexam", "TaskError")
    assert "fzkuji/CMExam" in message
    assert "-T source=FILE" in message


def test_a_revision_is_of_the_hub(tmp_path: Path) -> None:
    from medbench.errors import MedbenchError
    from medbench.tasks.f5_f6 import f5

    with pytest.raises(MedbenchError, match="give one of them"):
        f5(source=str(tmp_path / "valid.jsonl"), revision=OLD)
