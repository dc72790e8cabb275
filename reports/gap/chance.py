"""1b. Every accuracy beside chance, the commonest key, and the letter a candidate gives most."""

from __future__ import annotations

from medbench.reports.chance import ONE_LETTER, chance
from medbench.reports.estimates import Analysis
from medbench.reports.page import Cell, Column, Section, Table, names, show
from medbench.reports.sources import Sources

_STANDING = {"above": "above chance", "at": "at chance", "below": "below chance"}


def section(analysis: Analysis, sources: Sources) -> Section:
    """One table per accuracy task, and a sentence for every candidate that must not be read as it stands."""
    found = Section("chance", "Chance and habit")
    for task in analysis.choice_tasks:
        lines = chance(analysis.study.tables[task], analysis.options.confidence)
        if lines is None:
            continue
        rows: list[list[Cell]] = [
            [
                name,
                line.accuracy,
                lines.chance,
                lines.majority,
                line.letter or "none",
                line.letter_share,
                "; ".join([_STANDING[line.standing], *(["one letter"] if line.one_letter else [])]),
            ]
            for name, line in lines.lines.items()
        ]
        found.tables.append(_table(task, lines.majority_key, rows))
        found.findings += [f"On {task}, {sentence}" for sentence in lines.warnings]
        good = [name for name, line in lines.lines.items() if line.standing == "above" and not line.one_letter]
        if good:
            found.findings.append(
                f"On {task}, {names(good, 4)} {'is' if len(good) == 1 else 'are'} more accurate than guessing "
                f"({show(lines.chance, 'rate')}); always answering {lines.majority_key} would score "
                f"{show(lines.majority, 'rate')}."
            )
    if not found.tables:
        found.missing = "No accuracy task in these logs names its items' options and keys, so chance is not known."
        return found
    found.notes.append(
        "Chance: one over the number of options, averaged over items; where several letters are right only the whole "
        f"set counts. A letter in more than {show(ONE_LETTER, 'share')} of a candidate's answers is warned of, "
        "if the interval of its share lies above the part of the keys that the commonest has."
    )
    return found


def _table(task: str, key: str, rows: list[list[Cell]]) -> Table:
    return Table(
        f"Accuracy on {task} beside chance",
        [
            Column("Candidate"),
            Column("Accuracy", "rate", "no answer is wrong", bar=True),
            Column("Chance", "rate", "guessing among each item's options"),
            Column(f"Always {key}", "rate", "the score of always giving the commonest key"),
            Column("Most used letter"),
            Column("Its share", "rate", "of the outputs that state a letter"),
            Column("Standing", help="at chance: the interval of the accuracy holds it"),
        ],
        rows,
    )
