"""How probable the model finds the tokens of a prompt: their log-probabilities, and the moments of each prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits in one pass, rows x columns x vocabulary: 256 MB in float32 on a CPU, of which a few copies are made.
LOGITS = {"cpu": 2**26, "cuda": 2**29}


@dataclass(frozen=True)
class PromptScores:
    """Of every token of a prompt but the first, which nothing predicts. Natural logarithms.

    Attributes:
        logprobs: log p(token | the tokens before it).
        mean: mean of log p over the vocabulary, weighted by p: the negative entropy of the prediction.
        deviation: standard deviation of log p over the vocabulary, weighted by p.
        top: the likeliest tokens with their log-probabilities, likeliest first.
    """

    logprobs: list[float]
    mean: list[float]
    deviation: list[float]
    top: list[list[tuple[int, float]]]


def score_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad: int, *, top: int = 1
) -> list[PromptScores]:
    """Score the tokens of prompts, several in a pass; causal attention keeps the padding out of what is read.

    Args:
        model: in evaluation mode.
        prompts: token ids, each at least one.
        pad: a token id to fill up with.
        top: how many of the likeliest tokens to return per position, at least 1.
    """
    found: dict[int, PromptScores] = {}
    size = int(model.config.get_text_config(decoder=True).vocab_size)
    budget = LOGITS.get(model.device.type, LOGITS["cpu"]) // size
    for group in _groups(prompts, budget):
        width = len(prompts[group[0]])
        rows = [[*prompts[i], *[pad] * (width - len(prompts[i]))] for i in group]
        tokens = torch.tensor(rows, device=model.device)
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1].float()
        logprobs = logits.log_softmax(dim=-1)
        own = logprobs.gather(2, tokens[:, 1:, None])[..., 0].tolist()
        mean, deviation = (part.tolist() for part in moments(logprobs))
        values, ids = (part.tolist() for part in logprobs.topk(min(top, size), dim=-1))
        for row, index in enumerate(group):
            end = len(prompts[index]) - 1
            likeliest = [list(zip(*pair, strict=True)) for pair in zip(ids[row][:end], values[row][:end], strict=True)]
            found[index] = PromptScores(own[row][:end], mean[row][:end], deviation[row][:end], likeliest)
    return [found[index] for index in range(len(prompts))]


def moments(logprobs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of log p under p itself, over the last dimension: mu and sigma of Min-K%++.

    Zhang et al. 2024 (2404.02936), equation 3.
    """
    probabilities = logprobs.exp()
    finite = torch.where(probabilities > 0, logprobs, 0.0)  # p log p is 0 where p is 0
    mean = (probabilities * finite).sum(-1)
    variance = (probabilities * (finite - mean[..., None]).square()).sum(-1)
    return mean, variance.sqrt()


def _groups(prompts: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Indices of prompts, longest first, in groups of at most `budget` columns with padding."""
    group: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        if group and len(prompts[group[0]]) * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
