"""Rows -> forward passes.

`ContinuousDecoder` keeps one left-padded batch whose rows leave when they are done and are joined by new ones at any
step. It needs a cache that can be cut and joined by rows and columns: plain attention in every layer. Everything else
(sliding windows, state-space models, models without `position_ids`) goes to `GenerateDecoder`, which lets
`model.generate` drive the same sampler over one batch at a time.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import (
    Cache,
    DynamicCache,
    DynamicLayer,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from medbench.provider.sampling import Row, Sampler

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What a model's forward calls the cache: from transformers 5.24 on, and before (or a model's own code still).
_CACHE = ("cache", "past_key_values")
# Columns that a cache buffer grows by. Larger wastes memory on short answers, smaller copies the cache more often.
SPARE_COLUMNS = 64
# A prompt prefix shared by all rows of an admission is computed once if that saves at least this many tokens.
SHARED_PREFIX_SAVING = 256


class Decoder(Protocol):
    """A batch being decoded."""

    rows: list[Row]

    def add(self, rows: Sequence[Row]) -> None:
        """Let new rows join. May compute their prompts and first tokens."""

    def step(self) -> list[Row]:
        """Go on by at least one token, and return the rows that are done and have left the batch."""

    def clear(self) -> list[Row]:
        """Drop every row without finishing it, and return them."""


def decoder_for(
    model: PreTrainedModel, sampler: Sampler, pad: int, stopped: Callable[[], bool] = lambda: False
) -> ContinuousDecoder | GenerateDecoder:
    """The fastest decoder that this model's cache allows.

    Args:
        model: in evaluation mode.
        sampler: extends the rows.
        pad: a token id to fill up with.
        stopped: whether a step that takes long should break off.
    """
    parameters = inspect.signature(model.forward).parameters
    layers = DynamicCache(config=model.config).layers
    plain = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
    cache = next((name for name in _CACHE if name in parameters), None)
    if plain and cache and {"position_ids", "attention_mask"} <= set(parameters):
        return ContinuousDecoder(model, sampler, pad, cache)
    return GenerateDecoder(model, sampler, pad, stopped)


class _Layer(DynamicLayer):
    """A `DynamicLayer` that writes new columns into spare room of its buffer instead of copying everything."""

    keys: torch.Tensor
    values: torch.Tensor
    length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = [_room(key_states), _room(value_states)]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        for index, new in enumerate((key_states, value_states)):
            if end > self._buffers[index].shape[-2]:
                grown = _room(self._buffers[index], end)
                grown[:, :, : self.length] = self._buffers[index][:, :, : self.length]
                self._buffers[index] = grown
            self._buffers[index][:, :, self.length : end] = new
        self._show(end)
        return self.keys, self.values

    def _show(self, length: int) -> None:
        self.length = length
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def get_seq_length(self) -> int:
        return self.length

    def expand(self, rows: int) -> None:
        self._buffers = [buffer.repeat(rows, 1, 1, 1) for buffer in self._buffers]
        self._show(self.length)

    def select(self, rows: torch.Tensor, start: int) -> None:
        self._buffers = [buffer[rows, :, start:] for buffer in self._buffers]
        self._show(self.length - start)

    def shift(self, columns: torch.Tensor) -> None:
        def moved(states: torch.Tensor) -> torch.Tensor:
            index = columns[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
            buffer = _room(states)
            torch.gather(states, 2, index, out=buffer[:, :, : states.shape[2]])
            return buffer

        self._buffers = [moved(self.keys), moved(self.values)]
        self._show(self.length)

    def join(self, other: _Layer) -> None:
        width = max(self.length, other.length)
        mine, theirs = self.keys.shape[0], other.keys.shape[0]
        joined = []
        for a, b in ((self.keys, other.keys), (self.values, other.values)):
            buffer = a.new_zeros((mine + theirs, a.shape[1], width + SPARE_COLUMNS, a.shape[3]))
            buffer[:mine, :, width - self.length : width] = a
            buffer[mine:, :, width - other.length : width] = b
            joined.append(buffer)
        self._buffers = joined
        self._show(width)


def _room(states: torch.Tensor, columns: int | None = None) -> torch.Tensor:
    """An empty buffer for states of (rows, heads, columns, size), with spare columns."""
    rows, heads, width, size = states.shape
    return states.new_zeros((rows, heads, (columns or width) + SPARE_COLUMNS, size))


class _Filled(Exception):
    """Every layer's keys and values of a prompt are there."""


