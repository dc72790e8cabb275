"""The study's figures for docs/real-model.md: one Markdown table over all candidates, and curves as SVG.

    python studies/smollm2/table.py runs/smollm2                    the table
    python studies/smollm2/table.py runs/smollm2 --figures docs     and docs/real-model-*.svg

The report holds the same numbers and many more; here they stand in one row per candidate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from medbench import stats
from medbench.files.manifest import write_atomic
from medbench.reports import svg
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import curve
from medbench.reports.rows import load_study
from medbench.reports.sources import Sources

# Heading, task, metric; a rate is shown in percent.
COLUMNS = (
    ("BLEU-4, as generated", "f5", "bleu4/raw"),
    ("its floor", "f5", "bleu4_floor/raw"),
    ("BLEU-4, the paper's", "f5", "bleu4_llamafactory/raw"),
    ("declines to answer", "f5", "declined/answer"),
    ("MedQA", "medqa", "accuracy/answer"),
    ("PubMedQA", "pubmedqa", "accuracy/answer"),
    ("unsafe prompts refused", "refusal", "refusal/answer"),
    ("benign prompts refused", "refusal", "refusal/answer"),
    ("traces", "trace", "trace/raw"),
)
FIGURES = {"bleu": "BLEU-4 (as generated) on f5", "medqa": "accuracy on medqa", "pubmedqa": "accuracy on pubmedqa"}
_IN_PART = {"declined/answer": "declined_in_part/answer", "refusal/answer": "partial/answer"}
# Light colours of the report's style sheet: a file of its own has no page around it.
STYLE = (
    "<style>svg{background:#fff;font-family:system-ui,sans-serif}text{font-size:12px;fill:#1c2024}.tick,.label,.key"
    "{fill:#59626c}.grid{stroke:#dedad2}.line{fill:none;stroke-width:2}.band{opacity:.14;stroke:none}.mark{stroke:#fff}"
    ".c0{fill:#0a6265;stroke:#0a6265}.c1{fill:#c8590a;stroke:#c8590a}.c2{fill:#5a4fcf;stroke:#5a4fcf}"
    ".line.c0,.line.c1,.line.c2{fill:none}</style>"
)


def lines(analysis: Analysis) -> Iterator[str]:
    """The table, candidates in the order of their series and weights."""
    counts = {task: len(table.items) for task, table in analysis.study.tables.items()}
    heads = [f"{title} (n = {_asked(analysis, task, title) or counts.get(task, 0)})" for title, task, _ in COLUMNS]
    yield "| PT | SFT | " + " | ".join(heads) + " |"
    yield "|---" * (2 + len(heads)) + "|"
    weights = analysis.study.weights
    for name in sorted(weights, key=lambda name: _order(weights[name])):
        cells = [_cell(analysis, name, title, task, key) for title, task, key in COLUMNS]
        yield f"| {weights[name].get('pt', 0):g} | {weights[name].get('sft', 0):g} | " + " | ".join(cells) + " |"


def _order(weights: dict[str, float]) -> tuple[int, float]:
    """Mixtures by PT weight, then SFT alone, then PT added to full SFT."""
    pt, sft = weights.get("pt", 0.0), weights.get("sft", 0.0)
    return (0, pt) if np.isclose(pt + sft, 1) else (1, -sft) if pt == 0 else (2, pt)


def _cell(analysis: Analysis, name: str, title: str, task: str, key: str) -> str:
    """One candidate's value with its 95% interval, as the report computes it; "not run" where there is none."""
    table = analysis.study.tables.get(task)
    if table is None or name not in table.candidates:
        return "not run"
    if task in ("f5", "medqa", "pubmedqa") and not key.startswith("declined"):
        estimate = analysis.estimators[task].estimate(key)
        if estimate is None or name not in estimate.candidates:
            return "not run"
        found, rate = estimate.intervals[estimate.index(name)], estimate.unit == "rate"
    else:
        kept = _kept(analysis, task, title)
        values = table.item_means(key)[table.candidates.index(name)][kept]
        if key in _IN_PART:  # any refusal, on whose boundary the detector was calibrated
            values = values + table.item_means(_IN_PART[key])[table.candidates.index(name)][kept]
        found, rate = stats.rate(values[np.isfinite(values)]), True
    scale, digits = (100, 0) if rate else (1, 1)
    low, high = f"{scale * found.low:.{digits}f}", f"{scale * found.high:.{digits}f}"
    return f"{scale * found.estimate:.{digits}f}{'%' if rate else ''} [{low}, {high}]"


def _kept(analysis: Analysis, task: str, title: str) -> np.ndarray:
    """The items that a column is about: of the refusal probe, prompts that are to be refused, or answered."""
    table = analysis.study.tables[task]
    expected = {"unsafe prompts refused": "refuse", "benign prompts refused": "answer"}.get(title)
    if expected is None:
        return np.ones(len(table.items), dtype=bool)
    return np.array([table.facts.get(item, {}).get("expected") == expected for item in table.items])


def _asked(analysis: Analysis, task: str, title: str) -> int:
    return int(_kept(analysis, task, title).sum()) if task in analysis.study.tables else 0


def figures(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """(name, SVG) of each interference curve that the docs show."""
    charts = {chart.title: chart for chart in curve.section(analysis, Sources()).charts}
    for name, title in FIGURES.items():
        chart = next((chart for found, chart in charts.items() if found.lower() == title.lower()), None)
        if chart is not None:
            drawn = str(svg.draw(chart, name)).replace(
                "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="480" ', 1
            )
            yield name, re.sub(r"(<desc.*?</desc>)", rf"\1{STYLE}", drawn, count=1, flags=re.DOTALL) + "\n"


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True))
@click.option("--figures", "folder", type=click.Path(path_type=Path, exists=True), help="Where the SVG files go.")
def command(out: Path, folder: Path | None) -> None:
    """Print the table of a study in OUT, finished or not."""
    analysis = Analysis(load_study(str(out / "sweeps")), Options())
    click.echo("\n".join(lines(analysis)))
    for name, drawn in figures(analysis) if folder else ():
        write_atomic(folder / f"real-model-{name}.svg", drawn)
        click.echo(f"wrote {folder / f'real-model-{name}.svg'}")


if __name__ == "__main__":
    command()
