"""What a merged model in 16 bits has left of what it was asked for: medbench, PEFT and mergekit on a real model.

    medbench fetch smollm2 --out BASE
    medbench train pt  model_name_or_path=BASE dataset=CORPUS max_steps=12 learning_rate=5e-4 output_dir=A/pt ...
    python benchmarks/rounding.py --base BASE --pair 12=A/pt,A/sft [--pair 100=B/pt,B/sft] --texts FILE.jsonl

Every candidate is a set of weights for one model, run in float32, so that nothing but the weights differs. KL is the
mean over the texts' tokens of KL(next token under the unrounded float32 merge || under the candidate), in nats.
Effective weights are plain least squares over all adapted weights. PEFT is PEFT itself (`merge_and_unload` of adapters
whose B was scaled, one after the other, in the base's dtype); mergekit is its own process where --mergekit names a
Python that has it, else the arithmetic of its `task_arithmetic` on adapters merged into bfloat16, named as such.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import torch

from medbench.merging.adapters import Adapter, read_adapter
from medbench.merging.checkpoints import Checkpoint, open_checkpoint
from medbench.merging.fitting import fit_adapters
from medbench.merging.kept import Kept, Products
from medbench.merging.recipe import make_recipe
from medbench.merging.rounding import Rounding, measured

Weights = Mapping[str, float]
MIXES: list[dict[str, float]] = [
    {"pt": 0.3, "sft": 0.7},
    {"pt": 1.0, "sft": 0.0},
    {"pt": 0.5, "sft": 0.5},
    {"pt": 0.0, "sft": 1.0},
    {"pt": 0.1, "sft": 0.0},
]


class Bench:
    """A base in memory as float32, the log-probabilities of one set of weights, and what others make of them."""

    def __init__(self, base: Path, texts: list[str], tokens: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.checkpoint: Checkpoint = open_checkpoint(base)
        self.model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self.parameters = dict(self.model.named_parameters())
        tokenizer = AutoTokenizer.from_pretrained(base)
        encoded = [tokenizer(text)["input_ids"][:tokens] for text in texts]
        self.batch = torch.tensor([ids for ids in encoded if len(ids) == tokens])
        self.reference: torch.Tensor | None = None

    def stored(self, key: str) -> torch.Tensor:
        return self.checkpoint.tensors[key].read()

    @torch.no_grad()
    def log_probabilities(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        for key, value in weights.items():
            self.parameters[key].copy_(value)
        return torch.cat([self.model(row[None]).logits[0].log_softmax(-1) for row in self.batch])

    def divergence(self, weights: Mapping[str, torch.Tensor]) -> float:
        """Mean KL from the reference."""
        assert self.reference is not None
        other = self.log_probabilities(weights)
        return float((self.reference.exp() * (self.reference - other)).sum(-1).mean())


def exact(bench: Bench, adapters: list[Adapter], mix: Weights) -> dict[str, torch.Tensor]:
    """The merge in float32, from the stored base."""
    recipe = make_recipe(adapters, mix, rounding=Rounding("nearest"))
    return {key: recipe.merged(key).rows(bench.stored(key).float()) for key in recipe.targets}


def rounded(bench: Bench, adapters: list[Adapter], mix: Weights, rounding: Rounding) -> dict[str, torch.Tensor]:
    """medbench's checkpoint."""
    recipe = make_recipe(adapters, mix, rounding=rounding)
    return {key: recipe.merged(key).rows(bench.stored(key)) for key in recipe.targets}


def peft(bench: Bench, base: Path, adapters: list[Adapter], mix: Weights) -> dict[str, torch.Tensor]:
    """PEFT's own merge, adapter after adapter, as export scripts do it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base)
    for adapter in adapters:
        wrapped = PeftModel.from_pretrained(model, adapter.path)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.data *= mix[adapter.name]
        model = wrapped.merge_and_unload()
    state = model.state_dict()
    return {key: state[key] for key in sorted(adapters[0].targets)}


def mergekit_formula(bench: Bench, adapters: list[Adapter], mix: Weights) -> dict[str, torch.Tensor]:
    """`task_arithmetic` in bfloat16 as mergekit does it: each adapter merged and stored, then weighted differences."""
    found = {}
    for key in sorted(set().union(*(adapter.targets for adapter in adapters))):
        base = bench.stored(key)
        models = [(base.float() + a.low_rank[key].delta()).to(base.dtype) for a in adapters]
        deltas = torch.stack([model - base for model in models])
        weights = torch.tensor([mix[a.name] for a in adapters], dtype=base.dtype).reshape(-1, 1, 1)
        found[key] = (base + (deltas * weights).sum(dim=0)).to(base.dtype)
    return found


def mergekit(bench: Bench, python: str, base: Path, adapters: list[Adapter], mix: Weights) -> dict[str, torch.Tensor]:
    """mergekit itself, in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        models = [{"model": f"{base}+{a.path}", "parameters": {"weight": mix[a.name]}} for a in adapters]
        config = {"merge_method": "task_arithmetic", "base_model": str(base), "dtype": "bfloat16", "models": models}
        script = f"""
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
run_merge(MergeConfiguration.model_validate({config!r}), {folder + "/out"!r},
          MergeOptions(lora_merge_cache={folder + "/cache"!r}, copy_tokenizer=False, lora_merge_dtype="bfloat16"))
"""
        subprocess.run([python, "-c", script], check=True, capture_output=True)
        out = open_checkpoint(Path(folder) / "out")
        found = {key: out.tensors[key].read() for key in sorted(adapters[0].targets)}
        shutil.rmtree(folder + "/out")
    return found


