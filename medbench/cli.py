"""The `medbench` command. A front door: it imports rooms and heavy libraries only when a command needs them."""

from __future__ import annotations

import errno
import importlib
import io
import json
import shlex
import shutil
import sys
from pathlib import Path

import click

from medbench import __version__
from medbench.errors import DISK_FULL, BadRow, MedbenchError, NoColumn, unknown
from medbench.files.options import Here

# name -> (module:attribute of a click command, the line `medbench --help` shows). Loaded when called.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("medbench.cli:demo", "the whole way on the embedded micro-lab, in minutes and without network"),
    "tasks": ("medbench.benchmark.command:tasks", "the benchmarks and probes, and their parameters"),
    "metrics": ("medbench.surface.command:metrics", "BLEU and ROUGE of a predictions file, with their floor"),
    "meta": ("medbench.meta.command:command", "what a metric says about what people judge"),
    "import": ("medbench.predictions.command:import_command", "existing predictions as scored Inspect logs"),
    "audit": ("medbench.leakage.command:audit", "leakage audit of a corpus against test items"),
    "fetch": ("medbench.fetching.command:command", "a real language model: smollm2, or any GGUF file"),
    "contamination": ("medbench.contamination.command:command", "leaks of a test set seen from the model alone"),
    "train": ("medbench.trainers.train:command", "train a PT or SFT adapter"),
    "publish": ("medbench.files.options:publish", "an artefact to an fsspec URL (s3://, gs://, hf://)"),
    "merge": ("medbench.trainers.merge:merge_command", "merge weighted adapters into their base"),
    "sweep": ("medbench.trainers.sweep:command", "candidates x tasks x decoding settings, resumable"),
    "tune-prompt": ("medbench.trainers.tune_prompt:command", "each candidate's best prompt, on items not tested"),
    "verify-merge": ("medbench.trainers.verify_merge:verify_command", "find the weights that a merge really used"),
    "verify-served": ("medbench.served.command:command", "is an endpoint serving the base with these adapters?"),
    "geometry": ("medbench.trainers.geometry:geometry_command", "how two adapters lie to each other"),
    "microlab": ("medbench.trainers.microlab.command:microlab", "build and study the embedded micro-lab"),
    "probes": ("medbench.probes.command:probes", "the refusal detector against human labels"),
    "judge": ("medbench.claims.command:judge", "a judge of claims against people; its rates corrected by labels"),
    "explain": ("medbench.reading.explain:explain", "which slots and rules read an answer out of an output"),
    "report": ("medbench.reports.command:report", "from eval logs: how far surface metrics mislead, and why"),
    "export": ("medbench.reports.export_command:command", "results for Every Eval Ever, lm-eval, a model card"),
    "plan": ("medbench.reports.plan:plan", "items and runs needed to show a difference, from a pilot or guesses"),
    "leaderboard": ("medbench.reports.command:leaderboard", "the leaderboard of eval logs, with ties"),
}

