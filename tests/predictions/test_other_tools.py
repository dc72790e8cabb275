"""Files of evalscope, OpenCompass, HELM and inspect_evals: six items of our own, answered by SmolLM2-135M-Instruct.

- `inspect_log/`: logs of inspect_evals 0.26.0 `medqa` (0.28.0 needs a package that no registry offers), its data set
  replaced by the six items: two epochs, and one that ended in the model's error.
- `evalscope/`: evalscope 1.14.1, `general_mcq`.
- `opencompass/`: OpenCompass 0.5.4's own `GenInferencerOutputHandler`, given evalscope's outputs; a whole run needs
  packages that do not install here.
- `helm/`: HELM 0.5.16's own multiple-choice adapter and JSON writer, given evalscope's outputs; HELM's runner was not
  run. `thinking_text` of the first displayed prediction is ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import choice
from inspect_ai.solver import multiple_choice

from medbench.errors import MedbenchError
from medbench.predictions.formats import detect_format, read_predictions
from medbench.predictions.importing import import_predictions
from medbench.sources.records import BadRows

DATA = Path(__file__).parent / "data"
EVALSCOPE = DATA / "evalscope"
HELM = DATA / "helm"
LOGS = DATA / "inspect_log"
OPENCOMPASS = DATA / "opencompass" / "ward.json"
# What evalscope's own scorer said, by the item's place in the file: one of six is right.
RIGHT = {"Which drug reverses an overdose of opioids?"}


def items() -> list[dict[str, Any]]:
    """The six items in MedQA's own layout."""
    found = json.loads((HELM / "instances.json").read_text("utf-8"))
    rows = []
    for instance in found:
        options = {letter: one["output"]["text"] for letter, one in zip("ABCD", instance["references"], strict=True)}
        (key,) = (letter for letter, one in zip("ABCD", instance["references"], strict=True) if one["tags"])
        rows.append({"question": instance["input"]["text"], "options": options, "answer_idx": key})
    return rows


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def imported(file: Path, tmp_path: Path, **more: Any) -> EvalLog:
    settings = {"form": None, "task": "medqa", "model": "smollm2", "log_dir": str(tmp_path / "logs"), **more}
    return import_predictions(str(file), **settings)


def right(log: EvalLog) -> set[str]:
    return {
        sample.metadata["item"]["question"]
        for sample in log.samples or []
        if sample.scores and sample.scores["option_accuracy"].as_dict()["accuracy/answer"] == 1
    }


@pytest.mark.parametrize(
    ("file", "form"),
    [
        (EVALSCOPE / "predictions.jsonl", "evalscope"),
        (EVALSCOPE / "reviews.jsonl", "evalscope"),
        (OPENCOMPASS, "opencompass"),
        (HELM / "scenario_state.json", "helm"),
        (HELM / "display_predictions.json", "helm"),
        (LOGS / "medqa_two_epochs.eval", "inspect"),
    ],
)
def test_files_are_told_and_judged(file: Path, form: str, tmp_path: Path) -> None:
    assert detect_format(str(file), "utf-8") == form
    log = imported(file, tmp_path, source=written(tmp_path / "medqa.jsonl", items()[::-1]))
    assert len({sample.id for sample in log.samples or []}) == 6
    assert log.eval.metadata
    assert log.eval.metadata["import"]["left_out"] == []
    if form != "inspect":
        assert right(log) == RIGHT


def test_evalscopes_own_verdicts_are_ours(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (EVALSCOPE / "reviews.jsonl").read_text("utf-8").splitlines()]
    theirs = {
        question["question"]
        for question in items()
        for row in rows
        if question["question"] in row["messages"][0]["content"]
        and row["sample_score"]["score"]["value"]["accuracy"] == 1
    }
    assert theirs == RIGHT


def test_evalscopes_reasoning_is_put_back(tmp_path: Path) -> None:
    row = json.loads((EVALSCOPE / "predictions.jsonl").read_text("utf-8").splitlines()[0])
    message = row["model_output"]["choices"][0]["message"]
    message["content"] = [{"type": "reasoning", "reasoning": "C?"}, {"type": "text", "text": "Answer: C"}]
    (found,) = read_predictions(written(tmp_path / "rows.jsonl", [row]), "evalscope", BadRows())
    assert found.output == "<think>\nC?\n</think>\n\nAnswer: C"
    row["model_output"]["choices"] = []
    with pytest.raises(MedbenchError, match=r"line 1, field 'model_output': holds 0 choices"):
        read_predictions(written(tmp_path / "rows.jsonl", [row]), "evalscope", BadRows())


@pytest.mark.parametrize("name", ["scenario_state.json", "display_predictions.json"])
def test_helms_files_hold_their_items(name: str, tmp_path: Path) -> None:
    log = imported(HELM / name, tmp_path)
    assert right(log) == RIGHT
    traced = [sample for sample in log.samples or [] if sample.output.completion.startswith("<think>\nIt is a letter")]
    assert len(traced) == (1 if name.startswith("display") else 0)


def test_helms_other_files_say_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match=r"holds scores and no outputs: name the scenario_state\.json"):
        imported(HELM / "per_instance_stats.json", tmp_path)
    alone = tmp_path / "display_predictions.json"
    alone.write_bytes((HELM / "display_predictions.json").read_bytes())
    with pytest.raises(MedbenchError, match=r"instances\.json, which is not beside it"):
        imported(alone, tmp_path)