def kept(bench: Bench, adapters: list[Adapter], mix: Weights, weights: Mapping[str, torch.Tensor]) -> Kept:
    """What a candidate kept of the asked sum."""
    products = Products(adapters)
    for key, value in weights.items():
        base = bench.stored(key)
        asked = sum(mix[a.name] * a.low_rank[key].delta() for a in adapters if key in a.low_rank)
        assert isinstance(asked, torch.Tensor)
        products.add_weight(key)
        products.add_block(key, measured(value, base, asked), base, 0)
    return products.kept()


def unbiased(bench: Bench, adapters: list[Adapter], mix: Weights, seeds: int) -> dict[str, float]:
    """How far the mean of the seeds lies from exact, over all adapted values.

    deviation: of the sum over all values, in its standard errors; within_1, within_2: the share of weight matrices that
    lie within so many of their own (0.68 and 0.95 where unbiased); mean_square: of a value's deviation, by its
    variance (1 where unbiased).
    """
    recipes = [make_recipe(adapters, mix, rounding=Rounding("stochastic", seed)) for seed in range(seeds)]
    variance = squares = 0.0
    values = 0
    sums, errors = [], []
    for key in recipes[0].targets:
        base = bench.stored(key)
        exact_sum = base.double()
        for a in adapters:
            exact_sum += mix[a.name] * a.low_rank[key].delta(torch.float64)
        mean = torch.zeros_like(exact_sum)
        for recipe in recipes:
            mean += recipe.merged(key).rows(base).double() / seeds
        # Of one draw between neighbours a step apart, at the share f: step^2 f (1 - f).
        low = torch.floor(exact_sum / step(exact_sum)) * step(exact_sum)
        share = (exact_sum - low) / step(exact_sum)
        spread = step(exact_sum).square() * share * (1 - share) / seeds
        sums.append(float((mean - exact_sum).sum()))
        errors.append(float(spread.sum()) ** 0.5)
        variance += float(spread.sum())
        open_ = share.minimum(1 - share) > 0.01  # elsewhere 20 draws hold no information
        squares += float(((mean - exact_sum).square() / spread)[open_].sum())
        values += int(open_.sum())
    apart = [abs(total) / error for total, error in zip(sums, errors, strict=True)]
    return {
        "deviation": sum(sums) / variance**0.5,
        "within_1": sum(z <= 1 for z in apart) / len(apart),
        "within_2": sum(z <= 2 for z in apart) / len(apart),
        "matrices": len(apart),
        "mean_square": squares / values,
    }


def step(values: torch.Tensor) -> torch.Tensor:
    """bfloat16's spacing at float64 values."""
    _, exponent = torch.frexp(values)
    return torch.ldexp(torch.ones_like(values), exponent - 8)


def scaled(adapters: list[Adapter], factor: float) -> list[Adapter]:
    """The same adapters with updates `factor` times as large."""
    import dataclasses

    return [
        dataclasses.replace(
            a, low_rank={k: dataclasses.replace(u, scale=u.scale * factor) for k, u in a.low_rank.items()}
        )
        for a in adapters
    ]


def rows_of(
    bench: Bench, base: Path, adapters: list[Adapter], mix: Weights, seeds: int, python: str | None, peers: bool
) -> dict[str, dict[str, Any]]:
    """Competitor -> KL and what it kept, at one mix."""
    bench.reference = bench.log_probabilities(exact(bench, adapters, mix))
    made: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
        "base (no update)": lambda: {key: bench.stored(key) for key in sorted(adapters[0].targets)},
        "medbench nearest": lambda: rounded(bench, adapters, mix, Rounding("nearest")),
    }
    for seed in range(seeds):
        made[f"medbench stochastic, seed {seed}"] = lambda s=seed: rounded(  # type: ignore[misc]
            bench, adapters, mix, Rounding("stochastic", s)
        )
    if peers:
        made["PEFT, twice"] = lambda: peft(bench, base, adapters, mix)
        if python:
            made["mergekit"] = lambda: mergekit(bench, python, base, adapters, mix)
        else:
            made["mergekit's formula"] = lambda: mergekit_formula(bench, adapters, mix)
    found = {}
    for name, make in made.items():
        weights = make()
        facts = kept(bench, adapters, mix, weights)
        found[name] = {"kl": bench.divergence(weights), **facts.facts()}
    return found


