"""Traces: hand-made variants, invariants over generated outputs, real outputs, and linear time."""

from __future__ import annotations

import collections
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText, ModelOutput

from medbench import thinking
from medbench.scoring.transcript import raw_text

DATA = Path(__file__).parent / "data"
GENERATIONS = Path(__file__).parents[3] / "shared/data/generations/DeepSeek-R1-Distill-Qwen-7B.jsonl"

# text -> trace, answer, status
VARIANTS = {
    "closed": ("<think>\nIt hurts.\n</think>\n\nB", "It hurts.", "B", "closed"),
    "empty pair": ("<think>\n\n</think>\n\nB", "", "B", "closed"),
    "no tags": ("  B\n", "", "  B\n", "absent"),
    "empty": ("", "", "", "absent"),
    "several": ("<think>one\n</think>\nfirst\n<think>two</think>\nsecond", "one\ntwo", "first\n\nsecond", "closed"),
    "nested": ("<think>a <think>b</think> c</think>B", "a b c", "B", "closed"),
    "opening tag repeated": ("<think><think>a</think>B", "a", "B", "closed"),
    "reopened without closing": ("<think>a\n<think>b</think>B", "a\nb", "B", "closed"),
    "reopened and cut off": ("<think>a</think>B\n<think>b", "ab", "", "unterminated"),
    "missing opening tag": ("It hurts.\n</think>\n\nB", "It hurts.", "B", "orphan_close"),
    "missing closing tag": ("<think>It hurts", "It hurts", "", "unterminated"),
    "stray closing tag at the end": ("<think>a</think>B</think>", "a", "B", "closed"),
    "restart after an answer": ("a</think>B\n</think>\nC", "aB", "C", "orphan_close"),
    "thinking": ("<thinking>a</thinking>B", "a", "B", "closed"),
    "upper case": ("<THINK>a</Think>B", "a", "B", "closed"),
    "spaces in tags": ("< think >a< / think >B", "a", "B", "closed"),
    "full-width brackets": ("＜think＞a＜/think＞B", "a", "B", "closed"),
    "full-width slash": ("＜think＞a＜／think＞B", "a", "B", "closed"),
    "names differ": ("<think>a</thinking>B", "a", "B", "closed"),
    "attributes": ('<think signature="x">a</think>B', "a", "B", "closed"),
    "escaped slash": ("<think>a<\\/think>B", "a", "B", "closed"),
    "Chinese name": ("<思考>可能是A</思考>选B", "可能是A", "选B", "closed"),
    "Chinese brackets": ("【思考】可能是A【/思考】选B", "可能是A", "选B", "closed"),
    "Magistral": ("[THINK]a[/THINK]B", "a", "B", "closed"),
    "Sky-T1": ("<|begin_of_thought|>a<|end_of_thought|>B", "a", "B", "closed"),
    "preamble": ("Sure.\n<think>a</think>\nB", "a", "Sure.\n\nB", "closed"),
    "mention inside the trace": ("<think>No <think> tags later. a</think>B", "No <think> tags later. a", "B", "closed"),
    "closing tag mentioned in it": ("<think>The </think> tag. a\n</think>B", "The </think> tag. a", "B", "closed"),
    "whole output in a code block": ("```\n<think>a</think>\nB\n```", "a", "```\n\nB\n```", "closed"),
    "code block begun in it": ("<think>a\n```\nx\n</think>\nB\n```\ny\n```", "a\n```\nx", "B\n```\ny\n```", "closed"),
}  # fmt: skip

MENTIONS = [
    "Please do not output <think> tags.",
    "Do not output <think> in your reply.",
    "The <think> tag opens a trace, the </think> tag closes it.",
    "Answer B. (I was told not to use <think></think> tags.)",
    "Put your reasoning between <think> and </think>, then answer.",
    "Use `<think>` and `</think>`.",
    'The prompt said "<think>" and "</think>".',
    "“<think>”是推理的开头。",
    "不要输出<think>标签，答案是B。",
    "请不要输出<think>",
    "请勿使用 <think>…</think> 标签。",
    "Wrap it like `<think>your reasoning</think>` please.",
    "An example:\n```\n<think>reasoning</think>\n```\nSo write it that way.",
    "I never emit <think>, as asked.",
    "The patient should rethink <b>this</b> and be <thankful>.",
]


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    text, trace, answer, status = VARIANTS[name]
    assert thinking.split(text) == thinking.Thought(trace, answer, status)


