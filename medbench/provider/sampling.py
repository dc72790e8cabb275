"""Logits -> tokens: greedy or sampled, log-probabilities, stop reasons. One row is one completion being written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from medbench.provider.errors import ProviderError
from medbench.provider.prompt_scores import PromptScores

StopReason = Literal["stop", "max_tokens", "model_length"]


@dataclass(frozen=True)
class Decoding:
    """How to choose tokens.

    Attributes:
        max_tokens: at most this many new tokens; 0 only where nothing but the prompt's scores are wanted.
        temperature: 0 is greedy; otherwise the logits are divided by it.
        top_p: nucleus: the most probable tokens whose probabilities before the last one sum to less than this.
        top_k: only this many most probable tokens; None for all.
        seed: of the row's own generator; used only when temperature > 0.
        stop_seqs: texts that end the completion, and are cut off it.
        logprobs: record each token's log-probability (natural log, under the model itself: before temperature).
        top_logprobs: and those of this many most probable tokens.
        choices: token ids of continuations of the prompt whose log-probabilities are wanted.
        prompt_logprobs: score the prompt's own tokens, with this many of the likeliest ones; 0 does not.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    stop_seqs: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    choices: tuple[tuple[int, ...], ...] = ()
    prompt_logprobs: int = 0


@dataclass(frozen=True)
class TokenLogprob:
    """The log-probability of a generated token, and the most probable alternatives, most probable first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(eq=False)
class Row:
    """One completion being written.

    Attributes:
        prompt: token ids.
        decoding: how to choose tokens.
        generated: token ids so far, the end-of-text token included.
        logprobs: one for each generated token, where asked for.
        choice_logprobs: one for each of `decoding.choices`.
        prompt_scores: of the prompt's tokens, where asked for.
        stop_reason: None while it is being written.
        error: what ended it, if it failed.
    """

    prompt: Sequence[int]
    decoding: Decoding
    generated: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    choice_logprobs: list[float] = field(default_factory=list)
    prompt_scores: PromptScores | None = None
    stop_reason: StopReason | None = None
    error: Exception | None = None
    _generator: torch.Generator | None = None

    @property
    def done(self) -> bool:
        """Nothing more will be generated."""
        return self.stop_reason is not None or self.error is not None

    def restart(self) -> None:
        """Forget what was written; the same tokens will come again."""
        self.generated, self.logprobs, self.choice_logprobs = [], [], []
        self.stop_reason = self.error = self._generator = None
        self.prompt_scores = None

    def uniform(self) -> float:
        """The next number in [0, 1) of the row's own generator, whatever its neighbours in the batch draw."""
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self.decoding.seed)
        return torch.rand((), generator=self._generator, dtype=torch.float64).item()


