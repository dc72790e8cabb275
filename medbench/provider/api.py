"""The Inspect `ModelAPI` registered as `medbench`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import sniffio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelInfo,
    ModelOutput,
    ModelUsage,
    set_model_info,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from medbench.errors import unknown
from medbench.private.inspect import open_connections, registered_model_info, skip_model_database
from medbench.provider import chat, logprobs
from medbench.provider.errors import ProviderError, need
from medbench.provider.loading import Source, collector_paused, settled
from medbench.sources import hub

if TYPE_CHECKING:
    from medbench.provider.engine import Engine, Request
    from medbench.provider.sampling import Decoding, Row

logger = logging.getLogger(__name__)

# What extra_body={"medbench": {...}} may hold.
EXTRA = ("thinking", "choices", "prompt_only")
# Settings of GenerateConfig that would change the output and that this provider does not have.
_UNSUPPORTED = (
    "best_of",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "response_schema",
    "modalities",
)
MAX_TOKENS = 2048
MAX_CONNECTIONS = 512


class MedbenchAPI(ModelAPI):
    """A causal language model in this process.

    Args:
        model_name: a directory, a hub id, or ``microlab``, the model that comes with the package.
        base_url: must be None.
        api_key: unused.
        config: Inspect's generation defaults for this model.
        device: see `loading.Source`.
        dtype: see `loading.Source`.
        revision: see `loading.Source`.
        attention: see `loading.Source`.
        trust_remote_code: see `loading.Source`.
        thinking: ``on``, ``off`` or ``default``: the thinking switch of the chat template.
        chat_template: ``none`` for completion only, a Jinja file, or Jinja source; the model's own by default.
        max_batch_size: completions written at the same time.
        cache_gib: memory for the key-value cache, in GiB.
        adapters: ``NAME=DIR:WEIGHT``, a list or joined by commas: the base becomes that candidate, without a load of
            its own (see docs/merging.md).
        merge_method: how the adapters are combined, a name from `medbench.merging.methods`.
        merge_settings: that method's settings.
        merge_rounding: ``auto``, ``float32``, ``nearest`` or ``stochastic``; see `candidates.make_candidate`.
        any_base: accept adapters that record another base's name, or other layers.
        **unknown_args: refused by name.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's signature
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        attention: str = "sdpa",
        trust_remote_code: bool = False,
        thinking: str | bool = "default",
        chat_template: str | None = None,
        max_batch_size: int = 64,
        cache_gib: float | None = None,
        adapters: str | list[str] | None = None,
        merge_method: str = "linear",
        merge_settings: dict[str, Any] | None = None,
        merge_rounding: str = "auto",
        any_base: bool = False,
        **unknown_args: object,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        for name in unknown_args:
            raise ProviderError(str(unknown("-M argument of the medbench provider", name, _arguments())))
        if base_url is not None:
            raise ProviderError("the medbench provider runs in this process and takes no --model-base-url.")
        if max_batch_size < 1:
            raise ProviderError(f"-M max_batch_size={max_batch_size}: expected at least 1.")
        self._thinking = chat.thinking_switch(thinking)
        source = Source(model_name, revision, device, dtype, attention, trust_remote_code=trust_remote_code)
        try:
            with collector_paused():
                _import_what_inspect_imports_next()
                from medbench.provider import engine
        except ImportError as error:
            raise need("local", error) from error
        limits = engine.Limits(max_batch_size, None if cache_gib is None else int(cache_gib * 2**30))
        source = settled(source)
        self._engine: Engine | None = engine.acquire(source, limits)
        self._release: Callable[[], None] = lambda: engine.release(source)
        self._submit: Callable[[Request], None] = self._engine.submit
        self._warned: set[str] = set()
        # Of a candidate: how its sum was rounded, and the weights that take effect (`LiveWeights.facts`).
        self.merged: dict[str, Any] = {}
        try:
            if adapters:
                from medbench.provider.candidates import make_candidate

                candidate, self.merged = make_candidate(
                    self._engine,
                    source,
                    adapters,
                    method=merge_method,
                    settings=merge_settings,
                    any_base=any_base,
                    rounding=merge_rounding,
                )
                self._submit = self._engine.with_weights(candidate).submit
            self._template = chat.template_source(self._engine.tokenizer, chat_template)
            # Hashed once: a log's outputs carry it, so that a report can tell that two logs were prompted alike.
            self._template_hash = chat.template_hash(self._template)
            self._commit = hub.model_commit(source.model, source.revision)
            if self._thinking is not None:
                self._check_thinking_switch()
        except BaseException:
            self.close()
            raise
        _register_context(f"medbench/{model_name}", self._engine.context)

    @property
    def engine(self) -> Engine:
        """The model and its worker.

        Raises:
            ProviderError: the model has been closed.
        """
        if self._engine is None:
            raise ProviderError(f"{self.model_name} has been closed; get it again with get_model().")
        return self._engine

    def close(self) -> None:
        """Give the model back; its memory is freed when no other Inspect model uses it."""
        if self._engine is not None:
            # Nothing here may hold the model any longer, or its memory could not be freed.
            self._engine = None
            del self._submit
            self._release()

    def max_tokens(self) -> int:
        """New tokens when the task does not say."""
        return MAX_TOKENS

    def max_connections(self) -> int:
        """Requests in flight: several full batches, so that rows that finish are replaced at once."""
        return MAX_CONNECTIONS

    def connection_key(self) -> str:
        """Each model has its own pool of connections."""
        return self.model_name

    def collapse_user_messages(self) -> bool:
        """Chat templates expect turns to alternate."""
        return True

    def collapse_assistant_messages(self) -> bool:
        """Chat templates expect turns to alternate."""
        return True

    async def count_text_tokens(self, text: str) -> int:
        """Tokens of a text under the model's own tokenizer, without special tokens."""
        return len(self._encode(text, special_tokens=False))

    async def count_tokens(self, input: str | list[ChatMessage], config: GenerateConfig | None = None) -> int:
        """Tokens of a text, or of a conversation as the model would get it."""
        if isinstance(input, str):
            return await self.count_text_tokens(input)
        prompt = self._render(input, config or GenerateConfig())
        return len(self._encode(prompt.text, special_tokens=prompt.special_tokens))

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a text under the model's own tokenizer, without special tokens."""
        return self._encode(text, special_tokens=False)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Continue a conversation.

        Raises:
            ProviderError: tools, content that is not text, an option out of range, or a failed forward pass.
        """
        from medbench.provider.sampling import Row

        if tools:
            raise ProviderError(
                "the medbench provider has no tool calling; use a provider that has, e.g. vllm/ or hf/."
            )
        _open_connections(config)
        metadata: dict[str, Any] = {"model_commit": self._commit} if self._commit else {}
        tokens = self._prompt_tokens(input, config, metadata)
        if not tokens:
            raise ProviderError("the prompt is empty.")
        if self.engine.context is not None and len(tokens) >= self.engine.context:
            return self._too_long(len(tokens), metadata)
        decodings = self._decodings(config, metadata)
        rows = [Row(tokens, decoding) for decoding in decodings]
        await self._write(rows)
        for row in rows:
            if row.error is not None:
                raise _own_error(row.error) from row.error
        names = _extra(config).get("choices")
        if names:
            metadata["choice_logprobs"] = dict(zip(names, rows[0].choice_logprobs, strict=True))
        if rows[0].prompt_scores is not None:
            metadata["prompt_moments"] = {
                "mean": rows[0].prompt_scores.mean.tolist(),
                "deviation": rows[0].prompt_scores.deviation.tolist(),
            }
        written = sum(len(row.generated) for row in rows)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(row) for row in rows],
            usage=ModelUsage(input_tokens=len(tokens), output_tokens=written, total_tokens=len(tokens) + written),
            metadata=metadata,
        )

    def _prompt_tokens(self, input: list[ChatMessage], config: GenerateConfig, metadata: dict[str, Any]) -> list[int]:
        """The prompt's token ids: as given (see `chat.prompt_token_ids`), or rendered."""
        given = chat.prompt_token_ids(input)
        if given is not None:
            if not all(0 <= token < len(self.engine.tokenizer) for token in given):
                raise ProviderError(
                    f"prompt_token_ids holds ids outside 0 to {len(self.engine.tokenizer) - 1}, the model's vocabulary."
                )
            return given
        prompt = self._render(input, config)
        metadata |= {"prefilled_think": prompt.prefilled_think, "chat_template_sha256": self._template_hash}
        return self._encode(prompt.text, special_tokens=prompt.special_tokens)

    def prompt_start(self) -> list[int]:
        """The special tokens that the tokenizer puts before any text: that which begins a text, or none."""
        return self._encode("", special_tokens=True)[:1]

    async def _write(self, rows: list[Row]) -> None:
        """Hand rows to the engine and sleep until its thread wakes this task."""
        from medbench.provider.engine import Request

        done = anyio.Event()
        call_soon = _thread_safe_caller()

        def wake() -> None:
            # The loop may be gone after Ctrl-C; then nobody waits any more.
            with contextlib.suppress(RuntimeError):
                call_soon(done.set)

        request = Request(rows, wake, call_soon)
        self._submit(request)
        try:
            await done.wait()
        finally:
            request.cancelled = True  # without effect on a request that is done

    def _render(self, messages: list[ChatMessage], config: GenerateConfig) -> chat.Prompt:
        thinking = self._thinking
        if config.reasoning_effort is not None:
            thinking = config.reasoning_effort != "none"
        template_args = dict((config.extra_body or {}).get("chat_template_kwargs") or {})
        extra = _extra(config)
        if "thinking" in extra:
            thinking = chat.thinking_switch(extra["thinking"])
        if thinking is not None:
            self._check_thinking_switch()
        return chat.render(
            messages, self.engine.tokenizer, self._template, thinking=thinking, template_args=template_args
        )

    def _encode(self, text: str, *, special_tokens: bool) -> list[int]:
        tokens = self.engine.tokenizer(text, add_special_tokens=special_tokens)["input_ids"]
        return [int(token) for token in tokens]

    def _decodings(self, config: GenerateConfig, metadata: dict[str, Any]) -> list[Decoding]:
        """The settings of each choice; a seed that was drawn here goes into `metadata`."""
        from medbench.provider.sampling import Decoding

        for name in _UNSUPPORTED:
            if getattr(config, name) not in (None, [], {}):
                self._warn_once(f"the medbench provider has no {name}; it is ignored.")
        temperature = config.temperature or 0.0
        if temperature < 0 or not 0 < (1.0 if config.top_p is None else config.top_p) <= 1:
            raise ProviderError(
                f"temperature must be at least 0 and top_p in (0, 1]; got {config.temperature} and {config.top_p}."
            )
        prompt_only = bool(_extra(config).get("prompt_only"))
        if prompt_only and not config.prompt_logprobs:
            raise ProviderError("prompt_only generates nothing: it needs prompt_logprobs, at least 1.")
        if config.max_tokens is not None and config.max_tokens < 1:
            raise ProviderError(f"max_tokens must be at least 1; got {config.max_tokens}.")
        if temperature == 0 and (config.top_p is not None or config.top_k is not None):
            self._warn_once("top_p and top_k have no effect without a temperature: decoding is greedy.")
        seed = 0
        if temperature > 0:
            seed = secrets.randbits(63) if config.seed is None else config.seed
            metadata["seed"] = seed
        names = _extra(config).get("choices") or []
        choices = tuple(tuple(self._encode(name, special_tokens=False)) for name in names)
        if not all(choices):
            raise ProviderError(f"an option in choices={names!r} has no tokens; expected texts such as 'A'.")
        return [
            Decoding(
                max_tokens=0 if prompt_only else config.max_tokens or MAX_TOKENS,
                temperature=temperature,
                top_p=1.0 if config.top_p is None else config.top_p,
                top_k=config.top_k,
                seed=_seed_of_choice(seed, index),
                stop_seqs=tuple(text for text in config.stop_seqs or [] if text),
                logprobs=bool(config.logprobs),
                top_logprobs=config.top_logprobs or 0,
                choices=choices if index == 0 else (),
                prompt_logprobs=(config.prompt_logprobs or 0) if index == 0 else 0,
            )
            for index in range(config.num_choices or 1)
        ]

    def _choice(self, row: Row) -> ChatCompletionChoice:
        text = self.engine.decode(row.generated)
        ends = [place for place in map(text.find, row.decoding.stop_seqs) if place >= 0]
        assert row.stop_reason is not None
        return ChatCompletionChoice(
            message=ChatMessageAssistant(
                content=text[: min(ends, default=len(text))], model=self.model_name, source="generate"
            ),
            stop_reason=row.stop_reason,
            logprobs=logprobs.of_completion(row, self.engine.tokenizer) if row.decoding.logprobs else None,
            prompt_logprobs=logprobs.of_prompt(row, self.engine.tokenizer) if row.prompt_scores else None,
        )

    def _too_long(self, length: int, metadata: dict[str, Any]) -> ModelOutput:
        # Cutting the prompt would change the question: nothing is generated, and the log says why.
        error = (
            f"the prompt has {length} tokens; the model takes {self.engine.context}, prompt and completion together."
        )
        message = ChatMessageAssistant(content="", model=self.model_name, source="generate")
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason="model_length")],
            usage=ModelUsage(input_tokens=length, output_tokens=0, total_tokens=length),
            metadata=metadata,
            error=error,
        )

    def _check_thinking_switch(self) -> None:
        if not chat.has_thinking_switch(self._template):
            self._warn_once(f"the chat template of {self.model_name} has no thinking switch; the setting is ignored.")

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning(text)


