"""Files of LLaMA-Factory, evalscope, OpenCompass, HELM and inspect_evals, each written by the tool's own runner.

Items and references are our own. The six questions were answered by a loopback server with fixed answers, one with a
trace apart (`reasoning_content`), one unsure, one wrong:

- `evalscope/`: evalscope 1.14.1, `general_mcq` (once, and with `repeats=2`) and `general_qa`; its report.
- `opencompass/`: OpenCompass 0.5.4, a `_gen` configuration over `OpenAISDK`; its results.
- `helm/`: HELM 0.5.16, `helm-run` of `custom_mcqa` over its vLLM client, and `helm-summarize`; of its statistics the
  exact match.
- `inspect_log/medqa_run.eval`: inspect_evals 0.26.0 `medqa` (0.28.0 needs a package that no registry offers), its data
  set replaced by the six items. The other two logs: SmolLM2-135M-Instruct, over two epochs, and ended in an error.
- `llamafactory/`: LLaMA-Factory 0.9.5, `llamafactory-cli train --do_predict` of SmolLM2-135M-Instruct on four prompts,
  one three times and one twice; its `predict_results.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import choice
from inspect_ai.solver import multiple_choice

from medbench.errors import MedbenchError
from medbench.predictions.command import score_values, trace_statuses
from medbench.predictions.formats import detect_format, read_predictions
from medbench.predictions.importing import import_predictions
from medbench.sources.records import BadRows

DATA = Path(__file__).parent / "data"
EVALSCOPE = DATA / "evalscope"
HELM = DATA / "helm"
LOGS = DATA / "inspect_log"
OPENCOMPASS = DATA / "opencompass" / "ward.json"
LLAMAFACTORY = DATA / "llamafactory"
# "C", "Answer: B", a trace and "A", and "The answer is (C), because ..."; wrong are a "C" and "I am not sure".
RIGHT = {
    "A sailor has bleeding gums after months without fruit. Which vitamin is lacking?",
    "Which organ makes insulin?",
    "Which drug reverses an overdose of opioids?",
    "Which test shows a broken wrist?",
}


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
        (LOGS / "medqa_run.eval", "inspect"),
        (LOGS / "medqa_two_epochs.eval", "inspect"),
    ],
)
def test_files_are_told_and_judged(file: Path, form: str, tmp_path: Path) -> None:
    assert detect_format(str(file), "utf-8") == form
    log = imported(file, tmp_path, source=written(tmp_path / "medqa.jsonl", items()[::-1]))
    assert len({sample.id for sample in log.samples or []}) == 6
    assert log.eval.metadata
    assert log.eval.metadata["import"]["left_out"] == []
    if file.name != "medqa_two_epochs.eval":
        assert right(log) == RIGHT


@pytest.mark.parametrize("wrong", ["llamafactory", "lm-eval", "csv"])
@pytest.mark.parametrize(
    ("file", "form"),
    [
        (EVALSCOPE / "predictions.jsonl", "evalscope"),
        (EVALSCOPE / "reviews_qa.jsonl", "evalscope"),
        (OPENCOMPASS, "opencompass"),
        (HELM / "scenario_state.json", "helm"),
        (HELM / "display_predictions.json", "helm"),
        (LOGS / "medqa_run.eval", "inspect"),
        (LLAMAFACTORY / "generated_predictions.jsonl", "llamafactory"),
    ],
)
def test_a_wrong_format_is_answered_with_the_right_one(file: Path, form: str, wrong: str, tmp_path: Path) -> None:
    if form == wrong or (wrong == "csv" and form == "opencompass"):  # whose rows do have a column `prediction`
        return
    with pytest.raises(MedbenchError, match=f"This looks like {form}"):
        imported(file, tmp_path, form=wrong)


def test_the_tools_own_figures_and_ours_differ_as_told() -> None:
    """docs/from-other-tools.md shows these: evalscope reads what we read, the others' rules are stricter or guess."""
    (metric,) = json.loads((EVALSCOPE / "report.json").read_text("utf-8"))["metrics"]
    assert metric["score"] == pytest.approx(4 / 6, abs=1e-4)
    assert json.loads((HELM / "stats.json").read_text("utf-8"))[0]["mean"] == pytest.approx(2 / 6)
    results = json.loads((OPENCOMPASS.with_name("results.json")).read_text("utf-8"))
    assert results["accuracy"] == pytest.approx(100 * 5 / 6)
    guessed = [one for one in results["details"] if one["pred"] == ["I am not sure which of them does."]]
    assert [(one["parsed"], one["correct"]) for one in guessed] == [(["D"], [True])]
    theirs = read_eval_log(str(LOGS / "medqa_run.eval"))
    kept = [s.output.completion for s in theirs.samples or [] if s.scores and s.scores["choice"].value == "C"]
    assert kept == ["Answer: B"]