class _RowCache(Cache):
    """A key-value cache whose rows can be copied, dropped and joined.

    Attributes:
        fill: columns at which a forward pass is ended by `_Filled`, or None.
    """

    layers: list[_Layer]  # type: ignore[assignment]
    fill: int | None = None

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer() for _ in range(layers)])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add columns to one layer."""
        states = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if self.fill is not None and all(layer.length == self.fill for layer in self.layers):
            raise _Filled
        return states

    def expand(self, rows: int) -> None:
        """Give every one of `rows` rows a copy of the only row."""
        for layer in self.layers:
            layer.expand(rows)

    def select(self, rows: torch.Tensor, start: int) -> None:
        """Keep these rows, and drop the columns before `start`."""
        for layer in self.layers:
            layer.select(rows, start)

    def shift(self, columns: torch.Tensor) -> None:
        """Take each row's columns from these places of it, (rows, columns)."""
        for layer in self.layers:
            layer.shift(columns)

    def join(self, other: _RowCache) -> None:
        """Add the rows of `other`, both aligned at their last column."""
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)


class ContinuousDecoder:
    """One batch that rows join and leave at any step.

    The key-value cache is (rows, heads, columns, size), left-padded; `_mask` says which columns a row may see, and a
    token's position is the number of its row's own tokens before it. Padding therefore changes nothing but rounding.

    Args:
        model, sampler, pad: see `decoder_for`.
        cache_name: the argument of the model's forward that takes the cache.
    """

    def __init__(self, model: PreTrainedModel, sampler: Sampler, pad: int, cache_name: str) -> None:
        self.rows: list[Row] = []
        self._model, self._sampler, self._pad, self._cache_name = model, sampler, pad, cache_name
        self._layers = len(DynamicCache(config=model.config).layers)
        self._cache = self._empty()
        self._mask = torch.zeros((0, 0), dtype=torch.long)
        self._last: list[int] = []
        # Only the last position's logits are wanted; most models can be told so.
        keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._extra: dict[str, Any] = {"logits_to_keep": 1} if keep else {}

    def _empty(self) -> _RowCache:
        return _RowCache(self._layers)

    def _forward(
        self, tokens: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor, cache: _RowCache
    ) -> torch.Tensor:
        output = self._model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{self._cache_name: cache},
            **self._extra,
        )
        logits = output.logits
        assert isinstance(logits, torch.Tensor)
        return logits[:, -1]

    def add(self, rows: Sequence[Row]) -> None:
        """Compute the prompts of new rows up to their last tokens, and join the rows to the batch."""
        cache, mask = self._prefill([row.prompt[:-1] for row in rows])
        if self.rows:
            self._cache.join(cache)
            width = max(self._mask.shape[1], mask.shape[1])
            self._mask = torch.cat([_pad_left(self._mask, width), _pad_left(mask, width)])
        else:
            self._cache, self._mask = cache, mask
        self.rows += rows
        self._last += [row.prompt[-1] for row in rows]

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[_RowCache, torch.Tensor]:
        """The cache and mask of prompts, left-padded.

        They are computed right-padded: no token sees what is to its right, so that no mask is needed, without which
        attention is faster.
        """
        device, cache, count = self._model.device, self._empty(), len(prompts)
        shared = _shared_prefix(prompts)
        if shared * (count - 1) >= SHARED_PREFIX_SAVING:
            tokens = torch.tensor([prompts[0][:shared]], device=device)
            self._fill(tokens, torch.arange(shared, device=device)[None], cache)
            cache.expand(count)
        else:
            shared = 0
        width = max(1, *map(len, prompts))  # prompts of a single token get a column that nothing sees
        padding = [width - len(prompt) for prompt in prompts]
        if width > shared:
            tokens = torch.tensor(
                [[*prompt[shared:], *[self._pad] * gap] for gap, prompt in zip(padding, prompts, strict=True)],
                device=device,
            )
            positions = torch.arange(shared, width, device=device)[None].expand(count, -1)
            self._fill(tokens, positions, cache)
        gaps = torch.tensor(padding, device=device)[:, None]
        columns = torch.arange(width, device=device)[None]
        if any(padding):
            cache.shift((columns - gaps).clamp_(min=0))
        return cache, (columns >= gaps).long()

    def _fill(self, tokens: torch.Tensor, positions: torch.Tensor, cache: _RowCache) -> None:
        """Add the columns of tokens to the cache, and compute nothing else.

        Of the last layer only keys and values are needed: its attention and all that follows would be computed for
        nothing.
        """
        cache.fill = cache.get_seq_length() + tokens.shape[1]
        try:
            self._forward(tokens, None, positions, cache)
        except _Filled:
            pass
        finally:
            cache.fill = None

    def step(self) -> list[Row]:
        """Drop the rows that are done, and extend the others by one token each."""
        done = self._drop_done()
        if self.rows:
            device = self._model.device
            positions = self._mask.sum(dim=1, keepdim=True)
            self._mask = torch.cat([self._mask, self._mask.new_ones((len(self.rows), 1))], dim=1)
            tokens = torch.tensor(self._last, device=device)[:, None]
            logits = self._forward(tokens, self._mask, positions, self._cache)
            self._last = self._sampler.extend(self.rows, logits)
            done += self._drop_done()
        return done

    def _drop_done(self) -> list[Row]:
        done = [row for row in self.rows if row.done]
        if not done:
            return done
        keep = [index for index, row in enumerate(self.rows) if not row.done]
        if not keep:
            self.clear()
            return done
        index = torch.tensor(keep, device=self._model.device)
        start = max(0, self._mask.shape[1] - max(len(self.rows[i].prompt) + len(self.rows[i].generated) for i in keep))
        self._mask = self._mask[index, start:]
        self._cache.select(index, start)
        self.rows = [self.rows[i] for i in keep]
        self._last = [self._last[i] for i in keep]
        return done

    def clear(self) -> list[Row]:
        """Drop every row, and the cache."""
        rows, self.rows, self._last = self.rows, [], []
        self._cache, self._mask = self._empty(), self._mask[:0, :0]
        return rows