def _arguments() -> list[str]:
    return [name for name in MedbenchAPI.__init__.__annotations__ if name not in _NOT_ARGUMENTS]


_NOT_ARGUMENTS = ("model_name", "base_url", "api_key", "config", "unknown_args", "return")


def _extra(config: GenerateConfig) -> dict[str, Any]:
    """The provider's own part of `extra_body`."""
    extra = (config.extra_body or {}).get("medbench") or {}
    for name in extra:
        if name not in EXTRA:
            raise ProviderError(str(unknown('key in extra_body["medbench"]', name, EXTRA)))
    return dict(extra)


def _own_error(error: Exception) -> ProviderError:
    """An error for one request alone: the rows of a batch that failed share theirs."""
    if isinstance(error, ProviderError):
        return ProviderError(str(error))
    return ProviderError(
        f"the model failed on this request, and on those in its batch: {type(error).__name__}: {error}"
    )


def _seed_of_choice(seed: int, index: int) -> int:
    """A seed of its own for each choice; the first choice has the request's."""
    return (seed + index * 0x9E3779B97F4A7C15) % 2**64


def _import_what_inspect_imports_next() -> None:
    """Import `acp` before torch, while its price is low.

    Inspect imports it when an evaluation starts, which is after the models are made. Its classes take the descriptions
    of their fields from their source, for which each searches all modules in memory: 0.4 s without torch and
    transformers among them, 1.0 s with them.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("acp")


# What `_register_context` told Inspect, to tell it from what a user told it.
_registered: dict[str, ModelInfo] = {}


def _register_context(name: str, context: int | None) -> None:
    """Tell Inspect the model's context length, unless the user has registered the model already.

    Otherwise Inspect guesses it from a model with a similar name in its database, or makes this model a second time,
    with default arguments, only to ask for its name.
    """
    custom = registered_model_info(name)
    if custom is not None and custom is not _registered.get(name):
        return
    info = _registered[name] = ModelInfo(context_length=context)
    set_model_info(name, info)
    skip_model_database(name, info)


def _open_connections(config: GenerateConfig) -> None:
    """Raise Inspect's limit, unless a user set one: there is none to keep here, and more requests fill batches."""
    if config.adaptive_connections is None and config.max_connections is None:
        open_connections(MAX_CONNECTIONS)


def _thread_safe_caller() -> Callable[[Callable[[], None]], Any]:
    """How another thread calls a function on the event loop that runs here."""
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe
