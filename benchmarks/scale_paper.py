"""Two jobs that are too large for here, on paper: a 14B sweep on N GPUs, and the audit of a corpus of terabytes.

    python benchmarks/scale_paper.py [--sample-ms 20] [--scan-mb 20]

What is measured (benchmarks/scale.py) is an option; what is assumed stands below. How a sweep's runs are divided is not
assumed: it is `medbench.trainers.shares`.
"""

from __future__ import annotations

from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Gpu:
    """A GPU and how much of it a decoder gets: an H100 SXM's data sheet, and shares that are assumed, not measured."""

    memory: float = 80e9
    bandwidth: float = 3.35e12
    flops: float = 989e12
    bandwidth_used: float = 0.4
    flops_used: float = 0.4


@dataclass(frozen=True)
class Model:
    """Qwen3-14B in bfloat16: bytes of its weights, and of a token's keys and values (40 layers, 8 heads of 128)."""

    parameters: float = 14.8e9
    token: float = 40 * 2 * 8 * 128 * 2

    @property
    def weights(self) -> float:
        return 2 * self.parameters


# Items, prompt tokens and new tokens: answers of a few sentences, and with reasoning traces.
TASKS = {
    "medqa": (1273, 250), "pubmedqa": (500, 450), "cmexam": (6811, 200), "f5": (500, 120), "f6": (500, 120),
    "refusal_probe": (320, 60),
}  # fmt: skip
BATCH = 64


def seconds_of(items: int, prompt: int, new: int, gpu: Gpu, model: Model) -> float:
    """One run on one GPU: prompts bound by arithmetic, tokens by reading weights, keys and values."""
    reading = 2 * model.parameters * prompt / (gpu.flops * gpu.flops_used)
    step = (model.weights + BATCH * (prompt + new / 2) * model.token) / (gpu.bandwidth * gpu.bandwidth_used)
    return items * (reading + new * step / BATCH)


@click.command()
@click.option("--candidates", default=13, show_default=True)
@click.option("--sample-ms", default=20.0, show_default=True, help="Processor time of a sample beside generation.")
@click.option("--scan-mb", default=20.0, show_default=True, help="MB/s of an audit on one core.")
@click.option("--terabytes", default=2.0, show_default=True)
def main(candidates: int, sample_ms: float, scan_mb: float, terabytes: float) -> None:
    """A 14B sweep and the audit of a large corpus, from assumptions that are all printed or in this file."""
    from medbench.trainers.shares import share
    from medbench.trainers.study import Candidate, Run

    gpu, model = Gpu(), Model()
    made = [Candidate(f"c{number}", "mix", "medbench/14b") for number in range(candidates)]
    runs = [Run(candidate, task, {}, {}, "default") for candidate in made for task in TASKS]
    samples = sum(items for items, _ in TASKS.values())
    click.echo(
        f"{candidates} candidates x {len(TASKS)} tasks, {candidates * samples:,} generations, batches of {BATCH}"
    )
    for new in (300, 1500):
        lasts = {task: seconds_of(items, prompt, new, gpu, model) for task, (items, prompt) in TASKS.items()}
        rate = sum(items * new for items, _ in TASKS.values()) / sum(lasts.values())
        total = candidates * sum(lasts.values())
        click.echo(f"{new} new tokens: {rate:,.0f} tokens/s a GPU, {total / 3600:.1f} GPU hours")
        for count in (1, 4, 8, 13, 16):
            mine = [share(runs, lambda run: TASKS[run.task][0], worker, count) for worker in range(count)]
            last = max(sum(lasts[run.task] for run in each) for each in mine)
            load = 60.0  # reading 29.5 GB from a shared disk at 1 GB/s, and Python, tasks and the merge: twice that
            click.echo(
                f"  {count:2} GPUs: {(last + load) / 3600:5.2f} h, {(total + load) / (last + load):5.1f} times one"
            )
    beside = candidates * samples * sample_ms / 1e3
    click.echo(f"beside generation, at {sample_ms:g} ms a sample: {beside / 3600:.1f} h of one core in all")
    size = terabytes * 1e12
    hours = size / (scan_mb * 1e6) / 3600
    shards = f"{size / 32e6:,.0f} shards of 32 MB"
    click.echo(f"audit of {terabytes:g} TB at {scan_mb:g} MB/s a core: {hours:.0f} core hours, {shards}")
    for cores in (64, 256, 1024):
        need = cores * scan_mb / 1e3
        click.echo(f"  {cores:5} cores: {hours / cores:5.2f} h, reading {need:.1f} GB/s in all")
    click.echo(f"  then one process hashes the corpus for its manifest: {size / 1e9 / 3600:.1f} h at 1 GB/s")


if __name__ == "__main__":
    main()