class Sampler:
    """Extends rows by one token each.

    Args:
        eos: token ids that end a completion.
        context: the longest sequence of prompt and completion that the model takes, in tokens; None without a limit.
        decode: token ids -> text, needed for stop sequences.
        score: (prompt, continuations) -> their log-probabilities, needed for continuations of several tokens.
    """

    def __init__(
        self,
        eos: frozenset[int],
        context: int | None,
        decode: Callable[[Sequence[int]], str],
        score: Callable[[Sequence[int], Sequence[Sequence[int]]], list[float]],
    ) -> None:
        self.eos, self.context = eos, context
        self._decode, self._score = decode, score

    def extend(self, rows: Sequence[Row], logits: torch.Tensor) -> list[int]:
        """Append the next token to every row that is not done, and return the token of every row.

        Args:
            rows: the batch.
            logits: (rows, vocabulary), of the last position.
        """
        logits = logits.float()
        best, tokens = logits.max(dim=-1)
        chosen = tokens.tolist()
        finite = torch.isfinite(best).tolist()  # NaN anywhere in a row makes its maximum NaN
        for row, ok in zip(rows, finite, strict=True):
            if not ok and not row.done:
                row.error = ProviderError(
                    f"the model's logits are not finite at token {len(row.generated) + 1} after a prompt of "
                    f"{len(row.prompt)}: its weights are damaged or overflow in this precision; try -M dtype=float32"
                )
        live = [index for index, row in enumerate(rows) if not row.done]
        sampled = [index for index in live if rows[index].decoding.temperature > 0]
        if sampled:
            for index, token in zip(sampled, sample(logits[sampled], [rows[i] for i in sampled]), strict=True):
                chosen[index] = token
        self._record(rows, live, logits, chosen)
        for index in live:
            rows[index].generated.append(chosen[index])
            rows[index].stop_reason = self._stop(rows[index])
        return chosen

    def _record(self, rows: Sequence[Row], live: list[int], logits: torch.Tensor, chosen: list[int]) -> None:
        wanted = [i for i in live if rows[i].decoding.logprobs or (rows[i].decoding.choices and not rows[i].generated)]
        if not wanted:
            return
        logprobs = logits[wanted].log_softmax(dim=-1)
        width = max(rows[i].decoding.top_logprobs for i in wanted)
        top_values, top_tokens = (part.tolist() for part in logprobs.topk(min(width, logprobs.shape[-1]), dim=-1))
        own = logprobs.gather(1, torch.tensor([[chosen[i]] for i in wanted], device=logprobs.device)).flatten().tolist()
        for place, index in enumerate(wanted):
            row = rows[index]
            if row.decoding.logprobs:
                pairs = zip(top_tokens[place], top_values[place], strict=True)
                top = tuple(pairs)[: row.decoding.top_logprobs]
                row.logprobs.append(TokenLogprob(chosen[index], own[place], top))
            choices = row.decoding.choices
            if choices and not row.generated:
                if all(len(choice) == 1 for choice in choices):
                    row.choice_logprobs = logprobs[place, [choice[0] for choice in choices]].tolist()
                else:
                    row.choice_logprobs = self._score(row.prompt, choices)

    def _stop(self, row: Row) -> StopReason | None:
        if row.generated[-1] in self.eos:
            return "stop"
        if row.decoding.stop_seqs and self._stops_in_text(row):
            return "stop"
        if len(row.generated) >= row.decoding.max_tokens:
            return "max_tokens"
        if self.context is not None and len(row.prompt) + len(row.generated) >= self.context:
            return "model_length"
        return None

    def _stops_in_text(self, row: Row) -> bool:
        # A token writes at least one byte, so a stop sequence that the newest token completes lies within as many
        # tokens as it has bytes; a few more cover tokens that write nothing. Only a hit decodes the whole text.
        reach = max(len(text.encode()) for text in row.decoding.stop_seqs) + 8
        tail = self._decode(row.generated[-reach:])
        if not any(text in tail for text in row.decoding.stop_seqs):
            return False
        whole = self._decode(row.generated)
        return any(text in whole for text in row.decoding.stop_seqs)


def sample(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """One token per row by temperature, then top-k, then top-p, in the order and with the meaning of transformers.

    The token is where a uniform number of the row's own generator falls in the cumulative distribution, most probable
    token first: a row's tokens depend on its seed and its own logits only.

    Args:
        logits: (rows, vocabulary), float32.
        rows: their settings and generators.
    """
    device, size = logits.device, logits.shape[-1]
    settings = [row.decoding for row in rows]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=device)[:, None]

    ordered, tokens = (logits / column([s.temperature for s in settings])).sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(size, device=device)[None]
    ordered = ordered.masked_fill(rank >= column([float(s.top_k or size) for s in settings]), -math.inf)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    limits = column([s.top_p if s.top_p < 1 else math.inf for s in settings])
    nucleus = ((before < limits) & (probabilities > 0)) | (rank == 0)
    cumulative = probabilities.masked_fill(~nucleus, 0.0).cumsum(dim=-1)
    target = column([row.uniform() for row in rows]) * cumulative[:, -1:]
    # Searching to the right skips tokens of zero probability; rounding may still put the target on the very end.
    place = torch.searchsorted(cumulative, target, right=True).clamp_(max=size - 1)
    place = torch.minimum(place, nucleus.sum(dim=-1, keepdim=True) - 1)
    return [int(token) for token in tokens.gather(1, place).flatten().tolist()]
