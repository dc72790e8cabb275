"""The paper's study on a real language model, from nothing to a report: `make study`.

    python studies/smollm2/run.py --data ../shared/data --out runs/smollm2              all steps
    python studies/smollm2/run.py --data ../shared/data --out runs/smollm2 --dry-run    what they would cost
    python studies/smollm2/run.py --data ../shared/data --out runs/qwen3 --base Qwen/Qwen3-14B     (GPUs)

Each step is ordinary `medbench` commands. It is done when the directory that it makes holds a manifest, which every
command writes last; run again after a kill, the chain passes over what is done and every command goes on where it was.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from medbench.errors import MedbenchError
from medbench.files.manifest import NAME, sha256_file, write_atomic

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from cost import estimate  # noqa: E402 - beside this file, which is no package
from prepare import Amounts, prepare  # noqa: E402

SWEEPS = ("answers", "sampling", "probes", "exams")  # the longest last, should time run out
TRIAL = Amounts(medqa=6, pubmedqa=6, f5=6, pt=16, sft=24)
# A trial trains so little that a step's settings must fit it.
TRIAL_TRAINING = ("max_steps=4", "gradient_accumulation_steps=1", "save_steps=2", "val_size=2", "cutoff_len=512")


@dataclass(frozen=True)
class Step:
    """One link of the chain.

    Attributes:
        name: of the step, and of its record in `OUT/steps`.
        needs: directories below OUT whose manifests it depends on.
        makes: the directory below OUT whose manifest says that it is done.
        settings: what else decides the result; written down with the hashes of what it needs.
        run: does it, or goes on with it.
    """

    name: str
    needs: tuple[str, ...]
    makes: str
    settings: dict[str, Any]
    run: Callable[[], None]


class Chain:
    """The steps of a study in one directory.

    Args:
        data: the folder of the published files.
        out: where everything goes.
        base: a model other than the study's own, by path or hub id.
        trial: a few items and steps of everything.
    """

    def __init__(self, data: Path, out: Path, base: str | None = None, *, trial: bool = False) -> None:
        self.data, self.out = data.resolve(), out.resolve()
        self.amounts = TRIAL if trial else Amounts()
        self.trial = trial
        # A path is made absolute: commands are run from wherever the user is, adapters keep their base's name.
        self.base = str(Path(base).resolve()) if base and Path(base).exists() else base

    @property
    def model(self) -> str:
        """What is trained and merged into."""
        return self.base or str(self.out / "model")

    def steps(self) -> list[Step]:
        """All steps, in their order."""
        out = self.out
        fetched = () if self.base else ("model",)
        clean = [str(out / "clean" / name) for name in ("pt.jsonl", "sft.jsonl")]
        amounts = vars(self.amounts)
        fetch = Step(
            "fetch", (), "model", {}, lambda: medbench("fetch", "smollm2", "--dtype", "float32", "--out", out / "model")
        )
        steps = [
            # First, so that missing data are told before anything is downloaded.
            Step("prepare", (), "data", amounts, lambda: prepare(self.data, out / "data", self.amounts)),
            *([] if self.base else [fetch]),
            # The audit's manifest is written after the clean copy's.
            Step(
                "audit", ("data",), "audit", {}, lambda: self.audit([str(out / "data" / "corpus")], "audit", clean=True)
            ),
            Step("audit again", ("audit",), "audit-clean", {}, lambda: self.audit(clean, "audit-clean")),
        ]
        steps += [self.training(stage, (*fetched, "audit-clean")) for stage in ("pt", "sft")]
        steps += [self.sweep(name, (*fetched, "data", "pt", "sft")) for name in SWEEPS]
        steps.append(Step("report", tuple(f"sweeps/{name}" for name in SWEEPS), "report", {}, self.report))
        return steps

    def audit(self, corpus: Sequence[str], makes: str, *, clean: bool = False) -> None:
        """Look for the tested items in the training data; with `clean` write it without the records that hold them."""
        tested = self.out / "data" / "tested"
        files = {"medqa": "medqa.jsonl", "pubmedqa": "pubmedqa.json", "f5": "f5.jsonl"}
        against = ",".join(f"{task}={tested / file}" for task, file in files.items())
        more = ("--write-clean", self.out / "clean") if clean else ()
        medbench("audit", *corpus, "--against", against, *more, "--out", self.out / makes)

    def training(self, stage: str, needs: tuple[str, ...]) -> Step:
        """Train one adapter on the audited data."""
        recipe = HERE / f"{stage}.yaml"
        more = TRIAL_TRAINING if self.trial else ()
        settings = [
            f"model_name_or_path={self.model}",
            f"dataset={self.out / 'clean' / f'{stage}.jsonl'}",
            f"output_dir={self.out / stage}",
            *more,
        ]
        findings = ("--findings", self.out / "audit-clean")

        def train() -> None:
            goes_on = resumable(self.out / stage)
            medbench("train", stage, "--config", recipe, *findings, *settings, f"resume_from_checkpoint={goes_on}")

        return Step(f"train {stage}", needs, stage, {"recipe": sha256_file(recipe), "settings": settings}, train)

    def sweep(self, name: str, needs: tuple[str, ...]) -> Step:
        """Evaluate the candidates of one study file."""
        written = self.study(name)

        def run() -> None:
            # Beside what it names: paths in a study file are those of its own folder.
            write_atomic(self.out / f"{name}.yaml", written)
            medbench("sweep", self.out / f"{name}.yaml", "--out", self.out / "sweeps" / name)

        return Step(name, needs, f"sweeps/{name}", {"study": written}, run)

    def study(self, name: str) -> str:
        """A study file's text, with the base of this chain."""
        document = yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))
        if self.base:
            document["base"] = self.base
        if self.trial:
            document["limit"] = 6
        return yaml.safe_dump(document, sort_keys=False)

    def report(self) -> None:
        """The report over all sweeps, with the audit and the loss curves."""
        manifests = [word for stage in ("pt", "sft") for word in ("--manifests", self.out / stage)]
        title = f"medbench study: {Path(self.model).name if self.base else 'SmolLM2-135M-Instruct'}"
        what = ["--audit", self.out / "audit-clean", *manifests, "--title", title]
        medbench("report", self.out / "sweeps", *what, "--out", self.out / "report")

    def done(self, step: Step) -> bool:
        """Whether a step has been finished, from what it would be made from now.

        Raises:
            MedbenchError: it was made, or begun, from something else.
        """
        made = self.out / step.makes
        record = self._record(step)
        if not record.is_file():
            return False
        before = json.loads(record.read_text("utf-8"))
        now = self.inputs(step)
        if before != now:
            changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            raise MedbenchError(
                f"step {step.name!r} was begun with another {' and '.join(changed)}: remove {made} and {record} to do "
                "it again, or name another --out."
            )
        return (made / NAME).is_file()

    def inputs(self, step: Step) -> dict[str, Any]:
        """What a step is made from: its settings, and the manifests of what it needs."""
        needs = {need: sha256_file(self.out / need / NAME) for need in step.needs if (self.out / need / NAME).is_file()}
        return {"settings": step.settings, **needs}

    def _record(self, step: Step) -> Path:
        return self.out / "steps" / f"{step.name.replace(' ', '-')}.json"

    def go(self) -> None:
        """Do what is not done.

        Raises:
            MedbenchError: as `done`, or a command failed.
        """
        (self.out / "steps").mkdir(parents=True, exist_ok=True)
        for step in self.steps():
            if self.done(step):
                click.echo(f"{step.name}: done")
                continue
            click.secho(f"\n{step.name}", bold=True)
            write_atomic(self._record(step), json.dumps(self.inputs(step), ensure_ascii=False, indent=1) + "\n")
            step.run()
            if not self.done(step):
                raise MedbenchError(f"step {step.name!r} ended without {self.out / step.makes / NAME}.")

    def state(self) -> Iterator[str]:
        """A line on each step: done or not."""
        for step in self.steps():
            yield f"  {step.name:12} {'done' if self.done(step) else 'to do'}"


