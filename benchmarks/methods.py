"""Peak memory and time of merge methods on a 0.6B-shaped bf16 model with two rank-16 adapters, beside PEFT's.

    python benchmarks/methods.py --work /tmp/merge-bench [--method ties ...] [--rounds 1] [--shape 0.6b]

Each is a process of its own, from its start to its saved checkpoint (VmHWM). PEFT loads the base, adds the weighted
adapter of that method, merges and saves; its svd is that of the dense sum, and its ties, dare and pruning act on A and
B apart. Methods that PEFT lacks are held against its plain merge (`cat`).
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import click
from merge import _REPORT, SHARD, build

# Method -> its settings for medbench, and PEFT's combination_type where it has one.
METHODS: dict[str, tuple[list[str], str | None]] = {
    "linear": ([], "cat"),
    "svd": (["rank=16"], "svd"),
    "ties": (["density=0.5"], "ties"),
    "dare_ties": (["density=0.5"], "dare_ties"),
    "magnitude_prune": (["density=0.5"], "magnitude_prune"),
    "della": ([], None),
    "breadcrumbs": ([], None),
    "sce": ([], None),
    "slerp": ([], None),
    "model_stock": ([], None),
    "knots": ([], None),
    "tsv": ([], None),
    "iso_c": ([], None),
    "core_space": ([], None),
}
OURS = """
import sys
from medbench.cli import main
settings = [part for text in SETTINGS for part in ("--set", text)]
weights = (":0.3", ":0.7") if METHOD not in ("sce", "model_stock") else ("", "")
adapters = ["--adapter", f"pt={PT}{weights[0]}", "--adapter", f"sft={SFT}{weights[1]}"]
sys.argv = ["medbench", "merge", "--base", BASE, *adapters, "--method", METHOD, *settings, "--out", OUT]
main()
"""
THEIRS = """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
wrapped = PeftModel.from_pretrained(model, PT, adapter_name="pt")
wrapped.load_adapter(SFT, adapter_name="sft")
density = {} if METHOD in ("cat", "svd") else {"density": 0.5}
density |= {"svd_rank": 16} if METHOD == "svd" else {}
wrapped.add_weighted_adapter(["pt", "sft"], [0.3, 0.7], "mix", combination_type=METHOD, **density)
wrapped.set_adapter("mix")
wrapped.merge_and_unload(adapter_names=["mix"]).save_pretrained(OUT, max_shard_size=SHARD)
"""


def run(script: str, work: Path, out: Path, shape: str, **names: object) -> tuple[float, float]:
    """Wall time in seconds and peak memory in GB of one process."""
    shutil.rmtree(out, ignore_errors=True)
    values = {"BASE": str(work / "base"), "PT": str(work / "pt"), "SFT": str(work / "sft"), "OUT": str(out)}
    header = "".join(f"{key} = {value!r}\n" for key, value in {**values, "SHARD": SHARD[shape], **names}.items())
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", header + _REPORT + textwrap.dedent(script)], capture_output=True, text=True, env=env
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    shutil.rmtree(out, ignore_errors=True)
    return time.perf_counter() - begin, int(done.stdout.rpartition("PEAK_KB ")[2]) * 1024 / 1e9


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Scratch folder, that of merge.py.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Where results go; WORK/out by default.")
@click.option("--method", "chosen", multiple=True, type=click.Choice(list(METHODS)))
@click.option("--rounds", default=1, show_default=True)
@click.option("--shape", type=click.Choice(list(SHARD)), default="0.6b", show_default=True)
def main(work: Path, out: Path | None, chosen: tuple[str, ...], rounds: int, shape: str) -> None:
    """Print the table."""
    work.mkdir(parents=True, exist_ok=True)
    build(work, shape)
    out = out or work / "out"
    out.mkdir(parents=True, exist_ok=True)
    theirs: dict[str, tuple[float, float]] = {}
    click.echo(f"{'':16} {'wall s':>8} {'GB':>6} {'PEFT':>16} {'wall s':>8} {'GB':>6} {'memory x':>9}")
    for name in chosen or METHODS:
        settings, kind = METHODS[name]
        kind = kind or "cat"
        runs = [run(OURS, work, out / "ours", shape, METHOD=name, SETTINGS=settings) for _ in range(rounds)]
        if kind not in theirs:
            theirs[kind] = run(THEIRS, work, out / "theirs", shape, METHOD=kind)
        wall, memory = (statistics.median(result[at] for result in runs) for at in (0, 1))
        other = theirs[kind]
        click.echo(
            f"{name:16} {wall:8.1f} {memory:6.2f} {kind:>16} {other[0]:8.1f} {other[1]:6.2f} {memory / other[1]:8.2f}x"
        )


if __name__ == "__main__":
    main()
