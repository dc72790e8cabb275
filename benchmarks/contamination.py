"""False alarms and power of `medbench contamination`'s tests, on micro-lab models whose training is known.

    OMP_NUM_THREADS=1 python benchmarks/contamination.py run --clean 200 --leaked 40 --out DIR
    python benchmarks/contamination.py table DIR

Each model is an adapter of the embedded micro-lab, merged: it reads 48 exam items of a world of its own, twice
over, in random order. A clean one reads nothing else. A leaked one also reads its test set, 24 other items of it,
in their published order and 1, 4 or 16 times. 24 further items are the controls; the micro-lab itself is the reference.
Every model is judged alone and less the reference.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from medbench.contamination.likelihood import Tokens, split
from medbench.contamination.scoring import BETWEEN, Plan, score
from medbench.contamination.tests import judge
from medbench.contamination.texts import published
from medbench.sources.items import Item
from medbench.stats import clopper_pearson

DOSES = (1, 4, 16)
TESTED, TRAINED, CONTROLS = 24, 48, 24  # items of each world: the set, what every model reads, what none does
EPOCHS, RUN, BATCH, RATE = 2, 4, 1, 1e-2  # readings of the other items, items a sequence, sequences a step
PLAN = Plan(variants=5, contexts=2, context_variants=1, shards=6, permutations=6)
FIRST_WORLD = 1_000


class TorchLikelihoods:
    """A model in memory as `Likelihoods`, scored as the in-process provider does."""

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        self.name, self.context = name, 8_192
        self._model, self._tokenizer = model, tokenizer

    def score(self, texts: Sequence[Sequence[str]], progress: Any = None) -> list[tuple[Tokens, ...] | None]:
        import torch

        from medbench.provider.prompt_scores import score_prompts

        ids = [[self._tokenizer(part)["input_ids"] if part else [] for part in parts] for parts in texts]
        if not ids:
            return []
        with torch.inference_mode():
            scored = score_prompts(self._model, [[t for part in parts for t in part] for parts in ids], 0)
        found: list[tuple[Tokens, ...] | None] = []
        for parts, one in zip(ids, scored, strict=True):
            greedy = one.logprobs >= one.top_logprobs[:, 0]
            lengths = [len(part) for part in parts]
            lengths[0] -= 1
            found.append(split(Tokens(one.logprobs, greedy, one.mean, one.deviation), lengths))
        return found


def world_items(world: int) -> tuple[list[Item], list[Item], list[Item]]:
    """A world's exam items in random order: the tested set, those to train on, the controls."""
    from medbench.trainers.microlab.tasks import exam_item
    from medbench.trainers.microlab.world import exam_items, make_world

    items = [exam_item(row) for row in exam_items(make_world(world))]
    items = [Item(question=i.question, language=i.language, options=i.options, answer=i.answer) for i in items]
    random.Random(f"contamination {world}").shuffle(items)
    ends = (TESTED, TESTED + TRAINED, TESTED + TRAINED + CONTROLS)
    return items[: ends[0]], items[ends[0] : ends[1]], items[ends[1] : ends[2]]


def training_texts(trained: Sequence[Item], tested: Sequence[Item], copies: int, seed: int) -> list[str]:
    """Sequences of `RUN` items: those to train on in random orders, and `copies` of the set in its own order."""
    rng = random.Random(f"training {seed}")
    texts = []
    for _ in range(EPOCHS):
        texts += _runs(rng.sample(list(trained), len(trained)), 0)
    for _ in range(copies):
        texts += _runs(tested, rng.randrange(RUN))  # cut elsewhere each time
    rng.shuffle(texts)
    return texts


def _runs(items: Sequence[Item], offset: int) -> list[str]:
    cuts = sorted({0, *range(offset, len(items), RUN), len(items)})
    groups = [items[a:b] for a, b in itertools.pairwise(cuts)]
    return [BETWEEN.join("".join(published(item).parts) for item in group) for group in groups]


def train(base: Any, tokenizer: Any, texts: Sequence[str], seed: int) -> tuple[Any, float]:
    """A LoRA adapter with the lab's own settings (rank 16, alpha 16, all linear layers), merged; and its last loss."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(copy.deepcopy(base), lora).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
    losses = []
    steps = -(-len(texts) // BATCH)
    for step in range(steps):
        batch = tokenizer(list(texts[step * BATCH : (step + 1) * BATCH]), padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 4) * (1 - step / steps)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return model.merge_and_unload().eval(), float(np.mean(losses[-4:]))


def one_model(base: Any, tokenizer: Any, world: int, copies: int) -> dict[str, Any]:
    """Train one model, and judge its set with and without a reference model."""
    tested, trained, controls = world_items(world)
    started = time.process_time()
    model, loss = train(base, tokenizer, training_texts(trained, tested, copies, world), world)
    between = time.process_time()
    suspect, reference = TorchLikelihoods("suspect", model, tokenizer), TorchLikelihoods("reference", base, tokenizer)
    mine, others = score(tested, suspect, PLAN), score(controls, suspect, PLAN, controls=True)
    theirs, their_others = score(tested, reference, PLAN), score(controls, reference, PLAN, controls=True)
    ways: dict[str, dict[str, Any]] = {
        "alone": {"controls": others},
        "reference": {"controls": others, "reference": theirs, "control_reference": their_others},
    }
    row: dict[str, Any] = {"world": world, "copies": copies, "loss": loss}
    for name, settings in ways.items():
        judged = judge(tested, mine, tests=PLAN.tests, seed=world, **settings)
        row[name] = {f"{r.test}/{r.against}": r.p for r in judged.results}
        row[f"{name}_shown"] = bool(judged.shown)
        for result in judged.results:
            if "p_reference_implementation" in result.extra and name == "alone":
                row["t_test"] = result.extra["p_reference_implementation"]
            if result.test == "codec" and result.against == "variants" and name == "alone":
                row["codec_share"] = result.extra["share"]
    row["seconds"] = [round(between - started, 2), round(time.process_time() - between, 2)]
    return row


@click.group()
def main() -> None:
    """See the module's text."""