def medbench(*words: object) -> None:
    """Run a medbench command, and end with its message if it fails."""
    arguments = [str(word) for word in words]
    click.echo(f"$ medbench {shlex.join(arguments)}")
    done = subprocess.run([sys.executable, "-m", "medbench.cli", *arguments])
    if done.returncode:
        raise MedbenchError(f"medbench {arguments[0]} failed (exit code {done.returncode}); see above.")


def resumable(directory: Path) -> str:
    """``true`` where training can go on from a checkpoint; else what a kill left is removed, and it begins anew."""
    if any(directory.glob("checkpoint-*/trainer_state.json")):
        return "true"
    if directory.exists():
        shutil.rmtree(directory)  # begun by this chain, and without a complete checkpoint
    return "false"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/smollm2"), show_default=True)
@click.option(
    "--base", help="Another base model, by path or hub id, e.g. Qwen/Qwen3-14B; default: fetched SmolLM2-135M."
)
@click.option("--dry-run", is_flag=True, help="Print tokens, generations, disk and time; run nothing.")
@click.option("--tokens-per-second", type=float, help="Prompt tokens per second of this machine, for --dry-run's time.")
@click.option(
    "--trial", is_flag=True, help="A few items and steps of everything: shows that it runs, measures nothing."
)
def command(
    data: Path, out: Path, base: str | None, dry_run: bool, tokens_per_second: float | None, trial: bool
) -> None:
    """Fetch a model, audit the data, train PT and SFT, sweep their mixtures, report. Run again to go on."""
    chain = Chain(data, out, base, trial=trial)
    if dry_run:
        click.echo("\n".join([*estimate(chain, tokens_per_second), *chain.state()]))
        return
    chain.go()
    click.echo(f"\nreport   {chain.out / 'report' / 'report.html'}")


if __name__ == "__main__":
    try:
        command()
    except MedbenchError as error:
        click.echo(f"study: {error}", err=True)
        sys.exit(2)
