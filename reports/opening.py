"""The first screen: what was compared, one answer in plain words, one picture, and how sure the answer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medbench.reports import compared
from medbench.reports.chance import chance as chance_lines
from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.gap import safety, verdict
from medbench.reports.gap.equivalence import equivalence
from medbench.reports.gap.labels import common_candidates
from medbench.reports.page import Chart, Series, names, p_text, show, span

# Rows of the picture; a longer leaderboard has all of them.
_MOST_ROWS = 12


@dataclass
class Opening:
    """What a reader sees first.

    Attributes:
        compared: who is compared on what, a sentence each.
        answer: the headline.
        plain: the answer in full sentences, without statistics.
        picture: both scores of every candidate, or None.
        sure: what the answer rests on, and what it does not say.
    """

    compared: list[str] = field(default_factory=list)
    answer: str = ""
    plain: list[str] = field(default_factory=list)
    picture: Chart | None = None
    sure: list[str] = field(default_factory=list)


def open_with(analysis: Analysis) -> Opening:
    """The first screen of a study."""
    found = Opening(compared=compared.sentences(analysis))
    accuracy = _first(analysis, analysis.choice_tasks, "accuracy/answer")
    surface = _first(analysis, analysis.surface_tasks, "bleu4/raw")
    if accuracy is None:
        _without_accuracy(analysis, found, surface)
    elif len(accuracy.candidates) == 1:
        _one_candidate(analysis, found, accuracy)
    else:
        _choose(analysis, found, accuracy, surface)
    found.picture = _picture(analysis, accuracy, surface)
    return found


def _first(analysis: Analysis, tasks: list[str], key: str) -> Estimate | None:
    return analysis.estimators[tasks[0]].estimate(key) if tasks else None


def _choose(analysis: Analysis, found: Opening, accuracy: Estimate, surface: Estimate | None) -> None:
    task = analysis.choice_tasks[0]
    # The verdict below compares with the best in the same way.
    tie = accuracy.tie()
    best, level = tie.best[0], list(tie.best[1:])
    tied = [*level, *tie.tied]
    found_chance = chance_lines(analysis.study.tables[task], analysis.options.confidence)
    chance = found_chance.chance if found_chance else None
    guessing = chance is not None and accuracy.intervals[accuracy.index(best)].low <= chance
    rate = f"{show(accuracy.value(best), 'rate')} of {accuracy.n:,} questions"
    beside = "" if chance is None else f" Guessing would get {show(chance, 'rate')}."
    if guessing:
        found.answer = f"No candidate is shown to answer {task} better than by guessing"
        found.plain.append(f"The highest, {best}, answers {rate} right.{beside} So accuracy chooses nobody here.")
    elif not tied:
        found.answer = f"Take {best} for right answers on {task}"
        found.plain.append(f"{best} answers {rate} right, more than every other candidate.{beside}")
    elif len(tied) == len(accuracy.candidates) - 1:
        found.answer = f"Accuracy on {task} does not choose between these {len(accuracy.candidates)} candidates"
        same = f", the same as {names(level, 3)}" if level else ""
        found.plain.append(f"{best} answers {rate} right{same}, but any of the others may be as good.{beside}")
    else:
        group = [best, *sorted(tied, key=lambda n: -accuracy.value(n))]
        found.answer = (
            f"Take {' or '.join(group)}: accuracy on {task} does not choose between them"
            if len(group) <= 3
            else f"Accuracy on {task} does not choose: {len(group)} of {len(accuracy.candidates)} may be the best"
        )
        found.plain.append(
            f"{best} answers {rate} right, the others of this group nearly as many: any of them may be the best. The "
            f"other {len(accuracy.candidates) - len(group)} candidates answer fewer.{beside}"
        )
    found.plain[0] += _apart(analysis, task)
    if surface is not None:
        found.answer += _against_surface(analysis, found, accuracy, surface, {best, *tied}, guessing)
    found.sure += _how_sure(accuracy, best, tied, guessing, tie.kind == "untestable")
    found.sure += _good_enough(analysis, accuracy, best)
    found.sure += _elsewhere(analysis, best)
    found.sure += _refusals(analysis, [best, *tied])
    if found_chance is not None:
        found.sure += [text for text in found_chance.warnings if text.startswith(best)][:1] if not guessing else []


def _against_surface(
    analysis: Analysis, found: Opening, accuracy: Estimate, surface: Estimate, group: set[str], guessing: bool
) -> str:
    """Adds what choosing by BLEU-4 would have meant; returns the headline's second half."""
    task = analysis.surface_tasks[0]
    choice = verdict.decide(analysis)
    if choice is None:
        return ""
    by_surface = choice.by_surface
    what = f"BLEU-4 on {task}, which counts the words that an answer shares with a reference text,"
    if verdict.tells_none_apart(surface, common_candidates(analysis, accuracy, surface)):
        found.plain.append(f"{what} gives every candidate the same score: it chooses nobody either.")
        return ""
    level = [name for name in (*choice.surface_tie.best, *choice.surface_tie.tied) if name != by_surface]
    unsure = f" (too close to {names(level, 2)} to tell them apart)" if level else ""
    if by_surface in group:
        also = f"puts the same candidate first{unsure}" if group == {by_surface} else f"puts {by_surface} first{unsure}"
        tail = "" if guessing or group == {by_surface} else ": no right answers are shown to be lost by that"
        found.plain.append(f"{what} {also}{tail}.")
        return ", and BLEU-4 agrees" if group == {by_surface} and not level else ""
    lost = accuracy.difference(by_surface, accuracy.best)
    blind = accuracy.best in level
    found.plain.append(
        f"{what} {'does not tell the two apart' if blind else 'prefers another'}: it puts {by_surface} first{unsure}. "
        f"That one answers {show(accuracy.value(by_surface), 'rate')} right: "
        f"choosing it would lose {verdict.points(lost.difference)} of every 100 answers."
    )
    return f"; BLEU-4 does not tell it from {by_surface}" if blind else f"; BLEU-4 would choose {by_surface}"