@main.command()
@click.option("--clean", default=200, show_default=True, help="Clean models.")
@click.option("--leaked", default=40, show_default=True, help="Models per dose.")
@click.option("--part", default=1, show_default=True, help="Which of --parts this process makes.")
@click.option("--parts", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def run(clean: int, leaked: int, part: int, parts: int, out: Path) -> None:
    """Train and judge; a model that OUT/models.jsonl holds already is not made again."""
    import torch

    from medbench.provider.loading import Source, load, settled

    torch.set_num_threads(1)
    base, tokenizer = load(settled(Source("microlab")))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "models.jsonl"
    known = (
        {(r["world"], r["copies"]) for r in map(json.loads, path.read_text().splitlines())} if path.exists() else set()
    )
    doses = [(0, n) for n in range(clean)] + [(dose, n) for n in range(leaked) for dose in DOSES]
    # Mixed, so that a run that is cut short has some of each
    doses.sort(key=lambda pair: pair[1] / (clean if pair[0] == 0 else leaked))
    for copies, number in doses[part - 1 :: parts]:
        world = FIRST_WORLD + number
        if (world, copies) not in known:
            row = one_model(base, tokenizer, world, copies)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            click.echo(f"world {world}, {copies} copies: {row['seconds']}", err=True)


@main.command()
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.option("--level", default=0.01, show_default=True, help="A test alarms at a p-value of at most this.")
def table(directory: Path, level: float) -> None:
    """Print alarms per test: over clean models, and over models that read the set 1, 4 and 16 times."""
    rows = [json.loads(line) for line in (directory / "models.jsonl").read_text().splitlines()]
    doses: dict[int, list[dict[str, Any]]] = {dose: [] for dose in (0, *DOSES)}
    for row in rows:
        doses[row["copies"]].append(row)
    click.echo("models: " + ", ".join(f"{len(found)} with {dose} copies" for dose, found in sorted(doses.items())))
    click.echo(
        f"\n| test | clean, p <= .05 | clean, p <= {level:g} | " + " | ".join(f"{d} copies" for d in DOSES) + " |"
    )
    click.echo("|---|" + "---|" * (2 + len(DOSES)))
    for scope in ("alone", "reference"):
        for name in rows[0][scope]:
            cells = [_rate([row[scope][name] <= 0.05 for row in doses[0]])]
            cells += [_rate([row[scope][name] <= level for row in doses[dose]]) for dose in (0, *DOSES)]
            minus = " minus reference" if scope == "reference" else ""
            click.echo(f"| {name}{minus} | " + " | ".join(cells) + " |")
        shown = [_rate([row[f"{scope}_shown"] for row in doses[dose]]) for dose in (0, *DOSES)]
        click.echo(
            f"| **any, after Holm, .05**{' minus reference' if scope == 'reference' else ''} | | "
            + " | ".join(shown)
            + " |"
        )
    cells = [_rate([row["t_test"] <= at for row in doses[0]]) for at in (0.05, level)]
    cells += [_rate([row["t_test"] <= level for row in doses[dose]]) for dose in DOSES]
    click.echo("| exchangeability, the reference implementation's t-test | " + " | ".join(cells) + " |")
    shares = [f"{np.mean([row['codec_share'] for row in doses[dose]]):.2f}" for dose in (0, *DOSES) if doses[dose]]
    over = [_rate([row["codec_share"] > 0.8 for row in doses[dose]]) for dose in (0, *DOSES)]
    click.echo("| CoDeC's score above .8, the paper's rule | | " + " | ".join(over) + " |")
    click.echo(f"\nCoDeC's score, mean by dose (0, {', '.join(map(str, DOSES))}): {', '.join(shares)}")


def _rate(alarms: Sequence[bool]) -> str:
    if not alarms:
        return "–"
    found = clopper_pearson(sum(alarms), len(alarms))
    return f"{100 * found.estimate:.1f}% [{100 * found.low:.1f}, {100 * found.high:.1f}]"


if __name__ == "__main__":
    main()
