"""Solvers: one generation per sample, or one token with log-probabilities. Nothing is parsed here, scorers do that."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, Literal

from inspect_ai.model import GenerateConfigArgs, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from medbench.errors import MedbenchError
from medbench.provider.known import provider_of, with_logprobs

ThinkingMode = Literal["default", "on", "off"]


def thinking_arguments(model: Model, thinking: ThinkingMode) -> GenerateConfigArgs:
    """Generation arguments that turn a model's reasoning on or off, in its provider's own terms.

    Raises:
        MedbenchError: the provider takes this setting in another place; the text says where.
    """
    if thinking == "default":
        return {}
    provider = provider_of(model)
    if provider.name == "hf":
        value = "true" if thinking == "on" else "false"
        raise MedbenchError(f"with the hf provider, pass -M enable_thinking={value} instead of -T thinking={thinking}.")
    if provider.template_arguments:
        return {"extra_body": {"chat_template_kwargs": {"enable_thinking": thinking == "on"}}}
    if thinking == "off":
        return {"reasoning_effort": "none"}
    return {"reasoning_effort": model.config.reasoning_effort or "medium"}


def require_logprobs(model: Model) -> None:
    """Refuse a model that surely returns no log-probabilities, before anything is generated.

    Raises:
        MedbenchError: its provider has none; the text names those that do.
    """
    scripted = "custom_outputs" in model.model_args  # mockllm returns what a test wrote for it
    if provider_of(model).logprobs is None and not scripted:
        raise _without_logprobs(model, "returns")


def _without_logprobs(model: Model, gives: str) -> MedbenchError:
    return MedbenchError(
        f"{model} {gives} no log-probabilities, which mode=logprob needs. Inspect providers that have them: "
        f"{with_logprobs()}. Use -T mode=generate with this model."
    )


def without_network(model: Model) -> None:
    """Let Inspect's `mockllm`, which stands for a model in dry runs, answer where there is no network.

    It counts the tokens that it says to have used with a vocabulary that is downloaded at the first call; for an answer
    that nobody wrote, a token for every four characters will do.
    """

    async def estimated(text: str) -> int:
        return max(1, len(text) // 4)

    if provider_of(model).name == "mockllm":
        setattr(model.api, model.api.count_text_tokens.__name__, estimated)


@solver
def answer(thinking: ThinkingMode = "default") -> Solver:
    """Generate once."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        without_network(model)
        return await generate(state, **thinking_arguments(model, thinking))

    return solve


@solver
def option_logprobs(
    thinking: ThinkingMode = "default", top_logprobs: int = 20, words: Sequence[str] | None = None
) -> Solver:
    """Ask for the first token of the answer with its `top_logprobs` likeliest alternatives.

    Args:
        thinking: see `thinking_arguments`.
        top_logprobs: how many.
        words: the words that may be answered; none for the letters of the sample's options.

    Raises:
        MedbenchError: the provider returned no log-probabilities; the text names those that do.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        arguments: dict[str, Any] = dict(thinking_arguments(model, thinking))
        if str(model).startswith("medbench/"):
            # the embedded provider gives the exact log-probability of every option, however unlikely
            body = arguments.setdefault("extra_body", {})
            body["medbench"] = {"choices": list(words or string.ascii_uppercase[: len(state.choices)])}
        state = await generate(state, max_tokens=1, logprobs=True, top_logprobs=top_logprobs, **arguments)
        choices = state.output.choices
        if not choices or choices[0].logprobs is None:
            raise _without_logprobs(model, "returned")
        return state

    return solve
