"""Does `control=options_only` tell a model that reads cues from one that knows the facts? Worlds with a known truth.

    python benchmarks/controls.py OUT [--seeds 1,2,3,4,5]

In each micro-world two models take one exam, whose right options can be told from the names alone
(`trainers/microlab/cues.py`). Both are the shipped base, which knows nothing of that world, trained further on
conversations of one form: one on the world's facts, with wrong options that give nothing away, one on options alone,
without a word about any disease of the world. Both answer the exam as it is, under `options_only` and `reorder`, by
`medbench sweep`; the report's section says of each whether it is caught. What is done in OUT is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml

from medbench.files.manifest import write_atomic
from medbench.provider.loading import MICROLAB
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import controls
from medbench.reports.page import show
from medbench.reports.rows import load_study
from medbench.reports.sources import Sources
from medbench.trainers.microlab.build import document, train_base
from medbench.trainers.microlab.cues import facts_alone, options_alone
from medbench.trainers.microlab.world import make_world
from medbench.trainers.recipe import load_recipe

# Chosen on world 6, which is not among those that are reported: a cue is learned sooner than 128 facts.
STEPS = {"options": 300, "facts": 400}
CONVERSATIONS = 6000
SETTINGS = ("per_device_train_batch_size=8", "learning_rate=3e-3", "warmup_steps=10")


def models(seed: int, root: Path) -> dict[str, Path]:
    """The two models of a world, trained where they are not there yet."""
    from medbench.merging.recipe import one_thread_each
    from medbench.trainers.train import quieten

    quieten()
    world, teach = make_world(seed), {"options": options_alone, "facts": facts_alone}
    found = {}
    for name, steps in STEPS.items():
        found[name] = out = root / name
        if (out / "model.safetensors").exists():
            continue
        out.mkdir(parents=True, exist_ok=True)
        rows = [{"text": document(row)} for row in teach[name](world, conversations=CONVERSATIONS)]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(root / f"{name}.jsonl", text)
        given = {"model_name_or_path": out, "dataset": root / f"{name}.jsonl", "output_dir": out}
        settings = [f"{key}={json.dumps(str(value))}" for key, value in given.items()] + [f"seed={seed}"]
        settings += [*SETTINGS, f"max_steps={steps}", f"save_steps={steps}"]
        recipe, origin = load_recipe("pt", "microlab/base", settings)
        with one_thread_each():
            made = train_base(recipe, origin, out, start())
        click.echo(f"seed {seed}, {name}: loss {made['losses']['train_loss']:.3f}")
    return found


def start() -> tuple[Any, Any]:
    """The shipped base and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(MICROLAB), AutoTokenizer.from_pretrained(MICROLAB)


def sweep(seed: int, root: Path, found: dict[str, Path]) -> Path:
    """The exam of a world for both models, as it is and under two controls; the directory of its logs."""
    from medbench.trainers.study import read_study
    from medbench.trainers.sweep import sweep as run

    document = {
        "candidates": [{"model": f"medbench/{path.resolve()}", "name": name} for name, path in found.items()],
        "tasks": [
            {
                "task": "medbench/microlab_exam",
                "args": {"seed": seed, "facts": "cued"},
                "cue_controls": ["options_only", {"control": "reorder", "orders": 3}],
            }
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
                shown = [show(cell, column.unit) for cell, column in zip(row, table.columns, strict=True)]
                click.echo("  " + " | ".join(shown))


if __name__ == "__main__":
    main()
