"""Speed of `medbench train`: side by side with a bare transformers + peft loop, and of a 14B step on a GPU.

    python benchmarks/train.py [--shape narrow]           # CPU: the same packed batches, taken in turns
    python benchmarks/train.py --gpu --peak-tflops 989    # Qwen3-14B's shape with random weights, 2,048 tokens a step
    python benchmarks/train.py --gpu --device cpu --shape tiny --tokens 128    # the same code, to try it without a GPU

The CPU part counts user CPU seconds, so that other work on the machine does not count; the bare loop is what one would
write by hand: forward with labels, backward, clip, AdamW, schedule.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

import torch
from shapes import QWEN3
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainerCallback, get_cosine_schedule_with_warmup

from medbench.private.transformers import attention_of
from medbench.trainers.loop import StageTrainer
from medbench.trainers.model import lora_config, training_arguments
from medbench.trainers.recipe import Recipe, load_recipe


class Clock(TrainerCallback):
    """Seconds at the start of training and after every step."""

    def __init__(self, read: Any) -> None:
        self.read, self.times = read, []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.times = [self.read()]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(self.read())


def recipe(out: str, *overrides: str) -> Recipe:
    required = ("model_name_or_path=none", "dataset=none", f"output_dir={out}", "gradient_accumulation_steps=1")
    return load_recipe("sft", None, [*required, *overrides])[0]


def model(shape: str, seed: int = 0, **placed: Any) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    with torch.device(placed.get("device", "cpu")):
        torch.set_default_dtype(placed.get("dtype", torch.float32))
        built = Qwen3ForCausalLM(Qwen3Config(**QWEN3[shape], attn_implementation=placed["attention"]))
        torch.set_default_dtype(torch.float32)
    return built


def samples(vocabulary: int, lengths: list[int], seed: int = 0) -> Any:
    """Random token ids; two fifths of each sample are prompt and not learned."""
    from datasets import Dataset

    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(10, vocabulary, (length,), generator=generator).tolist() for length in lengths]
    labels = [[-100] * (len(row) * 2 // 5) + row[len(row) * 2 // 5 :] for row in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def make_trainer(built: Any, settings: Recipe, data: Any, tokenizer: Any, clock: Clock) -> StageTrainer:
    arguments = training_arguments(settings, torch, evaluate=False)
    arguments.save_strategy, arguments.disable_tqdm = "no", True
    trainer = StageTrainer(
        model=built,
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora_config(settings, built),
    )
    trainer.add_callback(clock)
    return trainer


def bare(built: Any, settings: Recipe, batches: list[dict[str, Any]], clock: Clock) -> None:
    from peft import get_peft_model

    adapted = get_peft_model(built, lora_config(settings, built)).train()
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, len(batches))
    clock.on_train_begin()
    for batch in batches:
        adapted(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.on_step_end()


def tiny_tokenizer() -> Any:
    from medbench.provider.tiny import _tokenizer

    return _tokenizer((), 259)


def compare(shape: str, steps: int, rounds: int, tokens: int) -> None:
    """User CPU seconds per step of both, in turns; the ratio of the medians of their steps."""
    torch.set_num_threads(1)
    tokenizer, lengths = tiny_tokenizer(), [tokens // 4, tokens // 2, tokens // 4] * steps
    seconds: dict[str, list[float]] = {"medbench train": [], "bare loop": []}
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            settings = recipe(out, f"cutoff_len={tokens}", f"max_steps={steps}", "logging_steps=1", "save_steps=1")
            data = samples(QWEN3[shape]["vocab_size"], lengths, turn)
            ours, theirs = Clock(lambda: os.times().user), Clock(lambda: os.times().user)
            trainer = make_trainer(model(shape, attention="sdpa"), settings, data, tokenizer, ours)
            batches = [
                {key: batch[key] for key in ("input_ids", "position_ids", "labels")}
                for batch in trainer.get_train_dataloader()
            ][:steps]
            assert all(batch["input_ids"].numel() == tokens for batch in batches)
            trainer.train()
            bare(model(shape, attention="sdpa"), settings, batches, theirs)
        for name, clock in (("medbench train", ours), ("bare loop", theirs)):
            # the first step of each warms up the allocator
            seconds[name] += [b - a for a, b in zip(clock.times[1:], clock.times[2:], strict=False)]
    for name, times in seconds.items():
        print(f"{name:15} {tokens / statistics.median(times):8.0f} tokens per user CPU second ({len(times)} steps)")
    ratio = statistics.median(seconds["bare loop"]) / statistics.median(seconds["medbench train"])
    print(f"medbench train at {ratio:.1%} of the bare loop's speed; wanted: at least 90%")


def gpu(shape: str, device: str, steps: int, tokens: int, peak_tflops: float) -> None:
    """Seconds, model FLOP utilisation and peak memory of a LoRA step."""
    cuda = device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: this part was not run")

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    from medbench.trainers.model import attention

    with tempfile.TemporaryDirectory() as out:
        settings = recipe(out, f"cutoff_len={tokens}", f"max_steps={steps}", "bf16=true", "gradient_checkpointing=true")
        built = model(shape, device=device, dtype=torch.bfloat16, attention=attention(settings, torch))
        clock = Clock(now)
        data = samples(QWEN3[shape]["vocab_size"], [tokens] * steps)
        trainer = make_trainer(built, settings, data, tiny_tokenizer(), clock)
        trainer.train()
    step = statistics.median(b - a for a, b in zip(clock.times[2:], clock.times[3:], strict=False))
    linear = sum(
        p.numel() for name, p in built.named_parameters() if p.dim() == 2 and not ("embed" in name or "lora" in name)
    )
    # Per token: 2 FLOPs per weight forward and 2 backward (the frozen weights get no gradient of their own), and for
    # causal attention half of 4 x length x query width per layer forward, twice that backward. Recomputation for
    # checkpointing is not counted: it is work of the implementation, not of the model (PaLM's definition of MFU).
    sizes = QWEN3[shape]
    width = sizes["num_attention_heads"] * sizes["head_dim"]
    flops = tokens * (4 * linear + 3 * 2 * tokens * width * sizes["num_hidden_layers"])
    name = torch.cuda.get_device_name() if cuda else "CPU, a trial of the code"
    print(f"{name}, {attention_of(built.config)}, {linear / 1e9:.3g}B linear weights")
    print(f"step of {tokens} tokens: {step:.3f} s, {tokens / step:.0f} tokens/s")
    print(f"model FLOP utilisation {flops / step / peak_tflops / 1e12:.1%} of {peak_tflops} TFLOP/s")
    if cuda:
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="the 14B-shaped step instead")
    parser.add_argument("--shape", choices=list(QWEN3), default=None, help="wide on the CPU, 14b on a GPU")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="with --gpu: cpu to try the code")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=None, help="512 on the CPU, 2,048 on a GPU")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="dense bfloat16 peak (H100, H200 SXM: 989)")
    given = parser.parse_args()
    if given.gpu:
        gpu(given.shape or "14b", given.device, max(given.steps, 4), given.tokens or 2048, given.peak_tflops)
    else:
        compare(given.shape or "wide", given.steps, given.rounds, given.tokens or 512)
