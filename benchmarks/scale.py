"""How each command's cost grows: processor time and peak memory at three sizes in a constant ratio.

    python benchmarks/scale.py costs --work DIR [--only sweep --only audit ...] [--rounds 1]
    python benchmarks/scale.py workers --work DIR --workers 2 [--limit 24] [--apart]

Each point is the command itself as a process of its own; its processor time (user and system) and its peak memory are
what the kernel counted. With sizes n, rn and r^2 n, and a cost of a + b n^k, the exponent is
k = log_r((c3 - c2) / (c2 - c1)), whatever the command needs to start; "each" is b where k = 1. Points that are in
DIR/costs.jsonl are not measured again. Each command runs once before it is measured.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time, seconds of wall time, and the peak in GB of one process."""

    cpu: float
    wall: float
    peak: float


@dataclass(frozen=True)
class Growth:
    """What grows, in which unit, at which three sizes, and the arguments of `medbench` for a size (made by need)."""

    command: str
    what: str
    unit: str
    sizes: tuple[int, int, int]
    arguments: Callable[[Path, int], list[str]]


def cost(arguments: list[str], log: Path) -> Cost:
    """Run `medbench` with these arguments as a process of its own."""
    begin = time.perf_counter()
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "medbench.cli", *arguments], env={**os.environ, **QUIET}, stdout=out, stderr=out
        )
        _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"medbench {' '.join(arguments)} ended with {process.returncode}; see {log}")
    return Cost(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 2**20)


# ---- what is measured


INSTANT = """
from inspect_ai import task
from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi
from medbench.tasks.medqa import medqa


@modelapi("instant")
class Instant(ModelAPI):
    async def generate(self, input, tools, tool_choice, config):
        output = ModelOutput.from_content(self.model_name, "The findings point to one of them. The answer is B.")
        output.usage = ModelUsage(input_tokens=200, output_tokens=16, total_tokens=216)
        return output


@task
def exam(source: str, part: int = 0):
    return medqa(source=source)
"""


def medqa_rows(path: Path, count: int) -> Path:
    """MedQA's test items, repeated with another patient's number where there are not enough."""
    lines = (DATA / "medqa" / "us_4_options_test.jsonl").read_text("utf-8").splitlines()
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            row = json.loads(lines[number % len(lines)])
            row["question"] = f"Patient {number}. {row['question']}"
            file.write(json.dumps(row) + "\n")
    return path


def sweep(work: Path, items: int, runs: int, repeats: int) -> list[str]:
    """A sweep of one candidate whose answers cost nothing: what Inspect, scoring and the sweep itself take."""
    folder = _fresh(work / f"sweep-{items}-{runs}-{repeats}")
    (folder / "exam.py").write_text(INSTANT)
    medqa_rows(folder / "items.jsonl", items)
    study = {
        "candidates": [{"model": f"instant/m{number}"} for number in range(runs)],
        "tasks": [{"task": "exam.py", "args": {"source": "items.jsonl"}}],
        "epochs": repeats,
    }
    (folder / "study.yaml").write_text(json.dumps(study))
    return ["sweep", str(folder / "study.yaml"), "--out", str(folder / "out"), "--display", "none"]


def audit(work: Path, copies: int, items: int) -> list[str]:
    """An audit of `copies` files of real text, 10.4 MB each (half of it Chinese), against MedQA items."""
    folder = work / "audit"
    folder.mkdir(parents=True, exist_ok=True)
    one = folder / "one.jsonl"
    if not one.exists():
        names = 4 * ["en_train.jsonl"] + ["zh_train.jsonl"]
        lines = [line for name in names for line in (DATA / "medical_qa" / name).read_text("utf-8").splitlines()]
        random.Random(1).shuffle(lines)
        one.write_text("\n".join(lines) + "\n", "utf-8")
    corpus = _fresh(folder / f"corpus-{copies}-{items}")
    for number in range(copies):
        os.link(one, corpus / f"{number:03}.jsonl")
    against = medqa_rows(folder / f"medqa-{items}.jsonl", items)
    out = folder / f"out-{copies}-{items}"
    shutil.rmtree(out, ignore_errors=True)
    return ["audit", str(corpus), "--against", str(against), "--out", str(out)]


def report(work: Path, candidates: int, items: int) -> list[str]:
    """A report over two tasks of simulated outputs, every sample with all views and profiles."""
    folder = work / f"report-{candidates}-{items}"
    if not (folder / "done").exists():
        script = "import sys; from pathlib import Path; import report; "
        script += f"report.generate(Path({str(_fresh(folder / 'logs'))!r}), {candidates}, {items})"
        here = {"PYTHONPATH": str(Path(__file__).parent)}
        subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **QUIET, **here})
        (folder / "done").touch()
    shutil.rmtree(folder / "out", ignore_errors=True)
    return ["report", str(folder / "logs"), "--out", str(folder / "out")]


