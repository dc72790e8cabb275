"""A small random model with its own tokenizer: Qwen3 architecture, byte-level BPE, a chat template with thinking.

    python -m medbench.provider.tiny --out DIR [--text FILE ...] [--vocab-size N]

It knows nothing. It exercises whatever needs a model, offline, in tests and benchmarks. Without `--text` the tokenizer
has one token per byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medbench.files.manifest import sha256_file, write_manifest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
# The shape of Qwen3's template: thinking off writes an empty trace, on opens one, the default leaves it to the model.
TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}
{%- if enable_thinking is defined and enable_thinking is true -%}{{ '<think>\\n' }}{%- endif -%}
{%- endif -%}
"""


def build(
    out: str | Path,
    *,
    text: Iterable[str] = (),
    vocab_size: int = 259,
    layers: int = 2,
    hidden: int = 64,
    context: int = 4096,
    seed: int = 0,
) -> Path:
    """Write a model directory.

    Args:
        out: the directory, made where missing.
        text: what the tokenizer's merges are learned from.
        vocab_size: tokens including 256 bytes and 3 special tokens; more than that needs `text`.
        layers: decoder layers.
        hidden: width, a multiple of 32: heads are 16 wide, and two share one key-value head.
        context: longest sequence in tokens.
        seed: of the random weights.

    Returns:
        The directory.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer(text, vocab_size)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 16,
        num_key_value_heads=hidden // 32,
        head_dim=16,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=False,
        dtype="float32",
    )
    # The weights are drawn from the global generator, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return Path(out)


def _tokenizer(text: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(text, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=PAD)
    tokenizer.add_special_tokens({"additional_special_tokens": [START]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory to write.")
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Text that the tokenizer is trained on.",
)
@click.option("--vocab-size", default=None, type=int, help="Tokens; 4096 with --text, 259 (bytes) without.")
@click.option("--layers", default=2, show_default=True)
@click.option("--hidden", default=64, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(out: Path, text: tuple[Path, ...], vocab_size: int | None, layers: int, hidden: int, seed: int) -> None:
    """Write a small random model to OUT."""
    vocab_size = vocab_size or (4096 if text else 259)
    lines = (line for path in text for line in path.read_text("utf-8").splitlines())
    build(out, text=lines, vocab_size=vocab_size, layers=layers, hidden=hidden, seed=seed)
    write_manifest(
        out,
        "checkpoint",
        settings={"vocab_size": vocab_size, "layers": layers, "hidden": hidden, "seed": seed, "random": True},
        inputs={str(path): sha256_file(path) for path in text},
    )
    click.echo(out)


if __name__ == "__main__":
    main()
