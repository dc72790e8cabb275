"""Chat messages -> the text a model continues."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from medbench.errors import unknown
from medbench.provider.errors import ProviderError
from medbench.provider.template_bound import require_bounded

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage
    from transformers import PreTrainedTokenizerBase

THINKING = {"on": True, "off": False, "default": None}
NO_TOOLS = "the medbench provider has no tool calling; use a provider that has, e.g. vllm/ or hf/."
# The names under which chat templates take the switch: Qwen3, GLM and most others; DeepSeek-V3.1 and Granite.
_SWITCHES = ("enable_thinking", "thinking")
_TAG = re.compile(r"<\s*(/?)\s*think(?:ing)?\s*>|\[\s*(/?)\s*THINK\s*\]", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        text: what the model continues.
        special_tokens: whether the tokenizer must add its own special tokens; a chat template has written them already.
        prefilled_think: the text ends inside a reasoning trace, whose opening tag the completion will therefore lack.
    """

    text: str
    special_tokens: bool
    prefilled_think: bool


def thinking_switch(value: object) -> bool | None:
    """The thinking setting `on`, `off` or `default` as True, False or None; YAML has often made booleans of them."""
    if value is None or isinstance(value, bool):
        return value
    if str(value) not in THINKING:
        raise unknown("thinking setting", str(value), THINKING)
    return THINKING[str(value)]


def template_source(tokenizer: PreTrainedTokenizerBase, override: str | None) -> str | None:
    """The Jinja source of the chat template in force; None for a model that only completes text.

    Args:
        tokenizer: its own template is the default.
        override: ``none`` for completion only, a path to a Jinja file, or the source itself.

    Raises:
        ProviderError: there is no such file, or the template runs away (`template_bound`).
    """
    source = _source(tokenizer, override)
    if source is not None:
        require_bounded(source)
    return source


def _source(tokenizer: PreTrainedTokenizerBase, override: str | None) -> str | None:
    if override is None:
        try:
            return tokenizer.get_chat_template()
        except ValueError:  # no template at all, or several named ones without a default
            return None
    if override == "none":
        return None
    if "{" in override:
        return override
    try:
        return Path(override).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ProviderError(
            f"-M chat_template={override:.200}: no such file ({getattr(error, 'strerror', None) or error}). "
            "Give a Jinja file, Jinja source, or 'none' for a base model."
        ) from None


def template_hash(template: str | None) -> str:
    """SHA-256 of a chat template's Jinja source in 64 hex digits; ``none`` for a model that only completes text."""
    return "none" if template is None else hashlib.sha256(template.encode("utf-8")).hexdigest()


def has_thinking_switch(template: str | None) -> bool:
    """Whether a chat template's text depends on a thinking switch."""
    return template is not None and any(re.search(rf"\b{name}\b", template) for name in _SWITCHES)


def render(
    messages: Sequence[ChatMessage],
    tokenizer: PreTrainedTokenizerBase,
    template: str | None,
    *,
    thinking: bool | None = None,
    template_args: Mapping[str, Any] | None = None,
) -> Prompt:
    """The prompt for a conversation.

    A final assistant message is a prefill: the model continues it, and the completion holds only what is new. Without a
    template the texts of all messages are joined by blank lines, without role names, and the model completes them.

    Args:
        messages: the conversation, text only.
        tokenizer: renders the template with its own special tokens.
        template: the Jinja source, see `template_source`.
        thinking: True or False sets the template's switch; None leaves the template's default.
        template_args: further variables of the template.

    Raises:
        ProviderError: content that is not text, or a conversation that the template refuses.
    """
    turns = [_turn(message) for message in messages]
    prefill = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else ""
    if template is None:
        text = "\n\n".join(turn["content"] for turn in turns)
        if prefill and text:
            text += "\n\n"
    else:
        variables: dict[str, Any] = {} if thinking is None else dict.fromkeys(_SWITCHES, thinking)
        variables |= template_args or {}
        try:
            rendered = tokenizer.apply_chat_template(
                turns, chat_template=template, tokenize=False, add_generation_prompt=True, **variables
            )
        # Beside Jinja's own errors, what its expressions raise: a division by zero, a range too long for the sandbox.
        except (
            TemplateError,
            ArithmeticError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            RecursionError,
            SyntaxError,
        ) as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise ProviderError(
                f"the chat template cannot render this conversation ({roles}): {error}. Some templates take no system "
                "message, or only turns that alternate; give another with -M chat_template=FILE"
            ) from error
        assert isinstance(rendered, str)
        text = rendered
    return Prompt(
        text + prefill,
        special_tokens=template is None,
        # The user's own text may mention the tag: only one that ends the template's text, or the prefill, counts.
        prefilled_think=_ends_inside_trace(prefill) or (_ends_with_open_tag(text) and not _closes(prefill)),
    )


def prompt_token_ids(messages: Sequence[ChatMessage]) -> list[int] | None:
    """Token ids that stand for the whole prompt, where Inspect's completion providers look for them.

    `metadata["prompt_token_ids"]` of a single user message: no chat template and no special token is added.

    Raises:
        ProviderError: it is there and no list of whole numbers, or beside other messages.
    """
    if not any((message.metadata or {}).get("prompt_token_ids") is not None for message in messages):
        return None
    ids = (messages[0].metadata or {}).get("prompt_token_ids")
    if len(messages) != 1 or messages[0].role != "user" or not isinstance(ids, list):
        raise ProviderError('metadata["prompt_token_ids"] takes a list of token ids, on a single user message.')
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise ProviderError('metadata["prompt_token_ids"] holds something that is no whole number.')
    return list(ids)


def _turn(message: ChatMessage) -> dict[str, str]:
    if message.role == "tool" or (message.role == "assistant" and message.tool_calls):
        raise ProviderError(NO_TOOLS)
    if not isinstance(message.content, str):
        kinds = {part.type for part in message.content} - {"text", "reasoning"}
        if kinds:
            raise ProviderError(
                f"the medbench provider reads text only; a {message.role} message holds {', '.join(sorted(kinds))}."
            )
    return {"role": message.role, "content": _text(message)}


def _text(message: ChatMessage) -> str:
    """A message's text; reasoning that Inspect keeps apart goes back between tags, where the model wrote it."""
    if isinstance(message.content, str):
        return message.content
    parts = []
    for part in message.content:
        if part.type == "reasoning":
            parts.append(f"<think>\n{part.reasoning}\n</think>\n\n")
        elif part.type == "text":
            parts.append(part.text)
    return "".join(parts)


def _ends_with_open_tag(text: str) -> bool:
    tags = list(_TAG.finditer(text))
    return bool(tags) and _opens(tags[-1]) and not text[tags[-1].end() :].strip()


def _ends_inside_trace(prefill: str) -> bool:
    tags = list(_TAG.finditer(prefill))
    return bool(tags) and _opens(tags[-1])


def _closes(prefill: str) -> bool:
    return any(not _opens(tag) for tag in _TAG.finditer(prefill))


def _opens(tag: re.Match[str]) -> bool:
    return "/" not in tag.group()
