"""1d. Cue controls: what is left of an accuracy without the question, with the right option replaced, reordered ..."""

from __future__ import annotations

from collections.abc import Sequence

from medbench import stats
from medbench.reports.chance import chance
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap.control_gains import gain_sentences, gain_table, gains
from medbench.reports.gap.control_pairs import Paired, in_order, interval_in, keeps_answer, number_in, paired_of
from medbench.reports.gap.control_reliability import reliability_rows, reliability_sentence, reliability_table
from medbench.reports.page import Cell, Column, Section, Table, names, p_text, show, span
from medbench.reports.sources import Sources

_STANDING = {"above": "above guessing", "at": "not told from guessing", "below": "below guessing"}


def section(analysis: Analysis, sources: Sources) -> Section:
    """Per task: accuracy under each control, differences of candidates under each, and reliability over all."""
    found = Section("controls", "Cue controls")
    for task in (task for task in analysis.choice_tasks if analysis.study.controls.get(task)):
        pairs = [paired for one in in_order(analysis.study.controls[task]) if (paired := paired_of(one)) is not None]
        if not pairs:
            continue
        rows = _change_rows(pairs, analysis.options)
        found.findings += _without_question(task, pairs, analysis.options)
        found.findings += _falls(task, pairs, rows, analysis.options.alpha)
        found.tables.append(_change_table(task, rows))
        found_gains = [gain for paired in pairs for gain in gains(analysis, paired)]
        if found_gains:
            found.tables.append(gain_table(task, found_gains))
            found.findings += gain_sentences(analysis, task, found_gains)
        reliable = reliability_rows(pairs, analysis.options)
        if reliable:
            found.tables.append(reliability_table(task, reliable))
            found.findings.append(reliability_sentence(task, reliable))
        found.notes += _left_out(task, pairs)
    if not found.tables:
        found.missing = (
            "Nothing ran under a cue control. `-T control=options_only` beside the plain run (or `cue_controls:` of a "
            "task in a study file) asks the same items without the question."
        )
        return found
    found.notes.append(
        "A control asks the same items in another way, and every difference is paired item by item. Being right "
        "without the question shows cues or memory of the options, not which; being no better than guessing without "
        "it does not prove that the question is understood. An accuracy that falls under a control may also fall "
        "because the task became another: none of the others is harder to choose than a right text. docs/controls.md "
        "says what each control can and cannot show."
    )
    return found


# Accuracy under each control.


def _change_rows(pairs: Sequence[Paired], options: Options) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    p: list[float] = []
    for paired in pairs:
        lines = chance(paired.control.table, options.confidence) if paired.shows_options else None
        for row, name in enumerate(paired.candidates):
            before = stats.rate(paired.plain[row], paired.clusters, confidence=options.confidence)
            after = stats.rate(paired.under[row], paired.clusters, paired.outputs[row], options.confidence)
            change = paired.change(name, options)
            p.append(change.p)
            standing = "–" if lines is None or name not in lines.lines else _STANDING[_standing(after, lines.chance)]
            shown = stats.Interval(*change[:3])
            rows.append([name, paired.control.control, paired.plain.shape[1], before, after, shown, standing])
    adjusted = stats.holm(p)
    return [[*row[:6], float(value), row[6]] for row, value in zip(rows, adjusted, strict=True)]


def _standing(accuracy: stats.Interval, guess: float) -> str:
    return "at" if accuracy.low <= guess <= accuracy.high else "above" if accuracy.low > guess else "below"


def _change_table(task: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Accuracy on {task} as it is and under each control",
        [
            Column("Candidate"),
            Column("Control"),
            Column("Items", "count", "that have the control and were answered both times"),
            Column("As it is", "rate", "on these items"),
            Column("Under the control", "rate", "no answer is wrong", bar=True),
            Column("Change", "points", "paired", key=True),
            Column("p (Holm)", "p", "of no change, corrected over this table"),
            Column("Beside guessing", help="whether the interval under the control holds chance"),
        ],
        rows,
    )


def _without_question(task: str, pairs: Sequence[Paired], options: Options) -> list[str]:
    said = []
    for paired in (paired for paired in pairs if paired.kind == "options_only"):
        lines = chance(paired.control.table, options.confidence)
        if lines is None:
            continue
        rates = {
            name: stats.rate(paired.under[row], paired.clusters, paired.outputs[row], options.confidence)
            for row, name in enumerate(paired.candidates)
        }
        caught = [name for name in rates if _standing(rates[name], lines.chance) == "above"]
        guess = show(lines.chance, "rate")
        if not caught:
            who = "None of the candidates is" if len(rates) > 1 else f"{paired.candidates[0]} is not"
            said.append(
                f"{who} shown to answer {task} without the question better than guessing ({guess}; n = "
                f"{paired.plain.shape[1]:,})."
            )
            continue
        caught.sort(key=lambda name: -rates[name].estimate)
        told = [f"{name} ({show(rates[name], 'rate')})" for name in caught]
        more = " Part of such an accuracy needs no question: it reads cues in the options, or remembers them."
        others = len(rates) - len(caught)
        rest = "" if not others else f" {others} other{'s are' if others > 1 else ' is'} not shown to."
        said.append(
            f"Shown the options alone, {names(told, 4)} answer{'s' if len(told) == 1 else ''} {task} better than "
            f"guessing ({guess}).{more}{rest}"
        )
    return said


def _falls(task: str, pairs: Sequence[Paired], rows: list[list[Cell]], alpha: float) -> list[str]:
    """For each control that a model can pass: who is shown to lose, and the largest loss."""
    said = []
    for paired in pairs:
        if not keeps_answer(paired):
            continue
        mine = [row for row in rows if row[1] == paired.control.control]
        lost = [row for row in mine if number_in(row[6]) < alpha and interval_in(row[5]).estimate < 0]
        if not lost:
            said.append(
                f"Asked {paired.words}, no candidate is shown to lose accuracy on {task}."
                if len(mine) > 1
                else f"Asked {paired.words}, {mine[0][0]} is not shown to lose accuracy on {task}."
            )
            continue
        worst = min(lost, key=lambda row: interval_in(row[5]).estimate)
        change = interval_in(worst[5])
        others = f"; so {'does 1 other' if len(lost) == 2 else f'do {len(lost) - 1} others'}" if len(lost) > 1 else ""
        said.append(
            f"Asked {paired.words}, {worst[0]} loses {show(-100 * change.estimate, 'score')} points on {task} (change "
            f"{span(change, 'points')}; {p_text(number_in(worst[6]))} after Holm's correction){others}."
        )
    return said


def _left_out(task: str, pairs: Sequence[Paired]) -> list[str]:
    said = []
    for paired in pairs:
        reasons = paired.control.about.get("left_out") or {}
        if reasons:
            listed = "; ".join(f"{reason} ({count:,})" for reason, count in list(reasons.items())[:5])
            total = sum(reasons.values())
            said.append(
                f"{task} under {paired.control.control}: {total:,} item{'' if total == 1 else 's'} cannot have it and "
                f"{'was' if total == 1 else 'were'} not asked, because of: {listed}. `left_out` of the logs lists them."
            )
    return said
