"""2. Scores against the mixing ratio, beside the two controls, and how much attenuation of SFT alone explains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from medbench import stats
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap.labels import metric_name
from medbench.reports.page import Cell, Chart, Column, Section, Series, Table, show, span
from medbench.reports.rows import Study
from medbench.reports.sources import Sources

# Position on the common axis: how far a candidate lies from full SFT. The mix trades SFT for PT; each control moves
# one.
SERIES = {
    "mix": "PT in, SFT out",
    "sft_only": "SFT out alone",
    "pt_added": "PT in, SFT kept",
}
CURVES = ("bleu4/raw", "rougeL/raw", "accuracy/answer", "trace/raw", "refusal/answer")


def section(analysis: Analysis, sources: Sources) -> Section:
    """The interference curve (the paper's Figure 3) with both controls."""
    found = Section("curve", "Interference curve")
    points = {name: sweep_points(analysis.study.weights, name) for name in SERIES}
    if len(points["mix"]) < 2:
        found.missing = (
            "The logs carry no adapter weights of at least two mixtures. `medbench sweep` over a `mix` series with its "
            "controls writes them."
        )
        return found
    effective = {name: effective_points(analysis.study, points[name], name) for name in SERIES}
    trends: list[list[Cell]] = []
    shares: list[list[Cell]] = []
    for key in CURVES:
        for task in _tasks_for(analysis, key):
            estimate = analysis.estimators[task].estimate(key)
            if estimate is None:
                continue
            label = f"{metric_name(key)} on {task}"
            lines = {name: _line(estimate, points[name]) for name in SERIES}
            if len(lines["mix"][0]) < 2:
                continue
            trend = _trend(estimate, lines["mix"])
            drawn = {name: _drawn(estimate, lines[name], effective[name]) for name in SERIES}
            found.charts.append(_chart(estimate, label, drawn, trend))
            trends += _trend_rows(estimate, label, lines)
            rows, sentence = _attenuation(estimate, label, lines, trend)
            shares += rows
            found.findings += [_trend_sentence(label, trend, lines["mix"], estimate)] if key != "rougeL/raw" else []
            found.findings += [sentence] if sentence and key in ("bleu4/raw", "accuracy/answer") else []
    found.tables.append(_trend_table(trends))
    if shares:
        found.tables.append(_share_table(shares))
    lacking = [SERIES[name] for name in ("sft_only", "pt_added") if len(points[name]) < 2]
    if lacking:
        found.notes.append(
            f"Missing control: {' and '.join(lacking)}. Without it, what the PT adapter adds cannot be told from what "
            "weakening SFT does; add it to the sweep's series."
        )
    if moved := _moved(points, effective):
        found.notes.append(
            f"Rounding took part of the update from {len(moved)} candidate{'s'[: len(moved) != 1]}: the curves are "
            f"drawn over the weights that take effect, e.g. {moved[0]}. Tables name candidates by the weights that "
            "were asked for."
        )
    found.notes.append(
        "All points share one axis, the distance from full SFT: in the mix PT = x and SFT = 1 − x; the controls change "
        "only one of the two. Bands are 95% intervals. The share explained is the control's change over the mix's "
        "change at the same SFT weight, with Fieller's 95% set. Where the mix's change is weak the table gives the set "
        "in words, for a ratio to a small number says little, and where the mix goes both ways or shows no change no "
        "sentence speaks of a share."
    )
    return found


def sweep_points(weights: dict[str, dict[str, float]], series: str) -> list[tuple[float, str]]:
    """(position, candidate) of a series, ascending; full SFT, position 0, belongs to all three."""
    found: list[tuple[float, str]] = []
    for name, weight in weights.items():
        pt, sft = weight.get("pt", 0.0), weight.get("sft", 0.0)
        position = {
            "mix": pt if np.isclose(pt + sft, 1) else None,
            "sft_only": 1 - sft if pt == 0 and 0 <= sft <= 1 else None,
            "pt_added": pt if np.isclose(sft, 1) else None,
        }[series]
        if position is not None and not any(np.isclose(position, other) for other, _ in found):
            found.append((float(position), name))
    return sorted(found)


def effective_points(study: Study, points: Sequence[tuple[float, str]], series: str) -> dict[str, float]:
    """Candidate -> position by the weights that take effect; the asked position where no log says them.

    The control without PT is placed by its SFT weight relative to full SFT's own, so that both begin at 0.
    """
    full = next((study.effective.get(name, {}).get("sft") for x, name in points if x == 0), None) or 1.0
    found = {}
    for x, name in points:
        weights = study.effective.get(name)
        if not weights:
            found[name] = x
        elif series == "sft_only":
            found[name] = 1 - weights.get("sft", 0.0) / full
        else:
            found[name] = weights.get("pt", 0.0)
    return found


# Weights closer than this are drawn at the same place: less than a chart's line is wide.
_SAME = 0.005


def _moved(points: dict[str, list[tuple[float, str]]], effective: dict[str, dict[str, float]]) -> list[str]:
    """What rounding moved, as words for a note."""
    return [
        f"{name} at {effective[series][name]:.2f} instead of {x:g}"
        for series, line in points.items()
        for x, name in line
        if abs(effective[series][name] - x) > _SAME
    ]


Line = tuple[list[float], list[int]]


def _drawn(estimate: Estimate, line: Line, effective: dict[str, float]) -> Line:
    """A line over effective weights, ascending."""
    places = [effective[estimate.candidates[index]] for index in line[1]]
    moved = [place if abs(place - x) > _SAME else x for place, x in zip(places, line[0], strict=True)]
    order = np.argsort(moved, kind="stable")
    return [moved[at] for at in order], [line[1][at] for at in order]


def _line(estimate: Estimate, points: Sequence[tuple[float, str]]) -> Line:
    here = [(x, estimate.index(name)) for x, name in points if name in estimate.candidates]
    return [x for x, _ in here], [index for _, index in here]


def _tasks_for(analysis: Analysis, key: str) -> list[str]:
    if key == "trace/raw":
        return analysis.surface_tasks[:1] or analysis.tasks_with(key)[:1]
    if key.startswith(("bleu", "rouge")):
        return [task for task in analysis.surface_tasks if task not in analysis.choice_tasks] or analysis.surface_tasks
    return analysis.tasks_with(key)


def _trend(estimate: Estimate, line: Line) -> stats.Monotonicity:
    """Steps and slope tested as one family; their intervals hold at once (Bonferroni)."""
    x, index = line
    level = 1 - (1 - estimate.options.confidence) / len(index)
    names = [estimate.candidates[i] for i in index]
    steps = [estimate.difference(one, two, level) for one, two in pairwise(names)]
    return stats.monotonicity(steps, estimate.slope(index, x, level), estimate.options.alpha)


def _chart(estimate: Estimate, label: str, lines: dict[str, Line], trend: stats.Monotonicity) -> Chart:
    scale = 100 if estimate.unit == "rate" else 1
    series = []
    for name, (x, index) in lines.items():
        if len(x) < 2:
            continue
        bounds = [estimate.intervals[i] for i in index]
        series.append(
            Series(
                SERIES[name],
                x,
                [scale * b.estimate for b in bounds],
                [scale * b.low for b in bounds],
                [scale * b.high for b in bounds],
            )
        )
    unit = "%" if estimate.unit == "rate" else "0-100"
    return Chart(
        "lines",
        label,
        "distance from full SFT",
        unit,
        series,
        f"{label} {_VERDICTS[trend.verdict]} along the mix.",
    )


_VERDICTS = {"rises": "rises", "falls": "falls", "turns": "goes both ways", "flat": "shows no change"}


def _trend_sentence(label: str, trend: stats.Monotonicity, line: Line, estimate: Estimate) -> str:
    first, last = (show(estimate.intervals[i].estimate, estimate.unit) for i in (line[1][0], line[1][-1]))
    change = {
        "rises": "rises, and no step falls as far as can be shown",
        "falls": "falls, and no step rises as far as can be shown",
        "turns": "goes both ways: it is not monotone",
        "flat": "shows no change that this many items can tell from none",
    }[trend.verdict]
    ends = f"From PT weight {line[0][0]:g} to {line[0][-1]:g}"
    return f"{ends}, {label} goes from {first} to {last}; along the mix it {change}."


def _trend_rows(estimate: Estimate, label: str, lines: dict[str, Line]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    scale = 100 if estimate.unit == "rate" else 1
    for name, line in lines.items():
        if len(line[0]) < 2:
            continue
        trend = _trend(estimate, line)
        slope = _scaled(trend.slope, scale)
        first, last = (_scaled(estimate.intervals[i], scale) for i in (line[1][0], line[1][-1]))
        rows.append([label, SERIES[name], len(line[0]), first, last, slope, trend.slope.p, _VERDICTS[trend.verdict]])
    return rows


def _scaled(bounds: Sequence[float], scale: float) -> stats.Interval:
    return stats.Interval(*(scale * value for value in bounds[:3]))


def _trend_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "Trends along the sweep",
        [
            Column("Metric"),
            Column("Series"),
            Column("Points", "count"),
            Column("At full SFT", "score", "scores 0-100, rates in percent"),
            Column("At the end", "score"),
            Column("Slope", "change", "change over the whole axis, rates in points, with simultaneous 95% bounds"),
            Column("p", "p", "of the slope"),
            Column("Verdict", help="from all steps and the slope at once"),
        ],
        rows,
    )


def _attenuation(
    estimate: Estimate, label: str, lines: dict[str, Line], trend: stats.Monotonicity
) -> tuple[list[list[Cell]], str | None]:
    """What SFT attenuation alone, and PT alone, explain of the mix's change from full SFT at each shared position."""
    rows: list[list[Cell]] = []
    sentence = None
    (mix_x, mix), (cut_x, cut), (add_x, add) = (lines[name] for name in ("mix", "sft_only", "pt_added"))
    if not mix_x or mix_x[0] != 0:
        return rows, None
    for x, index in zip(mix_x[1:], mix[1:], strict=True):
        controls = [_at(cut_x, cut, x), _at(add_x, add, x)]
        if controls == [None, None]:
            continue
        change = _Change(estimate, mix[0], index)
        cells: list[Cell] = [label, x, change.interval]
        for other in controls:
            if other is None:
                cells += [None, None]
                continue
            explained = _Change(estimate, mix[0], other)
            share = _share(estimate, change, explained)
            cells += [explained.interval, _share_cell(share)]
            if other == controls[0]:
                sentence = _share_sentence(label, x, share, trend)
        rows.append(cells)
    return rows, sentence


def _share_cell(share: stats.Fieller) -> Cell:
    if share.kind == "bounded":
        if share.weak:
            return f"{span((0, share.low, share.high), 'share')} (weak change)"
        return stats.Interval(share.estimate, share.low, share.high)
    return "cannot be estimated" if share.kind == "all" else f"not {span((0, share.low, share.high), 'share')}"


def _share_sentence(label: str, x: float, share: stats.Fieller, trend: stats.Monotonicity) -> str:
    """A share is named only of a change that goes one way and is clear of nothing."""
    if trend.verdict in ("flat", "turns"):
        why = "goes both ways" if trend.verdict == "turns" else "shows no change"
        return f"{label} {why} along the mix, so no share of its change is put down to weakening SFT."
    if share.kind != "bounded" or share.weak:
        return (
            f"How much of the change in {label} at SFT weight {1 - x:g} weakening SFT alone explains cannot be "
            "estimated: that change is too weak for a share."
        )
    bounds = f"95% interval {show(share.low, 'share')} to {show(share.high, 'share')}"
    alone = f"Weakening SFT alone, to {1 - x:g} and with no PT at all,"
    if round(share.estimate, 2) > 1:
        return f"{alone} moves {label} further than the mix does: by {show(share.estimate, 'share')} of it ({bounds})."
    if share.estimate < 0:
        return f"{alone} moves {label} the other way than the mix does ({show(share.estimate, 'share')}; {bounds})."
    return f"{alone} makes {show(share.estimate, 'share')} of the mix's change in {label} ({bounds})."


class _Change:
    """A candidate's change from full SFT, in shown units, with its replicates."""

    def __init__(self, estimate: Estimate, base: int, index: int) -> None:
        scale = 100 if estimate.unit == "rate" else 1
        self.value = float(scale * (estimate.values[index] - estimate.values[base]))
        self.draws = scale * (estimate.replicates[:, index] - estimate.replicates[:, base])
        tested = estimate.difference(estimate.candidates[base], estimate.candidates[index])
        self.interval = _scaled(tested, scale)


def _share(estimate: Estimate, change: _Change, explained: _Change) -> stats.Fieller:
    return stats.fieller(
        explained.value,
        change.value,
        np.cov(explained.draws, change.draws),
        estimate.groups_of_items,
        estimate.options.confidence,
    )


def _at(positions: list[float], indices: list[int], x: float) -> int | None:
    return next((i for position, i in zip(positions, indices, strict=True) if np.isclose(position, x)), None)


def _share_table(rows: list[list[Cell]]) -> Table:
    return Table(
        "What each control explains of the change from full SFT",
        [
            Column("Metric"),
            Column("x", "number", "PT weight of the mix, whose SFT weight is 1 − x"),
            Column("Change in the mix", "change", "rates in points, scores 0-100"),
            Column("SFT out alone", "change"),
            Column("Share explained", "share"),
            Column("PT in, SFT kept", "change"),
            Column("Share explained by PT", "share"),
        ],
        rows,
    )