def _how_sure(accuracy: Estimate, best: str, tied: list[str], guessing: bool, untestable: bool) -> list[str]:
    second = max((n for n in accuracy.candidates if n != best), key=accuracy.value)
    change = accuracy.difference(second, best)
    gap = (
        f"{best} is ahead of {second}, the next, by {verdict.points(change.difference)} points; the true lead may be "
        f"{span(change, 'points')} (95% interval, {p_text(change.p)} for this pair alone)."
    )
    if untestable:
        return [
            f"Too few to test: {accuracy.groups_of_items} independent questions cannot show a difference, whatever the "
            "answers. Run more.",
            gap,
        ]
    count = len(accuracy.candidates) - 1
    tested = "tested on the same questions"
    tested += f", with Holm's correction over the {count} comparisons with the best" if count > 1 else ""
    if guessing:
        low, high = accuracy.intervals[accuracy.index(best)][1:]
        return [
            f"The true accuracy of {best} lies between {show(low, 'rate')} and {show(high, 'rate')}, chance within."
        ]
    if not tied:
        return [
            "Sure enough to act on: if no candidate were really better, a lead like this would come up in fewer than "
            f"1 of 20 studies ({tested}).",
            gap,
        ]
    least = accuracy.detectable(second, best)
    return [
        f"Not sure who is best: {names(tied, 4)} may be as good as {best} or better ({tested}). "
        "Choose among them by cost, refusals or another task.",
        f"{gap} With {accuracy.n:,} questions a difference of about {verdict.points(least)} points would be seen 4 "
        "times in 5 (the MDE); more questions would see a smaller one.",
    ]