class GenerateDecoder:
    """One batch at a time through `model.generate`, for caches that cannot be cut or joined.

    `generate` only drives: a logits processor runs the sampler and leaves it no choice, so that seeds, stop sequences
    and log-probabilities mean the same as in `ContinuousDecoder`.
    """

    def __init__(
        self, model: PreTrainedModel, sampler: Sampler, pad: int, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self.rows: list[Row] = []
        self._model, self._sampler, self._pad, self._stopped = model, sampler, pad, stopped

    def add(self, rows: Sequence[Row]) -> None:
        """Put rows into the next batch."""
        self.rows += rows

    def step(self) -> list[Row]:
        """Generate the whole batch, and return the rows that are done: all, unless it was stopped."""
        rows = self.rows
        width = max(len(row.prompt) for row in rows)
        tokens = torch.tensor([[self._pad] * (width - len(row.prompt)) + list(row.prompt) for row in rows])
        lengths = torch.tensor([[len(row.prompt)] for row in rows])
        mask = (torch.arange(width)[None] >= width - lengths).long()
        driver = _Driver(rows, self._sampler)
        device = self._model.device
        generate: Any = self._model.generate
        generate(
            input_ids=tokens.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max(row.decoding.max_tokens for row in rows),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            num_beams=1,
            repetition_penalty=None,
            no_repeat_ngram_size=None,
            eos_token_id=None,
            pad_token_id=self._pad,
            logits_processor=LogitsProcessorList([driver]),
            stopping_criteria=StoppingCriteriaList([_Done(rows, self._stopped)]),
        )
        self.rows = [row for row in rows if not row.done]
        return [row for row in rows if row.done]

    def clear(self) -> list[Row]:
        """Drop the rows that wait."""
        rows, self.rows = self.rows, []
        return rows


class _Driver(LogitsProcessor):
    def __init__(self, rows: Sequence[Row], sampler: Sampler) -> None:
        self.rows, self.sampler = rows, sampler

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = torch.tensor(self.sampler.extend(self.rows, scores), device=scores.device)
        forced = torch.full_like(scores, float("-inf"))
        return forced.scatter_(1, chosen[:, None], 0.0)


class _Done(StoppingCriteria):
    def __init__(self, rows: Sequence[Row], stopped: Callable[[], bool]) -> None:
        self.rows, self.stopped = rows, stopped

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        stopped = self.stopped()
        return torch.tensor([row.done or stopped for row in self.rows], device=input_ids.device)


def score_continuations(
    model: PreTrainedModel, prompt: Sequence[int], continuations: Sequence[Sequence[int]], pad: int
) -> list[float]:
    """log P(continuation | prompt) of each continuation, natural log, summed over its tokens.

    One forward pass over right-padded rows: causal attention keeps the padding out of every position that is read.
    """
    width = max(map(len, continuations))
    rows = [[*prompt, *tokens] + [pad] * (width - len(tokens)) for tokens in continuations]
    tokens = torch.tensor(rows, device=model.device)
    logits = model(input_ids=tokens, use_cache=False).logits[:, len(prompt) - 1 : -1]
    logprobs = logits.float().log_softmax(dim=-1).gather(2, tokens[:, len(prompt) :, None])[..., 0]
    return [float(line[: len(own)].sum()) for line, own in zip(logprobs, continuations, strict=True)]


def cache_bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of key-value cache that one token of one row takes, from the configuration."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", 1)
    head_dim = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 1) // heads
    key_value_heads = getattr(config, "num_key_value_heads", None) or heads
    layers = getattr(config, "num_hidden_layers", 1)
    return int(2 * layers * key_value_heads * head_dim * model.dtype.itemsize)


def default_cache_bytes(device: torch.device) -> int:
    """Memory for the key-value cache: 60% of what is free on a CUDA device, else a quarter of the machine's memory.

    The rest is room for activations, and for the copy that a growing layer makes.
    """
    if device.type == "cuda":
        return int(0.6 * torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def _shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the prefix that all prompts share."""
    first, last = min(map(list, prompts)), max(map(list, prompts))
    limit = min(map(len, prompts))
    for index in range(limit):
        if first[index] != last[index]:
            return index
    return limit


def _pad_left(mask: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (width - mask.shape[1], 0))
