"""`-T control=` on real pages: what is shown, what is judged, what the log keeps, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from medbench.benchmark.controls.control import KINDS
from medbench.benchmark.task import CONTROLS
from medbench.errors import MedbenchError
from medbench.tasks.custom import custom
from medbench.tasks.medqa import medqa
from medbench.trainers.microlab.tasks import microlab_exam

ROWS = [
    ("Which drug thins the blood?", ("aspirin", "insulin", "cortisol", "glucagon"), "A"),
    ("Which organ pumps blood?", ("liver", "heart", "spleen", "none of the above"), "B"),
    ("Which gas do we need?", ("oxygen", "argon", "neon", "helium"), "A"),
]


@pytest.fixture
def source(tmp_path: Path) -> str:
    rows = [
        {"question": q, "options": dict(zip("ABCD", o, strict=True)), "answer_idx": a, "answer": o["ABCD".index(a)]}
        for q, o, a in ROWS
    ]
    path = tmp_path / "medqa.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return str(path)


def run(task: Task, outputs: dict[int, str] | str, tmp_path: Path) -> EvalLog:
    """The log of a model that says `outputs`: one text, or the text to the item of each row of `ROWS`."""

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        said = outputs if isinstance(outputs, str) else outputs[row_of(messages[-1].text)]
        output = ModelOutput.from_content("mockllm/model", said)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    model = get_model("mockllm/model", custom_outputs=answer)
    log = eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none")[0]
    assert log.status == "success"
    assert log.samples
    place = {sample.id: number for number, sample in enumerate(task.dataset)}
    log.samples.sort(key=lambda sample: (place[sample.id], sample.epoch))
    return log


def row_of(text: str) -> int:
    """The row whose question, or else whose options, a prompt shows."""
    return next(n for n, (q, o, _) in enumerate(ROWS) if q in text or all(option in text for option in o))


def asked(log: EvalLog) -> list[str]:
    return [next(m.text for m in sample.messages if m.role == "user") for sample in log.samples or []]


def accuracies(log: EvalLog) -> list[float]:
    return [s.scores["option_accuracy"].value["accuracy/answer"] for s in log.samples or []]  # type: ignore[index,call-overload]


def test_every_control_has_its_kind() -> None:
    assert set(CONTROLS) == set(KINDS)


def test_options_only_shows_no_word_of_the_question(source: str, tmp_path: Path) -> None:
    log = run(medqa(source=source, control="options_only"), "Answer: A", tmp_path)
    for text, (question, options, _) in zip(asked(log), ROWS, strict=True):
        assert question not in text
        assert all(option in text for option in options)
    assert accuracies(log) == [1, 0, 1]
    plain = medqa(source=source)
    assert [s.id for s in log.samples or []] == [s.id for s in plain.dataset]
    assert (log.eval.metadata or {})["benchmark"]["control"] == {"name": "options_only", "asked": 3, "left_out": {}}


def test_none_of_these_leaves_out_what_cannot_have_it_and_lists_it(source: str, tmp_path: Path) -> None:
    log = run(medqa(source=source, control="none_of_these"), "Answer: A", tmp_path)
    about = (log.eval.metadata or {})["benchmark"]
    assert about["control"]["left_out"] == {"an option speaks of the others": 1}
    assert about["left_out"] == ["medqa.jsonl, line 2: control none_of_these: an option speaks of the others"]
    assert about["items"] == 2
    assert all("A. None of the other answers" in text for text in asked(log))
    assert accuracies(log) == [1, 1]


def test_no_labels_is_answered_by_text_and_not_by_a_letter(source: str, tmp_path: Path) -> None:
    outputs = {0: "Answer: aspirin", 1: "Answer: B", 2: "It is oxygen.\nAnswer: oxygen"}
    log = run(medqa(source=source, control="no_labels"), outputs, tmp_path)
    assert "- aspirin\n- insulin" in asked(log)[0]
    assert accuracies(log) == [1, 0, 1]
    first = (log.samples or [])[0].scores["option_accuracy"]  # type: ignore[index]
    assert first.answer == "A"


def test_no_options_is_matched_with_the_options(source: str, tmp_path: Path) -> None:
    outputs = {0: "Answer: Aspirin", 1: "Answer: the heart", 2: "Answer: water"}
    log = run(medqa(source=source, control="no_options"), outputs, tmp_path)
    assert not any(option in text for text, (_, o, _) in zip(asked(log), ROWS, strict=True) for option in o)
    assert accuracies(log) == [1, 1, 0]
    assert (log.samples or [])[0].choices is None


def test_reorder_asks_every_item_in_k_orders(source: str, tmp_path: Path) -> None:
    log = run(medqa(source=source, control="reorder", orders=3), "Answer: A", tmp_path)
    samples = log.samples or []
    assert sorted((s.id, s.epoch) for s in samples) == sorted(
        (s.id, e) for s in medqa(source=source).dataset for e in (1, 2, 3)
    )
    shown = {}
    for sample in samples:
        item, moved = sample.metadata["item"], sample.metadata["control"]
        text = next(m.text for m in sample.messages if m.role == "user")
        assert "\n".join(f"{letter}. {o}" for letter, o in zip("ABCD", item["options"], strict=True)) in text
        question, options, key = next(row for row in ROWS if row[0] == item["question"])
        assert [options["ABCD".index(letter)] for letter in moved["letters"]] == item["options"]
        right = sample.scores["option_accuracy"].value["accuracy/answer"]  # type: ignore[index]
        assert right == (item["options"][0] == options["ABCD".index(key)])
        if question == ROWS[1][0]:
            assert item["options"][3] == "none of the above"
        shown.setdefault(question, []).append(tuple(item["options"]))
    assert all(len(set(orders)) == 3 and row[1] not in orders for row, orders in zip(ROWS, shown.values(), strict=True))
    assert samples[0].target == "aspirin"


def test_rephrased_questions_come_from_a_file(source: str, tmp_path: Path) -> None:
    ids = [sample.id for sample in medqa(source=source).dataset]
    rows = [{"id": ids[0], "question": "What thins blood?"}, {"id": "other", "question": "What?"}]
    for name, text in (
        ("r.jsonl", "\n".join(map(json.dumps, rows))),
        ("r.json", json.dumps({ids[0]: "What thins blood?"})),
    ):
        file = tmp_path / name
        file.write_text(text, "utf-8")
        task = medqa(source=source, control="rephrase", rephrased=str(file))
        assert [sample.id for sample in task.dataset] == ids[:1]
        assert "What thins blood?" in str(task.dataset[0].input)
        about = (task.metadata or {})["benchmark"]["control"]
        assert about["left_out"] == {"the file has no rephrased question for it": 2}
        assert len(about["sha256"]) == 64


def test_log_probabilities_under_the_controls_that_show_letters(source: str) -> None:
    for control in ("options_only", "none_of_these", "reorder"):
        task = medqa(source=source, control=control, mode="logprob")
        assert "nothing else" in str(task.dataset[0].input)
    for control in ("no_labels", "no_options"):
        with pytest.raises(MedbenchError, match="shows no letters"):
            medqa(source=source, control=control, mode="logprob")


def test_fewshot_examples_take_the_form_but_not_the_key(source: str, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    row = {"question": "Which is blue?", "options": dict(zip("ABCD", ("sky", "grass", "sun", "coal"), strict=True))}
    more.write_text(json.dumps({**row, "answer_idx": "A", "answer": "sky"}), "utf-8")
    given = {"source": source, "fewshot": 1, "fewshot_source": str(more)}
    first = medqa(**given, control="options_only").dataset[0].input
    assert "Which is blue?" not in first[0].text  # type: ignore[union-attr]
    assert first[1].text == "Answer: A"  # type: ignore[union-attr]
    assert medqa(**given, control="no_labels").dataset[0].input[1].text == "Answer: sky"  # type: ignore[union-attr]
    assert "A. sky" in medqa(**given, control="none_of_these").dataset[0].input[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"control": "option_only"}, "unknown control 'option_only'. Did you mean options_only"),
        ({"control": "rephrase"}, "needs the questions in other words"),
        ({"rephrased": "r.jsonl"}, "rephrased belongs to control=rephrase, not to control=None"),
        ({"control": "options_only", "orders": 3}, "orders belongs to control=reorder"),
        ({"control": "reorder", "orders": 0}, "1 or more, not 0"),
        ({"control": "options_only", "prompt": "choice#exam"}, "has a wording of its own"),
        ({"control": "rephrase", "rephrased": "nowhere.jsonl"}, "nowhere.jsonl does not exist"),
    ],
)
def test_what_does_not_go_together_is_refused(source: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(MedbenchError, match=message):
        medqa(source=source, **given)


def test_a_control_that_no_item_can_have_is_refused_with_the_reasons(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"question": "Is it?", "options": ["yes", "no"], "answer": "A"}), "utf-8")
    with pytest.raises(MedbenchError, match=r"none of 1 items can have it: two options \(1\)"):
        custom(source=str(path), control="none_of_these")
    assert len(custom(source=str(path), control="options_only").dataset) == 1
    free = tmp_path / "free.jsonl"
    free.write_text(json.dumps({"question": "Why?", "reference": "Because."}), "utf-8")
    with pytest.raises(MedbenchError, match="control=options_only is of multiple choice"):
        custom(source=str(free), control="options_only")


def test_the_micro_labs_exam_has_controls_in_its_own_prompt() -> None:
    plain, without = microlab_exam(), microlab_exam(control="options_only")
    for one, other in zip(plain.dataset, without.dataset, strict=True):
        assert one.id == other.id
        assert str(one.input).split("\n", 1)[1] == str(other.input)
    assert microlab_exam(control="reorder", orders=2).epochs == 2
    with pytest.raises(MedbenchError, match="unknown control of microlab_exam"):
        microlab_exam(control="no_labels")
