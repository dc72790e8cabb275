"""A report's files, written as a whole: a reader finds the old report or the new one, never a mixture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from medbench.errors import MedbenchError
from medbench.files.directories import replace_directory, workplace
from medbench.files.manifest import NAME, write_atomic, write_manifest
from medbench.reports import html, markdown
from medbench.reports.estimates import Options
from medbench.reports.parquet import write_parquet
from medbench.reports.report import Progress, Report, as_json, build

FILES = ("report.html", "report.md", "report.json", "rows.parquet", NAME)


def require_place(out: Path) -> None:
    """Raise `MedbenchError` where no report can be written, before an hour is spent on it."""
    if out.exists() and not out.is_dir():
        raise MedbenchError(f"{out} is a file; expected a directory to write the report to.")


def make(
    location: str,
    out: Path,
    *,
    audit: str | None,
    manifests: tuple[str, ...],
    contamination: tuple[str, ...],
    cards: tuple[str, ...],
    margin: float | None,
    resamples: int,
    seed: int,
    title: str,
    progress: Progress | None = None,
) -> tuple[Report, int]:
    """Compute the report of the logs below `location` and write it; returns it with its number of rows.

    Args:
        margin: points of accuracy (0-100) that do not matter.
        audit, manifests, contamination, cards, progress: see `build`.

    Raises:
        MedbenchError: see `build` and `write`.
    """
    require_place(out)
    options = Options(resamples=resamples, seed=seed, margin=None if margin is None else margin / 100)
    built = build(
        location,
        audit=audit,
        manifests=manifests,
        contamination=contamination,
        cards=cards,
        options=options,
        progress=progress,
    )
    settings = {
        "resamples": resamples,
        "seed": seed,
        "margin": margin,
        "logdir": location,
        "audit": audit,
        "contamination": list(contamination),
        "cards": list(cards),
    }
    return built, write(built, out, settings=settings, title=title)


def write(built: Report, out: Path, *, settings: dict[str, Any], title: str = "medbench report") -> int:
    """Write report.html, .md, .json, rows.parquet and manifest.json; returns the number of rows.

    Files of others in `out` stay. What an interrupted run left beside it is removed.

    Raises:
        MedbenchError: `out` is a file, or another process writes the same directory.
    """
    require_place(out)
    with workplace(out) as work:
        new = work / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        write_atomic(new / "report.html", html.render(built, title))
        write_atomic(new / "report.md", markdown.render(built))
        text = json.dumps(as_json(built), ensure_ascii=False, indent=1, allow_nan=False)
        write_atomic(new / "report.json", text + "\n")
        rows = write_parquet(built.study.runs, new / "rows.parquet")
        write_manifest(new, "report", settings=settings, inputs=built.sources, rows=rows)
        replace_directory(new, out, FILES)
        shutil.rmtree(work)
    return rows
