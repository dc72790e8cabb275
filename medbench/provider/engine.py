"""The worker that owns a model: a thread which batches requests from any number of Inspect models and tasks.

Requests come from event loops through `Engine.submit`, which never blocks; answers go back through each request's
`on_done`, called on the worker thread. One engine per base model and process: `acquire` and `release` count its users.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from medbench.provider.decoding import (
    ContinuousDecoder,
    cache_bytes_per_token,
    decoder_for,
    default_cache_bytes,
    score_continuations,
)
from medbench.provider.errors import ProviderError
from medbench.provider.loading import Source, collect_as_before, collect_less_often, collector_paused, load
from medbench.provider.prompt_scores import score_prompts
from medbench.provider.sampling import Row, Sampler

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medbench.merging.live import LiveWeights

logger = logging.getLogger(__name__)

# An idle engine starts a batch when it is full, or when what feeds it has gone quiet: so many rounds of this length, in
# each of which the process worked less than this. A batch of one costs nearly as much as a full one, and on a busy
# machine Inspect may need 20 ms and more from one sample to the next.
QUIET_ROUNDS, ROUND_SECONDS, IDLE_SECONDS = 2, 0.005, 0.001
# Without a new request for so long the batch starts anyway: the loop is at work on something else.
PATIENCE_SECONDS = 0.5
# A running batch takes new rows when a quarter of it is free and would be filled, or else after this many steps; one
# that ends within so many steps anyway is let run out, so that the next one starts full.
ADMIT_EVERY, RUN_OUT = 8, 32
# Tokens, padding included, in one prefill pass: bounds the memory of activations.
PREFILL_TOKENS = {"cpu": 8_192, "cuda": 65_536}
# On a CPU, models of fewer parameters run on one thread. Their operations take so little time that threads mostly wait
# for each other, and where other processes use the cores, they wait for whole time slices: 64 exam questions to the
# micro-lab (0.4 million) took 7 to 11 s on two threads of a busy two-core machine, and 1.5 s on one.
ONE_THREAD_BELOW = 5_000_000
_THREADS = torch.get_num_threads()  # what torch or OMP_NUM_THREADS say; a thread that starts later inherits the latest


@dataclass(frozen=True)
class Candidate:
    """Weights that the base can be given: requests of different candidates never share a batch.

    Attributes:
        name: identifies the candidate within its engine.
        apply: puts its weights into the model; called on the worker thread, between batches.
    """

    name: str
    apply: Callable[[PreTrainedModel], None]


BASE = Candidate("base", lambda model: None)


@dataclass(eq=False)
class Request:
    """One call of `generate`: as many rows as choices.

    Attributes:
        rows: what is to be written, all on the same prompt.
        on_done: called once, on the worker thread, when every row is done.
        call_soon: runs a function on the caller's event loop after all that is ready there; called from any thread.
        candidate: the weights to use.
        cancelled: set by the caller to have the rows dropped at the next step.
    """

    rows: list[Row]
    on_done: Callable[[], None]
    call_soon: Callable[[Callable[[], None]], object] = lambda function: function()
    candidate: Candidate = BASE
    cancelled: bool = False
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.rows)


@dataclass(frozen=True)
class Limits:
    """What bounds a batch.

    Attributes:
        rows: completions written at the same time.
        cache_bytes: memory of the key-value cache; None takes `decoding.default_cache_bytes`.
    """

    rows: int = 64
    cache_bytes: int | None = None


class Engine:
    """One model in memory and the thread that runs it.

    Args:
        model: in evaluation mode.
        tokenizer: the model's own; never changed here.
        limits: bounds of a batch.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limits: Limits | None = None
    ) -> None:
        self.model, self.tokenizer, self.limits = model, tokenizer, limits or Limits()
        self._stop = False
        self.context = _context_length(model)
        self.eos = _end_tokens(model, tokenizer)
        pad = tokenizer.pad_token_id
        pad = next(iter(self.eos), 0) if pad is None else pad
        self._pad = pad
        self._sampler = Sampler(
            self.eos, self.context, self._decode_on_worker, lambda p, c: score_continuations(model, p, c, pad)
        )
        self._decoder = decoder_for(model, self._sampler, pad, lambda: self._stop)
        budget = self.limits.cache_bytes or default_cache_bytes(model.device)
        self._bytes_per_token = cache_bytes_per_token(model)
        self._cache_tokens = max(1, budget // self._bytes_per_token)
        self._prefill_tokens = PREFILL_TOKENS.get(model.device.type, PREFILL_TOKENS["cpu"])
        self._news = threading.Condition()
        self._inbox: deque[Request] = deque()
        # Owned by the worker thread: rows not yet in a batch, and the request that each row belongs to.
        self._waiting: list[Row] = []
        self._joining: deque[list[Row]] = deque()  # what is being let in, by prefill pass
        self._owner: dict[int, Request] = {}
        # Set with the first candidate of adapters (provider/candidates.py): what changes and restores the weights.
        self.live: LiveWeights | None = None
        self.base = BASE
        self._candidate: Candidate | None = BASE
        self._steps_since_admission = 0
        self._worker = threading.Thread(target=self._run, name="medbench-engine", daemon=True)
        self._worker.start()

    @property
    def continuous(self) -> bool:
        """Whether rows join and leave running batches (else batches go through `model.generate`)."""
        return isinstance(self._decoder, ContinuousDecoder)

    def submit(self, request: Request) -> None:
        """Queue a request, from any thread."""
        with self._news:
            if self._stop:
                raise ProviderError("this model has been closed; get it again with get_model().")
            self._inbox.append(request)
            self._news.notify()

    def with_weights(self, candidate: Candidate) -> EngineView:
        """This engine under other weights: the same model in memory, which the worker switches between batches."""
        return EngineView(self, candidate)

    def close(self) -> None:
        """Stop the worker after the step it is in; whatever is unfinished fails."""
        with self._news:
            self._stop = True
            self._news.notify()
        if threading.current_thread() is not self._worker:
            self._worker.join()

    @cached_property
    def kept_special_tokens(self) -> frozenset[int]:
        """Special tokens that stay in the text: the tags of a reasoning trace, which some models mark as special."""
        tokens = self.tokenizer.convert_ids_to_tokens(self.tokenizer.all_special_ids)
        pairs = zip(self.tokenizer.all_special_ids, tokens, strict=True)
        return frozenset(number for number, token in pairs if "think" in str(token).lower())

    @cached_property
    def dropped_tokens(self) -> frozenset[int]:
        """Special tokens that are no part of a completion's text."""
        return frozenset(self.tokenizer.all_special_ids) - self.kept_special_tokens

    def decode(self, tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase | None = None) -> str:
        """The text of generated tokens, without special tokens other than trace tags."""
        kept = [token for token in tokens if token not in self.dropped_tokens]
        text = (tokenizer or self.tokenizer).decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    @cached_property
    def _workers_tokenizer(self) -> PreTrainedTokenizerBase:
        # A fast tokenizer must not be used from two threads at once.
        return copy.deepcopy(self.tokenizer)

    def _decode_on_worker(self, tokens: Sequence[int]) -> str:
        return self.decode(tokens, self._workers_tokenizer)

    # The worker thread.

    def _run(self) -> None:
        problem: Exception = ProviderError("the model was closed before this request was done.")
        if self.model.device.type == "cpu":  # counts for this thread alone
            torch.set_num_threads(1 if self.model.num_parameters() < ONE_THREAD_BELOW else _THREADS)
        try:
            with torch.inference_mode():
                while self._collect():
                    self._advance()
        except Exception as error:  # a defect here must not leave anybody waiting
            logger.exception("the worker of a medbench model has failed")
            problem = error
        with self._news:
            self._stop = True
            self._waiting += [row for request in self._inbox for row in self._own(request)]
            self._inbox.clear()
        for row in self._decoder.clear() + self._waiting:
            self._fail(row, problem)

    def _advance(self) -> None:
        """Let rows join and write a token for each. A failed pass fails the rows in it, and the engine goes on."""
        full = False
        try:
            self._admit()
            self._steps_since_admission += 1
            if self._decoder.rows:
                for row in self._decoder.step():
                    self._finish(row)
        except Exception as error:  # whatever a model's code raises belongs to the requests, not to this thread
            rows = self._decoder.clear() + (self._joining.popleft() if self._joining else [])
            full = _out_of_memory(error)
            if full and len(rows) > 1:
                self._start_again(rows)
            else:
                for row in rows:
                    self._fail(row, self._too_large(error) if full else error)
        self._waiting = _longest_first([*self._waiting, *(row for group in self._joining for row in group)])
        self._joining.clear()
        if full and self.model.device.type == "cuda":
            # Only now that the error is gone, which held the failed pass and its tensors.
            torch.cuda.empty_cache()

    def _start_again(self, rows: list[Row]) -> None:
        """Put rows that did not fit into memory together back, and allow half as many tokens from now on."""
        self._cache_tokens = max(map(_final_length, rows)) * len(rows) // 2
        gib = self._cache_tokens * self._bytes_per_token / 2**30
        logger.warning(
            f"out of memory on {self.model.device} with {len(rows)} completions at a time: starting them again, fewer "
            f"at a time. Begin with -M cache_gib={gib:.3g} to avoid this."
        )
        for row in rows:
            if row.done:
                self._finish(row)
            else:
                row.restart()
                self._waiting.append(row)

    def _too_large(self, error: Exception) -> ProviderError:
        advice = ProviderError(
            f"out of memory on {self.model.device} with a single completion: the prompt or max_tokens is too long for "
            "it, or something else uses its memory."
        )
        advice.__cause__ = error
        return advice

    def _collect(self) -> bool:
        """Take new requests in; sleeps while there is nothing to do. False when the engine is to stop."""
        with self._news:
            if not self._decoder.rows and not self._waiting:
                self._news.wait_for(lambda: self._inbox or self._stop)
                self._gather()
            arrived = list(self._inbox)
            self._inbox.clear()
            if self._stop:
                self._waiting += [row for request in arrived for row in self._own(request)]
                return False
        for request in arrived:
            self._waiting += self._own(request)
        if arrived:
            self._waiting = _longest_first(self._waiting)
        self._drop_cancelled()
        return True

    def _gather(self) -> None:
        """Let the first batch fill: wait while the process still works. Holds `_news`, and gives it up.

        Each round asks the event loop to answer after everything that is ready there, then waits a moment for work that
        the loop has sent to other threads. Processor time tells an idle process from a starved one.
        """
        quiet, last = 0, time.monotonic()
        while quiet < QUIET_ROUNDS and len(self._inbox) < self.limits.rows and not self._stop:
            if time.monotonic() - last > PATIENCE_SECONDS:
                break
            seen, answered, before = len(self._inbox), threading.Event(), time.process_time()
            with contextlib.suppress(RuntimeError):  # that loop is closed
                self._inbox[-1].call_soon(answered.set)
                self._news.release()
                answered.wait(PATIENCE_SECONDS)
                self._news.acquire()
            if len(self._inbox) == seen:
                self._news.wait(ROUND_SECONDS)
            if len(self._inbox) > seen:
                last = time.monotonic()
            idle = len(self._inbox) == seen and time.process_time() - before < IDLE_SECONDS
            quiet = quiet + 1 if idle else 0

    def _own(self, request: Request) -> list[Row]:
        for row in request.rows:
            self._owner[id(row)] = request
        return request.rows

    def _drop_cancelled(self) -> None:
        for row in (*self._decoder.rows, *self._waiting):
            if self._owner[id(row)].cancelled and not row.done:
                row.error = ProviderError("cancelled")
        for row in [row for row in self._waiting if row.done]:
            self._waiting.remove(row)
            self._finish(row)

    def _admit(self) -> None:
        """Let waiting rows of the running candidate join; an empty batch takes the next candidate's."""
        running = self._decoder.rows
        if not self._waiting or (running and not self.continuous):
            return
        free = self.limits.rows - len(running)
        if running and not self._worth_joining(free):
            return
        if not running:
            self._switch(self._owner[id(self._waiting[0])].candidate)
        running_name = self._candidate.name if self._candidate else None
        joining: list[Row] = []
        longest = max((_final_length(row) for row in running), default=0)
        for row in self._waiting:
            if len(joining) == free:
                break
            if self._owner[id(row)].candidate.name != running_name:
                continue
            longest = max(longest, _final_length(row))
            first = not running and not joining
            if longest * (len(running) + len(joining) + 1) > self._cache_tokens and not first:
                break
            joining.append(row)
        taken = set(map(id, joining))
        self._waiting = [row for row in self._waiting if id(row) not in taken]
        self._steps_since_admission = 0
        tokens = min(self._prefill_tokens, self._cache_tokens) if self.continuous else self._cache_tokens
        self._joining = deque(_prefill_groups(joining, tokens))
        while self._joining:
            rows = self._score_prompts(self._joining[0])
            if rows:
                self._decoder.add(rows)
            for row in self._joining.popleft():
                if row.done:
                    self._finish(row)

    def _score_prompts(self, rows: Sequence[Row]) -> list[Row]:
        """Score the prompts of rows that ask for it; returns the rows that are to be continued."""
        wanted = [row for row in rows if row.decoding.prompt_logprobs]
        if wanted:
            top = max(row.decoding.prompt_logprobs for row in wanted)
            scores = score_prompts(self.model, [row.prompt for row in wanted], self._pad, top=top)
            for row, found in zip(wanted, scores, strict=True):
                row.prompt_scores = found
                if row.decoding.max_tokens == 0:
                    row.stop_reason = "max_tokens"
        return [row for row in rows if not row.done]

    def _worth_joining(self, free: int) -> bool:
        """Whether the running batch should take waiting rows now."""
        quarter = max(1, self.limits.rows // 4)
        if max(row.decoding.max_tokens - len(row.generated) for row in self._decoder.rows) <= RUN_OUT:
            return False
        return free >= quarter and (len(self._waiting) >= quarter or self._steps_since_admission >= ADMIT_EVERY)

    def _switch(self, candidate: Candidate) -> None:
        """Give the model a candidate's weights; where that fails, so do the rows that wait for it."""
        if self._candidate is not None and candidate.name == self._candidate.name:
            return
        self._candidate = None
        try:
            (self.base if candidate.name == BASE.name else candidate).apply(self.model)
        except Exception as error:
            failed = [row for row in self._waiting if self._owner[id(row)].candidate.name == candidate.name]
            self._waiting = [row for row in self._waiting if self._owner[id(row)].candidate.name != candidate.name]
            for row in failed:
                self._fail(row, error)
            raise
        self._candidate = candidate

    def _finish(self, row: Row) -> None:
        request = self._owner.pop(id(row))
        request.left -= 1
        if request.left == 0:
            request.on_done()

    def _fail(self, row: Row, error: Exception) -> None:
        if id(row) in self._owner:
            row.error = row.error or error
            self._finish(row)


@dataclass(frozen=True)
class EngineView:
    """An engine whose requests use the weights of one candidate."""

    engine: Engine
    candidate: Candidate

    def submit(self, request: Request) -> None:
        """Queue a request for this candidate, from any thread."""
        request.candidate = self.candidate
        self.engine.submit(request)


def _longest_first(rows: list[Row]) -> list[Row]:
    # Neighbours of similar length waste least padding; the longest first, so that memory peaks early.
    return sorted(rows, key=lambda row: len(row.prompt), reverse=True)


def _out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _final_length(row: Row) -> int:
    return len(row.prompt) + row.decoding.max_tokens


def _prefill_groups(rows: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    """Split rows, longest first, into groups of at most `tokens` tokens with padding (a single row may have more)."""
    group: list[Row] = []
    for row in rows:
        if group and len(group[0].prompt) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _context_length(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    declared: Any = getattr(model.generation_config, "eos_token_id", None)
    tokens = set(declared if isinstance(declared, list) else [] if declared is None else [declared])
    if tokenizer.eos_token_id is not None:
        tokens.add(tokenizer.eos_token_id)
    return frozenset(int(token) for token in tokens)


# One engine per source in this process.

_engines: dict[Source, tuple[Engine, int]] = {}
_engines_lock = threading.Lock()


def acquire(source: Source, limits: Limits = Limits()) -> Engine:
    """The process's engine for a source, loaded on first use. Every `acquire` needs one `release`.

    `limits` count when the engine is loaded; later users share the engine as it is.
    """
    with _engines_lock:
        if source not in _engines:
            with collector_paused():
                _engines[source] = (Engine(*load(source), limits), 0)
            collect_less_often()
        engine, users = _engines[source]
        _engines[source] = (engine, users + 1)
        return engine


def release(source: Source) -> None:
    """Give an engine back; the last user closes it and frees the model."""
    with _engines_lock:
        engine, users = _engines.pop(source)
        if users > 1:
            _engines[source] = (engine, users - 1)
            return
        if not _engines:
            collect_as_before()
    engine.close()
    # What `collector_paused` froze may hold the model in reference cycles.
    gc.unfreeze()


@atexit.register
def _close_all() -> None:
    # A thread inside torch while the interpreter goes down crashes; Inspect does not close models at the end.
    for engine, _ in _engines.values():
        engine.close()
