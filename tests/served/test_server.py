"""Servers that are down, slow, strange or refuse: each is named, with what to do. Small HTTP servers on loopback."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import loopback
import pytest

from medbench.errors import MedbenchError
from medbench.served.server import Server, ServerRefused

MODELS = {"object": "list", "data": [{"id": "base", "max_model_len": 512, "owned_by": "vllm"}]}
Answer = Callable[[str, Any], tuple[int, Any]]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """The address, with ``/v1``, of a server that answers (path, body) with (status, JSON or text)."""

    def reply(path: str, asked: bytes) -> loopback.Reply:
        status, value = answer(path, json.loads(asked or b"null"))
        return loopback.Reply(value, status)

    with loopback.serving(reply) as address:
        yield f"{address}/v1"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_list_of_models() -> None:
    with answering(lambda path, body: (200, MODELS)) as address:
        (listed,) = Server(address).models()
        assert (listed.name, listed.context, listed.owner) == ("base", 512, "vllm")
        with pytest.raises(MedbenchError, match="Did you mean base"):
            Server(address).listed("bass")


def test_no_server() -> None:
    with pytest.raises(MedbenchError, match=r"no server answers at .* Is it started"):
        Server(f"http://127.0.0.1:{closed_port()}/v1").models()
    with pytest.raises(MedbenchError, match="expected an address such as"):
        Server("localhost:8000")


def test_a_slow_server() -> None:
    def slow(path: str, body: Any) -> tuple[int, Any]:
        time.sleep(1)
        return 200, MODELS

    with answering(slow) as address, pytest.raises(MedbenchError, match="did not answer within"):
        Server(address, timeout=0.1).models()


def test_no_openai_server() -> None:
    with answering(lambda path, body: (200, "<html>")) as address, pytest.raises(MedbenchError, match="no list of"):
        Server(address).models()
    with answering(lambda path, body: (401, {"error": {"message": "no key"}})) as address:
        with pytest.raises(ServerRefused, match="answered 401: no key"):
            Server(address).models()
        with pytest.raises(MedbenchError, match="lists no adapters"):
            Server(address).scales()


@pytest.mark.parametrize(
    ("status", "reason", "advice"),
    [
        (400, "LoRA rank 64 is greater than max_lora_rank 16.", "--max-lora-rank"),
        (404, "Not Found", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
        (400, "No adapter found for /x", "Does the server see that path"),
    ],
)
def test_an_adapter_that_is_refused(status: int, reason: str, advice: str) -> None:
    answer = status, {"error": {"message": reason}}
    with answering(lambda path, body: answer) as address, pytest.raises(MedbenchError) as caught:
        Server(address).load_adapter("mix", "/x")
    assert reason in str(caught.value)
    assert advice in str(caught.value)


def test_an_adapter_of_that_name_is_replaced() -> None:
    calls = []

    def answer(path: str, body: Any) -> tuple[int, Any]:
        calls.append(path.rpartition("/")[2])
        if calls == ["load_lora_adapter"]:
            return 400, {"error": {"message": "The lora adapter 'mix' has already been loaded."}}
        return 200, "Success"

    with answering(answer) as address:
        Server(address).load_adapter("mix", "/x")
    assert calls == ["load_lora_adapter", "unload_lora_adapter", "load_lora_adapter"]
    with answering(lambda path, body: (404, {"message": "mix not found"})) as address:
        Server(address).unload_adapter("mix")  # it counts as unloaded


def completion(logprobs: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "A"}}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "base",
        "choices": [{**choice, "logprobs": logprobs}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def ask(address: str, **settings: Any) -> Any:
    from medbench.served import endpoint

    pytest.importorskip("openai", reason="the extra api is not installed")
    arguments = {"base_url": address, "model_args": {"api_key": "none"}, "repeats": 2, "top": 2} | settings
    return endpoint.ask("openai-api/x/base", ["Hello!"], {b"A": 5, b"B": 6}, **arguments)


def test_an_endpoint_without_log_probabilities() -> None:
    with (
        answering(lambda path, body: (200, completion(None))) as address,
        pytest.raises(MedbenchError, match="without log"),
    ):
        ask(address)


def test_an_endpoint_that_is_down_slow_or_refuses() -> None:
    with pytest.raises(MedbenchError, match="nothing listens there"):
        ask(f"http://127.0.0.1:{closed_port()}/v1", timeout=20)

    def slow(path: str, body: Any) -> tuple[int, Any]:
        time.sleep(3)
        return 200, completion(None)

    with answering(slow) as address, pytest.raises(MedbenchError, match="did not answer within 1 s"):
        ask(address, timeout=1)
    strict = 422, {"error": {"message": "at most 5 of them"}}
    with (
        answering(lambda path, body: strict) as address,
        pytest.raises(MedbenchError, match=r"no answer: .*at most 5 of them"),
    ):
        ask(address)


def test_what_an_endpoint_names_becomes_tokens() -> None:
    top = [
        {"token": "A", "bytes": [65], "logprob": -0.5},
        {"token": "B", "bytes": None, "logprob": -1.5},
        {"token": "?", "bytes": [63], "logprob": -2.5},
    ]
    entry = {"token": "A", "bytes": [65], "logprob": -0.5, "top_logprobs": top}
    with answering(lambda path, body: (200, completion({"content": [entry]}))) as address:
        answers = ask(address)
    assert answers.likeliest == [[{5: -0.5, 6: -1.5}]] * 2
    assert (answers.lengths, answers.unknown) == ([3], 1)