def _good_enough(analysis: Analysis, accuracy: Estimate, best: str) -> list[str]:
    """Who is as good as the most accurate, give or take the user's margin; nothing where none was named."""
    margin = analysis.options.margin
    if margin is None:
        return []
    verdicts = {n: equivalence(accuracy, best, n, margin).verdict for n in accuracy.candidates if n != best}
    by = f"{100 * margin:g} points"
    kinds = {kind: [n for n, verdict in verdicts.items() if verdict == kind] for kind in set(verdicts.values())}
    equal, close, worse = (kinds.get(kind, []) for kind in ("equivalent", "not worse", "worse"))
    if len(worse) == len(verdicts):
        return [f"Give or take {by}, your margin: none is as good as {best}, all others are shown to be worse."]
    said = [
        *([f"{names(equal, 3)} {_is(equal)} as good as {best}"] if equal else []),
        *([f"{names(close, 3)} {_is(close)} not worse by as much as that"] if close else []),
        *([f"{len(worse)} of {len(verdicts)} {_is(worse)} shown to be worse"] if worse else []),
    ]
    left = len(verdicts) - len(equal) - len(close) - len(worse)
    open_ = f"whether {'the other is' if left == 1 else f'{left} others are'} as good as {best} is open"
    return [f"Give or take {by}, your margin: {'; '.join([*said, *([open_] if left else [])])}."]


def _is(several: Sequence[str]) -> str:
    return "is" if len(several) == 1 else "are"


def _refusals(analysis: Analysis, chosen: Sequence[str]) -> list[str]:
    """What the candidates that accuracy leaves do with prompts to refuse and with harmless ones; two at most."""
    if not analysis.probe_tasks:
        return []
    task = analysis.probe_tasks[0]
    rates = safety.refusal_rates(analysis.study.tables[task], analysis.options.confidence)
    here = [name for name in chosen if any(name in found for _, found in rates.values())][:2]
    if not here:
        return [f"Refusals ({task}) were not tested on {names(list(chosen), 2)}."] if rates else []
    said = []
    for name in here:
        parts = [
            f"{show(found[name].estimate, 'rate')} of {count} {called} ({span(found[name], 'rate')})"
            for called, (count, found) in rates.items()
            if name in found
        ]
        said.append(f"{name} refuses {' and '.join(parts)}")
    return [f"Refusals ({task}): {'; '.join(said)}."]


def _elsewhere(analysis: Analysis, best: str) -> list[str]:
    """What the other accuracy tasks say of the same choice, in one sentence."""
    agree, open_, against = [], [], []
    for task in analysis.choice_tasks[1:]:
        other = analysis.estimators[task].estimate("accuracy/answer")
        if other is None or len(other.candidates) < 2 or best not in other.candidates:
            continue
        if other.best == best and not other.tied_with(best):
            agree.append(task)
        elif other.best == best or best in other.tied_with(other.best):
            open_.append(task)
        else:
            against.append(f"{task} ({other.best} is better there)")
    parts = [
        *([f"{names(agree)} {'agrees' if len(agree) == 1 else 'agree'}"] if agree else []),
        *([f"{names(open_)} {'does' if len(open_) == 1 else 'do'} not tell {best} from the best"] if open_ else []),
        *([f"{names(against)} {'speaks' if len(against) == 1 else 'speak'} against it"] if against else []),
    ]
    return [f"Other tasks with right and wrong answers: {'; '.join(parts)}."] if parts else []


def _apart(analysis: Analysis, task: str) -> str:
    apart = analysis.study.tables[task].apart
    if not apart:
        return ""
    return f" Not ranked, because decoded or asked in another way: {names(list(apart), 3)}."


