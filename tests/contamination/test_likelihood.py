"""Likelihoods from Inspect providers against a plain forward pass: in this process, and over HTTP in vLLM's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loopback
import numpy as np
import pytest
import torch
from inspect_ai.model import get_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from medbench.contamination.likelihood import InspectLikelihoods, lay_along
from medbench.errors import MedbenchError
from medbench.provider import tiny

TEXTS = [("What treats asthma?", "\nA. salbutamol\nB. 阿莫西林"), ("患者男，45岁。", "\n甲"), ("x", ""), ("", "yz")]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("tiny"), context=128)


@pytest.fixture(scope="module")
def reference(directory: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)


def expected(reference: tuple[Any, Any], text: str) -> np.ndarray:
    model, tokenizer = reference
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    return logprobs.gather(1, ids[0, 1:, None])[:, 0].numpy()


def check(found: Any, reference: tuple[Any, Any]) -> None:
    for parts, tokens in zip(TEXTS, found, strict=True):
        assert np.concatenate([part.logprobs for part in tokens]) == pytest.approx(
            expected(reference, "".join(parts)), abs=1e-4
        )
        # One token a byte; the very first of a text is predicted by nothing
        lengths = [len(part.encode()) for part in parts]
        lengths[0 if lengths[0] else 1] -= 1
        assert [len(part) for part in tokens] == lengths


def test_the_in_process_provider(directory: Path, reference: tuple[Any, Any]) -> None:
    likelihoods = InspectLikelihoods(get_model(f"medbench/{directory}", memoize=False))
    found = likelihoods.score(TEXTS)
    check(found, reference)
    assert found[0] is not None
    assert found[0][1].mean is not None
    assert likelihoods.context == 128
    assert likelihoods.score([("a" * 500, "")]) == [None]


@pytest.fixture
def endpoint(reference: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A server with /v1/completions that returns `prompt_logprobs` as vLLM 0.8 does, U+FFFD in token texts included."""
    model, tokenizer = reference
    settings: dict[str, Any] = {"prompt_logprobs": True}

    def answer(path: str, body: bytes) -> loopback.Reply:
        asked = json.loads(body)
        ids = tokenizer(asked["prompt"], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        entries: list[dict[str, Any] | None] = [None]
        for place, token in enumerate(ids[1:]):
            best = int(logprobs[place].argmax())
            entries.append(
                {
                    str(t): {
                        "logprob": float(logprobs[place, t]),
                        "rank": 1,
                        "decoded_token": tokenizer.decode([t]),
                    }
                    for t in dict.fromkeys([token, best])
                }
            )
        choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if settings["prompt_logprobs"] and asked.get("prompt_logprobs"):
            choice["prompt_logprobs"] = entries
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        return loopback.Reply(
            {
                "id": "1",
                "object": "text_completion",
                "created": 1,
                "model": "tiny",
                "choices": [choice],
                "usage": usage,
            }
        )

    monkeypatch.setenv("LOCAL_API_KEY", "none")
    with loopback.serving(answer) as address:
        settings["url"] = f"{address}/v1"
        yield settings


def test_a_completions_endpoint(endpoint: dict[str, Any], reference: tuple[Any, Any]) -> None:
    pytest.importorskip("openai", reason="Inspect's client of such servers needs the openai package")
    model = get_model("openai-api-completions/local/tiny", base_url=endpoint["url"], memoize=False)
    likelihoods = InspectLikelihoods(model)
    found = likelihoods.score(TEXTS[:2])
    for parts, tokens in zip(TEXTS, found, strict=False):
        assert tokens is not None
        assert np.concatenate([part.logprobs for part in tokens]) == pytest.approx(
            expected(reference, "".join(parts)), abs=1e-4
        )
        assert tokens[0].mean is None
    assert [len(part) for part in found[0] or ()] == [18, len(TEXTS[0][1].encode())]
    assert likelihoods.score(TEXTS[:1])[0] is not None  # the client's connections last
    endpoint["prompt_logprobs"] = False
    with pytest.raises(MedbenchError, match="no log-probabilities of the prompt"):
        likelihoods.score(TEXTS[:1])
    likelihoods.close()


def test_greedy_is_the_likeliest_token(directory: Path, reference: tuple[Any, Any]) -> None:
    # A text of which every second token is the likeliest after those before it
    bare, tokenizer = reference
    ids = tokenizer("Once", add_special_tokens=False)["input_ids"]
    likelihoods = InspectLikelihoods(get_model(f"medbench/{directory}", memoize=False))
    for _ in range(4):
        with torch.no_grad():
            best = bare(torch.tensor([ids])).logits[0, -1].argsort(descending=True).tolist()
        ids += [best[0], best[1]]
    # `score` takes text, and this model's likeliest bytes spell none: ask for the ids themselves
    likelihoods._model.api.tokenize = lambda text: _ready(ids)  # type: ignore[method-assign]
    found = likelihoods.score([("any", "")])[0]
    assert found is not None
    assert found[0].greedy[3::2].all()
    assert not found[0].greedy[4::2].any()


async def _ready(ids: list[int]) -> list[int]:
    return ids


def test_tokens_are_laid_along_a_text() -> None:
    assert lay_along(["b", "c", "d"], ["ab", "cd"]) == [1, 2]  # the first is missing
    assert lay_along(["ab", "cd"], ["abc", "d"]) == [2, 0]  # a token belongs where it begins
    assert lay_along(["a", "\ufffd", "\ufffd", "\ufffd", "b"], ["a", "药", "b"]) == [1, 3, 1]
    assert lay_along(["\ufffd", "\ufffd", "b"], ["药", "b"]) == [2, 1]
    assert lay_along(["\ufffd"] * 6, ["药", "物"]) == [3, 3]
    with pytest.raises(MedbenchError, match="do not spell"):
        lay_along(["a", "x"], ["ab", ""])
