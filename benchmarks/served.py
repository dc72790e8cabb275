"""`verify-served` on a real model: is it right about what a llama.cpp server serves, and when can it not tell?

    python benchmarks/served.py --base DIR --gguf FILE.gguf --like pt=DIR --like sft=DIR --seeds 20 --out FILE.jsonl

For every seed two random adapters are made (the shapes of the `--like` adapters, each update as large as theirs) and
served: the asked mixture 0.3 / 0.7, the base, each adapter alone, squared weights, by llama.cpp's adapter scales; and
the asked sum as `medbench merge --rounding nearest` rounds it to bfloat16. Each must be named. With the first seed the
adapters are also shrunk by tens until their effect drowns in the server's own noise: there the answer must be "cannot
tell", and may never be wrong. A run that was killed goes on with the next seed.

The base should be stored in bfloat16, so that a merge rounds as it usually does.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click

WEIGHTS = {"pt": 0.3, "sft": 0.7}
STATES = {
    "asked": (0.3, 0.7),
    "base": (0.0, 0.0),
    "pt alone": (1.0, 0.0),
    "sft alone": (0.0, 1.0),
    "squared weights": (0.09, 0.49),
}
ROUNDED = "rounded to bfloat16"


def random_adapter(base: Path, like: Path, out: Path, seed: int) -> None:
    """A random adapter of the same shapes as `like`, each update of the same Frobenius norm as there."""
    import torch
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(seed)
    weights = load_file(like / "adapter_model.safetensors")
    made = {}
    for name in weights:
        if not name.endswith("lora_A.weight"):
            continue
        other = name.replace("lora_A", "lora_B")
        a = torch.randn(weights[name].shape, generator=generator)
        b = torch.randn(weights[other].shape, generator=generator)
        # |B A|_F from the small Gram matrices.
        size = [
            ((v.T @ v) * (u @ u.T)).sum().sqrt() for v, u in ((weights[other].float(), weights[name].float()), (b, a))
        ]
        made[name], made[other] = a, b * (size[0] / size[1])
    out.mkdir(parents=True)
    save_file(made, out / "adapter_model.safetensors", metadata={"format": "pt"})
    (out / "adapter_config.json").write_text((like / "adapter_config.json").read_text("utf-8"))


def set_scales(address: str, scales: tuple[float, ...]) -> None:
    from medbench.served.server import Server

    Server(f"{address}/v1").ask(
        f"{address}/lora-adapters", [{"id": place, "scale": scale} for place, scale in enumerate(scales)]
    )


class Judge:
    """The endpoint's answers under any scales, against candidates that are computed once a seed."""

    def __init__(self, base: Path, adapters: dict[str, Path], prompts: int, repeats: int, top: int) -> None:
        from medbench.served.exact import Exact, token_ids
        from medbench.served.prompts import PROMPTS

        self.prompts = PROMPTS[:: max(1, len(PROMPTS) // prompts)][:prompts]
        self.repeats, self.top = repeats, top
        texts = [f"{name}={path}:{WEIGHTS[name]}" for name, path in adapters.items()]
        self.exact = Exact(str(base), texts, any_base=True)
        self.ids = token_ids(self.exact.tokenizer)
        self.tokens = [self.exact.tokens(prompt) for prompt in self.prompts]

    def predict(self, factor: float = 1.0) -> dict[str, Any]:
        from medbench.served.exact import candidates

        asked = {name: weight * factor for name, weight in WEIGHTS.items()}
        return {name: self.exact.predict(one, self.tokens) for name, one in candidates(asked).items()}

    def ask(self, address: str) -> Any:
        from medbench.served import endpoint

        return endpoint.ask(
            "openai-api/llama/model", self.prompts, self.ids, base_url=f"{address}/v1", model_args={"api_key": "none"},
            repeats=self.repeats, top=self.top, extra_body=endpoint.llama_cpp(self.ids),
        ).likeliest  # fmt: skip


def judged(answers: Any, predicted: dict[str, Any]) -> dict[str, Any]:
    from medbench.served.command import judge

    found = judge(answers, predicted, dict.fromkeys(predicted, ""))
    comparison = found.comparison
    return {
        "verdict": found.verdict,
        "nearest": comparison.nearest,
        "distance": comparison.distances[comparison.nearest],
        "noise": comparison.noise,
        "apart": min(pair.separation for pair in comparison.pairs.values()),
        "effect": found.effect,
        "place": None if found.place is None else list(found.place),
    }


def one_seed(
    seed: int, base: Path, file: Path, likes: dict[str, Path], settings: dict[str, int]
) -> list[dict[str, Any]]:
    """Every state of one pair of adapters; for the first seed also shrunk ones."""
    from medbench.served.gguf import write_adapter, write_checkpoint
    from medbench.served.llama_server import serving
    from medbench.trainers.merge import merge

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        adapters, loras = {}, []
        for place, (name, like) in enumerate(likes.items()):
            adapters[name] = Path(folder) / name
            random_adapter(base, like, adapters[name], 1000 * seed + place)
            write_adapter(adapters[name], file, Path(folder) / f"{name}.gguf")
            loras.append(f"{folder}/{name}.gguf:0")
        judge = Judge(base, adapters, **settings)
        with serving(file, loras, context=2048) as address:
            predicted = judge.predict()
            for state, scales in STATES.items():
                set_scales(address, scales)
                rows.append({"seed": seed, "state": state, "factor": 1.0, **judged(judge.ask(address), predicted)})
            for factor in (0.1, 0.01, 0.001, 0.0001) if seed == 0 else ():
                shrunk = judge.predict(factor)
                set_scales(address, tuple(scale * factor for scale in STATES["asked"]))
                rows.append({"seed": seed, "state": "asked", "factor": factor, **judged(judge.ask(address), shrunk)})
        texts = [f"{name}={path}:{WEIGHTS[name]}" for name, path in adapters.items()]
        merge(base, texts, f"{folder}/merged", rounding="nearest", any_base=True)
        write_checkpoint(f"{folder}/merged", file, f"{folder}/merged.gguf")
        with serving(f"{folder}/merged.gguf", context=2048) as address:
            rows.append({"seed": seed, "state": ROUNDED, "factor": 1.0, **judged(judge.ask(address), predicted)})
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """What the results say, by state and by factor."""
    lines = [
        "| served | named rightly | distance from it | next candidate, away | server's noise |",
        "|---|---|---|---|---|",
    ]
    whole = [row for row in rows if row["factor"] == 1]
    for state in (*STATES, ROUNDED):
        own = [row for row in whole if row["state"] == state]
        right = sum(row["verdict"] == state for row in own)
        low, high = min(row["apart"] for row in own), max(row["apart"] for row in own)
        lines.append(
            f"| {state} | {right} of {len(own)} | {max(row['distance'] for row in own):.5f} at most "
            f"| {low:.4f} to {high:.4f} | {max(row['noise'] for row in own):.5f} at most |"
        )
    lines += [
        "",
        f"all six right: {_whole(whole)} seeds; verdicts: {dict(Counter(row['verdict'] for row in whole))}",
        "",
    ]
    lines += ["| asked weights times | adapters' effect | server's noise | answer |", "|---|---|---|---|"]
    for row in rows:
        if row["seed"] == 0 and row["state"] == "asked":
            lines.append(f"| {row['factor']:g} | {row['effect']:.6f} | {row['noise']:.6f} | {row['verdict']} |")
    return lines


def _whole(rows: list[dict[str, Any]]) -> str:
    seeds = {row["seed"] for row in rows}
    right = [seed for seed in seeds if all(row["verdict"] == row["state"] for row in rows if row["seed"] == seed)]
    return f"{len(right)} of {len(seeds)}"


@click.command()
@click.option("--base", required=True, type=click.Path(exists=True, path_type=Path), help="The base's model directory.")
@click.option("--gguf", required=True, type=click.Path(exists=True, path_type=Path), help="A GGUF file of that model.")
@click.option(
    "--like", "likes", multiple=True, required=True, help="NAME=DIR of pt and sft: shapes and sizes of updates."
)
@click.option("--seeds", default=20, show_default=True)
@click.option("--prompts", default=8, show_default=True)
@click.option("--repeats", default=2, show_default=True)
@click.option("--top", default=20, show_default=True)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Results, one a line; what is there is kept."
)
def main(
    base: Path, gguf: Path, likes: tuple[str, ...], seeds: int, prompts: int, repeats: int, top: int, out: Path
) -> None:
    """Measure how often verify-served is right."""
    from medbench.served.gguf import write_checkpoint

    named = {name: Path(path) for name, _, path in (text.partition("=") for text in likes)}
    if set(named) != set(WEIGHTS):
        raise click.UsageError("give --like pt=DIR and --like sft=DIR.")
    out.parent.mkdir(parents=True, exist_ok=True)
    served = out.with_suffix(".gguf")
    if not served.exists():
        write_checkpoint(base, gguf, served)
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []
    done = {row["seed"] for row in rows}
    for seed in range(seeds):
        if seed not in done:
            new = one_seed(seed, base, served, named, {"prompts": prompts, "repeats": repeats, "top": top})
            with out.open("a", encoding="utf-8") as handle:
                handle.writelines(json.dumps(row) + "\n" for row in new)
            rows += new
            click.echo(f"seed {seed}: " + ", ".join(f"{row['state']} -> {row['verdict']}" for row in new), err=True)
    click.echo("\n".join(table(rows)))


if __name__ == "__main__":
    main()