def merge(work: Path, layers: int, rank: int, adapters: int) -> list[str]:
    """A merge into a model of Qwen3-0.6B's layers (15.7 million parameters each), bfloat16."""
    folder = work / f"merge-{layers}-{rank}"
    if not (folder / "base" / "config.json").exists():
        subprocess.run([sys.executable, "-c", MODEL, str(folder), str(layers), str(rank)], check=True)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    given = [word for number in range(adapters) for word in ("--adapter", f"a{number}={folder / 'adapter'}:0.1")]
    return ["merge", "--base", str(folder / "base"), *given, "--out", str(out)]


MODEL = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM
folder, layers, rank = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
model = Qwen3ForCausalLM(Qwen3Config(
    hidden_size=1024, intermediate_size=3072, num_hidden_layers=layers, num_attention_heads=16, num_key_value_heads=8,
    head_dim=128, vocab_size=1024, tie_word_embeddings=True, dtype="bfloat16"))
torch.set_default_dtype(torch.float32)
model.save_pretrained(folder + "/base", max_shard_size=210_000_000)
model.name_or_path = folder + "/base"
wrapped = get_peft_model(model, LoraConfig(r=rank, lora_alpha=16, target_modules="all-linear"))
for name, parameter in wrapped.named_parameters():
    if "lora_B" in name:
        parameter.data = torch.randn_like(parameter) * 0.01
