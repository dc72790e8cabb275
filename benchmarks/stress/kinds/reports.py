"""`medbench report`: over the simulated logs of ten candidates, in the place of an earlier report."""

from __future__ import annotations

import json
from pathlib import Path

from stress.kind import Content, Kind, digest, files, steady


def _prepare(inputs: Path) -> None:
    import simulated_logs

    simulated_logs.write_study(inputs / "logs", items=30)


def _command(inputs: Path, place: Path) -> list[str]:
    return ["report", str(inputs / "logs"), "--resamples", "200", "--out", str(place)]


def _earlier(inputs: Path, place: Path) -> list[str]:
    return [*_command(inputs, place), "--seed", "7", "--title", "an earlier one"]


def _content(place: Path) -> Content:
    import pyarrow.parquet

    from medbench.files.manifest import read_manifest

    manifest = steady(read_manifest(place))
    assert pyarrow.parquet.read_metadata(place / "rows.parquet").num_rows == manifest["rows"]
    json.loads((place / "report.json").read_text("utf-8"))
    assert (place / "report.html").read_text("utf-8").rstrip().endswith("</html>")
    return {"report": digest([manifest, files(place, ("report.html", "report.md", "report.json", "rows.parquet"))])}


def _whole(place: Path) -> Content:
    return _content(place) if (place / "manifest.json").exists() else {}


KIND = Kind(
    "report",
    "34 simulated logs of ten candidates, 30 items a task, 200 resamples",
    ("inspect_ai.log", "medbench.reports.command", "medbench.reports.write", "pyarrow.parquet"),
    _prepare,
    _command,
    _content,
    _whole,
    _earlier,
)