def _one_candidate(analysis: Analysis, found: Opening, accuracy: Estimate) -> None:
    task, only = analysis.choice_tasks[0], accuracy.candidates[0]
    found_chance = chance_lines(analysis.study.tables[task], analysis.options.confidence)
    chance = found_chance.chance if found_chance else None
    interval = accuracy.intervals[0]
    found.answer = f"{only} answers {show(interval.estimate, 'rate')} of {task} right"
    beside = "" if chance is None else f", where guessing gets {show(chance, 'rate')}"
    found.plain.append(
        f"There is one candidate only on {task}{beside}: nothing to choose. Add logs of another model under the same "
        f"setting.{_apart(analysis, task)}"
    )
    found.sure.append(
        f"Its true accuracy lies between {show(interval.low, 'rate')} and {show(interval.high, 'rate')} (95% interval, "
        f"{accuracy.n:,} questions)."
    )
    found.sure += _refusals(analysis, [only])
    if chance is not None and interval.low <= chance:
        found.sure.append("That includes guessing: it is not shown to know anything that this task asks.")


def _without_accuracy(analysis: Analysis, found: Opening, surface: Estimate | None) -> None:
    found.answer = "These logs cannot say which candidate knows more"
    found.sure += _refusals(analysis, analysis.study.candidates)
    if len(analysis.study.candidates) < 2:
        found.plain.append("There is one candidate only, and nothing to choose. Add logs of another model.")
    found.plain.append(
        "They hold no task with right and wrong answers that the candidates share. Run one for every candidate, e.g. "
        "medbench/medqa, and report again."
    )
    if surface is not None and len(surface.candidates) > 1:
        tied = surface.tied_with(surface.best)
        first = f"{surface.best} first" if not tied else f"{surface.best} first, not told apart from {names(tied, 3)}"
        found.plain.append(
            f"BLEU-4 on {analysis.surface_tasks[0]} has {first}: that one writes most like the reference texts, which "
            "is not the same as being right."
        )


def _picture(analysis: Analysis, accuracy: Estimate | None, surface: Estimate | None) -> Chart | None:
    """A row per candidate: right answers with chance on the left, BLEU-4 with its floor on the right."""
    panels = [e for e in (accuracy, surface) if e is not None]
    if not panels or max(len(e.candidates) for e in panels) < 2:
        return None
    first = panels[0]
    order = sorted(first.candidates, key=lambda n: -first.value(n))
    shown = order[:_MOST_ROWS]
    if surface is not None and len(order) > _MOST_ROWS and surface.best in order and surface.best not in shown:
        shown = [*shown[:-1], surface.best]
    series = []
    if accuracy is not None:
        task = analysis.choice_tasks[0]
        guess = chance_lines(analysis.study.tables[task], analysis.options.confidence)
        series.append(_panel(accuracy, shown, f"Right answers, %\n{task}", guess.chance if guess else None, "guessing"))
    if surface is not None:
        task = analysis.surface_tasks[0]
        floor = analysis.estimators[task].estimate("bleu4_floor/raw")
        level = float(np.mean(floor.values)) if floor is not None else None
        series.append(_panel(surface, shown, f"Shared words (BLEU-4)\n{task}", level, "unrelated answers"))
    left_out = len(order) - len(shown)
    more = f"; {left_out} more in the leaderboard" if left_out else ""
    return Chart(
        "choice",
        f"What each candidate scores{more}",
        "",
        "",
        series,
        "A row per candidate, the highest accuracy first. Dots are scores, lines 95% intervals; the best score of each "
        "side is a square in another colour. Dashed: what guessing gets, and what the same outputs score as answers to "
        "other questions (the floor).",
    )


def _panel(estimate: Estimate, shown: list[str], title: str, mark: float | None, called: str) -> Series:
    here = [name for name in shown if name in estimate.candidates]
    scale = 100 if estimate.unit == "rate" else 1
    bounds = [estimate.intervals[estimate.index(name)] for name in here]
    return Series(
        title,
        here,
        [scale * b.estimate for b in bounds],
        [scale * b.low for b in bounds],
        [scale * b.high for b in bounds],
        mark=None if mark is None else scale * mark,
        mark_name=called,
    )
