"""What the study will cost: tokens trained on and read, generations, disk, and time from one measured speed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medbench.trainers.recipe import load_recipe
from medbench.trainers.study import read_study
from medbench.trainers.study_tasks import TaskSource

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage
    from run import Chain

CHARACTERS = 4.3  # per token, where the model's tokenizer is not there yet: SmolLM2's on these English texts
# Seconds of one processor per token, in units of a prompt token's: what docs/real-model.md measured.
TRAINED = 3.0
WRITTEN = 2.8
PER_SAMPLE = 12_000  # bytes of log
MODEL, ADAPTER = 545e6, 20e6  # bytes: SmolLM2-135M in float32, and rank 16 on all its layers


@dataclass
class Cost:
    """Tokens and generations of one step."""

    step: str
    trained: float = 0
    prompts: float = 0
    written: float = 0
    generations: int = 0


def estimate(chain: Chain, tokens_per_second: float | None) -> list[str]:
    """The lines of a dry run.

    Args:
        chain: what would be run.
        tokens_per_second: prompt tokens per second; without it no time is told.

    Raises:
        MedbenchError: the data are not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        costs = list(_costs(chain, Path(folder), _counter(chain.model)))
    lines = [f"{'step':12} {'trained':>10} {'prompts':>10} {'written, at most':>17} {'generations':>12}   tokens"]
    lines += [
        f"{c.step:12} {c.trained:10,.0f} {c.prompts:10,.0f} {c.written:17,.0f} {c.generations:12,}" for c in costs
    ]
    generations = sum(cost.generations for cost in costs)
    training = 2 * 3 * ADAPTER  # the adapter, and its checkpoint with the optimizer's state
    disk = (0 if chain.base else MODEL) + training + PER_SAMPLE * generations
    free = shutil.disk_usage(next(place for place in (chain.out, *chain.out.parents) if place.exists())).free
    known = "" if not chain.base else ", the base and its larger adapters not counted"
    lines.append(f"disk: about {disk / 1e9:.1f} GB{known}; {free / 1e9:.0f} GB are free")
    if tokens_per_second is None:
        lines.append("time: give --tokens-per-second, the speed at which this machine reads prompts")
    else:
        units = sum(TRAINED * cost.trained + cost.prompts + WRITTEN * cost.written for cost in costs)
        lines.append(f"time: about {units / tokens_per_second / 3600:.1f} h at {tokens_per_second:g} prompt tokens/s")
    return lines


def _costs(chain: Chain, folder: Path, count: Callable[[str], float]) -> Iterator[Cost]:
    from prepare import prepare
    from run import HERE, SWEEPS

    prepare(chain.data, folder / "data", chain.amounts)
    for stage in ("pt", "sft"):
        file = folder / "data" / "corpus" / f"{stage}.jsonl"
        given = [f"model_name_or_path={chain.model}", f"dataset={file}", f"output_dir={chain.out / stage}"]
        recipe, _ = load_recipe(stage, HERE / f"{stage}.yaml", given)
        lines = file.read_text("utf-8").splitlines()[: recipe.max_samples]
        yield Cost(f"train {stage}", trained=recipe.num_train_epochs * sum(map(count, lines)))
    for name in SWEEPS:
        (folder / f"{name}.yaml").write_text(chain.study(name), "utf-8")
        study = read_study(folder / f"{name}.yaml")
        source, cost = TaskSource(study), Cost(name)
        for run in study.runs:
            task, _ = source.task(run)
            texts = [_prompt(sample.input) for sample in task.dataset][: study.document.get("limit")]
            asked = (task.metadata or {}).get("benchmark", {}).get("mode")
            cost.generations += source.samples(run)
            cost.prompts += sum(map(count, texts))
            cost.written += len(texts) * (1 if asked == "logprob" else run.decoding.get("max_tokens", 2048))
        yield cost


def _prompt(given: str | list[ChatMessage]) -> str:
    return given if isinstance(given, str) else "\n".join(message.text for message in given)


def _counter(model: str) -> Callable[[str], float]:
    """Tokens of a text: exactly where the tokenizer lies on this machine, else by the number of characters."""
    if not (Path(model) / "tokenizer.json").is_file():
        return lambda text: len(text) / CHARACTERS
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    return lambda text: len(tokenizer.encode(text).ids)
