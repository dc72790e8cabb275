"""Free text with several references an item: from every kind of file to the scores, an audit and a report's figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from click.testing import CliRunner
from inspect_ai import Task, eval
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from sacrebleu.metrics import BLEU

import medbench
from medbench import leakage
from medbench.errors import MedbenchError
from medbench.predictions.importing import import_predictions
from medbench.sources.items import Item
from medbench.surface.command import metrics
from medbench.tasks.custom import custom

ROWS: list[tuple[str, list[str], str]] = [
    ("What lowers fever?", ["Paracetamol lowers fever.", "Fever falls with ibuprofen."], "Ibuprofen lowers the fever."),
    ("What helps a dry cough at night?", ["Honey in warm water helps."], "Honey helps."),
    (
        "How is a sprained ankle treated on the first day?",
        ["Rest it, cool it and raise the leg.", "Ice and rest for the ankle.", "Cool the ankle."],
        "Cool and rest the ankle.",
    ),
]
QUESTIONS, REFERENCES, SAID = (list(column) for column in zip(*ROWS, strict=True))


def texts(task: Task) -> list[list[str]]:
    found = [Item.from_metadata((sample.metadata or {})["item"]) for sample in task.dataset]
    return [list(item.references) for item in found]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same three items in every kind of file, with a mapping beside each that needs one."""
    folder = tmp_path_factory.mktemp("own")
    listed: list[dict[str, Any]] = [{"ask": q, "gold": own} for q, own, _ in ROWS]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed), "utf-8")
    pd.DataFrame(listed).to_parquet(folder / "own.parquet")
    joined = [{"问题": q, "参考答案": " || ".join(own)} for q, own, _ in ROWS]
    with (folder / "own.csv").open("w", newline="", encoding="utf-8-sig") as file:
        rows = csv.DictWriter(file, ["问题", "参考答案"])
        rows.writeheader()
        rows.writerows(joined)
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["ask", "gold 1", "gold 2", "gold 3"])
    for question, own, _ in ROWS:
        sheet.append([question, *own, *[None] * (3 - len(own))])
    book.save(folder / "own.xlsx")
    (folder / "own.yaml").write_text("name: advice\nsource: own.jsonl\nquestion: ask\nreference: gold\n", "utf-8")
    (folder / "csv.yaml").write_text('source: own.csv\nseparator: "||"\n', "utf-8")
    (folder / "xlsx.yaml").write_text("source: own.xlsx\nquestion: ask\nreference: [gold 1, gold 2, gold 3]\n", "utf-8")
    (folder / "parquet.yaml").write_text("source: own.parquet\nquestion: ask\nreference: gold\n", "utf-8")
    return folder


@pytest.mark.parametrize("kind", ["own", "csv", "xlsx", "parquet"])
def test_every_kind_of_file_holds_the_same_items(written: Path, kind: str) -> None:
    task = custom(mapping=str(written / f"{kind}.yaml"))
    assert texts(task) == REFERENCES
    assert [sample.target for sample in task.dataset] == [own if len(own) > 1 else own[0] for own in REFERENCES]
    assert [sample.id for sample in task.dataset] == [s.id for s in custom(mapping=str(written / "own.yaml")).dataset]


def test_ids_know_the_references_and_not_their_order() -> None:
    one = Item(question="q", language="en", reference="a")
    both = Item(question="q", language="en", reference="a", more_references=("b",))
    turned = Item(question="q", language="en", reference="b", more_references=("a",))
    assert both.id == turned.id != one.id
    assert Item.from_metadata(both.to_metadata()) == both
    assert "more_references" not in one.to_metadata()