def test_every_verdict_of_evalscope_is_ours(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (EVALSCOPE / "reviews.jsonl").read_text("utf-8").splitlines()]
    theirs = {
        question["question"]
        for question in items()
        for row in rows
        if question["question"] in row["messages"][0]["content"]
        and row["sample_score"]["score"]["value"]["accuracy"] == 1
    }
    assert theirs == RIGHT


def test_evalscopes_repeats_are_epochs(tmp_path: Path) -> None:
    source = written(tmp_path / "medqa.jsonl", items())
    log = imported(EVALSCOPE / "reviews_repeated.jsonl", tmp_path, source=source)
    assert log.eval.config.epochs == 2
    assert len(log.samples or []) == 12
    assert right(log) == RIGHT


def test_evalscopes_free_text_is_judged_by_its_own_references(tmp_path: Path) -> None:
    log = imported(EVALSCOPE / "reviews_qa.jsonl", tmp_path, task="f5")
    values = score_values(log)
    assert len(log.samples or []) == 3
    assert all(5 < float(np.mean(values[f"rouge1/{view}"])) < 95 for view in ("raw", "answer"))
    assert values["rouge1/raw"] != values["rouge1/answer"]  # one answer has a trace


def test_evalscopes_reasoning_is_put_back(tmp_path: Path) -> None:
    row = json.loads((EVALSCOPE / "predictions.jsonl").read_text("utf-8").splitlines()[2])
    (found,) = read_predictions(written(tmp_path / "rows.jsonl", [row]), "evalscope", BadRows())
    assert found.output == "<think>\nNaloxone displaces opioids from their receptor.\n</think>\n\nA"
    row["model_output"]["choices"] = []
    with pytest.raises(MedbenchError, match=r"line 1, field 'model_output': holds 0 choices"):
        read_predictions(written(tmp_path / "rows.jsonl", [row]), "evalscope", BadRows())


def test_llamafactorys_own_figures_are_ours(tmp_path: Path) -> None:
    """Means over rows, repeated prompts among them; its labels end in the chat template's line end, which it counts."""
    file = LLAMAFACTORY / "generated_predictions.jsonl"
    theirs = json.loads((LLAMAFACTORY / "predict_results.json").read_text("utf-8"))
    log = imported(file, tmp_path, task="f5")
    assert len(log.samples or []) == 7
    values = score_values(log)
    for ours, name in (("bleu4", "bleu-4"), ("rouge1", "rouge-1"), ("rouge2", "rouge-2"), ("rougeL", "rouge-l")):
        mean = float(np.mean(values[f"{ours}_llamafactory/raw"]))
        assert mean == pytest.approx(theirs[f"predict_{name}"], abs=1e-6), ours


def test_opencompass_puts_the_trace_before_its_closing_tag(tmp_path: Path) -> None:
    found = read_predictions(str(OPENCOMPASS), "opencompass", BadRows())
    assert found[2].output == "Naloxone displaces opioids from their receptor.</think>A"
    log = imported(OPENCOMPASS, tmp_path, source=written(tmp_path / "medqa.jsonl", items()))
    statuses = trace_statuses(log)
    assert statuses == {"absent": 5, "orphan_close": 1}


@pytest.mark.parametrize("name", ["scenario_state.json", "display_predictions.json"])
def test_helms_files_hold_their_items(name: str, tmp_path: Path) -> None:
    log = imported(HELM / name, tmp_path)
    assert right(log) == RIGHT
    traced = [
        sample for sample in log.samples or [] if sample.output.completion.startswith("<think>\nNaloxone displaces")
    ]
    assert len(traced) == 1


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


@pytest.mark.parametrize(
    ("form", "row"),
    [
        (
            "helm",
            {"adapter_spec": "x", "request_states": [{"instance": {}, "request": {}, "result": {"completions": 3}}]},
        ),
        (
            "helm",
            {"request_states": [{"instance": {}, "request": {}, "result": {"success": True, "completions": ["r"]}}]},
        ),
        ("evalscope", {"index": 0, "model_output": {"choices": [{"message": "text"}]}}),
        ("evalscope", {"index": 0, "messages": 3, "sample_score": {"score": "B"}}),
        ("lm-eval", {"doc": {}, "resps": [[]]}),
    ],
)
def test_rows_of_another_shape_are_refused(form: str, row: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(MedbenchError, match=r"rows\.jsonl"):
        read_predictions(str(path), form, BadRows())
