"""Tokens per CPU second on a real model: the medbench provider beside its peers, whole processes on one core in turn.

64 doctor-patient questions (f5), greedy, float32 unless said. Competitors:

    bare      a script around `model.generate`, batches of 64 sorted by length (provider_bare.py)
    medbench  `inspect eval medbench/f5`: Inspect, this provider, and all of f5's scores
    cb        transformers' own continuous batching (`generate_batch`)
    llama     llama.cpp (package xllamacpp), weights in float16, 16 slots

    python benchmarks/provider_real.py --model DIR [--gguf FILE.gguf] --source en_valid.jsonl [--only bare ...]

What counts is the answers' tokens by the model's own tokenizer, over the processor time of the whole process:
import, load, generation and, in medbench, scoring.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

import click
from provider import timed

HERE = Path(__file__).resolve().parent


def texts_of(out: Path) -> list[str]:
    """The answers that a competitor wrote."""
    if (out / "out.json").exists():
        return list(json.loads((out / "out.json").read_text("utf-8")).values())
    from inspect_ai.log import read_eval_log

    (path,) = out.glob("*.eval")
    log = read_eval_log(str(path))
    assert log.status == "success", log.error
    return [sample.output.completion for sample in log.samples or []]


@click.command()
@click.option("--model", required=True, type=click.Path(exists=True, path_type=Path), help="A model directory.")
@click.option("--gguf", type=click.Path(exists=True, path_type=Path), help="The same model in float16, for llama.")
@click.option("--source", required=True, type=click.Path(exists=True, path_type=Path), help="f5's items.")
@click.option("--count", default=64, show_default=True)
@click.option("--tokens", default=128, show_default=True, help="New tokens at most.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--core", default=1, show_default=True)
@click.option("--only", multiple=True, help="Run these competitors only.")
def main(
    model: Path, gguf: Path | None, source: Path, count: int, tokens: int, rounds: int, core: int, only: tuple[str, ...]
) -> None:
    """Run every competitor in turn and print its tokens per CPU second."""
    from transformers import AutoTokenizer

    work = Path(tempfile.mkdtemp(prefix="medbench-provider-"))
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()[:count]]
    file = work / "prompts.jsonl"
    asked = [
        {"id": n, "prompt": "\n".join(filter(None, (r["instruction"], r.get("input"))))} for n, r in enumerate(rows)
    ]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked), "utf-8")
    inspect = str(Path(sys.executable).parent / "inspect")
    peer = [sys.executable, str(HERE / "provider_peers.py")]
    commands = {
        "bare": [sys.executable, str(HERE / "provider_bare.py"), str(model), str(file), "OUT/out.json", str(tokens)],
        "medbench": [
            inspect, "eval", "medbench/f5", "-T", f"source={source}", "--limit", str(count),
            "--max-tokens", str(tokens), "--model", f"medbench/{model}", "--display", "none", "--log-dir", "OUT",
        ],
        "cb": [*peer, "cb", str(model), str(file), "OUT/out.json", str(tokens)],
        "llama": [*peer, "llama", str(gguf), str(file), "OUT/out.json", str(tokens)],
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(model)
    speeds: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name, command in commands.items():
            if (only and name not in only) or (name == "llama" and gguf is None):
                continue
            out = work / f"{name}-{turn}"
            out.mkdir()
            _, seconds = timed([word.replace("OUT", str(out)) for word in command], core)
            texts = texts_of(out)
            written = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
            speeds.setdefault(name, []).append(written / seconds)
            click.echo(
                f"{name:9} {len(texts)} answers, {written} tokens, {seconds:.1f} CPU s: {written / seconds:.1f} a CPU s"
            )
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    for name, speed in medians.items():
        ratio = f"{speed / medians['bare']:.2f} x bare" if "bare" in medians else ""
        click.echo(f"median {name:9} {speed:.1f} tokens per CPU second  {ratio}")


if __name__ == "__main__":
    main()