PHRASINGS = [json.loads(line) for line in (DATA / "thinking_variants.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("row", PHRASINGS, ids=lambda row: row["text"][:40])
def test_written_down_before_reading_the_code(row: dict) -> None:
    expected = thinking.Thought(row.get("trace", ""), row.get("answer", row["text"]), row["status"])
    assert thinking.split(row["text"], prefilled=row.get("prefilled", False)) == expected


def test_layouts_without_brackets() -> None:
    huatuo = "## Thinking\n\nIt hurts.\n\n## Final Response\n\nB"
    assert thinking.split(huatuo) == thinking.Thought("It hurts.", "B", "closed")
    assert thinking.views(huatuo)["lenient"] == "B"
    report = "## Thinking\n\nIt hurts.\n\n## Diagnosis\n\nB"
    assert thinking.split(report) == thinking.Thought("", report, "absent")
    harmony = "analysisIt hurts.assistantfinalB"
    assert thinking.split(harmony) == thinking.Thought("It hurts.", "B", "closed")
    assert thinking.split("analysisIt hurts") == thinking.Thought("It hurts", "", "unterminated")
    assert thinking.split("analysis of B").status == "absent"


@pytest.mark.parametrize("text", MENTIONS)
def test_a_mention_is_not_a_trace(text: str) -> None:
    assert thinking.split(text) == thinking.Thought("", text, "absent")
    assert set(thinking.views(text).items()) == {(v, text) for v in ("raw", "untagged", "lenient", "answer")} | {
        ("trace", "")
    }


@pytest.mark.parametrize(
    ("text", "trace", "answer", "status"),
    [
        ("It hurts.\n</think>\n\nB", "It hurts.", "B", "closed"),
        ("It hurts", "It hurts", "", "unterminated"),
        ("", "", "", "unterminated"),
        ("<think>It hurts.</think>B", "It hurts.", "B", "closed"),
        ("a</think>B<think>c", "ac", "", "unterminated"),
    ],
)
def test_opening_tag_in_the_prompt(text: str, trace: str, answer: str, status: str) -> None:
    assert thinking.split(text, prefilled=True) == thinking.Thought(trace, answer, status)


def test_the_five_views() -> None:
    assert thinking.views("<think>\nHm.\n</think>\n\nB") == {
        "raw": "<think>\nHm.\n</think>\n\nB",
        "untagged": "\nHm.\n\n\nB",
        "lenient": "B",
        "answer": "B",
        "trace": "Hm.",
    }
    cut_off = thinking.views("<think>So it is B")
    assert (cut_off["lenient"], cut_off["untagged"], cut_off["answer"]) == ("<think>So it is B", "So it is B", "")
    orphan = thinking.views("Hm.</think>B")
    assert (orphan["lenient"], orphan["untagged"], orphan["answer"]) == ("Hm.</think>B", "Hm.B", "B")
    assert thinking.views("Hm.</think>B", prefilled=True)["lenient"] == "B"


@pytest.mark.parametrize(
    ("text", "untagged"),
    [
        ("<think>a</think>B", "a\nB"),
        ("a</think>B", "a\nB"),
        ("<think>a</think></think>B", "a\nB"),
        ("<think><think>a</think>B<think>c", "a\nB\nc"),
        ("<思考>可能是A</思考>选B", "可能是A\n选B"),
        ("[THINK]5 mg[/THINK]10 mg", "5 mg\n10 mg"),
        ("<think>a </think>B", "a B"),
        ("<think>a\n</think>\n\nB", "a\n\n\nB"),
        ("<think></think>B", "B"),
        ("B</think>", "B"),
    ],
)
def test_a_dropped_tag_fuses_no_words(text: str, untagged: str) -> None:
    assert thinking.views(text)["untagged"] == untagged


WORDS = st.sampled_from(["a", "B", " ", "\n", "。", "the ", "“", "`", "```\n", "use ", "标签", ". ", "<", ">", "/"])
TAGS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<thinking>",
        "< / THINK >",
        "&lt;think&gt;",
        "[/THINK]",
        "<|end_of_thought|>",
        "<unused94>thought\n",
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "## Thinking\n",
        "## Answer\n",
        "＜think＞",
        "<think/>",
        "【/思考】",
    ]
)
OUTPUTS = st.lists(WORDS | TAGS | st.text(max_size=5), max_size=24).map("".join)


def is_subsequence(part: str, whole: str) -> bool:
    characters = iter(whole)
    return all(character in characters for character in part)


@given(OUTPUTS, st.booleans())
def test_views_invent_nothing(text: str, prefilled: bool) -> None:
    views = thinking.views(text, prefilled=prefilled)
    assert tuple(views) == thinking.VIEWS
    assert views["raw"] == text
    for name, view in views.items():
        # The line end that keeps two words apart is the one character that may be new.
        assert is_subsequence(view.replace("\n", "") if name == "untagged" else view, text)
    thought = thinking.split(text, prefilled=prefilled)
    assert (thought.trace, thought.answer) == (views["trace"], views["answer"])
    # What is kept under `untagged` is what is kept as trace or as answer, white space and order aside.
    kept = collections.Counter("".join(views["untagged"].split()))
    found = collections.Counter("".join((thought.trace + thought.answer).split()))
    # A cut-off trace takes the answer along, so less than all is kept.
    assert found <= kept if thought.status == "unterminated" else found == kept
    if thought.status == "absent":
        assert views["answer"] == views["untagged"] == views["lenient"] == text
    if prefilled:
        assert thought.status != "absent"


