"""Speed of the medbench provider against its peers: whole processes, side by side, on one core.

500 MedQA questions, a random Qwen3-architecture model (2 layers, hidden 64), greedy, 16 new tokens. Competitors:

    bare      a script around `model.generate`, batches of 64 sorted by length (provider_bare.py)
    medbench  Inspect with this provider
    no-live   the same without Inspect's live view of a running eval (--no-log-realtime)
    hf        Inspect with its own `hf` provider
    hf-64     the same with 64 connections, which is also its batch size
    lm-eval   lm-evaluation-harness with its `hf` backend, batches of 64
    idle      Inspect with a provider that does nothing: the floor of every Inspect run

    python benchmarks/provider.py [--repeats 3] [--lm-eval-python PYTHON]

lm-eval is no dependency of medbench. Install it beside the same torch and transformers, in an environment of its own:

    python -m venv build/lm-eval && build/lm-eval/bin/pip install -r requirements.lock -r locks/torch.lock
    build/lm-eval/bin/pip install lm-eval
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from medbench.provider import tiny
from medbench.sources.records import read_records

HERE = Path(__file__).resolve().parent
MEDQA = HERE.parent.parent / "shared/data/medqa/us_4_options_test.jsonl"
LM_EVAL_TASK = """\
task: medbench_prompts
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{target}}}}"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 16}}
metric_list: [{{metric: exact_match}}]
"""


def prompts(count: int) -> list[dict[str, str]]:
    """The first MedQA test questions as plain prompts."""
    rows = []
    for number, record in zip(range(count), read_records(MEDQA), strict=False):
        row = record.data
        options = "\n".join(f"{letter}. {text}" for letter, text in row["options"].items())
        rows.append({"id": f"q{number}", "prompt": f"{row['question']}\n\n{options}\n", "target": row["answer_idx"]})
    return rows


def timed(command: Sequence[str], core: int | None = None) -> tuple[float, float]:
    """Wall time and processor time of a command on one core (the last one, where none is named), in seconds."""
    core = max(os.sched_getaffinity(0)) if core is None else core
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    start = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"{' '.join(command)}\n{output.decode()[-3000:]}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def completions_of_log(directory: Path) -> dict[str, str]:
    from inspect_ai.log import read_eval_log

    (path,) = directory.glob("*.eval")
    log = read_eval_log(str(path))
    assert log.status == "success", log.error
    return {str(sample.id): sample.output.completion for sample in log.samples or []}


def completions_of_lm_eval(directory: Path) -> dict[str, str]:
    (path,) = directory.rglob("samples_*.jsonl")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["doc"]["id"]: row["resps"][0][0] for row in rows}


@click.command()
@click.option("--repeats", default=3, show_default=True)
@click.option("--count", default=500, show_default=True, help="Questions.")
@click.option(
    "--bytes", "byte_level", is_flag=True, help="One token per byte instead of a trained vocabulary of 4,096."
)
@click.option("--only", multiple=True, help="Run these competitors only.")
@click.option("--lm-eval-python", type=click.Path(exists=True, path_type=Path), help="Python that has lm-eval.")
def main(repeats: int, count: int, byte_level: bool, only: tuple[str, ...], lm_eval_python: Path | None) -> None:
    """Run every competitor REPEATS times in turn and print medians and ratios."""
    work = Path(tempfile.mkdtemp(prefix="medbench-provider-"))
    file, model = work / "prompts.jsonl", work / "model"
    rows = prompts(count)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    text = [row["prompt"] for row in rows]
    tiny.build(model, text=() if byte_level else text, vocab_size=259 if byte_level else 4096)
    (work / "lm_eval_task.yaml").write_text(LM_EVAL_TASK.format(file=file), "utf-8")
    inspect = [
        str(Path(sys.executable).parent / "inspect"), "eval", f"{HERE / 'provider_task.py'}@prompts",
        "-T", f"file={file}", "--display", "none", "--max-tokens", "16",
    ]  # fmt: skip
    hf = [*inspect, "--model", f"hf/{model}", "-M", "do_sample=false"]
    commands: dict[str, Callable[[Path], list[str]]] = {
        "bare": lambda out: [sys.executable, str(HERE / "provider_bare.py"), str(model), str(file), f"{out}/out.json"],
        "medbench": lambda out: [*inspect, "--model", f"medbench/{model}", "--log-dir", str(out)],
        "no-live": lambda out: [
            *inspect,
            "--model",
            f"medbench/{model}",
            "--no-log-realtime",
            "--log-dir",
            str(out),
        ],
        "hf": lambda out: [*hf, "--log-dir", str(out)],
        "hf-64": lambda out: [*hf, "--max-connections", "64", "--log-dir", str(out)],
        "idle": lambda out: [sys.executable, str(HERE / "provider_task.py"), str(file), str(out)],
    }
    if lm_eval_python is not None:
        commands["lm-eval"] = lambda out: [
            str(lm_eval_python), "-m", "lm_eval", "--model", "hf", "--model_args",
            f"pretrained={model},dtype=float32", "--tasks", "medbench_prompts", "--include_path", str(work),
            "--device", "cpu", "--batch_size", "64", "--apply_chat_template", "--log_samples",
            "--output_path", str(out),
        ]  # fmt: skip
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands if not only or name in only}
    answers: dict[str, dict[str, str]] = {}
    for turn in range(repeats):
        for name in times:
            out = work / f"{name}-{turn}"
            out.mkdir()
            times[name].append(timed(commands[name](out)))
            if name == "bare":
                answers[name] = json.loads((out / "out.json").read_text("utf-8"))
            elif name == "lm-eval":
                answers[name] = completions_of_lm_eval(out)
            else:
                answers[name] = completions_of_log(out)
            click.echo(f"{name:10} wall {times[name][-1][0]:6.2f} s  processor {times[name][-1][1]:6.2f} s")
    medians = {name: tuple(statistics.median(part) for part in zip(*runs, strict=True)) for name, runs in times.items()}
    click.echo(f"\nmedians of {repeats}, {count} questions, {'bytes' if byte_level else 'vocabulary of 4,096'}; {work}")
    for name, (wall, processor) in medians.items():
        line = f"{name:10} wall {wall:6.2f} s  processor {processor:6.2f} s"
        if "bare" in medians and name != "idle":
            same = sum(answers[name][key] == value for key, value in answers["bare"].items())
            line += f"  {wall / medians['bare'][0]:5.2f} x bare   same text as bare: {same} of {count}"
        click.echo(line)
    for name in ("hf", "hf-64", "lm-eval", "bare"):
        if "medbench" in medians and name in medians:
            click.echo(f"medbench / {name}: {medians['medbench'][0] / medians[name][0]:.2f} of the wall time")


if __name__ == "__main__":
    main()
