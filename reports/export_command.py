"""`medbench export`: a study's headline numbers in the formats of others."""

from __future__ import annotations

from pathlib import Path

import click

from medbench.errors import MedbenchError, unknown
from medbench.files.options import Write
from medbench.reports.estimates import Analysis, Options
from medbench.reports.exports import AVAILABILITIES, RELATIONSHIPS

FORMATS = ("every-eval-ever", "lm-eval", "model-index")


@click.command("export")
@click.argument("logdir")
@click.option("--format", "form", required=True, metavar="NAME", help=f"{', '.join(FORMATS)}.")
@click.option(
    "--out",
    type=Write(replace=True),
    required=True,
    help="The file; lm-eval's table of all candidates where it ends in .md, else one candidate's record.",
)
@click.option("--candidate", metavar="NAME", help="Which candidate. Needed where LOGDIR holds several.")
@click.option("--organization", default="unknown", show_default=True, help="Every Eval Ever: who reports the numbers.")
@click.option(
    "--relationship",
    type=click.Choice(RELATIONSHIPS),
    default="other",
    show_default=True,
    help="Every Eval Ever: of who evaluated to who made the model.",
)
@click.option(
    "--availability",
    type=click.Choice(AVAILABILITIES),
    default="unknown",
    show_default=True,
    help="Every Eval Ever: of the model's weights.",
)
@click.option("--developer", metavar="NAME", help="Every Eval Ever: who made the model, if not named ORG/NAME.")
@click.option(
    "--resamples", default=Options.resamples, show_default=True, type=click.IntRange(100), help="Bootstrap resamples."
)
@click.option("--seed", default=Options.seed, show_default=True, help="Seed of the bootstrap.")
def command(
    logdir: str,
    form: str,
    out: Path,
    candidate: str | None,
    organization: str,
    relationship: str,
    availability: str,
    developer: str | None,
    resamples: int,
    seed: int,
) -> None:
    """Write the headline numbers of the eval logs in LOGDIR in another tool's format.

    \b
    every-eval-ever  one candidate's record in the schema of Every Eval Ever (JSON)
    lm-eval          --out FILE.json: one candidate's results as lm-eval writes them; FILE.md: its table, of all
    model-index      one candidate's model card: `model-index` metadata for the hub, and the table (Markdown)

    Each number has its items, its 95% interval, the task's version, and chance or floor beside it. Scores under cue
    controls are tasks of their own ("medqa under options_only").
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if out.is_dir():
        raise MedbenchError(f"{out} is a folder; name a file with --out.")
    from medbench.files.manifest import write_atomic
    from medbench.reports import exports
    from medbench.reports.results import exported
    from medbench.reports.rows import load_study

    study = load_study(logdir)
    found = exported(Analysis(study, Options(resamples=resamples, seed=seed)))
    if not found:
        raise MedbenchError(f"{logdir}: no accuracy, claim, surface or refusal scores to export.")
    names = sorted({result.candidate for result in found})
    table = form == "lm-eval" and out.suffix == ".md"
    if candidate is not None and candidate not in names:
        raise MedbenchError(f"{logdir}: {unknown('candidate', candidate, names)}")
    if candidate is None and len(names) > 1 and not table:
        raise MedbenchError(
            f"{logdir} holds {len(names)} candidates, and a file of {form} is about one: --candidate NAME, of "
            f"{', '.join(names)}."
        )
    kept = [result for result in found if candidate in (None, result.candidate)]
    if table:
        text = exports.lm_eval_table(kept)
    elif form == "lm-eval":
        text = exports.lm_eval_json(kept)
    elif form == "model-index":
        text = exports.model_index(kept)
    else:
        text = exports.every_eval_ever(
            kept,
            organization=organization,
            relationship=relationship,
            resamples=resamples,
            availability=availability,
            developer=developer,
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, text)
    for notice in study.notices:
        click.echo(f"note: {notice.text}", err=True)
    click.echo(f"{out}: {len(kept)} numbers of {len({result.candidate for result in kept})} candidate(s)")
