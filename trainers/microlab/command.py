"""`medbench microlab`: build a lab."""

from __future__ import annotations

import json
from pathlib import Path

import click

from medbench.errors import MedbenchError
from medbench.files.directories import full_disk_named, held
from medbench.files.manifest import write_atomic
from medbench.files.options import Here


@click.group()
def microlab() -> None:
    """The embedded micro-lab: a synthetic medical world and the tiny models trained on it."""


@microlab.command()
@click.option("--seed", default=0, show_default=True, help="Decides the world, the weights and the training order.")
@click.option("--out", required=True, type=Here(), help="A directory that is new or empty.")
@click.argument("overrides", nargs=-1, metavar="[STAGE.KEY=VALUE]...")
def build(seed: int, out: Path, overrides: tuple[str, ...]) -> None:
    """World, base, PT and SFT adapters from nothing, in minutes on one core, trained as medbench train does.

    Settings come from trainers/recipes/microlab and trainers/microlab/data.yaml; change one with, for example,
    base.max_steps=20.
    """
    from medbench.trainers.microlab.build import build as build_lab
    from medbench.trainers.train import quieten

    quieten()
    with held(out), full_disk_named(out):
        build_lab(seed, out, overrides=overrides, say=click.echo)
    click.echo(f"lab written to {out}: evaluate it with --model medbench/{out}")


@microlab.command()
@click.argument("labs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=Here(), help="Rows are appended here.")
@click.option(
    "--mix", default=",".join(map(str, (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1))), show_default=True
)
def study(labs: tuple[Path, ...], out: Path, mix: str) -> None:
    """The sweep and its controls on several labs: the table over world seeds with intervals.

    Rows already in the file are not computed again, so a study can be continued.
    """
    from medbench.trainers.microlab.study import candidates, rows_of, study_lab, table

    try:
        wanted = candidates(tuple(float(weight) for weight in mix.split(",")))
    except ValueError:
        raise MedbenchError(f"--mix {mix!r}: expected PT weights with commas between, such as 0,0.5,1.") from None
    with held(out), full_disk_named(out):
        for lab in labs:
            for row in study_lab(lab, wanted, done=rows_of(out)):
                write_atomic(out, "".join(json.dumps(one) + "\n" for one in [*rows_of(out), row]))
            click.echo(f"{lab} done")
    click.echo(table(rows_of(out)))
