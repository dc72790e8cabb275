"""Log-probabilities of the provider against a plain forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inspect_ai.model import (
    ChatMessageUser,
    Model,
)
from provider_rows import QUESTIONS, ask, chat_ids

from medbench.provider.errors import ProviderError


def test_logprobs_are_those_of_a_plain_forward_pass(model: Model, reference: Any) -> None:
    output = ask(model, QUESTIONS, max_tokens=6, logprobs=True, top_logprobs=4, temperature=0.5, seed=1)[1]
    bare, tokenizer = reference
    ids = chat_ids(tokenizer, QUESTIONS[1])[0].tolist()
    content = output.choices[0].logprobs.content  # type: ignore[union-attr]
    assert len(content) == 6
    for entry in content:
        with torch.no_grad():
            expected = bare(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        values, tokens = expected.topk(4)
        assert [top.logprob for top in entry.top_logprobs or []] == pytest.approx(values.tolist(), abs=1e-4)
        assert [top.token for top in entry.top_logprobs or []] == [tokenizer.decode([t]) for t in tokens.tolist()]
        matches = [t for t in range(len(expected)) if abs(expected[t].item() - entry.logprob) < 1e-5]
        chosen = next(t for t in matches if tokenizer.decode([t]) == entry.token)
        ids.append(chosen)


def test_prompt_logprobs_and_moments_are_those_of_a_plain_forward_pass(model: Model, reference: Any) -> None:
    outputs = ask(model, QUESTIONS, max_tokens=2, prompt_logprobs=3)
    bare, tokenizer = reference
    for question, output in zip(QUESTIONS, outputs, strict=True):
        ids = chat_ids(tokenizer, question)[0]
        with torch.no_grad():
            expected = bare(ids[None]).logits[0, :-1].log_softmax(-1)
        content = output.choices[0].prompt_logprobs.content  # type: ignore[union-attr]
        own = expected.gather(1, ids[1:, None])[:, 0]
        assert [entry.logprob for entry in content] == pytest.approx(own.tolist(), abs=1e-4)
        for place, entry in enumerate(content):
            best = [t for t in expected[place].topk(3).indices.tolist() if t != ids[place + 1]]
            assert [top.token for top in entry.top_logprobs or []] == [tokenizer.decode([t]) for t in best]
        # The formulas of mink-plus-plus: E[log p], and E[(log p)^2] - E[log p]^2
        mean = (expected.exp() * expected).sum(-1)
        variance = (expected.exp() * expected.square()).sum(-1) - mean.square()
        moments = (output.metadata or {})["prompt_moments"]
        assert moments["mean"] == pytest.approx(mean.tolist(), abs=1e-4)
        assert moments["deviation"] == pytest.approx(variance.sqrt().tolist(), abs=1e-3)
        assert output.usage is not None
        assert output.usage.output_tokens == 2


def test_prompts_of_token_ids_are_scored_without_generating(model: Model, reference: Any) -> None:
    bare, _ = reference
    ids = [[5, 9, 200, 31], [7, 7, 7], [100]]
    prompts = [[ChatMessageUser(content="", metadata={"prompt_token_ids": row})] for row in ids]
    only = {"medbench": {"prompt_only": True}}
    for row, output in zip(ids, ask(model, prompts, prompt_logprobs=1, extra_body=only), strict=True):
        with torch.no_grad():
            logits = bare(torch.tensor([row])).logits[0, :-1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(row)[1:, None])[:, 0].tolist()
        found = output.choices[0].prompt_logprobs
        assert [entry.logprob for entry in found.content] == pytest.approx(expected, abs=1e-4)  # type: ignore[union-attr]
        assert output.completion == ""
    for bad in ([2**20], ["1"], "12"):
        with pytest.raises(ProviderError, match="prompt_token_ids"):
            ask(model, [[ChatMessageUser(content="", metadata={"prompt_token_ids": bad})]])
    with pytest.raises(ProviderError, match="prompt_logprobs"):
        ask(model, QUESTIONS[:1], extra_body=only)


def test_choice_logprobs(model: Model, reference: Any) -> None:
    bare, tokenizer = reference
    names = ["A", "B", "chest pain", "不"]
    output = ask(model, QUESTIONS[:1], max_tokens=1, extra_body={"medbench": {"choices": names}})[0]
    assert output.metadata is not None
    prompt = chat_ids(tokenizer, QUESTIONS[0])[0].tolist()
    for name, value in output.metadata["choice_logprobs"].items():
        tokens, expected = tokenizer(name, add_special_tokens=False)["input_ids"], 0.0
        for place, token in enumerate(tokens):
            with torch.no_grad():
                logits = bare(torch.tensor([prompt + tokens[:place]])).logits[0, -1]
            expected += float(logits.log_softmax(-1)[token])
        assert value == pytest.approx(expected, abs=1e-4)
    single = ask(model, QUESTIONS[:1], max_tokens=1, extra_body={"medbench": {"choices": ["A", "B"]}})[0]
    assert single.metadata is not None
    assert single.metadata["choice_logprobs"]["B"] == pytest.approx(output.metadata["choice_logprobs"]["B"], abs=1e-4)
