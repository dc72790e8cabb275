"""What a model generated, read back from what Inspect stores of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessageAssistant, Content, ModelOutput

# Where an imported output's metadata keeps option -> (its text, the log-likelihood of that text).
LIKELIHOODS = "option_loglikelihoods"


def raw_text(output: ModelOutput | ChatMessageAssistant) -> str:
    """The output as generated: a trace that the provider moved into `ContentReasoning` is put back in tags.

    A reasoning part becomes ``<think>...</think>`` at its place before or between the text parts, followed by a line
    break. Where the provider hides the trace (`redacted`), its readable summary stands for it; where there is not even
    that, nothing is put back, since an encrypted payload is not text that the model wrote. Images, tool calls and other
    parts that are not text are left out.

    Args:
        output: a model's output, whose first choice is read (empty without choices), or an assistant message.
    """
    message = output if hasattr(output, "content") else (output.message if output.choices else None)
    if message is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    return "".join(_part_text(part) for part in message.content)


def _part_text(part: Content) -> str:
    if part.type == "text":
        return part.text
    if part.type == "reasoning":
        trace = (part.summary or "") if part.redacted else (part.reasoning or part.summary or "")
        return f"<think>\n{trace.strip(chr(10))}\n</think>\n\n" if trace.strip() else ""
    return ""