def print_rows(label: str, mix: Weights, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One mix as lines of a Markdown table."""
    draws = [row for name, row in rows.items() if "stochastic" in name]
    asked = ", ".join(f"{name} {weight:g}" for name, weight in mix.items())
    for name, row in rows.items():
        if "stochastic" in name and not name.endswith("seed 0"):
            continue
        kl = f"{row['kl']:.5f}"
        if "stochastic" in name:
            kls = sorted(draw["kl"] for draw in draws)
            name, kl = f"medbench stochastic, {len(draws)} seeds", f"{kls[0]:.5f}-{kls[-1]:.5f}"
        effective = ", ".join(f"{round(weight, 3) + 0.0:.3f}" for weight in row["effective_weights"].values())
        shares = f"{row['update_kept']:.3f} | {effective} | {row['values_unchanged']:.1%}"
        click.echo(f"| {label}; {asked} | {name} | {kl} | {shares} |")


@click.command()
@click.option("--base", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--pair", "pairs", multiple=True, required=True, help="NAME=PT_DIR,SFT_DIR")
@click.option(
    "--texts", type=click.Path(exists=True, path_type=Path), required=True, help="JSON lines with output or text."
)
@click.option("--count", default=12, show_default=True, help="Texts.")
@click.option("--tokens", default=128, show_default=True, help="Of each text.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--mixes", default=len(MIXES), show_default=True, help="How many of the mixes.")
@click.option("--times", type=float, default=None, help="Also the first pair, its updates so many times as large.")
@click.option("--bias-seeds", default=20, show_default=True, help="0: no test of bias.")
@click.option("--mergekit", default=None, help="Python of an environment that has mergekit.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), default=None)
def main(
    base: Path,
    pairs: tuple[str, ...],
    texts: Path,
    count: int,
    tokens: int,
    seeds: int,
    mixes: int,
    times: float | None,
    bias_seeds: int,
    mergekit: str | None,
    json_file: Path | None,
) -> None:
    """Run the benchmark."""
    lines = [json.loads(line) for line in texts.read_text("utf-8").splitlines()]
    long = [text for line in lines if len(text := str(line.get("output") or line["text"])) > 6 * tokens]
    bench = Bench(base, long[: 4 * count], tokens)
    bench.batch = bench.batch[:count]
    click.echo(f"{len(bench.batch)} texts of {tokens} tokens\n")
    click.echo("| training; asked | merge | KL, nats a token | update kept | effective weights | values unchanged |")
    click.echo("|---|---|---|---|---|---|")
    cases = []
    for pair in pairs:
        label, _, paths = pair.partition("=")
        read = [read_adapter(name, path) for name, path in zip(("pt", "sft"), paths.split(","), strict=True)]
        cases.append((label, fit_adapters(bench.checkpoint, read, any_base=True), mixes))
    if times:
        cases.append((f"{cases[0][0]}, {times:g} times as large", scaled(cases[0][1], times), 1))
    results: list[dict[str, Any]] = []
    for label, adapters, how_many in cases:
        for mix in MIXES[:how_many]:
            first = mix == MIXES[0]
            rows = rows_of(bench, base, adapters, mix, seeds, mergekit, first and "times" not in label)
            print_rows(label, mix, rows)
            results.append({"case": label, "mix": mix, "rows": rows})
            if first:
                stochastic = statistics.mean(row["kl"] for name, row in rows.items() if "stochastic" in name)
                results[-1]["nearest_over_stochastic"] = rows["medbench nearest"]["kl"] / stochastic
    click.echo()
    for result in results:
        if "nearest_over_stochastic" in result:
            click.echo(f"{result['case']}: KL of nearest is {result['nearest_over_stochastic']:.0f} times stochastic's")
    if bias_seeds:
        bias = unbiased(bench, cases[0][1], MIXES[0], bias_seeds)
        click.echo(
            f"mean of {bias_seeds} seeds: {bias['deviation']:+.2f} standard errors from exact over all adapted values; "
            f"{bias['within_1']:.0%} of {bias['matrices']} matrices within one, {bias['within_2']:.0%} within two; "
            f"mean squared deviation a value {bias['mean_square']:.4f} (1 where unbiased)"
        )
        results.append({"bias_seeds": bias_seeds, **bias})
    if json_file:
        json_file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