# The optional install that a command needs; the other commands run on the default one.
EXTRAS = {
    "demo": "local",
    "fetch": "gguf",
    "train": "train",
    "merge": "local",
    "sweep": "local",
    "tune-prompt": "local",
    "verify-merge": "local",
    "verify-served": "local,api",
    "geometry": "local",
    "microlab": "train",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that `medbench --help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The command names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; a name that is no command is answered with the nearest ones."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from `COMMANDS` without importing them."""
        rows = [(name, line) for name, (_, line) in COMMANDS.items()]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="medbench")
def cli() -> None:
    """Does a medical language model know more, or does it only write more like the reference?

    Benchmarks run with Inspect: inspect eval medbench/medqa --model MODEL
    """


@click.command()
@click.option("--out", type=Here(), default=Path("demo"), show_default=True, help="Where all goes.")
def demo(out: Path) -> None:
    """Run the whole way on the embedded micro-lab: candidates, tasks, probe, leakage audit, report.

    Every step is an ordinary command, shown as it is run.
    """
    _require("demo")
    from medbench.files.directories import held
    from medbench.files.manifest import read_manifest
    from medbench.provider.loading import MICROLAB

    if out.exists() and any(out.iterdir()) and read_manifest(out)["kind"] != "demo":
        raise MedbenchError(f"{out} is not empty and holds no demo; name another directory with --out.")
    with held(out):
        _demo(out, MICROLAB)


def _demo(out: Path, lab: Path) -> None:
    from medbench.files.manifest import write_manifest
    from medbench.trainers.microlab.demo import demo_plan

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out, "demo", settings={}, inputs={"microlab": str(lab)})
    plan = demo_plan(out / "inputs", lab=lab)
    _step("sweep", plan["study"], "--out", out / "study")
    # Below the study, so that one log directory covers all.
    _step("sweep", plan["sampling"], "--out", out / "study" / "sampling")
    _step("sweep", plan["controls"], "--out", out / "study" / "controls")
    _step("audit", plan["corpus"], "--against", "microlab_exam", "--out", out / "audit")
    _tell_planted(plan["planted"], out / "audit" / "findings.jsonl")
    _step("leaderboard", out / "study")
    report = ["--audit", out / "audit", "--manifests", lab, "--out", out / "report"]
    _step("report", out / "study", *report, "--title", "medbench demo: the micro-lab")
    _tell_controls(out / "report" / "report.json")
    click.echo(f"\nlogs     {out / 'study'}   (inspect view --log-dir {out / 'study'})")
    click.echo(f"report   {out / 'report' / 'report.html'}")
    click.echo("leaks seen from a model alone: medbench contamination --model medbench/microlab --task microlab_exam")


def _require(command: str) -> None:
    """Say which packages a command lacks before it does anything.

    Raises:
        MedbenchError: some are missing.
    """
    from medbench.advice import install, missing

    if lacking := missing(EXTRAS[command]):
        raise MedbenchError(
            f"{command} needs {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed: "
            f"{install(EXTRAS[command])}"
        )


def _step(*words: object) -> None:
    arguments = [str(word) for word in words]
    click.secho(f"\n$ medbench {shlex.join(arguments)}", bold=True)
    cli.main(arguments, standalone_mode=False)


def _tell_planted(planted: Path, findings: Path) -> None:
    """Compare the audit's findings with the leaks that the demo planted in its corpus."""
    key = json.loads(planted.read_text("utf-8"))
    rows = [json.loads(line) for line in findings.read_text("utf-8").splitlines()]
    found = {(Path(row["corpus_file"]).name, row["record"], row["item_id"]) for row in rows}
    for kind in dict.fromkeys(leak["kind"] for leak in key):
        leaks = [(leak["corpus_file"], leak["record"], leak["item_id"]) for leak in key if leak["kind"] == kind]
        click.echo(f"planted {kind} leaks found: {len(found.intersection(leaks))} of {len(leaks)}")


def _tell_controls(report: Path) -> None:
    """What the report says of the exam without its question."""
    sections = json.loads(report.read_text("utf-8"))["sections"]
    findings = next(section["findings"] for section in sections if section["key"] == "controls")
    for sentence in findings:
        if "question" in sentence:
            click.echo(f"cue control: {sentence}")


def main() -> None:
    """Entry point: bad input ends with its message and exit code 2, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks is shown escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        cli()
    except BadRow as error:
        skips = {"import", "metrics"} & set(sys.argv[1:2])
        helps = skips and not isinstance(error, NoColumn)
        advice = ". Mend the row, or leave such rows out and listed: --on-bad-row skip" if helps else ""
        click.echo(f"medbench: {str(error).rstrip('.') if helps else error}{advice}", err=True)
        sys.exit(2)
    except MedbenchError as error:
        click.echo(f"medbench: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        refused = isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError | FileExistsError)
        if not refused and error.errno not in DISK_FULL | {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}:
            raise
        advice = "Make room and run the same command again." if error.errno in DISK_FULL else "Name another place."
        click.echo(
            f"medbench: {error.filename or 'output'!s:.200} cannot be written or read: {error.strerror}. {advice}",
            err=True,
        )
        sys.exit(2)
    except ModuleNotFoundError as error:
        command = next((word for word in sys.argv[1:] if word in COMMANDS), "")
        if command not in EXTRAS:
            raise
        from medbench.advice import install

        click.echo(
            f"medbench: {command} needs the package {error.name!r}, which is not installed: {install(EXTRAS[command])}",
            err=True,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