def helm_changed(tmp_path: Path, change: Any) -> Path:
    document = json.loads((HELM / "scenario_state.json").read_text("utf-8"))
    change(document)
    path = tmp_path / "scenario_state.json"
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_helms_requests_that_cannot_be_judged(tmp_path: Path) -> None:
    def apart(document: dict[str, Any]) -> None:
        document["adapter_spec"]["method"] = "multiple_choice_separate_original"

    def failed(document: dict[str, Any]) -> None:
        document["request_states"][1]["result"] = {"success": False, "error": "out of memory", "completions": []}
        document["request_states"][2]["instance"]["perturbation"] = {"name": "typos"}
        del document["request_states"][3]["request"]

    with pytest.raises(MedbenchError, match="asks for each option apart"):
        imported(helm_changed(tmp_path, apart), tmp_path)
    file = helm_changed(tmp_path, failed)
    with pytest.raises(MedbenchError, match="request 2, field 'result': out of memory"):
        imported(file, tmp_path)
    log = imported(file, tmp_path, on_bad_row="skip")
    assert len(log.samples or []) == 3
    left_out = (log.eval.metadata or {})["import"]["left_out"]
    assert [text.split(": ")[1] for text in left_out] == [
        "out of memory",
        "instance w3 is a perturbed one, another question than the item's",
        "not a request of HELM",
    ]


def test_opencompass_rows_without_an_output(tmp_path: Path) -> None:
    rows = json.loads(OPENCOMPASS.read_text("utf-8"))

    def refusal(**changes: Any) -> str:
        path = tmp_path / "ward.json"
        path.write_text(json.dumps({**rows, "2": {**rows["2"], **changes}}), "utf-8")
        with pytest.raises(MedbenchError) as caught:
            imported(path, tmp_path, source=written(tmp_path / "medqa.jsonl", items()))
        return str(caught.value)

    assert "record '2', field 'prediction': chosen by perplexity" in refusal(**{"label: A": {"PPL": 1.5}})
    assert "holds 2 outputs" in refusal(prediction=["A", "B"])
    assert "expected text or a list of turns" in refusal(origin_prompt=[{"role": "HUMAN"}])
    wrong = "ABCD"["ABCD".index(items()[2]["answer_idx"]) - 1]
    assert f"says {wrong}, but the item's key is" in refusal(gold=wrong)


def test_an_inspect_log_is_judged_by_its_own_items_and_epochs(tmp_path: Path) -> None:
    file = LOGS / "medqa_two_epochs.eval"
    log = imported(file, tmp_path, model=None)
    theirs = read_eval_log(str(file))
    assert log.eval.model == f"none/{theirs.eval.model}"
    assert log.eval.config.epochs == 2
    assert sorted(s.output.completion for s in log.samples or []) == sorted(
        s.output.completion for s in theirs.samples or []
    )
    prompts = {sample.input for sample in log.samples or []}
    assert all(str(prompt).startswith("Answer the following multiple choice question") for prompt in prompts)


def test_options_in_another_order_keep_the_item_and_move_its_key(tmp_path: Path) -> None:
    """The benchmark's file has the options reversed: letters mean what the model was shown."""
    turned = []
    for row in items():
        options = dict(zip("ABCD", reversed(row["options"].values()), strict=True))
        turned.append({**row, "options": options, "answer_idx": "DCBA"["ABCD".index(row["answer_idx"])]})
    log = imported(HELM / "scenario_state.json", tmp_path, source=written(tmp_path / "medqa.jsonl", turned))
    assert right(log) == RIGHT
    plain = imported(HELM / "scenario_state.json", tmp_path)
    assert {s.id for s in log.samples or []} == {s.id for s in plain.samples or []}
    assert {str(s.target) for s in log.samples or []} == {str(s.target) for s in plain.samples or []}
    turned[0]["options"]["A"] = "something else"
    with pytest.raises(MedbenchError, match=r"was asked with .*but the item's options are"):
        imported(HELM / "scenario_state.json", tmp_path, source=written(tmp_path / "medqa.jsonl", turned))


def test_an_unfinished_log_is_named_and_gives_nothing(tmp_path: Path) -> None:
    file = LOGS / "medqa_unfinished.eval"
    with pytest.raises(MedbenchError, match="field 'status': error: the evaluation did not finish"):
        imported(file, tmp_path)
    with pytest.raises(MedbenchError, match="no row can be used"):
        imported(file, tmp_path, on_bad_row="skip")


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.eval"
    path.write_bytes(b"not a zip")
    with pytest.raises(MedbenchError, match=r"broken\.eval is not a readable Inspect log"):
        imported(path, tmp_path)
    with pytest.raises(MedbenchError, match="does not exist"):
        imported(tmp_path / "absent.eval", tmp_path)


def test_decisions_asked_by_letter_are_judged_as_multiple_choice(tmp_path: Path) -> None:
    """As inspect_evals' `pubmedqa` asks: A, B, C for yes, no, maybe."""
    question = "**Context:** 40 patients slept.\n\n**Question:** Does sleep help?"
    asked = Sample(input=question, choices=["yes", "no", "maybe"], target="B", id="1")
    said = ModelOutput.from_content("m", "ANSWER: B")
    said.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    model = get_model("mockllm/model", custom_outputs=[said], memoize=False)
    (log,) = evaluate(
        Task(dataset=[asked], solver=multiple_choice(), scorer=choice()),
        model=model,
        log_dir=str(tmp_path / "theirs"),
        display="none",
    )
    item = {"QUESTION": "Does sleep help?", "CONTEXTS": ["40 patients slept."], "final_decision": "no"}
    source = tmp_path / "pubmedqa.json"
    source.write_text(json.dumps({"1": {**item, "LONG_ANSWER": "It does not."}}), "utf-8")
    with pytest.raises(MedbenchError, match=r"chose a letter among .*--task custom judges such rows"):
        imported(Path(log.location), tmp_path, task="pubmedqa", source=str(source))
    again = imported(Path(log.location), tmp_path, task="custom")
    assert [s.target for s in again.samples or []] == ["B"]
    assert right(again) == {question}
