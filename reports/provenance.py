"""8. Where every number comes from: logs, files beside them, hashes, versions, and the commands that made them."""

from __future__ import annotations

import shlex
from collections import defaultdict

from medbench.files.manifest import sha256_file, versions
from medbench.reports.estimates import Options
from medbench.reports.logs import Run, local_path
from medbench.reports.page import Cell, Column, Section, Table, names
from medbench.reports.rows import Study
from medbench.reports.sources import Sources


def log_hashes(study: Study) -> dict[str, str]:
    """SHA-256 of every local log in use, by its path."""
    paths = {run.file: local_path(run.file) for run in study.runs}
    return {file: sha256_file(path) for file, path in paths.items() if path is not None}


def section(
    study: Study,
    sources: Sources,
    options: Options,
    hashes: dict[str, str],
    location: str,
    audit: str | None,
    manifests: tuple[str, ...],
    contamination: tuple[str, ...] = (),
    cards: tuple[str, ...] = (),
) -> Section:
    """Logs with their hashes and commands, files beside them, and software; and whether all were prompted alike."""
    rows: list[list[Cell]] = []
    for run in study.runs:
        about = run.provenance["metadata"].get("medbench") or {}
        weights = ", ".join(f"{key} {value:g}" for key, value in run.weights.items())
        hashed = {
            **(about.get("hashes") or {}),
            "chat template": run.provenance.get("chat_template"),
            "hub commit": run.provenance.get("model_commit"),
        }
        made = ", ".join(f"{key} {str(value)[:12]}" for key, value in sorted(hashed.items()) if value)
        rows.append(
            [
                run.provenance["log"],
                run.candidate,
                weights or str(run.provenance["model"]),
                f"{run.task} v{run.version}",
                run.setting_name + (f", seed {run.seed}" if run.seed is not None else ""),
                len(run.ids),
                len(run.unscored),
                run.created,
                ", ".join(f"{key} {value}" for key, value in sorted((run.provenance["packages"] or {}).items())),
                made,
                hashes.get(run.file, "")[:16],
                command_of(run),
            ]
        )
    templates = defaultdict(set)
    for run in study.runs:
        templates[run.provenance.get("chat_template")].add(run.candidate)
    known = {template: sorted(who) for template, who in templates.items() if template}
    said = []
    if len(known) > 1:
        groups = "; ".join(f"{template[:12]} for {names(who)}" for template, who in known.items())
        said.append(
            f"The candidates were prompted by {len(known)} chat templates ({groups}): differences between them may "
            "come from that."
        )
    given = [location, *(["--audit", audit] if audit else [])]
    for path in contamination:
        given += ["--contamination", path]
    for path in cards:
        given += ["--card", path]
    for path in manifests:
        given += ["--manifests", path]
    command = " ".join(shlex.quote(part) for part in given)
    return Section(
        "provenance",
        "Provenance",
        findings=[
            f"Computed from {len(study.runs)} logs with {options.resamples:,} resamples and seed {options.seed}; "
            f"`medbench report {command} --out DIR --check` recomputes every number and compares.",
            *said,
        ],
        tables=[
            Table(
                "Logs in use",
                [
                    Column("Log"),
                    Column("Candidate"),
                    Column("Weights or model"),
                    Column("Task"),
                    Column("Setting"),
                    Column("Outputs", "count"),
                    Column("Unscored", "count"),
                    Column("Created"),
                    Column("Packages"),
                    Column(
                        "Hashes",
                        help="of adapters (logged by the sweep), chat template and hub commit (by the provider)",
                    ),
                    Column("SHA-256", help="first 16 hex digits of the log file; all are in report.json"),
                    Column("Made by", help="as the log's header tells it"),
                ],
                rows,
            ),
            *_files(sources),
            Table(
                "Software",
                [Column("Package"), Column("Version")],
                [[name, version] for name, version in versions().items()],
            ),
        ],
        notes=[
            "report.json holds every number unrounded, the ids of the samples behind each task's numbers and the "
            "hashes of "
            "all files read; rows.parquet holds one row per sample, metric and view."
        ],
    )


def _files(sources: Sources) -> list[Table]:
    """Manifests and findings read beside the logs, each with the command that its manifest holds."""
    rows: list[list[Cell]] = [
        [
            path,
            str(sources.manifests.get(path, {}).get("kind") or "audit"),
            digest[:16],
            str(sources.manifests.get(path, {}).get("command") or ""),
        ]
        for path, digest in sorted(sources.hashes.items())
    ]
    columns = [Column("File"), Column("Kind"), Column("SHA-256"), Column("Made by")]
    return [Table("Files beside the logs", columns, rows)] if rows else []


def command_of(run: Run) -> str:
    """The command that a log's own header tells of: an import, a sweep's candidate, or `inspect eval`.

    Arguments that are no plain values (objects given from Python) are left out.
    """
    known = run.provenance
    imported = known["metadata"].get("import")
    if imported:
        parts = ["medbench", "import", str(imported.get("file")), "--format", str(imported.get("format"))]
        parts += ["--task", run.task, "--model", run.candidate]
        return shlex.join(parts)
    if run.series:
        return f"medbench sweep (candidate {run.candidate})"
    task, file = str(known["task"]), known["task_file"]
    asked = f"{file}@{task}" if file and "/" not in task else task
    parts = ["inspect", "eval", asked, "--model", str(known["model"])]
    for flag, values in (("-M", known["model_args"]), ("-T", known["task_args"])):
        for key, value in (values or {}).items():
            if _plain(value) is not None:
                parts += [flag, f"{key}={_plain(value)}"]
    for key, value in sorted(known["generation"].items()):
        if _plain(value) is not None:
            parts += [f"--{key.replace('_', '-')}", str(_plain(value))]
    return shlex.join(parts)


def _plain(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ",".join(map(str, value))
    return None
