"""Whole evaluations with a scripted model: what lands in a real Inspect log."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval, score
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    Logprob,
    Logprobs,
    Model,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    get_model,
)
from inspect_ai.scorer import SampleScore, Score
from inspect_ai.util import registry_info
from inspect_cli import inspect_command
from sacrebleu.metrics import BLEU
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from medbench import surface
from medbench.benchmark.families import free_text_task
from medbench.benchmark.solvers import require_logprobs
from medbench.benchmark.task import Loaded, Settings
from medbench.errors import MedbenchError
from medbench.private.inspect import registry_find, registry_lookup
from medbench.scoring.accuracy import named_accuracy
from medbench.scoring.metrics import interval
from medbench.scoring.overlap import SURFACE_METRICS, explanation_part
from medbench.scoring.probability import letter_masses
from medbench.sources.items import Item
from medbench.tasks.cmexam import cmexam
from medbench.tasks.cmexam_explain import cmexam_explain
from medbench.tasks.f5_f6 import f5
from medbench.tasks.medqa import medqa
from medbench.tasks.pubmedqa import pubmedqa

OPTIONS = {"A": "Rhinovirus", "B": "Parainfluenza virus", "C": "Measles virus", "D": "Adenovirus"}


def scripted(outputs: Sequence[str | ModelOutput]) -> Model:
    """A model that says these things in order; it reports usage, so nothing asks for a tokenizer."""
    made = []
    for output in outputs:
        if isinstance(output, str):
            output = ModelOutput.from_content("mockllm/model", output)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        made.append(output)
    return get_model("mockllm/model", custom_outputs=made)


def run(task: Task, outputs: Sequence[str | ModelOutput], tmp_path: Path) -> EvalLog:
    # one sample at a time, so that outputs meet samples in order
    (log,) = eval(task, model=scripted(outputs), log_dir=str(tmp_path / "logs"), max_samples=1, display="none")
    assert log.status == "success", log.error
    return read_eval_log(log.location)


def written(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def medqa_file(tmp_path: Path, count: int) -> str:
    rows = [{"question": f"Question {n}?", "options": OPTIONS, "answer_idx": "B"} for n in range(count)]
    return written(tmp_path, rows)


def metric(log: EvalLog, name: str, key: str) -> float:
    assert log.results
    (found,) = [entry for entry in log.results.scores if entry.name == name]
    return float(found.metrics[key].value)


def in_order(log: EvalLog) -> list[EvalSample]:
    """The samples in the order of the source file; Inspect sorts them by id."""
    return sorted(log.samples or [], key=lambda sample: sample.metadata["item"]["source"])


def test_one_generation_is_judged_under_every_view(tmp_path: Path) -> None:
    outputs = [
        "<think>It could be A.</think>\nAnswer: B",
        "<think>Surely the answer is B",
        "Answer: C",
        "I do not know.",
    ]
    log = run(medqa(source=medqa_file(tmp_path, 4)), outputs, tmp_path)
    assert metric(log, "accuracy/answer", "mean") == 0.25
    assert metric(log, "option_accuracy", "accuracy/raw") == 0.5
    assert metric(log, "option_accuracy", "accuracy/trace") == 0.25
    assert metric(log, "answered/answer", "mean") == 0.5
    assert metric(log, "option_accuracy", "accuracy_answered/answer") == 0.5
    assert metric(log, "option_accuracy", "accuracy_best/answer") == 0.75
    # scipy.stats.binomtest(1, 4).proportion_ci(method="exact")
    assert metric(log, "accuracy/answer", "medbench/ci_low") == pytest.approx(0.0063095, abs=1e-6)
    assert metric(log, "accuracy/answer", "medbench/ci_high") == pytest.approx(0.8058797, abs=1e-6)
    assert metric(log, "trace/raw", "mean") == 0.5
    assert metric(log, "trace_unterminated/raw", "mean") == 0.25
    assert log.results
    assert log.results.headline is not None
    cut = in_order(log)[1].scores["option_accuracy"]  # type: ignore[index]
    assert cut.reason == "no_response"
    extraction = (cut.metadata or {})["extraction"]
    assert extraction["answer"]["status"] == "abstain"
    start, end = extraction["raw"]["span"]
    assert "B" in outputs[1][start:end]


def test_the_interval_counts_items_and_contexts_not_repetitions() -> None:
    """Ten items of one case each counted alone, in two cases, and with item means over epochs."""
    right = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]

    def bounds(values: Sequence[float], groups: Sequence[str]) -> tuple[float, float]:
        items = [{"item": {"group": group, "context": ""}} for group in groups]
        found: Any = interval()(
            [
                SampleScore(score=Score(value=value), sample_metadata=item)
                for value, item in zip(values, items, strict=True)
            ]
        )
        return found["low"], found["high"]

    alone = bounds(right, [""] * 10)
    exact = binomtest(5, 10).proportion_ci(method="exact")
    assert alone == pytest.approx((exact.low, exact.high), abs=1e-9)
    cases = bounds(right, ["first"] * 5 + ["second"] * 5)
    two = binomtest(1, 2).proportion_ci(method="exact")
    assert cases == pytest.approx((two.low, two.high), abs=1e-9)
    epochs = bounds([0.6, 0.6, 0.6, 0.6, 0.6, 0.4, 0.4, 0.4, 0.4, 0.4], [""] * 10)
    assert epochs == pytest.approx(alone)


def test_equal_views_are_printed_once_and_the_headline_first(tmp_path: Path) -> None:
    """Without a trace all views are the same text: the end of `inspect eval` shows one block of it, not four."""
    log = run(medqa(source=medqa_file(tmp_path, 3)), ["Answer: B", "Answer: C", "Answer: B"], tmp_path)
    assert log.results
    blocks = [entry.name for entry in log.results.scores if entry.scorer == "option_accuracy"]
    assert blocks == ["option_accuracy", "accuracy/answer", "answered/answer"]
    assert list(log.results.scores[0].metrics) == [
        "accuracy/answer",
        "accuracy_answered/answer",
        "accuracy_best/answer",
    ]


def test_a_trace_moved_by_the_provider_is_put_back(tmp_path: Path) -> None:
    content = [ContentReasoning(reasoning="Must be B."), ContentText(text="Answer: C")]
    message = ChatMessageAssistant(content=content)
    output = ModelOutput(model="mockllm/model", choices=[ChatCompletionChoice(message=message)])
    log = run(medqa(source=medqa_file(tmp_path, 1)), [output], tmp_path)
    assert metric(log, "trace/raw", "mean") == 1.0
    assert metric(log, "option_accuracy", "accuracy/trace") == 1.0
    assert metric(log, "accuracy/answer", "mean") == 0.0


def test_a_prefilled_trace_is_known_from_the_task_or_the_output(tmp_path: Path) -> None:
    text = "The cough points to B, answer: B, but wait"
    path = medqa_file(tmp_path, 1)
    assert metric(run(medqa(source=path), [text], tmp_path), "accuracy/answer", "mean") == 1.0
    assert metric(run(medqa(source=path, prefilled=True), [text], tmp_path), "accuracy/answer", "mean") == 0.0
    output = ModelOutput.from_content("mockllm/model", text)
    output.metadata = {"prefilled_think": True}
    assert metric(run(medqa(source=path), [output], tmp_path), "trace_unterminated/raw", "mean") == 1.0


def test_a_log_can_be_scored_again_without_a_model(tmp_path: Path) -> None:
    log = run(medqa(source=medqa_file(tmp_path, 2)), ["Answer: B", "Answer: A"], tmp_path)
    from medbench.scoring.accuracy import option_accuracy

    again = score(log, option_accuracy(), action="overwrite", display="none")
    assert again.samples
    assert log.samples
    for before, after in zip(log.samples, again.samples, strict=True):
        assert before.scores
        assert after.scores
        assert json.dumps(before.scores["option_accuracy"].value) == json.dumps(after.scores["option_accuracy"].value)


def test_inspect_score_needs_no_scorer_file(tmp_path: Path) -> None:
    log = run(medqa(source=medqa_file(tmp_path, 2)), ["Answer: B", "Answer: A"], tmp_path)
    assert inspect_command("score", "--action", "overwrite", "--overwrite", log.location) == 0
    again = read_eval_log(log.location)
    assert metric(again, "accuracy/answer", "mean") == 0.5
    assert [s.scores for s in in_order(again)] == [s.scores for s in in_order(log)]


def test_every_scorer_is_found_by_the_bare_name_that_logs_hold() -> None:
    import medbench._registry  # noqa: F401

    ours = registry_find(lambda info: info.type == "scorer" and info.name.startswith("medbench/"))
    names = [registry_info(found).name.removeprefix("medbench/") for found in ours]
    assert "option_accuracy" in names
    assert [name for name in names if registry_lookup("scorer", name) is None] == []


def test_a_free_text_answer_is_right_that_names_what_its_reference_names(tmp_path: Path) -> None:
    names = {"en": ["sanerin", "bazadol"], "zh": ["莎内林", "巴扎多"]}
    reference = "Take sanerin twice."
    items = [Item(question=f"What {n}?", language="en", reference=reference, source=f"{n}") for n in range(6)]
    items.append(Item(question="怎么办？", language="zh", reference="服用巴扎多。", source="6"))
    task = free_text_task(
        Loaded(items, [], {"source": "x"}), Settings(), name="x", version=1, judges=[named_accuracy(names)]
    )
    outputs = [
        "The drug is Sanerin.",
        "<think>Not sanerin.</think>Take bazadol.",
        "Take sanerin or bazadol.",
        "Take resanerin.",
        "I do not know.",
        "",
        "用巴扎多治疗。",
    ]
    scores = [sample.scores["named_accuracy"].as_dict() for sample in in_order(run(task, outputs, tmp_path))]
    assert [score["accuracy/answer"] for score in scores] == [1, 0, 0, 0, 0, 0, 1]
    assert [score["answered/answer"] for score in scores] == [1, 1, 1, 0, 0, 0, 1]
    assert scores[1]["accuracy/trace"] == 1


def test_several_correct_letters_are_scored_as_sets_and_by_type(tmp_path: Path) -> None:
    options = "A 甲病\\nB 乙病\\nC 丙病"
    rows = [
        {"Question": f"题{n}", "Options": options, "Answer": answer, "Explanation": "略"}
        for n, answer in enumerate(("AC", "AC", "B"))
    ]
    log = run(cmexam(source=written(tmp_path, rows)), ["答案：C、A", "答案：A", "答案：B"], tmp_path)
    assert metric(log, "accuracy/answer", "mean") == pytest.approx(2 / 3)
    assert metric(log, "accuracy_multiple/answer", "mean") == 0.5
    assert metric(log, "accuracy_single/answer", "mean") == 1.0


def test_macro_f1_equals_scikit_learn(tmp_path: Path) -> None:
    gold = ["yes", "yes", "no", "maybe", "no", "yes"]
    said = ["yes", "no", "no", "yes", "maybe", ""]
    rows = [
        {"QUESTION": f"Q{n}?", "CONTEXTS": ["c"], "LONG_ANSWER": "l", "final_decision": label}
        for n, label in enumerate(gold)
    ]
    outputs = [f"Answer: {label}" if label else "The abstract was not attached." for label in said]
    log = run(pubmedqa(source=written(tmp_path, rows)), outputs, tmp_path)
    expected = f1_score(gold, said, labels=["maybe", "no", "yes"], average="macro")
    assert metric(log, "decision_accuracy", "macro_f1/answer") == pytest.approx(expected, abs=1e-12)
    assert metric(log, "accuracy/answer", "mean") == pytest.approx(2 / 6)


def test_the_surface_scorer_reports_every_surface_metric() -> None:
    assert SURFACE_METRICS == surface.METRICS


def test_surface_scores_have_floors_and_statistics(tmp_path: Path) -> None:
    rows = [
        {"instruction": "I cough.", "input": "", "output": "Please rest well and drink warm water for a week."},
        {"instruction": "I itch.", "input": "", "output": "Use the cream twice a day and avoid hot showers please."},
    ]
    answers = [
        "Please rest well and drink cold water for a week.",
        "Use the cream twice a day and avoid hot tea please.",
    ]
    outputs = [f"<think>Let me think about it.</think>{answers[0]}", answers[1]]
    log = run(f5(source=written(tmp_path, rows)), outputs, tmp_path)
    references = [row["output"] for row in rows]
    expected = BLEU().corpus_score(answers, [references]).score
    assert metric(log, "surface_overlap", "bleu4/answer") == pytest.approx(expected, abs=1e-9)
    floor = BLEU().corpus_score(answers, [references[::-1]]).score
    assert metric(log, "surface_overlap", "bleu4_floor/answer") == pytest.approx(floor, abs=1e-9)
    assert metric(log, "surface_overlap", "bleu4/raw") < metric(log, "surface_overlap", "bleu4/answer")
    floors = [metric(log, "surface_overlap", f"{name}_floor/answer") for name in ("rougeL", "rougeL_llamafactory")]
    assert all(0 < value < 60 for value in floors)
    assert metric(log, "rougeL/answer", "mean") > 80
    lower, upper = (metric(log, "surface_overlap", f"bleu4_{end}/answer") for end in ("lower", "upper"))
    assert lower <= expected <= upper


def test_answer_and_explanation_of_one_generation(tmp_path: Path) -> None:
    options = "A 甲病\\nB 乙病"
    rows = [
        {"Question": f"题{n}", "Options": options, "Answer": "A", "Explanation": text}
        for n, text in enumerate(("甲病常见发热和咳嗽症状。", "乙病多见于老年男性患者。"))
    ]
    outputs = ["答案：A\n解析：甲病常见发热和咳嗽症状。", "答案：B\n解析：甲病常见发热和咳嗽症状。"]
    log = run(cmexam_explain(source=written(tmp_path, rows)), outputs, tmp_path)
    values = [{key: score.value for key, score in (sample.scores or {}).items()} for sample in in_order(log)]
    assert [value["option_accuracy"]["accuracy/answer"] for value in values] == [1.0, 0.0]  # type: ignore[index]
    assert values[0]["surface_overlap"]["bleu4/answer"] == pytest.approx(100)  # type: ignore[index]
    assert values[1]["surface_overlap"]["bleu4_floor/answer"] == pytest.approx(100)  # type: ignore[index]


def test_answer_first_scores_what_it_states(tmp_path: Path) -> None:
    """What the explanation says of the other options changes nothing, in the form that the prompt asks for."""
    options = "A 渗透性\\nB 炎症性\\nC 分泌性\\nD 感染性"
    rows = [
        {"Question": f"题{n}", "Options": options, "Answer": "C", "Explanation": "毒素使肠道分泌增加。"}
        for n in range(3)
    ]
    outputs = [
        "答案：C\n解析：虽然病因是感染性，但毒素使分泌增加，D项不选。",
        "答案：C\n解析：A项错误。B项错误。D项看似正确，答案是D的说法也常见。",
        "答案：A\n解析：C正确与否取决于毒素。",
    ]
    log = run(cmexam_explain(source=written(tmp_path, rows)), outputs, tmp_path)
    scores = [(sample.scores or {})["option_accuracy"] for sample in in_order(log)]
    assert [score.answer for score in scores] == ["C", "C", "A"]
    assert [score.value["accuracy/answer"] for score in scores] == [1.0, 1.0, 0.0]  # type: ignore[index]
    assert "read by rule zh_answer (final)" in (scores[0].explanation or "")
    assert (scores[0].metadata or {})["extraction"]["answer"]["rule"] == "zh_answer"


def test_a_letter_on_which_a_cut_off_output_ends_is_none(tmp_path: Path) -> None:
    cut = ModelOutput.from_content("mockllm/model", "The most likely diagnosis is B", stop_reason="max_tokens")
    whole = ModelOutput.from_content("mockllm/model", "The most likely diagnosis is B")
    log = run(medqa(source=medqa_file(tmp_path, 2)), [cut, whole], tmp_path)
    scores = [(sample.scores or {})["option_accuracy"] for sample in in_order(log)]
    assert [score.answer for score in scores] == [None, "B"]


def first_token(pairs: dict[str, float]) -> ModelOutput:
    top = [TopLogprob(token=token, logprob=math.log(p)) for token, p in pairs.items()]
    logprobs = Logprobs(content=[Logprob(token=top[0].token, logprob=top[0].logprob, top_logprobs=top)])
    message = ChatMessageAssistant(content=top[0].token)
    return ModelOutput(model="mockllm/model", choices=[ChatCompletionChoice(message=message, logprobs=logprobs)])


def test_option_probabilities(tmp_path: Path) -> None:
    outputs = [first_token({" B": 0.4, "B": 0.2, "A": 0.2, "The": 0.1}), first_token({"The": 0.9, "So": 0.1})]
    log = run(medqa(source=medqa_file(tmp_path, 2), mode="logprob"), outputs, tmp_path)
    first, second = ((sample.scores or {})["option_probability"] for sample in in_order(log))
    assert isinstance(first.value, dict)
    assert first.value["accuracy/answer"] == 1.0
    assert first.value["margin/answer"] == pytest.approx(0.5)
    assert first.value["mass/answer"] == pytest.approx(0.8)
    # two options at 3/4 and 1/4
    assert first.value["entropy/answer"] == pytest.approx(2 - 0.75 * math.log2(3))
    assert isinstance(second.value, dict)
    assert second.value["accuracy/answer"] == 0.0
    assert (second.metadata or {})["extraction"]["answer"]["reason"] == "no_option_among_top_logprobs"
    assert second.reason == "invalid_response_format"


def test_decisions_by_the_probability_of_their_words(tmp_path: Path) -> None:
    rows = [
        {"QUESTION": f"Q{n}?", "CONTEXTS": ["c"], "LONG_ANSWER": "l", "final_decision": label}
        for n, label in enumerate(("yes", "maybe"))
    ]
    outputs = [
        first_token({"No": 0.4, "yes": 0.25, " Yes": 0.25, "Yesterday": 0.1}),
        first_token({"no": 0.9, "a": 0.1}),
    ]
    log = run(pubmedqa(source=written(tmp_path, rows), mode="logprob"), outputs, tmp_path)
    first, second = ((sample.scores or {})["option_probability"] for sample in in_order(log))
    # Both spellings of yes together outweigh the likeliest token.
    assert first.answer == "yes"
    assert first.metadata
    assert first.metadata["option_probability"] == pytest.approx({"yes": 0.5, "no": 0.4, "maybe": 0})
    assert second.answer == "no"
    assert metric(log, "accuracy/answer", "mean") == 0.5
    assert "nothing else" in in_order(log)[0].input


def test_free_text_records_whether_an_output_declines(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"What helps against itch {n}?", "input": "", "output": f"Use cream {n} twice a day."}
        for n in range(4)
    ]
    refusal = "I'm sorry, but I can't help with that. I am not able to give medical advice."
    outputs = [refusal, "Use a mild cream twice a day.", f"<think>{refusal}</think>Use a mild cream.", ""]
    log = run(f5(source=written(tmp_path, rows)), outputs, tmp_path)
    scores = [(sample.scores or {})["declined"] for sample in in_order(log)]
    values = [score.as_dict() for score in scores]
    assert [value["declined/answer"] for value in values[:3]] == [1, 0, 0]
    assert values[2]["declined/trace"] == 1
    assert math.isnan(values[3]["declined/answer"])
    assert [score.answer for score in scores] == ["refusal", "compliance", "compliance", None]
    assert scores[3].reason == "no_response"
    assert metric(log, "declined/answer", "mean") == pytest.approx(1 / 3)
    # The probes' own keys stay the probes'.
    assert not any(key.startswith("refusal/") for key in values[0])


def test_a_provider_without_log_probabilities_is_told_which_have_them(tmp_path: Path) -> None:
    task = medqa(source=medqa_file(tmp_path, 1), mode="logprob")
    (log,) = eval(task, model=scripted(["B"]), log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "error"
    assert log.error
    assert "returned no log-probabilities" in log.error.message
    assert "vllm" in log.error.message


def test_a_provider_that_surely_has_none_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match=r"returns no log-probabilities.*vllm.*-T mode=generate"):
        require_logprobs(get_model("mockllm/model"))
    require_logprobs(scripted(["B"]))


def test_letters_are_recognised_however_a_tokenizer_spells_them() -> None:
    mass = letter_masses([("A", math.log(0.1)), ("▁A", math.log(0.2)), ("Ｂ", math.log(0.3)), ("As", 0.0)], "AB")
    assert mass == pytest.approx({"A": 0.3, "B": 0.3})


def test_the_explanation_starts_after_its_heading() -> None:
    assert explanation_part("Answer: yes\n**Explanation:** It lowers pressure.") == "It lowers pressure."
    assert explanation_part("答案：A\n解析：因为……\n解析：再说") == "因为……\n解析：再说"
    assert explanation_part("No heading at all") == "No heading at all"
    for heading in ("**Explanation**: ", "### Explanation\n\n", "**Explanation**\n", "EXPLANATION:\n", "explanation: "):
        assert explanation_part(f"Answer: B\n\n{heading}It fits.") == "It fits."
    for heading in ("【解析】", "**解析**：", "**解析：**", "### 解析\n", "解析: "):
        assert explanation_part(f"答案：B\n{heading}符合题意。") == "符合题意。"
    assert explanation_part("Answer: B. The explanation is easy.") == "Answer: B. The explanation is easy."
    assert explanation_part("答案：B\n本题解析如下。") == "答案：B\n本题解析如下。"