wrapped.save_pretrained(folder + "/adapter")
"""


def train(work: Path, steps: int, layers: int) -> list[str]:
    """Training of an adapter on packed rows of 512 tokens, one a step; width 256, real doctor-patient answers."""
    base = work / f"train-base-{layers}"
    if not (base / "config.json").exists():
        script = f"from medbench.provider import tiny; tiny.build({str(base)!r}, layers={layers}, hidden=256)"
        subprocess.run([sys.executable, "-c", script], check=True)
    out = _fresh(work / f"train-{steps}-{layers}")
    out.rmdir()
    settings = {
        "model_name_or_path": base, "dataset": DATA / "medical_qa" / "en_train.jsonl", "output_dir": out,
        "cutoff_len": 512, "packing": "true", "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1,
        "max_steps": steps, "logging_steps": steps, "save_steps": steps, "max_samples": 400,
    }  # fmt: skip
    return ["train", "sft", *[f"{key}={value}" for key, value in settings.items()]]


def predictions(work: Path, rows: int) -> Path:
    """Predictions of a question-answering set: other answers of it, so that scores are neither 0 nor 100."""
    path = work / f"predictions-{rows}.jsonl"
    lines = [json.loads(s) for s in (DATA / "medical_qa" / "en_train.jsonl").read_text("utf-8").splitlines()]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            row, other = lines[number % len(lines)], lines[(number * 7 + 1) % len(lines)]
            prompt = f"{row['instruction']}\n{row['input']}\n{number}"
            file.write(json.dumps({"prompt": prompt, "predict": other["output"], "label": row["output"]}) + "\n")
    return path


def metrics(work: Path, rows: int) -> list[str]:
    return ["metrics", str(predictions(work, rows))]


def importing(work: Path, rows: int) -> list[str]:
    logs = _fresh(work / f"logs-{rows}")
    given = ["--format", "llamafactory", "--task", "f5", "--model", "m", "--log-dir", str(logs)]
    return ["import", str(predictions(work, rows)), *given]


GROWTHS = [
    Growth("sweep", "items", "item", (50, 200, 800), lambda w, n: sweep(w, n, 1, 1)),
    Growth("sweep", "candidates (25 items)", "run", (2, 8, 32), lambda w, n: sweep(w, 25, n, 1)),
    Growth("sweep", "repeats (25 items)", "repeat", (2, 8, 32), lambda w, n: sweep(w, 25, 1, n)),
    Growth("audit", "corpus, files of 10.4 MB (1,200 items)", "file", (4, 16, 64), lambda w, n: audit(w, n, 1200)),
    Growth("audit", "items (21 MB)", "item", (300, 1200, 4800), lambda w, n: audit(w, 2, n)),
    Growth("report", "items (3 candidates, 2 tasks)", "item", (100, 400, 1600), lambda w, n: report(w, 3, n)),
    Growth("report", "candidates (50 items, 2 tasks)", "candidate", (3, 9, 27), lambda w, n: report(w, n, 50)),
    Growth("merge", "layers (rank 16)", "layer", (2, 6, 18), lambda w, n: merge(w, n, 16, 2)),
    Growth("merge", "rank (6 layers)", "rank", (16, 64, 256), lambda w, n: merge(w, 6, n, 2)),
    Growth("merge", "adapters (6 layers)", "adapter", (1, 4, 16), lambda w, n: merge(w, 6, 16, n)),
    Growth("train", "steps of 512 tokens (4 layers)", "step", (6, 18, 54), lambda w, n: train(w, n, 4)),
    Growth("train", "layers (12 steps)", "layer", (2, 6, 18), lambda w, n: train(w, 12, n)),
    Growth("metrics", "rows", "row", (250, 1000, 4000), metrics),
    Growth("import", "rows", "row", (125, 500, 2000), importing),
]


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# ---- the commands


@click.group()
def main() -> None:
    """How costs grow."""


@main.command()
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--only", multiple=True, type=click.Choice(sorted({growth.command for growth in GROWTHS})))
@click.option("--rounds", default=1, show_default=True, help="The least of so many is taken.")
def costs(work: Path, only: tuple[str, ...], rounds: int) -> None:
    """Measure what is not measured yet, and print the table of docs/scale.md."""
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "costs.jsonl"
    found = {tuple(row["point"]): Cost(**row["cost"]) for row in _lines(kept)}
    chosen = [growth for growth in GROWTHS if not only or growth.command in only]
    started: set[str] = set()
    for growth in chosen:
        for size in growth.sizes:
            point = (growth.command, growth.what, size)
            if point in found:
                continue
            if growth.command not in started:  # kernels are compiled once for a machine
                started.add(growth.command)
                cost(growth.arguments(work, growth.sizes[0]), work / "output.log")
            tries = [cost(growth.arguments(work, size), work / "output.log") for _ in range(rounds)]
            found[point] = min(tries, key=lambda one: one.cpu)
            row = {"point": point, "cost": vars(found[point]), "load": os.getloadavg()[0]}
            with open(kept, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            click.echo(f"  {growth.command} {growth.what} {size}: {found[point]}", err=True)
    click.echo("| command | what grows | sizes | processor s | each | exponent | peak GB |")
    click.echo(f"|{'---|' * 7}")
    for growth in chosen:
        click.echo(line(growth, [found[growth.command, growth.what, size] for size in growth.sizes]))


def line(growth: Growth, points: list[Cost]) -> str:
    """One row of the table."""
    n1, n2, n3 = growth.sizes
    c1, c2, c3 = (point.cpu for point in points)
    ratio = n2 / n1
    exponent = math.log((c3 - c2) / (c2 - c1), ratio) if c3 > c2 > c1 else math.nan
    each = (c3 - c1) / (n3 - n1)
    told = f"{each:.2f} s" if each >= 0.1 else f"{1e3 * each:.2g} ms"
    cells = (
        growth.command, growth.what, ", ".join(f"{size:,}" for size in growth.sizes),
        ", ".join(f"{point.cpu:.1f}" for point in points), f"{told} per {growth.unit}",
        "-" if math.isnan(exponent) else f"{exponent:.2f}", ", ".join(f"{point.peak:.2f}" for point in points),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text("utf-8").splitlines())


@main.command()
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--limit", default=24, show_default=True, help="Items of each task.")
@click.option("--apart", is_flag=True, help="One worker after the other: processor time, where the machine is busy.")
def workers(work: Path, workers: int, limit: int, apart: bool) -> None:
    """The demo's study, 13 candidates on 3 tasks of the micro-lab, by one process and by several."""
    import yaml

    from medbench.provider.loading import MICROLAB
    from medbench.trainers.microlab.demo import study

    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    path = work / "study.yaml"
    path.write_text(yaml.safe_dump({**study(MICROLAB.resolve(), 0), "limit": limit}))

    def spent(name: str, count: int, *options: str) -> Cost:
        out = work / f"by-{count}"
        found = cost(["sweep", str(path), "--out", str(out), "--display", "none", *options], work / "output.log")
        click.echo(
            f"{name}: processor {found.cpu:.1f} s, wall {found.wall:.1f} s, peak of a process {found.peak:.2f} GB, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        return found

    for count in (1, workers):
        _fresh(work / f"by-{count}")
    one = spent("one process", 1)
    if apart:
        each = [
            spent(f"worker {number} of {workers}", workers, "--worker", str(number), "--of", str(workers))
            for number in range(workers)
        ]
        click.echo(
            f"{one.cpu / max(found.cpu for found in each):.2f} times as fast, were each worker alone on its core"
        )
    else:
        click.echo(
            f"{one.wall / spent(f'{workers} workers', workers, '--workers', str(workers)).wall:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
