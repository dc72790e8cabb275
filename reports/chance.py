"""What an accuracy has to be compared with: guessing, the commonest key for every item, one letter for everything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from medbench import stats
from medbench.reports.page import names
from medbench.reports.rows import TaskTable

# One letter in more of the outputs than this is a habit, not a set of answers: no benchmark's keys lie so unevenly.
ONE_LETTER = 0.6
# What is said of candidates by their standing: of one, of several, and what to do.
_STANDINGS = (
    ("at", "cannot be told from guessing", "cannot be told from guessing", ""),
    (
        "below",
        "answers less well than guessing would",
        "answer less well than guessing would",
        ": read some of the outputs before comparing, the answers may not have been understood",
    ),
)


@dataclass(frozen=True)
class Line:
    """One candidate's accuracy in the light of chance.

    Attributes:
        accuracy: with its interval, 0-1.
        letter, letter_share: what it states most often, and in which share of the outputs that state anything, with
            its interval.
        standing: ``above``, ``at`` (the interval holds chance) or ``below`` chance.
        one_letter: the letter's share is above `ONE_LETTER`, and its whole interval above that of the commonest key.
    """

    accuracy: stats.Interval
    letter: str
    letter_share: stats.Interval
    standing: str
    one_letter: bool


@dataclass(frozen=True)
class Chance:
    """The lines of one task.

    Attributes:
        chance: expected accuracy of guessing among each item's options, 0-1.
        majority: accuracy of always answering `majority_key`, the commonest key.
        lines: candidate -> its line.
    """

    chance: float
    majority: float
    majority_key: str
    lines: dict[str, Line]

    @property
    def warnings(self) -> list[str]:
        """Candidates whose accuracy must not be read as it stands: a sentence for each reason, and for each habit."""
        said = self._habits()
        for standing, alone, together, why in _STANDINGS:
            here = [name for name, line in self.lines.items() if line.standing == standing]
            if here:
                verb = alone if len(here) == 1 else together
                said.append(f"{names(here, 6)} {verb} ({100 * self.chance:.0f}%){why}.")
        return said

    def _habits(self) -> list[str]:
        """Who nearly always states one letter, in one sentence for all."""
        here = [name for name, line in self.lines.items() if line.one_letter]
        if len(here) < 2:
            return [sentence for name in here for sentence in self.habit(name)]
        shares = [
            f"{name} ({self.lines[name].letter} in {100 * self.lines[name].letter_share.estimate:.0f}%)"
            for name in here
        ]
        return [
            f"{names(shares, 6)} state one letter in most of their answers: that is a habit, not knowledge, and their "
            "accuracy is mostly how often that letter is the right answer."
        ]

    def warnings_of(self, name: str) -> list[str]:
        """Why the accuracy of one candidate must not be read as it stands: its habit first."""
        line = self.lines.get(name)
        if line is None:
            return []
        said = self.habit(name)
        for standing, alone, _, why in _STANDINGS:
            if line.standing == standing:
                said.append(f"{name} {alone} ({100 * self.chance:.0f}%){why}.")
        return said

    def habit(self, name: str) -> list[str]:
        """That a candidate nearly always states one letter, in a sentence; nothing where it does not."""
        line = self.lines.get(name)
        if line is None or not line.one_letter:
            return []
        return [
            f"{name} states {line.letter} in {100 * line.letter_share.estimate:.0f}% of its answers: that is a habit, "
            "not knowledge, and its accuracy is mostly how often that letter is the right answer."
        ]


def chance(table: TaskTable, confidence: float = 0.95) -> Chance | None:
    """Chance, majority and letter lines of a task; None where its items have no key among options."""
    facts = [table.facts.get(item, {}) for item in table.items]
    keyed = [(f["gold"], f["options"]) for f in facts if f.get("gold") and f.get("options")]
    if not keyed or len(keyed) < len(facts) or not table.has("accuracy/answer"):
        return None
    # Of several right letters only the whole set counts: a guess is one of all sets that are not empty.
    guess = float(np.mean([1 / n if len(gold) == 1 else 1 / (2**n - 1) for gold, n in keyed]))
    keys = Counter("".join(gold) if max(map(len, gold)) == 1 else "/".join(gold) for gold, _ in keyed)
    key, count = keys.most_common(1)[0]
    majority = count / len(keyed)
    means, runs = table.item_means("accuracy/answer"), table.runs_per_item("accuracy/answer")
    lines = {}
    for row, name in enumerate(table.candidates):
        known = np.isfinite(means[row])
        if not known.any():
            continue
        clusters = None if table.clusters is None else table.clusters[known]
        accuracy = stats.rate(means[row, known], clusters, runs[row, known], confidence)
        used = Counter(str(letter) for letter in table.letters[row].ravel() if letter)
        letter = used.most_common(1)[0][0] if used else ""
        share = _share(table, row, letter, confidence)
        standing = "at" if accuracy.low <= guess <= accuracy.high else "above" if accuracy.low > guess else "below"
        lines[name] = Line(
            accuracy, letter, share, standing, bool(share.estimate > ONE_LETTER and share.low > majority)
        )
    return Chance(guess, majority, key, lines)


def _share(table: TaskTable, row: int, letter: str, confidence: float) -> stats.Interval:
    """The share of a candidate's outputs with an answer that state `letter`."""
    stated = np.array([[bool(one) for one in runs] for runs in table.letters[row]])
    same = np.array([[one == letter for one in runs] for runs in table.letters[row]]) & stated
    count = stated.shape[1]
    return stats.ratio_rate(same.sum(1) / count, stated.sum(1) / count, table.clusters, count, confidence)
