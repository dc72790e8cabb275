"""How probable the model finds the tokens of a prompt: their log-probabilities, and the moments of each prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits in one pass, rows x columns x vocabulary: 64 MB in float32 on a CPU, where more only leaves its caches.
LOGITS = {"cpu": 2**24, "cuda": 2**29}


@dataclass(frozen=True)
class PromptScores:
    """Of every token of a prompt but the first, which nothing predicts. Natural logarithms, float32.

    Attributes:
        logprobs: log p(token | the tokens before it), (n - 1,).
        mean: mean of log p over the vocabulary, weighted by p: the negative entropy of the prediction, (n - 1,).
        deviation: standard deviation of log p over the vocabulary, weighted by p, (n - 1,).
        top_tokens: the likeliest tokens, likeliest first, (n - 1, top).
        top_logprobs: theirs, (n - 1, top).
    """

    logprobs: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    top_tokens: np.ndarray
    top_logprobs: np.ndarray


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
        total = logits.logsumexp(dim=-1)
        own = logits.gather(2, tokens[:, 1:, None])[..., 0] - total
        best = logits.max(dim=-1, keepdim=True) if top == 1 else logits.topk(min(top, size), dim=-1)
        parts = (own, *moments(logits, total), best[1], best[0] - total[..., None])
        arrays = [part.cpu().numpy() for part in parts]
        for row, index in enumerate(group):
            found[index] = PromptScores(*(array[row, : len(prompts[index]) - 1] for array in arrays))
    return [found[index] for index in range(len(prompts))]


def moments(logits: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of log p under p itself, over the last dimension: mu and sigma of Min-K%++.

    Zhang et al. 2024 (2404.02936), equation 3.

    Args:
        logits: (..., vocabulary).
        total: their logsumexp, (...).
    """
    # Where p rounds to 0, p log p is 0, also for logits of minus infinity
    logprobs = (logits - total[..., None]).clamp_(min=-200.0)
    probabilities = logprobs.exp()
    mean = torch.einsum("...v,...v->...", probabilities, logprobs)
    centred = logprobs.sub_(mean[..., None])
    variance = torch.einsum("...v,...v->...", probabilities.mul_(centred), centred)
    return mean, variance.clamp_(min=0).sqrt()


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
