"""`medbench/kqa` from end to end: replayed files, juries, models that fail, refuse or ramble; and what is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from claim_world import ANSWERS, ITEMS, said, written
from inspect_ai import Task, eval
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage, get_model

from medbench.claims.verdicts import CONTRADICTED, ENTAILED, NEUTRAL
from medbench.errors import MedbenchError
from medbench.predictions.importing import import_predictions
from medbench.tasks.kqa import kqa


@pytest.fixture
def source(tmp_path: Path) -> str:
    return written(tmp_path / "items.jsonl", ITEMS)


USAGE = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)


def output(text: str, model: str = "mockllm/model") -> ModelOutput:
    made = ModelOutput.from_content(model, text)
    made.usage = USAGE
    return made


def run(task: Task, tmp_path: Path, judge: Any = None) -> EvalLog:
    def answer(messages: Any, *rest: Any) -> ModelOutput:
        return output(ANSWERS[messages[-1].text])

    model = get_model("mockllm/model", custom_outputs=answer, memoize=False)
    roles = {} if judge is None else {"grader": judge}
    (log,) = eval(task, model=model, model_roles=roles, log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "success", log.error
    return log


def samples(log: EvalLog) -> list[EvalSample]:
    """In the items' order; a log has its own."""
    questions = [item["Question"] for item in ITEMS]
    return sorted(log.samples or [], key=lambda sample: questions.index(sample.metadata["item"]["question"]))


def values(log: EvalLog) -> list[dict[str, float]]:
    return [(sample.scores or {})["claim_entailment"].as_dict() for sample in samples(log)]


