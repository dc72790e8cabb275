"""From messages to a prompt: templates, prefilled text, thinking, tokens counted."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Model,
    get_model,
)
from provider_rows import QUESTIONS, ask, chat_ids, generate_alone

from medbench.errors import MedbenchError


def test_counts_tokens_with_its_own_tokenizer(model: Model, reference: Any) -> None:
    assert asyncio.run(model.count_tokens(QUESTIONS[2])) == len(reference[1](QUESTIONS[2])["input_ids"])
    conversation = [ChatMessageUser(content=QUESTIONS[2])]
    assert asyncio.run(model.count_tokens(conversation)) == chat_ids(reference[1], QUESTIONS[2]).shape[1]


@pytest.mark.parametrize(
    ("setting", "messages", "expected"),
    [
        ("default", [ChatMessageUser(content="Q")], False),
        ("on", [ChatMessageUser(content="Q")], True),
        ("off", [ChatMessageUser(content="Q")], False),
        ("off", [ChatMessageUser(content="Write <think>")], False),
        ("default", [ChatMessageUser(content="Q"), ChatMessageAssistant(content="<think>\nFirst")], True),
        ("on", [ChatMessageUser(content="Q"), ChatMessageAssistant(content="done</think>\nThe answer")], False),
    ],
)
def test_prefilled_think_is_reported(directory: Path, setting: str, messages: list[Any], expected: bool) -> None:
    with get_model(f"medbench/{directory}", thinking=setting, memoize=False) as model:
        output = ask(model, [messages], max_tokens=2)[0]
    assert output.metadata is not None
    assert output.metadata["prefilled_think"] is expected


def test_the_chat_templates_hash_is_reported(directory: Path, model: Model) -> None:
    from medbench.provider.tiny import TEMPLATE

    found = ask(model, ["Q"], max_tokens=1)[0].metadata
    assert found is not None
    assert found["chat_template_sha256"] == hashlib.sha256(TEMPLATE.encode()).hexdigest()
    with get_model(f"medbench/{directory}", chat_template="none", memoize=False) as bare:
        found = ask(bare, ["Q"], max_tokens=1)[0].metadata
    assert found is not None
    assert found["chat_template_sha256"] == "none"


def test_thinking_can_be_set_per_request(model: Model) -> None:
    for settings in (
        {"extra_body": {"medbench": {"thinking": "on"}}},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}},
        {"reasoning_effort": "high"},
    ):
        output = ask(model, ["Q"], max_tokens=1, **settings)[0]
        assert output.metadata is not None
        assert output.metadata["prefilled_think"], settings


def test_assistant_prefill_is_continued(model: Model, reference: Any) -> None:
    output = ask(model, [[ChatMessageUser(content="Q"), ChatMessageAssistant(content="The answer is")]], max_tokens=8)[
        0
    ]
    ids = reference[1]("<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nThe answer is", return_tensors="pt")[
        "input_ids"
    ]
    expected = generate_alone(reference, ids, 8)
    assert output.completion == reference[1].decode(expected, skip_special_tokens=True)


def test_base_models_complete_text(directory: Path, reference: Any) -> None:
    with get_model(f"medbench/{directory}", chat_template="none", memoize=False) as model:
        output = ask(model, [[ChatMessageSystem(content="S"), ChatMessageUser(content="Q")]], max_tokens=8)[0]
    expected = generate_alone(reference, reference[1]("S\n\nQ", return_tensors="pt")["input_ids"], 8)
    assert output.completion == reference[1].decode(expected, skip_special_tokens=True)


def test_a_conversation_that_the_template_refuses(directory: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}Q"
    with get_model(f"medbench/{directory}", chat_template=template, memoize=False) as model:
        with pytest.raises(MedbenchError, match=r"(?s)system, user.*no system role"):
            ask(model, [[ChatMessageSystem(content="S"), ChatMessageUser(content="Q")]])
        assert ask(model, ["Q"], max_tokens=1)[0].usage is not None