@given(st.text(alphabet=st.characters(exclude_characters="<＜〈⟨‹◁[【"), max_size=80))
@example("analysis A")
def test_text_without_tags_is_its_own_answer(text: str) -> None:
    assume(re.match(r"\s*(?:analysis[A-Z]|#+ *Thinking)", text) is None)  # layouts that need no tags
    assert thinking.split(text) == thinking.Thought("", text, "absent")
    assert thinking.statistics(text) == (False, False, 0.0, "absent")


# Lines of their own, so that taking one out cannot make a tag or a mention of its neighbours.
LINES = st.lists(
    st.sampled_from(["It hurts.", "选B。", "", "<think>", "</think>", "Answer: C", "the <think> tag"]), max_size=12
)


@given(LINES.map("\n".join))
def test_the_answer_is_its_own_answer(text: str) -> None:
    answer = thinking.split(text).answer
    assert thinking.split(answer) == thinking.Thought("", answer, "absent")
    untagged = thinking.views(text)["untagged"]
    assert thinking.views(untagged)["untagged"] == untagged


def test_statistics() -> None:
    assert thinking.statistics("<think>abc</think>d") == (True, False, 0.75, "closed")
    assert thinking.statistics("<think>abc") == (True, True, 1.0, "unterminated")
    assert thinking.statistics("<think></think>d") == (False, False, 0.0, "closed")


@pytest.mark.parametrize(
    "piece",
    ["<", "< ", "<think", "<think ", "<think>", "</think>", "</think>b", "<think>a</think>", "the <think> ", "`", "` ",
     "```\n",
     "<think>`", "a b", "&lt;", "\\<", "<|channel|>final", "<|end|>", "## Thinking\n",
     "<think>a</think>b</think>", "【", "\n", " ", "<think>and", "'<think>'"],
)  # fmt: skip
def test_time_is_linear(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        start = time.process_time()
        thinking.views(text)
        return time.process_time() - start

    assert seconds(1_000_000) < 40 * max(seconds(100_000), 0.005)


@pytest.mark.skipif(not GENERATIONS.exists(), reason="real generations (../shared/data/generations) are not here")
def test_real_outputs_of_a_reasoning_model() -> None:
    outputs = [json.loads(line)["output"] for line in GENERATIONS.open(encoding="utf-8")]
    plain = collections.Counter(thinking.split(output).status for output in outputs)
    assert plain == {"orphan_close": 163, "absent": 37}
    prefilled = [thinking.split(output, prefilled=True) for output in outputs]
    assert collections.Counter(thought.status for thought in prefilled) == {"closed": 163, "unterminated": 37}
    for output, thought in zip(outputs, prefilled, strict=True):
        trace, _, answer = output.partition("</think>")
        assert (thought.trace, thought.answer) == (trace.strip(), answer.strip())


def message(*content: object) -> ChatMessageAssistant:
    return ChatMessageAssistant(content=list(content))


def test_raw_text_puts_the_trace_back() -> None:
    moved = message(ContentReasoning(reasoning="It hurts."), ContentText(text="B"))
    assert raw_text(moved) == "<think>\nIt hurts.\n</think>\n\nB"
    assert thinking.split(raw_text(moved)) == thinking.Thought("It hurts.", "B", "closed")
    output = ModelOutput.from_message(moved)
    assert raw_text(output) == raw_text(moved)
    assert raw_text(ModelOutput.from_content("m", "<think>a</think>B")) == "<think>a</think>B"
    assert raw_text(ModelOutput(model="m", choices=[])) == ""


def test_raw_text_of_hidden_traces() -> None:
    summary = ContentReasoning(reasoning="gAAAAencrypted", redacted=True, summary="It hurts.")
    assert raw_text(message(summary, ContentText(text="B"))) == "<think>\nIt hurts.\n</think>\n\nB"
    hidden = ContentReasoning(reasoning="gAAAAencrypted", redacted=True)
    assert raw_text(message(hidden, ContentText(text="B"))) == "B"
    interleaved = message(ContentReasoning(reasoning="a"), ContentText(text="B. "), ContentReasoning(reasoning="c"))
    assert thinking.split(raw_text(interleaved)) == thinking.Thought("a\n\nc", "B.", "closed")
