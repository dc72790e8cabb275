"""Merging two rank-16 adapters into a 0.6B-shaped bf16 model of six shards: medbench, PEFT, mergekit, and a plain copy.

    python benchmarks/merge.py --work /tmp/merge-bench [--rounds 3] [--mergekit /path/to/venv/bin/python]
    python benchmarks/merge.py --work BIG_DISK --shape 14b --only stochastic --rounds 1 --check-every 40  # 28 GB, twice

Every competitor is a process of its own, from its start until its files are fsynced, the plain copy too; they take
turns, and medians are shown with the peak memory (VmHWM). Afterwards every value of every result is compared with the
sum in float64 (an implementation apart from the one that is measured): whether it is the nearest bf16 number, and
whether it is one of the sum's two neighbours, which is what stochastic rounding promises.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import click
from shapes import QWEN3, write_adapters

WEIGHTS = {"pt": 0.3, "sft": 0.7}
# Bytes of a shard: six of the 0.6B model's.
SHARD = {"0.6b": 210_000_000, "14b": 5_000_000_000, "wide": 50_000_000, "tiny": 60_000}
# The peak of this process alone: ru_maxrss would begin with that of the process it was forked from.
_REPORT = """
import atexit
atexit.register(lambda: print("PEAK_KB", *[l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")]))
"""
_FSYNC = """
    import os, pathlib
    for file in pathlib.Path(OUT).iterdir():
        handle = os.open(file, os.O_RDONLY); os.fsync(handle); os.close(handle)
"""
OURS = """
    import sys
    from medbench.cli import main
    sys.argv = ["medbench", "merge", "--base", BASE, "--adapter", f"pt={PT}:0.3", "--adapter", f"sft={SFT}:0.7",
                "--rounding", "ROUNDING", "--out", OUT]
    main()
    """
SCRIPTS = {
    "stochastic": OURS.replace("ROUNDING", "stochastic"),
    "nearest": OURS.replace("ROUNDING", "nearest"),
    # What export scripts do: load, scale B by the weight, merge, twice; then save.
    "PEFT, twice": """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    for adapter, weight in ((PT, 0.3), (SFT, 0.7)):
        wrapped = PeftModel.from_pretrained(model, adapter)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data *= weight
        model = wrapped.merge_and_unload()
    model.save_pretrained(OUT, max_shard_size=SHARD)
    """
    + _FSYNC,
    "plain copy": "import shutil; shutil.copytree(BASE, OUT)" + textwrap.dedent(_FSYNC),
    "mergekit": """
    import pathlib, torch, yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge
    config = {"merge_method": "task_arithmetic", "base_model": BASE, "dtype": "bfloat16", "models": [
        {"model": f"{BASE}+{PT}", "parameters": {"weight": 0.3}},
        {"model": f"{BASE}+{SFT}", "parameters": {"weight": 0.7}}]}
    options = MergeOptions(lora_merge_cache=LORA_CACHE, copy_tokenizer=False, out_shard_size=SHARD,
                           lora_merge_dtype="bfloat16")
    run_merge(MergeConfiguration.model_validate(config), OUT, options)
    """
    + _FSYNC,
}


def build(work: Path, shape: str) -> None:
    """A random model of one of Qwen3's shapes, and two adapters on all its linear layers."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    if (work / "sft").exists():
        return
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen3ForCausalLM(Qwen3Config(**QWEN3[shape], dtype="bfloat16"))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(work / "base", max_shard_size=SHARD[shape])
    model.name_or_path = str(work / "base")
    write_adapters(model, work, WEIGHTS, size=0.01)


def run(name: str, python: str, work: Path, shape: str) -> dict[str, Any]:
    """Wall time in seconds, CPU time, and peak memory in GB of one competitor's process."""
    out = work / "out" / name.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(work / "lora-cache", ignore_errors=True)
    out.parent.mkdir(exist_ok=True)
    os.sync()
    names = {
        "BASE": work / "base",
        "PT": work / "pt",
        "SFT": work / "sft",
        "OUT": out,
        "LORA_CACHE": work / "lora-cache",
    }
    header = "".join(f"{key} = {str(value)!r}\n" for key, value in names.items()) + f"SHARD = {SHARD[shape]}\n"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    begin = time.perf_counter()
    before = os.times()
    done = subprocess.run(
        [python, "-c", header + _REPORT + textwrap.dedent(SCRIPTS[name])], capture_output=True, text=True, env=env
    )
    wall, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    peak = int(done.stdout.rpartition("PEAK_KB ")[2])
    system = after.children_system - before.children_system
    cpu = after.children_user - before.children_user + system
    return {"wall": wall, "cpu": cpu, "system": system, "memory": peak * 1024 / 1e9, "out": str(out)}


def errors(work: Path, out: Path, every: int) -> dict[str, float]:
    """Values that are not the once-rounded sum, or none of its neighbours, all, and the largest error in last places.

    Of every `every`-th weight.
    """
    import numpy as np

    from medbench.merging.adapters import read_adapter
    from medbench.merging.checkpoints import open_checkpoint

    base, merged = open_checkpoint(work / "base"), open_checkpoint(out)
    adapters = {name: read_adapter(name, work / name).low_rank for name in WEIGHTS}
    wrong = beyond = values = 0
    worst = 0.0
    for key in sorted(adapters["pt"])[::every]:
        exact = base.tensors[key].read().double()
        for name, weight in WEIGHTS.items():
            update = adapters[name][key]
            exact += weight * update.scale * (update.left.double() @ update.right.double())
        got = merged.tensors[key].read().double().numpy()
        # bf16 has 8 significant bits: the spacing at 2^e <= |x| < 2^(e+1) is 2^(e-7).
        _, exponent = np.frexp(exact.numpy())
        unit = np.ldexp(1.0, exponent - 8)
        wrong += int((np.rint(exact.numpy() / unit) * unit != got).sum())
        # The float32 sum that is rounded stochastically errs by 2^-16 of a unit, and so may cross a bf16 number.
        low, high = np.floor(exact.numpy() / unit - 2**-12) * unit, np.ceil(exact.numpy() / unit + 2**-12) * unit
        beyond += int(((got < low) | (got > high)).sum())
        # The unit of the result: the exact sum may cancel to almost nothing where a competitor's does not.
        _, exponent = np.frexp(got)
        worst = max(worst, float((np.abs(exact.numpy() - got) / np.ldexp(1.0, exponent - 8)).max()))
        values += got.size
    return {"not_nearest": wrong, "no_neighbour": beyond, "values": values, "worst_ulp": worst}


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Scratch folder, about 7 GB (14b: 60 GB).")
@click.option("--rounds", default=3, show_default=True)
@click.option("--shape", type=click.Choice(list(SHARD)), default="0.6b", show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(SCRIPTS)), help="These competitors and no others.")
@click.option("--check-every", default=1, show_default=True, help="Compare every so-manyth weight with the exact sum.")
@click.option("--mergekit", default=None, help="Python of an environment that has mergekit.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), default=None)
def main(
    work: Path,
    rounds: int,
    shape: str,
    only: tuple[str, ...],
    check_every: int,
    mergekit: str | None,
    json_file: Path | None,
) -> None:
    """Run the benchmark."""
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    build(work, shape)
    pythons = dict.fromkeys(("stochastic", "nearest", "PEFT, twice", "plain copy"), sys.executable)
    if mergekit:
        pythons["mergekit"] = mergekit
    pythons = {name: python for name, python in pythons.items() if not only or name in only}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    for _ in range(rounds):
        for name, python in pythons.items():
            runs[name].append(run(name, python, work, shape))
            last = runs[name][-1]
            click.echo(
                f"  {name:12} {last['wall']:6.2f} s  cpu {last['cpu']:6.2f} s  {last['memory']:.2f} GB", err=True
            )
    median = {n: {k: statistics.median(r[k] for r in rs) for k in ("wall", "cpu", "memory")} for n, rs in runs.items()}
    unknown = dict.fromkeys(("wall", "cpu", "memory"), float("nan"))
    peft, copy = (median.get(name, unknown) for name in ("PEFT, twice", "plain copy"))
    click.echo(
        f"{'':12} {'wall s':>8} {'x PEFT':>7} {'x copy':>7} {'cpu s':>8} {'peak GB':>8} {'x PEFT':>7}  "
        "not nearest, not a neighbour, worst"
    )
    for name, result in median.items():
        line = f"{name:12} {result['wall']:8.2f} {result['wall'] / peft['wall']:7.2f} "
        line += f"{result['wall'] / copy['wall']:7.2f} {result['cpu']:8.2f} "
        line += f"{result['memory']:8.2f} {result['memory'] / peft['memory']:7.2f}  "
        if name != "plain copy":
            result |= errors(work, Path(runs[name][0]["out"]), check_every)
            off, values = result["not_nearest"], result["values"]
            line += f"{off / values:.2%}, {result['no_neighbour']:,} of {values:,}, {result['worst_ulp']:.3f} ulp"
        click.echo(line)
    if json_file:
        json_file.write_text(json.dumps({"median": median, "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
