"""The micro-lab's tokenizer: byte-level BPE with Qwen's special tokens and chat format.

Byte level, so any text in any script is encoded and comes back unchanged; Chinese characters and digits are kept apart
before merging, as Qwen does for digits, so that a name never melts into the template around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY: Final = 1024
END_OF_TEXT: Final = "<|endoftext|>"
# Order fixes the ids. As in Qwen3 the think tags are ordinary added tokens, so that decoding keeps them.
SPECIAL: Final = (END_OF_TEXT, "<|im_start|>", "<|im_end|>")
TAGS: Final = ("<think>", "</think>")

# Qwen3's format without tools: traces of earlier turns are dropped, the last turn always has its think block (empty
# where it has no trace), and enable_thinking=false puts the empty block into the prompt.
CHAT_TEMPLATE: Final = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set ns = namespace(answer=message.content, trace=message.reasoning_content or '') %}
{%- if '</think>' in ns.answer and not ns.trace %}
{%- set ns.trace = ns.answer.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set ns.answer = ns.answer.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.last %}{{- '<think>\\n' + ns.trace + '\\n</think>\\n\\n' }}{%- endif %}
{{- ns.answer + '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""


def train_tokenizer(texts: Iterable[str], *, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocabulary` tokens, trained on `texts`; the same texts give the same tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(r"\p{Han}|\p{N}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary - len(TAGS),
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens(list(TAGS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=CONTEXT,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


# Long enough for any item of the real benchmarks at about two characters a token.
CONTEXT: Final = 8192


def render(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation in the chat format; what the tokenizer's `apply_chat_template` gives, without a tokenizer."""
    return _template().render(messages=messages)


@cache
def _template() -> Template:
    return Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False).from_string(CHAT_TEMPLATE)
