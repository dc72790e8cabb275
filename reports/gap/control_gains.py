"""1d, second part: what candidates differ by as the task is, and how much of it is left under a control."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from medbench import stats
from medbench.reports.compared import kind_of
from medbench.reports.estimates import Analysis
from medbench.reports.gap.control_pairs import Paired, keeps_answer
from medbench.reports.page import Cell, Column, Table, p_text, show, span

# All pairs up to so many candidates; beyond, each against one.
_ALL_PAIRS_UP_TO = 6


@dataclass(frozen=True)
class Gain:
    """What one candidate is ahead of another by, as it is and under a control, on the same items."""

    paired: Paired
    behind: str
    ahead: str
    plain: stats.Comparison
    under: stats.Comparison
    gone: stats.Comparison


def gains(analysis: Analysis, paired: Paired) -> list[Gain]:
    """Of all pairs of a few candidates; the first of each is the one behind."""
    found = []
    for one, two in _pairs_of(analysis, paired.candidates):
        i, j = paired.candidates.index(one), paired.candidates.index(two)
        if paired.plain[j].mean() < paired.plain[i].mean():
            i, j = j, i
        level, clusters = analysis.options.confidence, paired.clusters
        plain = stats.paired_rates(paired.plain[i], paired.plain[j], clusters, level)
        under = stats.paired_rates(paired.under[i], paired.under[j], clusters, level)
        # Differences of differences reach from -2 to 2: halved they are differences of rates.
        half = stats.paired_rates(
            (paired.under[j] - paired.under[i]) / 2, (paired.plain[j] - paired.plain[i]) / 2, clusters, level
        )
        gone = stats.Comparison(2 * half.difference, 2 * half.low, 2 * half.high, half.p)
        found.append(Gain(paired, paired.candidates[i], paired.candidates[j], plain, under, gone))
    return found


def _pairs_of(analysis: Analysis, candidates: list[str]) -> list[tuple[str, str]]:
    """All pairs of a few candidates; of many every PT with every SFT, and each with the first SFT (else the first)."""
    if len(candidates) <= _ALL_PAIRS_UP_TO:
        return list(combinations(candidates, 2))
    kinds = {name: kind_of(analysis.study.weights.get(name)) for name in candidates}
    sft = [name for name in candidates if kinds[name] == "sft"]
    first = (sft or candidates)[0]
    wanted = [(one, two) for one in sft for two in candidates if kinds[two] == "pt"]
    wanted += [(first, name) for name in candidates if name != first]
    return list(dict.fromkeys(wanted))


def gain_table(task: str, gains: list[Gain]) -> Table:
    """One row per pair and control."""
    adjusted = stats.holm([gain.gone.p for gain in gains])
    rows: list[list[Cell]] = [
        [
            gain.ahead,
            gain.behind,
            gain.paired.control.control,
            stats.Interval(*gain.plain[:3]),
            stats.Interval(*gain.under[:3]),
            stats.Interval(*gain.gone[:3]),
            float(p),
        ]
        for gain, p in zip(gains, adjusted, strict=True)
    ]
    return Table(
        f"Differences of accuracy on {task}, as it is and under each control",
        [
            Column("Ahead"),
            Column("Of"),
            Column("Control"),
            Column("As it is", "points", "paired"),
            Column("Under the control", "points", "the same two on the same items, paired", key=True),
            Column("Gone under it", "points", "the first minus the second, paired"),
            Column("p (Holm)", "p", "of nothing gone, corrected over this table"),
        ],
        rows,
        "Ahead is who is more accurate as the task is, shown or not.",
    )


def gain_sentences(analysis: Analysis, task: str, gains: list[Gain]) -> list[str]:
    """Of the differences that are shown as the task is: how much is left under each control."""
    said = []
    for control in dict.fromkeys(gain.paired.control.control for gain in gains):
        mine = [gain for gain in gains if gain.paired.control.control == control]
        # Over all pairs of the control, for each of the three questions that the sentence answers.
        plain, under, gone = (
            stats.holm([getattr(gain, part).p for gain in mine]) for part in ("plain", "under", "gone")
        )
        tested = {id(gain): (float(u), float(g)) for gain, u, g in zip(mine, under, gone, strict=True)}
        alpha = analysis.options.alpha
        shown = [gain for gain, p in zip(mine, plain, strict=True) if p < alpha and gain.plain.difference > 0]
        if not shown:
            continue
        told = {name: kind_of(analysis.study.weights.get(name)) for gain in shown for name in (gain.ahead, gain.behind)}
        of_both = [gain for gain in shown if {told[gain.ahead], told[gain.behind]} == {"pt", "sft"}]
        chosen = max(of_both or shown, key=lambda gain: gain.plain.difference)
        said.append(_gain_sentence(task, chosen, *tested[id(chosen)], alpha))
    if not said:
        said.append(
            f"No two candidates that ran under a control are shown to differ on {task} as it is, so there is no gain "
            "to divide."
        )
    return said


def _gain_sentence(task: str, gain: Gain, p_under: float, p_gone: float, alpha: float) -> str:
    points = show(100 * gain.plain.difference, "score")
    left = stats.Interval(*gain.under[:3])
    also = "also " if not keeps_answer(gain.paired) else ""
    head = f"Of the {points} points that {gain.ahead} gains over {gain.behind} on {task}, "
    if p_under < alpha and gain.under.difference > 0:
        how_many = show(100 * gain.under.difference, "score")
        if gain.under.difference >= gain.plain.difference:
            how_many = f"all ({how_many})"
        text = f"{head}{how_many} are {also}gained {gain.paired.words} ({span(left, 'points')})"
    elif p_under < alpha:
        text = f"{head}none is left {gain.paired.words}: there it is behind ({show(left, 'points')})"
    else:
        text = f"{head}none is shown to be {also}gained {gain.paired.words} ({show(left, 'points')})"
    gone = gain.gone
    if p_gone < alpha and gone.difference > 0:
        return (
            f"{text}; {show(100 * gone.difference, 'score')} ({span(stats.Interval(*gone[:3]), 'points')}) are gone "
            f"there ({p_text(p_gone)})."
        )
    return f"{text}; it is not shown that fewer are gained there than as it is ({p_text(p_gone)})."
