"""Token log-probabilities in Inspect's own types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from inspect_ai.model import Logprob, Logprobs, TopLogprob

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from medbench.provider.sampling import Row


def of_completion(row: Row, tokenizer: PreTrainedTokenizerBase) -> Logprobs:
    """Of every generated token, with the likeliest ones."""
    return Logprobs(content=[_entry(e.token, e.logprob, e.top, tokenizer) for e in row.logprobs])


def of_prompt(row: Row, tokenizer: PreTrainedTokenizerBase) -> Logprobs:
    """Of the prompt's tokens from the second on, each with the likeliest tokens other than itself.

    So Inspect keeps what vLLM returns: a token without `top_logprobs` is the likeliest one itself.
    """
    scores = row.prompt_scores
    assert scores is not None
    content = []
    wanted = row.decoding.prompt_logprobs
    tops = zip(scores.top_tokens[:, :wanted].tolist(), scores.top_logprobs[:, :wanted].tolist(), strict=True)
    for token, logprob, top in zip(row.prompt[1:], scores.logprobs.tolist(), tops, strict=True):
        others = [pair for pair in zip(*top, strict=True) if pair[0] != token]
        content.append(_entry(token, logprob, others, tokenizer))
    return Logprobs(content=content)


def _entry(token: int, logprob: float, top: Iterable[tuple[int, float]], tokenizer: PreTrainedTokenizerBase) -> Logprob:
    likeliest = [TopLogprob(**_named(*pair, tokenizer)) for pair in top]
    return Logprob(**_named(token, logprob, tokenizer), top_logprobs=likeliest or None)


def _named(token: int, logprob: float, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    # A token that holds part of a character has no text of its own, hence no bytes that could be read off it.
    return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}
