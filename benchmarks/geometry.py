"""`medbench geometry` on two rank-16 adapters of a 0.6B-shaped bf16 model, beside the same figures from dense updates.

    python benchmarks/geometry.py --work /tmp/merge-bench [--rounds 3] [--shape 0.6b]

Each is a process of its own, from its start to its end; they take turns, and medians are shown with the peak memory.
The dense way forms both updates of each weight. It takes no full SVDs: for the subspaces only the QR of 16 columns,
which is less than a straight computation would do.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import click
from merge import _REPORT, SHARD, build

SCRIPTS = {
    "medbench geometry": """
    import sys
    from medbench.cli import main
    sys.argv = ["medbench", "geometry", "--base", BASE, "--adapter", f"pt={PT}:0.3", "--adapter", f"sft={SFT}:0.7"]
    main()
    """,
    "dense updates": """
    import torch
    from medbench.merging.adapters import read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    base = open_checkpoint(BASE).tensors
    pt, sft = read_adapter("pt", PT).low_rank, read_adapter("sft", SFT).low_rank
    total = torch.zeros(3, dtype=torch.float64)
    apart = count = 0
    for name in pt:
        one, other, start = pt[name].delta(), sft[name].delta(), base[name].read().float()
        total += torch.stack([(one * one).sum(), (other * other).sum(), (one * other).sum()]).double()
        q, _ = torch.linalg.qr(one[:, :16]); p, _ = torch.linalg.qr(other[:, :16]); (q.T @ p).square().mean()
        apart += int(((one * other) < 0).sum()); count += one.numel()
        change = 0.3 * one + 0.7 * other
        ((start + change).bfloat16().float() - start).mul_(change).sum()
    print("cosine", float(total[2] / (total[0] * total[1]).sqrt()), "apart", apart / count)
    """,
}


def run(script: str, work: Path) -> dict[str, Any]:
    """Wall and processor time in seconds, peak memory in GB, and what one process printed."""
    names = {"BASE": work / "base", "PT": work / "pt", "SFT": work / "sft"}
    header = "".join(f"{key} = {str(value)!r}\n" for key, value in names.items())
    begin, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-c", header + _REPORT + textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    wall, after = time.perf_counter() - begin, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    printed, _, peak = done.stdout.rpartition("PEAK_KB ")
    return {"wall": wall, "cpu": cpu, "memory": int(peak) * 1024 / 1e9, "printed": printed}


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Scratch folder, that of merge.py.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--shape", type=click.Choice(list(SHARD)), default="0.6b", show_default=True)
def main(work: Path, rounds: int, shape: str) -> None:
    """Print the table."""
    work.mkdir(parents=True, exist_ok=True)
    build(work, shape)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SCRIPTS}
    for _ in range(rounds):
        for name, script in SCRIPTS.items():
            runs[name].append(run(script, work))
    click.echo(runs["medbench geometry"][0]["printed"] + runs["dense updates"][0]["printed"])
    for name, results in runs.items():
        wall, cpu, memory = (statistics.median(r[key] for r in results) for key in ("wall", "cpu", "memory"))
        click.echo(f"{name:20} {wall:7.2f} s {cpu:7.2f} s of processor time {memory:7.2f} GB")


if __name__ == "__main__":
    main()
