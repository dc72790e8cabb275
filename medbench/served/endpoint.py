"""Next-token log-probabilities of an endpoint at fixed prompts, asked several times, through Inspect's providers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medbench.errors import MedbenchError
from medbench.served.distance import Likeliest

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessageUser, Model, ModelOutput, TopLogprob

# Requests at a time from the second repeat on; the first goes one by one, so that batching is part of the noise.
TOGETHER = 8
# A first token that ends the answer, or is part of a character, has no log-probabilities at some servers: ask again.
AGAIN = 4


@dataclass(frozen=True)
class Answers:
    """What an endpoint answered.

    Attributes:
        likeliest: repeats x prompts: the tokens it named, as ids of the base's tokenizer.
        lengths: tokens of each prompt, as the endpoint counts them; None where it does not say.
        unknown: named tokens that the base's tokenizer does not have.
    """

    likeliest: list[list[Likeliest]]
    lengths: list[int | None]
    unknown: int


def ask(
    model: str,
    prompts: Sequence[str],
    ids: Mapping[bytes, int],
    *,
    base_url: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    repeats: int = 3,
    top: int = 20,
    timeout: int = 120,
    tokens: Sequence[Sequence[int]] = (),
    extra_body: Mapping[str, Any] | None = None,
) -> Answers:
    """Ask an endpoint for the likeliest first tokens of its answers.

    Args:
        model: Inspect's name, e.g. ``openai-api/server/NAME``. To ``...-completions/`` providers `tokens` are sent.
        prompts: a user's messages.
        ids: bytes -> token of the base.
        base_url: the server's address.
        model_args: further arguments of Inspect's provider.
        repeats: how often each prompt is asked, at least 2: the differences are the endpoint's noise.
        top: how many tokens to ask for; OpenAI and vLLM give 20 at most unless told otherwise.
        timeout: seconds for one request.
        tokens: the prompts as token ids.
        extra_body: further fields of the requests, see `llama_cpp`.

    Raises:
        MedbenchError: no such endpoint, no answer in time, an answer without log-probabilities.
    """
    from inspect_ai.model import GenerateConfig, get_model

    from medbench.private.inspect import PrerequisiteError, reason

    config = GenerateConfig(
        # At temperature 1 what a server calls log-probabilities is the model's own before and after sampling alike.
        temperature=1.0, top_p=1.0, max_tokens=1, logprobs=True, top_logprobs=top, max_retries=1, timeout=timeout,
        max_connections=TOGETHER, extra_body=dict(extra_body or {}) or None,
    )  # fmt: skip
    try:
        endpoint = get_model(model, config=config, base_url=base_url, memoize=False, **dict(model_args or {}))
    except PrerequisiteError as error:
        raise MedbenchError(reason(error)) from None
    except (ValueError, TypeError) as error:
        raise MedbenchError(f"model {model}: {error}") from None
    messages = [_message(prompt, tokens[i] if _completes(model) else None) for i, prompt in enumerate(prompts)]
    outputs = asyncio.run(_all(endpoint, messages, repeats, timeout))
    read = [[_read(model, output, ids) for output in repeat] for repeat in outputs]
    lengths = [output.usage.input_tokens if output.usage else None for output in outputs[0]]
    return Answers(
        [[named for named, _ in repeat] for repeat in read],
        lengths,
        max(unknown for repeat in read for _, unknown in repeat),
    )


def llama_cpp(ids: Mapping[bytes, int]) -> dict[str, Any]:
    """Fields of requests to a llama.cpp server.

    It would answer from keys and values that it computed under other adapter scales, and it names no tokens where the
    one that it drew ends the answer or is part of a character. So nothing is reused, and what is drawn is a letter;
    neither touches the log-probabilities, which it takes before its samplers.
    """
    letter = next((ids[text] for text in (b"a", b"A", b" a", b"The") if text in ids), None)
    return {"cache_prompt": False, **({} if letter is None else {"logit_bias": {str(letter): 100.0}})}


def _completes(model: str) -> bool:
    return model.split("/")[0].endswith("-completions")


def _message(prompt: str, tokens: Sequence[int] | None) -> ChatMessageUser:
    from inspect_ai.model import ChatMessageUser

    return ChatMessageUser(content=prompt, metadata={"prompt_token_ids": list(tokens)} if tokens else None)


async def _all(
    endpoint: Model, messages: Sequence[ChatMessageUser], repeats: int, timeout: int
) -> list[list[ModelOutput]]:
    outputs = [[await _one(endpoint, message, timeout) for message in messages]]
    limit = asyncio.Semaphore(TOGETHER)

    async def limited(message: ChatMessageUser) -> ModelOutput:
        async with limit:
            return await _one(endpoint, message, timeout)

    for repeat in range(1, repeats):
        order = random.Random(repeat).sample(range(len(messages)), len(messages))
        found = await asyncio.gather(*(limited(messages[place]) for place in order))
        outputs.append([output for _, output in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])])
    return outputs


async def _one(endpoint: Model, message: ChatMessageUser, timeout: int) -> ModelOutput:
    try:
        async with asyncio.timeout(timeout):
            for _ in range(1 + AGAIN):
                output = await endpoint.generate([message])
                if _likeliest(output):
                    break
    except TimeoutError:
        raise MedbenchError(
            f"{endpoint} did not answer within {timeout} s: the server is busy or hangs. Wait until it has loaded its "
            "model, or allow more with --timeout."
        ) from None
    except MedbenchError:
        raise
    except Exception as error:  # whatever the provider's client raises, by its own classes
        raise MedbenchError(f"{endpoint} gave no answer: {_cause(error)}") from error
    if output.error:
        raise MedbenchError(f"{endpoint} gave no answer: {_refusal(output.error)}")
    return output


def _likeliest(output: ModelOutput) -> Sequence[TopLogprob]:
    """The likeliest first tokens of an answer, none where the endpoint names none."""
    logprobs = output.choices[0].logprobs if output.choices else None
    return (logprobs.content[0].top_logprobs or []) if logprobs and logprobs.content else []


def _cause(error: BaseException) -> str:
    """What in a chain of errors says most: clients wrap a refusal, or a connection that fails, in several others."""
    chain = [error]
    while (following := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(following)
    refused = next((one for one in chain if hasattr(one, "status_code")), None)
    if refused is not None:
        return _refusal(str(refused))
    inner = chain[-1]
    if "connect" in f"{type(inner).__name__} {inner}".lower():
        return f"nothing listens there ({inner}). Is the server started, and are host, port and /v1 right?"
    return _refusal(str(error)) or type(error).__name__


def _refusal(told: str) -> str:
    """Inspect shows the whole request first, and the server's refusal below it."""
    return told.strip().rpartition("\n\n")[2] if "Request:" in told else told.strip()


def _read(model: str, output: ModelOutput, ids: Mapping[bytes, int]) -> tuple[dict[int, float], int]:
    top = _likeliest(output)
    if not top:
        raise MedbenchError(
            f"{model} answers without log-probabilities, and nothing else tells what it serves. vLLM, SGLang and "
            "llama.cpp give them; transformers serve does not."
        )
    named: dict[int, float] = {}
    unknown = 0
    for entry in top:
        token = ids.get(bytes(entry.bytes) if entry.bytes else entry.token.encode())
        if token is None:
            unknown += 1
        elif entry.logprob > -1e4:  # some servers write -9999 for probability 0
            named.setdefault(token, entry.logprob)
    return named, unknown
