"""The first screen: what was compared, one answer in plain words, one picture, and how sure the answer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
        first = f"The highest, {best}, answers" if not level else f"The highest, {names([best, *level], 4)}, answer"
        found.plain.append(f"{first} {rate} right.{beside} So accuracy chooses nobody here.")
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
        lowest = show(min(accuracy.value(name) for name in group), "rate")
        found.plain.append(
            f"{best} answers {rate} right, the others of this group down to {lowest}, and the tests cannot tell them "
            f"apart: any of them may be the best. The other {len(accuracy.candidates) - len(group)} candidates are "
            f"shown to answer fewer.{beside}"
        )
    found.plain[0] += _unanswered(analysis, task, best) + _apart(analysis, task)
    if surface is not None:
        found.answer += _against_surface(analysis, found, accuracy, surface, {best, *tied}, guessing)
    found.sure += _how_sure(accuracy, best, tied, chance if guessing else None, tie.kind == "untestable")
    found.sure += _good_enough(analysis, accuracy, best)
    found.sure += _elsewhere(analysis, best)
    by_accuracy = sorted(accuracy.candidates, key=lambda name: -accuracy.value(name))
    found.sure += _refusals(analysis, [best, *[name for name in by_accuracy if name != best]])
    if found_chance is not None:
        # That the best is at guessing has been said; that it always gives one letter may be why.
        found.sure += (found_chance.habit(best) if guessing else found_chance.warnings_of(best))[:1]


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
    # The leaderboard has more rows then, and perhaps another first.
    if len(surface.candidates) > len(choice.shared):
        what = f"Among the {len(choice.shared)} candidates that have both scores, {what}"
    if verdict.tells_none_apart(surface, common_candidates(analysis, accuracy, surface)):
        found.plain.append(f"{what} gives every candidate the same score: it chooses nobody either.")
        return ""
    level = [name for name in (*choice.surface_tie.best, *choice.surface_tie.tied) if name != by_surface]
    unsure = f" (too close to {names(level, 4)} to tell them apart)" if level else ""
    if by_surface in group:
        also = f"puts the same candidate first{unsure}" if group == {by_surface} else f"puts {by_surface} first{unsure}"
        tail = "" if guessing or group == {by_surface} else ": no right answers are shown to be lost by that"
        found.plain.append(f"{what} {also}{tail}.")
        return ", and BLEU-4 agrees" if group == {by_surface} and not level else ""
    lost, where = choice.regret.loss, choice.accuracy_task
    blind = accuracy.best in level
    found.plain.append(
        f"{what} {f'does not tell {accuracy.best} from {by_surface}' if blind else 'prefers another'}: it puts "
        f"{by_surface} first{unsure}. "
        f"{by_surface} answers {show(accuracy.value(by_surface), 'rate')} of {where} right: choosing it would lose "
        f"{verdict.points(lost.estimate)} of every 100 answers ({verdict.points(lost.low)} to "
        f"{verdict.points(lost.high)})."
    )
    them = "it" if len(group) == 1 else accuracy.best
    return f"; BLEU-4 does not tell {them} from {by_surface}" if blind else f"; BLEU-4 would choose {by_surface}"


def _how_sure(accuracy: Estimate, best: str, tied: list[str], chance: float | None, untestable: bool) -> list[str]:
    second = max((n for n in accuracy.candidates if n != best), key=accuracy.value)
    change = accuracy.difference(second, best)
    lead = f"lies in {span(change, 'points')}"
    if change.difference == 0:
        gap = f"{best} and {second} answer as many right; the true difference {lead} points (95% interval)."
    else:
        gap = (
            f"{best} is ahead of {second}, the next, by {verdict.points(change.difference)} points here; between these "
            f"two alone, the true lead {lead} (95% interval; {p_text(change.p)})."
        )
    if untestable:
        return [
            f"Too few to test: {accuracy.groups_of_items} independent questions cannot show a difference, whatever the "
            "answers. Run more.",
            gap,
        ]
    pairs = len(accuracy.candidates) * (len(accuracy.candidates) - 1) // 2
    tested = "tested on the same questions"
    tested += f", with Holm's correction over all {pairs} pairs, as in the leaderboard" if pairs > 1 else ""
    if chance is not None:
        low, high = accuracy.intervals[accuracy.index(best)][1:]
        return [
            f"The true accuracy of {best} lies between {show(low, 'rate')} and {show(high, 'rate')}; what guessing "
            f"gets lies {'within' if chance <= high else 'above'} that."
        ]
    if not tied:
        return [
            "Sure enough to act on: were no candidate really better, fewer than 1 of 20 such studies would single one "
            f"out ({tested}). That is not the chance that {best} is the best.",
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
    asked = f"You asked for a margin of {100 * margin:g} points (`--margin`)"
    kinds = {kind: [n for n, verdict in verdicts.items() if verdict == kind] for kind in set(verdicts.values())}
    equal, close, worse = (kinds.get(kind, []) for kind in ("equivalent", "not worse", "worse"))
    said = [
        *([f"{names(equal, 3)} {_is(equal)} as good as {best}, within that"] if equal else []),
        *([f"{names(close, 3)} {_is(close)} not worse by as much as that"] if close else []),
    ]
    if not said:
        said = [f"no other candidate is shown to be within that of {best}"]
    left = len(verdicts) - len(equal) - len(close) - len(worse)
    counts = [
        *([f"{len(worse)} {_is(worse)} shown to be worse"] if worse else []),
        *([f"of {left} it is open"] if left else []),
    ]
    return [f"{asked}: {'; '.join([*said, *counts])}."]


def _is(several: Sequence[str]) -> str:
    return "is" if len(several) == 1 else "are"


def _refusals(analysis: Analysis, chosen: Sequence[str]) -> list[str]:
    """What the first candidates and the base do with prompts to refuse and with harmless ones; three at most."""
    if not analysis.probe_tasks:
        return []
    task = analysis.probe_tasks[0]
    table = analysis.study.tables[task]
    rates = safety.refusal_rates(table, analysis.options.confidence)
    wanted = list(dict.fromkeys([*chosen[:2], *compared.of_kind(analysis, "base"), *chosen]))
    here = [name for name in wanted if any(name in found.rates for found in rates.values())][:3]
    if not here:
        return [f"Refusals ({task}) were not tested on {names(list(chosen), 2)}."] if rates else []
    said = []
    for name in here:
        parts = [
            f"{show(found.rates[name].estimate, 'rate')} of the {called} ({span(found.rates[name], 'rate')})"
            for called, found in rates.items()
            if name in found.rates
        ]
        said.append(f"{name} refuses {' and '.join(parts)}")
    sizes = [f"{found.prompts} {called} from {found.contexts} contexts" for called, found in rates.items()]
    if table.clusters is None:
        sizes = [f"{found.prompts} {called}" for called, found in rates.items()]
    unread = sum(found.left_out for found in rates.values())
    less = f"; {unread} more got no answer that can be judged from one of the candidates" if unread else ""
    few = [called for called, found in rates.items() if not found.testable(analysis.options.alpha)]
    # Intervals that hardly overlap look like a difference: where no test could show one, the screen says so.
    untested = ""
    if few and len(here) > 1:
        untested = f" Too few {' and '.join(few)} to test: no difference between candidates could be shown on them."
    return [f"Refusals ({task}: {' and '.join(sizes)}{less}): {'; '.join(said)}.{untested}"]


def _elsewhere(analysis: Analysis, best: str) -> list[str]:
    """What the other accuracy tasks say of the same choice, a sentence each; three at most."""
    said = []
    for task in analysis.choice_tasks[1:4]:
        other = analysis.estimators[task].estimate("accuracy/answer")
        if other is None or len(other.candidates) < 2 or best not in other.candidates:
            continue
        level = [name for name in other.candidates if abs(other.value(name) - other.value(best)) < 1e-9]
        if len(level) == len(other.candidates):
            rest = "as many as every other candidate there"
        elif not other.testable:
            rest = f"but {other.groups_of_items} independent questions are too few to test anything there"
        elif other.best == best and not other.tied_with(best):
            rest = "more than every other candidate there, too"
        elif best in (other.best, *other.tied_with(other.best)):
            rest = "and no candidate is shown to answer more there"
        else:
            rest = f"and {other.best} is better there ({show(other.value(other.best), 'rate')})"
        said.append(f"On {task}, {best} answers {show(other.value(best), 'rate')} right, {rest}.")
    return said


# An answer that nobody can read is wrong, but says something else of the model than a wrong one.
_MANY_UNREAD = 0.05


def _unanswered(analysis: Analysis, task: str, best: str) -> str:
    answered = analysis.estimators[task].estimate("answered/answer")
    right = analysis.estimators[task].estimate("answered_accuracy/answer")
    if answered is None or best not in answered.candidates or 1 - answered.value(best) < _MANY_UNREAD:
        return ""
    among = ""
    if right is not None and best in right.candidates:
        among = f" Of the answers that can be read, {show(right.value(best), 'rate')} are right."
    return f" {show(1 - answered.value(best), 'rate')} of its outputs state no answer and count as wrong.{among}"


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
    # The base and the surface metric's first are looked for, wherever they stand.
    sought = [*compared.of_kind(analysis, "base")[:1], *([surface.best] if surface is not None else [])]
    missing = [name for name in dict.fromkeys(sought) if name in order and name not in shown]
    if missing:
        shown = [*shown[: -len(missing)], *sorted(missing, key=order.index)]
    series = []
    if accuracy is not None:
        task = analysis.choice_tasks[0]
        guess = chance_lines(analysis.study.tables[task], analysis.options.confidence)
        level = {} if guess is None else dict.fromkeys(shown, 100 * guess.chance)
        called = "" if guess is None else f"bar: guessing, {100 * guess.chance:.0f}"
        series.append(_panel(accuracy, shown, f"Right answers, %\n{task}", level, called))
    if surface is not None:
        task = analysis.surface_tasks[0]
        floor = analysis.estimators[task].estimate("bleu4_floor/raw")
        floors = {} if floor is None else {name: floor.value(name) for name in floor.candidates}
        called = "" if floor is None else "bar: unrelated answers"
        series.append(_panel(surface, shown, f"Shared words (BLEU-4)\n{task}", floors, called))
    left_out = len(order) - len(shown)
    more = f"; {left_out} more in the leaderboard" if left_out else ""
    return Chart(
        "choice",
        f"What each candidate scores{more}",
        "",
        "",
        series,
        "A row per candidate, the highest accuracy first. Dots are scores, lines 95% intervals; the best score of each "
        "side is a square in another colour. The upright bar in a row is what guessing gets, or what this candidate's "
        "outputs score as answers to other questions (its floor).",
    )


def _panel(estimate: Estimate, shown: list[str], title: str, marks: dict[str, float], called: str) -> Series:
    here = [name for name in shown if name in estimate.candidates]
    scale = 100 if estimate.unit == "rate" else 1
    bounds = [estimate.intervals[estimate.index(name)] for name in here]
    return Series(
        title,
        here,
        [scale * b.estimate for b in bounds],
        [scale * b.low for b in bounds],
        [scale * b.high for b in bounds],
        marks=[marks.get(name, float("nan")) for name in here],
        mark_name=called,
    )