def test_a_list_written_in_a_cell_and_a_text_that_begins_with_a_bracket(tmp_path: Path) -> None:
    rows = [{"question": "q 1", "reference": '["a", "b"]'}, {"question": "q 2", "reference": "[1] As known, a."}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert texts(custom(source=str(tmp_path / "own.jsonl"))) == [["a", "b"], ["[1] As known, a."]]


@pytest.fixture(scope="module")
def log(written: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    outputs = [ModelOutput.from_content("mockllm/model", text) for text in SAID]
    for output in outputs:
        output.usage = usage
    model = get_model("mockllm/model", custom_outputs=outputs)
    place = str(tmp_path_factory.mktemp("logs"))
    task = custom(mapping=str(written / "own.yaml"))
    (found,) = eval(task, model=model, log_dir=place, display="none", max_samples=1)
    assert found.status == "success"
    return found


def test_a_live_evaluation_scores_as_sacrebleu_and_rouge_do(log: EvalLog) -> None:
    columns = [[own[n] if n < len(own) else None for own in REFERENCES] for n in range(3)]
    means = (
        {(score.reducer, key): metric.value for score in log.results.scores for key, metric in score.metrics.items()}
        if log.results
        else {}
    )
    bleu = next(value for (_, key), value in means.items() if key == "bleu4/answer")
    assert bleu == pytest.approx(BLEU().corpus_score(SAID, columns).score)
    by_question = {(sample.metadata or {})["item"]["question"]: sample for sample in log.samples or []}
    kept = [(by_question[question].scores or {})["surface_overlap"] for question in QUESTIONS]
    scores = medbench.score_surface(SAID, REFERENCES, language="en")
    assert [one.as_dict()["rougeL/answer"] for one in kept] == pytest.approx(scores.per_item["rougeL"].tolist())
    floors = [one.as_dict()["rougeL_floor/answer"] for one in kept]
    assert floors == pytest.approx(scores.floor_scores.per_item["rougeL"].tolist())
    signature = (kept[2].metadata or {})["signature"]["standard"]
    assert signature["bleu4"].startswith("nrefs:3|")


def test_predictions_that_exist_are_scored_alike(log: EvalLog, written: Path, tmp_path: Path) -> None:
    rows = [{"question": q, "prediction": said} for q, said in zip(QUESTIONS, SAID, strict=True)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    imported = import_predictions(
        str(tmp_path / "answers.jsonl"),
        form="csv",
        task=str(written / "own.yaml"),
        model="m",
        log_dir=str(tmp_path / "logs"),
    )
    live, later = (
        {sample.id: (sample.scores or {})["surface_overlap"].as_dict() for sample in each.samples or []}
        for each in (log, imported)
    )
    assert live == later


def test_a_label_may_be_any_of_the_references(written: Path, tmp_path: Path) -> None:
    rows = [{"question": q, "prediction": "x", "reference": own[-1]} for q, own, _ in ROWS]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    given: dict[str, Any] = {"form": "csv", "task": str(written / "own.yaml"), "model": "m"}
    import_predictions(str(tmp_path / "a.jsonl"), log_dir=str(tmp_path / "logs"), **given)
    rows[0]["reference"] = "Something else altogether."
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(MedbenchError, match="is not the reference text"):
        import_predictions(str(tmp_path / "a.jsonl"), log_dir=str(tmp_path / "logs"), **given)


def test_an_audit_finds_a_leak_of_any_reference(tmp_path: Path) -> None:
    first = "Rest the ankle, cool it with ice for twenty minutes at a time, and raise the leg above the heart."
    second = "On the first day a wet cloth, an elastic bandage and no walking at all are what most doctors advise."
    row = {"question": "How is a sprained ankle treated?", "reference": [first, second]}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (tmp_path / "own.yaml").write_text("source: own.jsonl\n", "utf-8")
    rows = ["Nothing of interest stands here at all.", f"He was told this. {first} And more.", f"{second} So be it."]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows), "utf-8")
    findings = leakage.audit(str(tmp_path / "corpus.jsonl"), str(tmp_path / "own.yaml"), out=str(tmp_path / "out"))
    found = {(row["record"], row["field"]) for row in findings}
    assert (1, "answer") in found
    assert (2, "answer 2") in found
    assert not [row for row in found if row[0] == 0]


def test_metrics_of_a_file_with_several_references(tmp_path: Path) -> None:
    rows = [{"predict": said, "label": own, "b": own[-1]} for _, own, said in ROWS]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    joined = [{"predict": row["predict"], "label": "||".join(row["label"])} for row in rows]
    pd.DataFrame(joined).to_csv(tmp_path / "p.csv", index=False)

    def told(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(metrics, [*arguments, "--json", "--language", "en"])
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout)["profiles"]["standard"])

    listed = told(str(tmp_path / "p.jsonl"))
    assert listed["signature"]["bleu4"].startswith("nrefs:var|")
    scores = medbench.score_surface(SAID, REFERENCES, language="en")
    assert listed["views"]["raw"]["bleu4"]["score"] == pytest.approx(scores.corpus["bleu4"])
    assert told(str(tmp_path / "p.csv"), "--separator", "||") == listed
    # The last reference once more: the scores stay, and the floor takes one more reference of others.
    again = told(str(tmp_path / "p.jsonl"), "--reference", "label,b")
    figures = [{metric: row["score"] for metric, row in each["views"]["raw"].items()} for each in (listed, again)]
    assert figures[0] == figures[1]
    assert again["views"]["raw"]["bleu4"]["floor"] >= listed["views"]["raw"]["bleu4"]["floor"]
