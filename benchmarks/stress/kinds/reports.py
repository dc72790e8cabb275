"""`medbench report`: over the simulated logs of ten candidates, in the place of an earlier report."""

from __future__ import annotations

import json
from pathlib import Path

from stress.kind import Content, Kind, digest, steady


def _prepare(inputs: Path) -> None:
    import simulated_logs

    simulated_logs.write_study(inputs / "logs", items=150)


def _command(inputs: Path, place: Path) -> list[str]:
    return ["report", str(inputs / "logs"), "--resamples", "500", "--out", str(place)]


def _earlier(inputs: Path, place: Path) -> list[str]:
    return [*_command(inputs, place), "--seed", "7", "--title", "an earlier one"]


def _content(place: Path) -> Content:
    import pyarrow.parquet

    from medbench.files.manifest import read_manifest

    manifest = steady(read_manifest(place))
    rows = pyarrow.parquet.read_table(place / "rows.parquet")
    assert rows.num_rows == manifest["rows"]
    report = json.loads((place / "report.json").read_text("utf-8"))
    texts = {name: (place / name).read_text("utf-8") for name in ("report.html", "report.md")}
    assert texts["report.html"].rstrip().endswith("</html>")
    return {"report": digest([manifest, rows.to_pydict(), report, texts])}


def _whole(place: Path) -> Content:
    return _content(place) if (place / "manifest.json").exists() else {}


KIND = Kind(
    "report",
    "34 simulated logs of ten candidates, 150 items a task, 500 resamples",
    ("inspect_ai.log", "medbench.reports.command", "medbench.reports.write", "pyarrow.parquet"),
    _prepare,
    _command,
    _content,
    _whole,
    _earlier,
)
