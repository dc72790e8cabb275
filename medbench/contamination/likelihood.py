"""Texts -> log-probabilities of their tokens. The tests ask through `Likelihoods`; any provider may answer.

`InspectLikelihoods` fills it from Inspect's `prompt_logprobs`: the in-process provider, and completion endpoints of
vLLM and of servers that return the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from medbench.errors import MedbenchError
from medbench.provider.known import provider_of, with_text_logprobs

if TYPE_CHECKING:
    from inspect_ai.model import Model, ModelOutput

CHUNK = 512  # requests under way at a time

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tokens:
    """The tokens of one part of a text. A text's very first token may be missing: nothing predicts it.

    Attributes:
        logprobs: natural log-probability of each, given all before it in the text, (n,).
        greedy: whether each is the likeliest there, (n,).
        mean: mean of log p over the vocabulary under p, (n,); None where the provider has no such thing.
        deviation: its standard deviation, (n,), or None.
    """

    logprobs: np.ndarray
    greedy: np.ndarray
    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.logprobs)


class Likelihoods(Protocol):
    """What can score texts: a model behind some provider.

    Attributes:
        name: the model's.
        context: the longest text it takes, in tokens, or None.
    """

    name: str
    context: int | None

    def score(
        self, texts: Sequence[Sequence[str]], progress: Progress = lambda done, total: None
    ) -> list[tuple[Tokens, ...] | None]:
        """Score texts given in parts, which are joined as they stand: the tokens of each part; None for a text that is
        longer than the model's context."""


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Parts as one."""
    whole = [part for part in parts if len(part)]
    moments = bool(whole) and all(part.mean is not None for part in whole)
    return Tokens(
        np.concatenate([part.logprobs for part in parts]) if parts else np.zeros(0),
        np.concatenate([part.greedy for part in parts]) if parts else np.zeros(0, bool),
        np.concatenate([part.mean for part in whole if part.mean is not None]) if moments else None,
        np.concatenate([part.deviation for part in whole if part.deviation is not None]) if moments else None,
    )


def split(tokens: Tokens, lengths: Sequence[int]) -> tuple[Tokens, ...]:
    """Cut tokens into parts of these lengths, in tokens."""
    ends = np.cumsum(lengths).tolist()
    cuts = list(zip([0, *ends[:-1]], ends, strict=True))
    return tuple(
        Tokens(
            tokens.logprobs[a:b],
            tokens.greedy[a:b],
            None if tokens.mean is None else tokens.mean[a:b],
            None if tokens.deviation is None else tokens.deviation[a:b],
        )
        for a, b in cuts
    )


class InspectLikelihoods:
    """An Inspect model as `Likelihoods`, through `GenerateConfig.prompt_logprobs`.

    The in-process provider is asked in token ids, each part tokenized by itself, so that a part has the same tokens
    whatever stands around it. Other endpoints are asked in text, and their tokens are laid along it.

    Raises:
        MedbenchError: the provider returns no log-probabilities of a prompt, or puts a chat template around it.
    """

    def __init__(self, model: Model) -> None:
        provider = provider_of(model)
        if not provider.text_logprobs:
            raise MedbenchError(
                f"{model}: the {provider.name} provider returns no log-probabilities of a plain text's tokens, "
                f"which these tests need. Providers that do: {with_text_logprobs()}. A model on a vLLM server: "
                "vllm-completions/NAME with --model-base-url; weights at hand: medbench/DIR_OR_HUB_ID."
            )
        self.name, self._model = str(model), model
        # One event loop for all calls: an endpoint's client keeps connections, which belong to the loop they began in
        self._runner = asyncio.Runner()
        self._start: list[int] | None = None
        self.context: int | None = None
        if provider.name == "medbench":
            api: Any = model.api
            self._start, self.context = api.prompt_start(), api.engine.context

    def score(
        self, texts: Sequence[Sequence[str]], progress: Progress = lambda done, total: None
    ) -> list[tuple[Tokens, ...] | None]:
        """See `Likelihoods.score`.

        Raises:
            MedbenchError: the endpoint returned no prompt log-probabilities, or tokens that are not the text's.
        """
        return self._runner.run(self._score(texts, progress))

    def close(self) -> None:
        """End the event loop; nothing can be scored afterwards."""
        self._runner.close()

    async def _score(self, texts: Sequence[Sequence[str]], progress: Progress) -> list[tuple[Tokens, ...] | None]:
        done: list[tuple[Tokens, ...] | None] = []
        for start in range(0, len(texts), CHUNK):
            ask = self._of_text if self._start is None else self._of_ids
            done += await asyncio.gather(*(ask(parts) for parts in texts[start : start + CHUNK]))
            progress(len(done), len(texts))
        return done

    async def _of_ids(self, parts: Sequence[str]) -> tuple[Tokens, ...] | None:
        from inspect_ai.model import ChatMessageUser, GenerateConfig

        ids = [await self._model.api.tokenize(part) if part else [] for part in parts]
        prompt = [*(self._start or []), *(token for part in ids for token in part)]
        if len(prompt) < 2:
            return split(Tokens(np.zeros(0), np.zeros(0, bool)), [0] * len(parts))
        if self.context is not None and len(prompt) >= self.context:
            return None
        config = GenerateConfig(prompt_logprobs=1, extra_body={"medbench": {"prompt_only": True}})
        message = ChatMessageUser(content="", metadata={"prompt_token_ids": prompt})
        output = await self._model.generate([message], config=config)
        lengths = [len(part) for part in ids]
        if not self._start:  # nothing predicts the first token
            lengths[next(place for place, length in enumerate(lengths) if length)] -= 1
        return split(_tokens(output), lengths)

    async def _of_text(self, parts: Sequence[str]) -> tuple[Tokens, ...] | None:
        from inspect_ai.model import GenerateConfig

        text = "".join(parts)
        output = await self._model.generate(text, config=GenerateConfig(prompt_logprobs=1, max_tokens=1, temperature=0))
        if output.stop_reason == "model_length" and not (output.choices and output.choices[0].prompt_logprobs):
            return None
        tokens = _tokens(output)
        entries = output.choices[0].prompt_logprobs.content  # type: ignore[union-attr]
        return split(tokens, lay_along([entry.token for entry in entries], parts, self.name))


def _tokens(output: ModelOutput) -> Tokens:
    found = output.choices[0].prompt_logprobs if output.choices else None
    if found is None:
        raise MedbenchError(
            f"{output.model} returned no log-probabilities of the prompt ({output.error or 'without an error'}). Does "
            "the server support prompt_logprobs (vLLM and SGLang do)?"
        )
    moments = (output.metadata or {}).get("prompt_moments") or {}
    greedy = [all(top.logprob <= entry.logprob for top in entry.top_logprobs or []) for entry in found.content]
    return Tokens(
        np.array([entry.logprob for entry in found.content]),
        np.array(greedy, dtype=bool),
        np.array(moments["mean"]) if moments else None,
        np.array(moments["deviation"]) if moments else None,
    )


def lay_along(tokens: Sequence[str], parts: Sequence[str], name: str = "the endpoint") -> list[int]:
    """How many of an endpoint's tokens belong to each part of a text; a token belongs where it begins.

    The text's first tokens may be missing, so tokens are laid along it from its end. Tokens that hold part of a
    character come as U+FFFD; the next whole token shows how far they reach together.

    Raises:
        MedbenchError: the tokens do not spell the text.
    """
    text = "".join(parts)
    starts: list[int] = []  # from the last token to the first
    broken, end = 0, len(text)
    for token in reversed(tokens):
        if "\ufffd" in token:
            broken += 1
            continue
        place = text.rfind(token, 0, end) if broken else end - len(token)
        if place < 0 or not text.startswith(token, place):
            around = text[max(0, end - 20) : end]
            raise MedbenchError(
                f"{name} returned tokens that do not spell the text: {token!r} where it has {around!r}."
            )
        starts += _shared(place + len(token), end, broken)
        starts.append(place)
        broken, end = 0, place
    starts += _shared(0, end, broken)
    ends = np.cumsum([len(part) for part in parts])
    owners = np.searchsorted(ends, starts, side="right").clip(max=len(parts) - 1)
    return [int((owners == part).sum()) for part in range(len(parts))]


def _shared(start: int, end: int, tokens: int) -> list[int]:
    """Where tokens begin that share the characters from `start` to `end`, the last one first."""
    return [start + (end - start) * place // tokens for place in reversed(range(tokens))]
