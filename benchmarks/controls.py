"""Does `control=options_only` tell a model that reads cues from one that knows the facts? Worlds with a known truth.

    python benchmarks/controls.py OUT [--seeds 1,2,3,4,5]

In each micro-world two models of one architecture take one exam, whose right options can be told from the names alone
(`trainers/microlab/cues.py`): the lab's base, which was taught the facts in other exams, and a model that was trained
from nothing on options alone and has never read a fact. Both answer the exam as it is, under `options_only` and under
`reorder`, by `medbench sweep`; the report's section says of each whether it is caught. What is done in OUT is kept.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import yaml

from medbench.manifest import write_atomic
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import controls
from medbench.reports.rows import load_study
from medbench.reports.sources import Sources
from medbench.trainers.microlab.build import data_of, document, load_amounts, train_base, untrained
from medbench.trainers.microlab.cues import options_alone
from medbench.trainers.microlab.world import make_world
from medbench.trainers.recipe import load_recipe

# Enough for the cue on seed 0, which is not among the worlds that are reported.
CUE_STEPS, CUE_CONVERSATIONS = 500, 4000


def models(seed: int, root: Path) -> dict[str, Path]:
    """The two models of a world, trained where they are not there yet."""
    from medbench.merging.recipe import one_thread_each
    from medbench.trainers.train import quieten

    quieten()
    world, amounts = make_world(seed), load_amounts()
    alone = [{"text": document(row)} for row in options_alone(world, conversations=CUE_CONVERSATIONS)]
    rows = [json.dumps(row, ensure_ascii=False) for row in alone]
    data = {"options": "\n".join(rows) + "\n", "facts": data_of(world, amounts)["base"]}
    found = {}
    for name, text in data.items():
        found[name] = out = root / name
        if (out / "model.safetensors").exists():
            continue
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(root / f"{name}.jsonl", text)
        given = {"model_name_or_path": out, "dataset": root / f"{name}.jsonl", "output_dir": out}
        settings = [f"{key}={json.dumps(str(value))}" for key, value in given.items()] + [f"seed={seed}"]
        recipe, origin = load_recipe("pt", "microlab/base", settings)
        if name == "options":
            recipe = replace(recipe, max_steps=CUE_STEPS, save_steps=CUE_STEPS)
        with one_thread_each():
            made = train_base(recipe, origin, out, untrained(world, amounts["base"], seed))
        click.echo(f"seed {seed}, {name}: loss {made['losses']['train_loss']:.3f}")
    return found


def sweep(seed: int, root: Path, found: dict[str, Path]) -> Path:
    """The exam of a world for both models, as it is and under two controls; the directory of its logs."""
    from medbench.trainers.study import read_study
    from medbench.trainers.sweep import sweep as run

    exam = {"seed": seed, "facts": "cued"}
    document = {
        "candidates": [{"model": f"medbench/{path.resolve()}", "name": name} for name, path in found.items()],
        "tasks": [
            {"task": "medbench/microlab_exam", "args": exam | extra}
            for extra in ({}, {"control": "options_only"}, {"control": "reorder", "orders": 3})
        ],
        "decoding": [{"temperature": 0, "max_tokens": 160}],
    }
    file = root / "study.yaml"
    write_atomic(file, yaml.safe_dump(document, sort_keys=False))
    run(read_study(file), root / "study", display="none")
    return root / "study" / "logs"


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seeds", default="1,2,3,4,5", show_default=True)
def main(out: Path, seeds: str) -> None:
    """Train, sweep and print what the report's section on controls says of every world."""
    for seed in map(int, seeds.split(",")):
        root = out / f"world{seed}"
        logs = sweep(seed, root, models(seed, root))
        section = controls.section(Analysis(load_study(str(logs)), Options()), Sources())
        click.echo(f"\nworld {seed}")
        for text in section.findings:
            click.echo(f"  {text}")
        for table in section.tables[:1]:
            for row in table.rows:
                click.echo("  " + " | ".join(str(cell) for cell in row))


if __name__ == "__main__":
    main()
