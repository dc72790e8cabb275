"""Log-probabilities of tokens -> how much they look like seen text. Pure functions of arrays; natural logarithms."""

from __future__ import annotations

import numpy as np

MIN_K_SHARE = 0.2  # of the tokens, the least probable ones; the share that 2310.16789 and 2404.02936 recommend
CODEC_SKIP = 10  # tokens at a target's start left out of its mean: there any context helps


def min_k_plus_plus(logprobs: np.ndarray, mean: np.ndarray, deviation: np.ndarray, share: float = MIN_K_SHARE) -> float:
    """Min-K%++ of a text: the mean over its `share` lowest tokens of (log p - mu) / sigma.

    Zhang et al., 2404.02936, equations 3 and 4: mu and sigma are the mean and standard deviation of log p over the
    vocabulary at each position, weighted by p. As in the authors' code the number of tokens is rounded down (but one at
    least). A position whose prediction is certain has sigma 0 and counts as 0.

    Args:
        logprobs: of the text's tokens, (n,).
        mean: mu of each, (n,).
        deviation: sigma of each, (n,).
        share: of the tokens, in (0, 1].
    """
    z = np.divide(logprobs - mean, deviation, out=np.zeros_like(logprobs), where=deviation > 1e-6)
    return _lowest(z, share)


def min_k(logprobs: np.ndarray, share: float = MIN_K_SHARE) -> float:
    """Min-K% of a text: the mean of its `share` lowest log-probabilities. Shi et al., 2310.16789."""
    return _lowest(logprobs, share)


def _lowest(values: np.ndarray, share: float) -> float:
    if not len(values):
        return float("nan")
    return float(np.sort(values)[: max(1, int(len(values) * share))].mean())


def codec_change(alone: np.ndarray, in_context: np.ndarray, skip: int = CODEC_SKIP) -> float:
    """What examples of the same set add to a text's mean log-probability per token; negative speaks for a leak.

    CoDeC, Zawalski et al., 2510.27055: context helps with what is new and disturbs what is memorised. The first `skip`
    tokens are left out, a quarter of a text at most.

    Args:
        alone: log-probabilities of the text's tokens without context, (n,).
        in_context: of the same tokens after an example, (n,).
        skip: tokens.
    """
    start = min(skip, len(alone) // 4)
    if len(alone) == 0:
        return float("nan")
    return float(in_context[start:].mean() - alone[start:].mean())


def verbatim_run(greedy: np.ndarray) -> tuple[int, float]:
    """How far a greedy completion of a text's first half repeats its second half: (tokens, share of the half).

    A greedy completion writes the likeliest token each time, so that it repeats the text as long as the text's tokens
    are the likeliest: no generation is needed.

    Args:
        greedy: whether each of the text's tokens is the likeliest after those before it, (n,).
    """
    half = greedy[len(greedy) // 2 :]
    if not len(half):
        return 0, float("nan")
    misses = np.flatnonzero(~half)
    run = int(misses[0]) if len(misses) else len(half)
    return run, run / len(half)
