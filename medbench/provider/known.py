"""What Inspect's providers can do that medbench depends on: the one list of their names (read from Inspect 0.3.285).

Inspect has no way to ask a provider these things before it is called. Of a provider that is not here, nothing is
assumed: it is asked, and what it does not return is said then.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One provider, the part of a model's name before the first slash.

    Attributes:
        name: as Inspect has it.
        local: its models are files on this machine, held in memory: one base at a time.
        files: a model's name may be a directory.
        template_arguments: it hands `chat_template_kwargs` to the model's chat template.
        logprobs: it returns log-probabilities of the likeliest tokens; None where it surely returns none.
        text_logprobs: it takes a text as it stands and returns the log-probabilities of that text's own tokens.
    """

    name: str
    local: bool = False
    files: bool = False
    template_arguments: bool = False
    logprobs: bool | None = False
    text_logprobs: bool = False


KNOWN = {
    provider.name: provider
    for provider in (
        Provider(name="medbench", local=True, files=True, template_arguments=True, logprobs=True, text_logprobs=True),
        Provider(name="openai", logprobs=True),
        Provider(name="openai-api", template_arguments=True, logprobs=True),
        Provider(name="openai-api-completions", text_logprobs=True),
        Provider(name="vllm", local=True, files=True, template_arguments=True, logprobs=True),
        Provider(name="vllm-completions", text_logprobs=True),
        Provider(name="sglang", local=True, template_arguments=True, logprobs=True),
        Provider(name="hf", local=True, files=True, logprobs=True),
        Provider(name="together", template_arguments=True, logprobs=True),
        Provider(name="fireworks", template_arguments=True),
        Provider(name="hf-inference-providers", template_arguments=True),
        Provider(name="google", logprobs=True),
        Provider(name="grok", logprobs=True),
        Provider(name="anthropic", logprobs=None),
        Provider(name="bedrock", logprobs=None),
        Provider(name="mockllm", logprobs=None),
    )
}


def provider_of(model: object) -> Provider:
    """The provider of a model, given Inspect's model or its name (``PROVIDER/NAME``)."""
    name = str(model).split("/")[0]
    return KNOWN.get(name, Provider(name=name))


def with_logprobs() -> str:
    """The names of the providers that return log-probabilities, for a message."""
    return ", ".join(provider.name for provider in KNOWN.values() if provider.logprobs)


def with_text_logprobs() -> str:
    """The names of the providers that return the log-probabilities of a text's own tokens, for a message."""
    return ", ".join(provider.name for provider in KNOWN.values() if provider.text_logprobs)