def metrics(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    return {
        f"{score.name}{'' if name == 'mean' else f':{name}'}": metric.value
        for score in log.results.scores
        for name, metric in score.metrics.items()
        if score.scorer == "claim_entailment"
    }


def test_replayed_verdicts_give_kqas_scores(source: str, tmp_path: Path) -> None:
    rows = said(a=ENTAILED, b=NEUTRAL, c=CONTRADICTED, d="Entailment")
    log = run(kqa(source=source, verdicts=written(tmp_path / "v.jsonl", rows)), tmp_path)
    first, second = values(log)
    assert first["comprehensiveness/answer"] == 0.5
    assert first["hallucination_rate/answer"] == 1
    assert first["contradicted/answer"] == pytest.approx(1 / 3)
    assert second["comprehensiveness/answer"] == 1
    assert second["hallucination_rate/answer"] == 0
    assert first["claims_judged/answer"] == second["claims_judged/answer"] == 1
    # no verdict on answers to other questions: no floor, rather than one of 0
    assert math.isnan(first["comprehensiveness_floor/answer"])


def test_surface_scores_and_refusals_stand_beside(source: str, tmp_path: Path) -> None:
    log = run(kqa(source=source), tmp_path)
    assert set(samples(log)[0].scores or {}) == {
        "claim_entailment", "surface_overlap", "declined", "trace_statistics",
    }  # fmt: skip
    assert log.eval.metadata is not None
    assert log.eval.metadata["benchmark"]["judge"] == "lexical"


def test_a_claim_without_verdict_is_left_out_and_counted(source: str, tmp_path: Path) -> None:
    rows = said(a=ENTAILED, c=CONTRADICTED, d="perhaps")
    log = run(kqa(source=source, verdicts=written(tmp_path / "v.jsonl", rows)), tmp_path)
    first, second = values(log)
    assert first["comprehensiveness/answer"] == 1  # of the one must-have claim with a verdict
    assert first["hallucination_rate/answer"] == pytest.approx(1.5)  # half of two, scaled to three claims
    assert first["claims_judged/answer"] == pytest.approx(2 / 3)
    assert math.isnan(second["comprehensiveness/answer"])
    assert math.isnan(second["hallucination_rate/answer"])
    found = metrics(log)
    assert found["claim_entailment:comprehensiveness_least/answer"] == pytest.approx((0.5 + 0) / 2)
    assert found["claim_entailment:comprehensiveness_most/answer"] == pytest.approx((1 + 1) / 2)
    assert found["claim_entailment:unscored_missing/answer"] == 1
    assert found["claim_entailment:unscored_unknown_label/answer"] == 1
    scores = [(sample.scores or {})["claim_entailment"] for sample in samples(log)]
    assert "1 missing" in str(scores[0].explanation)
    assert [row.get("reason") for row in (scores[1].metadata or {})["verdicts"]["answer"]] == ["unknown_label"]


def test_the_file_speaks_of_its_own_answer_only(source: str, tmp_path: Path) -> None:
    rows = [row | {"answer": "Something else."} for row in said(a=ENTAILED, b=ENTAILED, c=NEUTRAL, d=ENTAILED)]
    log = run(kqa(source=source, verdicts=written(tmp_path / "v.jsonl", rows)), tmp_path)
    assert metrics(log)["claim_entailment:unscored_other_answer/answer"] == 4


def test_rows_that_match_nothing_are_named(source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = said(a=ENTAILED, b=NEUTRAL, c=NEUTRAL, d=ENTAILED)
    rows.append(rows[0] | {"claim": "Aspirin is a sugar."})
    rows.append(rows[0] | {"question": "What is gout?"})
    task = kqa(source=source, verdicts=written(tmp_path / "v.jsonl", rows))
    told = (task.metadata or {})["benchmark"]["verdicts"]
    assert told["unmatched"] == 2
    assert told["rows"] == 6
    assert told["unmatched_rows"] == [
        "v.jsonl, line 5: not a claim of its question: 'Aspirin is a sugar.'",
        "v.jsonl, line 6: no item asks 'What is gout?'",
    ]
    assert "2 of 6 verdicts speak of no claim of these items" in caplog.text


def test_a_file_that_matches_nothing_is_refused(source: str, tmp_path: Path) -> None:
    rows = [row | {"question": "What is gout?"} for row in said(a=ENTAILED)]
    with pytest.raises(MedbenchError, match="none of its 4 verdicts speaks of a claim of these items"):
        kqa(source=source, verdicts=written(tmp_path / "v.jsonl", rows))


def test_an_item_without_must_have_claims_is_listed(tmp_path: Path) -> None:
    path = written(tmp_path / "items.jsonl", [*ITEMS, {**ITEMS[0], "Question": "Why?", "Must_have": []}])
    task = kqa(source=path)
    assert len(list(task.dataset)) == 2
    (line,) = (task.metadata or {})["benchmark"]["left_out"]
    assert "line 3" in line
    assert "no must-have claim" in line


def test_model_judges_are_asked_claim_by_claim(source: str, tmp_path: Path) -> None:
    asked = []

    def verdict(messages: Any, *rest: Any) -> ModelOutput:
        text = messages[-1].text
        asked.append(text)
        if "weakens the effect" in text:
            return output("The answer says so.\nVERDICT: entailed")
        if "risk of bleeding" in text:
            return output("I can't help with that request, I'm sorry.")
        if "Paracetamol is an alternative" in text:
            raise RuntimeError("no connection")
        return output("It is entailed, I think.")

    judge = get_model("mockllm/judge", custom_outputs=verdict, memoize=False)
    log = run(kqa(source=source, judge="grader"), tmp_path, judge)
    found = metrics(log)
    assert len(asked) == 4
    assert all("<answer>" in text for text in asked)
    for reason in ("refused", "failed", "outside_form"):
        assert found[f"claim_entailment:unscored_{reason}/answer"] == 1
    first = samples(log)[0]
    rows = ((first.scores or {})["claim_entailment"].metadata or {})["verdicts"]["answer"]
    assert [row["verdict"] for row in rows] == [ENTAILED, None, None]
    assert rows[0]["raw"].startswith("The answer says so.")
    assert "no connection" in rows[2]["raw"]
    assert values(log)[0]["comprehensiveness/answer"] == 1
    second = (samples(log)[1].scores or {})["claim_entailment"]
    assert second.reason == "grader_failed"


def test_several_roles_are_a_jury(source: str, tmp_path: Path) -> None:
    def juror(word: str) -> Any:
        return get_model(
            f"mockllm/{word}",
            custom_outputs=lambda *_: output(f"VERDICT: {word}"),
            config=GenerateConfig(),
            memoize=False,
        )

    task = kqa(source=source, judge=["one", "two", "three"])
    model = get_model(
        "mockllm/model", custom_outputs=lambda messages, *_: output(ANSWERS[messages[-1].text]), memoize=False
    )
    roles = {"one": juror(ENTAILED), "two": juror(ENTAILED), "three": juror(NEUTRAL)}
    (log,) = eval(task, model=model, model_roles=roles, log_dir=str(tmp_path / "logs"), display="none")
    row = (samples(log)[0].scores or {})["claim_entailment"].metadata or {}
    assert row["judge"] == "one + two + three"
    assert [one["verdict"] for one in row["verdicts"]["answer"][0]["jury"]] == [ENTAILED, ENTAILED, NEUTRAL]
    assert all(value["comprehensiveness/answer"] == 1 for value in values(log))


def test_an_empty_answer_is_neutral_to_every_claim_and_nobody_is_asked(source: str, tmp_path: Path) -> None:
    def never(*_: Any) -> ModelOutput:
        raise AssertionError

    judge = get_model("mockllm/judge", custom_outputs=never, memoize=False)
    model = get_model("mockllm/model", custom_outputs=lambda *_: output("<think>Hm"), memoize=False)
    (log,) = eval(
        kqa(source=source, judge="grader"), model=model, model_roles={"grader": judge},
        log_dir=str(tmp_path / "logs"), display="none",
    )  # fmt: skip
    for value in values(log):
        assert value["comprehensiveness/answer"] == 0
        assert value["claims_judged/answer"] == 1


def test_a_role_that_nobody_has_is_an_error(source: str, tmp_path: Path) -> None:
    model = get_model("mockllm/model", custom_outputs=lambda *_: output("Yes."), memoize=False)
    (log,) = eval(kqa(source=source, judge="grader"), model=model, log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "error"
    assert "grader" in str(log.error)


def test_the_baselines_floor_is_lower_than_its_score(source: str, tmp_path: Path) -> None:
    log = run(kqa(source=source), tmp_path)
    assert [value["comprehensiveness/answer"] for value in values(log)] == [0.5, 1]
    assert [value["comprehensiveness_floor/answer"] for value in values(log)] == [0, 0]


def test_predictions_are_imported_with_verdicts_from_a_table(tmp_path: Path) -> None:
    rows = said(a="Entailment", b="Neutral", c="Contradiction", d="Entailment")
    for number, row in enumerate(rows):
        row |= {"importance": "Nice_to_have" if number == 2 else "Must_have", "reference_answer": "As the doctor says."}
        row["label_1"] = row["label_2"] = row.pop("verdict")
    table = written(tmp_path / "labels.jsonl", rows)
    answers = written(tmp_path / "answers.jsonl", [{"question": q, "prediction": a} for q, a in ANSWERS.items()])
    log = import_predictions(
        answers, form="csv", task="kqa", model="m", log_dir=str(tmp_path), source=table, task_args={"verdicts": table}
    )
    assert [value["comprehensiveness/answer"] for value in values(log)] == [0.5, 1]
    assert values(log)[0]["hallucination_rate/answer"] == 1


def test_other_views_are_judged_when_asked_for(source: str, tmp_path: Path) -> None:
    text = "<think>Together they raise the risk of bleeding.</think>\nIbuprofen weakens the effect of aspirin."
    model = get_model("mockllm/model", custom_outputs=lambda *_: output(text), memoize=False)
    (log,) = eval(kqa(source=source, views=["answer", "raw"]), model=model, log_dir=str(tmp_path), display="none")
    assert values(log)[0]["comprehensiveness/answer"] == 0.5
    assert values(log)[0]["comprehensiveness/raw"] == 1
    with pytest.raises(MedbenchError, match="view 'trace'"):
        kqa(source=source, views="trace")


def test_the_log_is_plain_json(source: str, tmp_path: Path) -> None:
    log = run(kqa(source=source), tmp_path)
    item = (samples(log)[0].metadata or {})["item"]
    assert json.loads(json.dumps(item))["must_have"] == ITEMS[0]["Must_have"]


def test_the_language_is_the_questions(tmp_path: Path) -> None:
    path = written(tmp_path / "items.jsonl", [*ITEMS, {**ITEMS[0], "Question": "布洛芬能和阿司匹林同服吗？"}])
    languages = [sample.metadata["item"]["language"] for sample in kqa(source=path).dataset if sample.metadata]
    assert languages == ["en", "en", "zh"]
