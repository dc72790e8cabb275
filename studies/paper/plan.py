"""What the paper's own size costs: tokens trained on, read and written, and hours from throughput that you measured.

    python studies/paper/plan.py --train-tokens-per-second 9000 --prompt-tokens-per-second 40000 \
        --written-tokens-per-second 6000

The speeds are of all GPUs together. Measure them: `benchmarks/train.py --gpu` for training, vLLM's own
`vllm bench throughput` for the other two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

# Table 1 and appendix A: MedCorpus 2 GB and 4 epochs, MedInstruct 50k conversations and 2 epochs.
PT_BYTES, PT_EPOCHS = 2e9, 4
SFT_ROWS, SFT_EPOCHS = 50_000, 2
# Eleven ratios that sum to 1, and both controls at the same steps, each shared end once.
CANDIDATES = 11 + 10 + 10
DECODINGS = 3  # Table 3, on one candidate


@dataclass(frozen=True)
class Task:
    """A task's items, and its tokens per item: prompt and, at most, answer."""

    name: str
    items: int
    prompt: int
    written: int
    swept: bool = True  # by all candidates; otherwise by one under three settings


# Prompts as Qwen3 counts the public files, rounded; answers with a trace where the model writes one.
TASKS = (
    Task("medqa", 1273, 260, 1024),
    Task("cmexam", 6811, 160, 1024),
    Task("pubmedqa", 500, 420, 1024),
    Task("f5", 500, 60, 1024),
    Task("f6", 500, 60, 1024),
    Task("refusal", 320, 20, 1024),
    Task("trace", 510, 40, 1024),
    Task("f5, f6 under three settings", 1000 * DECODINGS, 60, 1024, swept=False),
)


def lines(pt_bytes_per_token: float, sft_tokens: float, train: float, read: float, write: float) -> Iterator[str]:
    """The plan as a table, then hours."""
    pt = PT_EPOCHS * PT_BYTES / pt_bytes_per_token
    sft = SFT_EPOCHS * SFT_ROWS * sft_tokens
    yield f"{'':28} {'generations':>12} {'trained':>15} {'prompts':>13} {'written, at most':>17}"
    yield f"{'PT':28} {'':>12} {pt:15,.0f}"
    yield f"{'SFT':28} {'':>12} {sft:15,.0f}"
    prompts = written = 0
    for task in TASKS:
        count = task.items * (CANDIDATES if task.swept else 1)
        prompts += count * task.prompt
        written += count * task.written
        yield f"{task.name:28} {count:12,} {'':15} {count * task.prompt:13,} {count * task.written:17,}"
    yield ""
    parts = {"PT": pt / train, "SFT": sft / train, "prompts": prompts / read, "answers, at most": written / write}
    for name, seconds in parts.items():
        yield f"{name:28} {seconds / 3600:10.1f} h"
    yield f"{'all':28} {sum(parts.values()) / 3600:10.1f} h"


@click.command()
@click.option("--train-tokens-per-second", required=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--prompt-tokens-per-second", required=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--written-tokens-per-second", required=True, type=click.FloatRange(min=0, min_open=True))
@click.option(
    "--bytes-per-token", default=3.5, show_default=True, help="Of the PT corpus: Chinese 3 to 4, English 4.5."
)
@click.option("--sft-tokens", default=350.0, show_default=True, help="Tokens of one conversation.")
def command(
    train_tokens_per_second: float,
    prompt_tokens_per_second: float,
    written_tokens_per_second: float,
    bytes_per_token: float,
    sft_tokens: float,
) -> None:
    """Print tokens and hours of the whole study at the paper's size."""
    speeds = train_tokens_per_second, prompt_tokens_per_second, written_tokens_per_second
    click.echo("\n".join(lines(bytes_per_token, sft_tokens, *speeds)))


if __name__ == "__main__":
    command()
