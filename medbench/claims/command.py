"""`medbench judge`: what a judge of claims is worth, and its rates corrected by human labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from medbench import stats
from medbench.claims import card as cards
from medbench.claims import correct as correcting
from medbench.claims.card import shown
from medbench.claims.files import Labelled, VerdictFile, labelled, listed, read_verdicts
from medbench.claims.judges import Jury, ModelJudge, jury_of, names_in
from medbench.claims.lexical import NAME as LEXICAL
from medbench.claims.lexical import Lexical
from medbench.claims.rounds import ask, kept
from medbench.claims.verdicts import ENTAILED, LABELS, TIES, Verdict, majority
from medbench.errors import MedbenchError
from medbench.files.manifest import sha256_file, write_atomic
from medbench.files.options import Read, Write


@click.group()
def judge() -> None:
    """Judges of claims: their cards against people, and rates corrected by a few labels (docs/claims.md)."""


@judge.command()
@click.argument("files", nargs=-1, required=True, type=Read())
@click.option("--judge", "judges", default=None, metavar="NAME[,NAME]",
              help="lexical, a model (openai/gpt-4o), or with --verdicts judges of that file. Several make a jury. "
              "[default: lexical, or all of the file]")  # fmt: skip
@click.option("--verdicts", type=Read(), help="Replay the verdicts of this file instead of asking a judge.")
@click.option("--tie", type=click.Choice(TIES), default="unscored", show_default=True, help="A divided jury's verdict.")
@click.option("--further/--no-further", default=True, show_default=True,
              help="Ask a model three times more per claim: floor, repetition, other order.")  # fmt: skip
@click.option("--keep", type=Write(replace=True), help="Write all verdicts to this file (JSON lines), to be replayed.")
@click.option(
    "--out",
    type=Write(replace=True),
    default=Path("judge-card.json"),
    show_default=True,
    help="Where the card is stored.",
)
def calibrate(
    files: tuple[Path, ...],
    judges: str | None,
    verdicts: Path | None,
    tie: str,
    further: bool,
    keep: Path | None,
    out: Path,
) -> None:
    """Compare a judge with people's labels in FILES, and store its card.

    \b
    FILES hold question, claim, answer, and label_1, label_2 ... (or label): K-QA's file of physicians' labels, or
    your own with entailed, neutral, contradicted. All intervals are clustered by question.

    The card holds figures and hashes, none of the texts.
    """
    jury = jury_of(judges, None if verdicts is None else str(verdicts), tie)
    _require_models(jury)
    rows = _rows(files, verdicts, jury)
    asked = ask(rows, jury, further=further)
    sources = {file.name: sha256_file(file) for file in files}
    facts = asked.facts | ({} if verdicts is None else {"verdicts": {verdicts.name: sha256_file(verdicts)}})
    made = cards.make(rows, asked.verdicts, jury.name, rounds=asked.rounds, sources=sources, how=asked.how, facts=facts)
    if keep is not None:
        _write(keep, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept(rows, asked)))
    _write(out, json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    console = Console(markup=False)
    _show(made, console)
    if jury.name == LEXICAL:
        console.print(_shipped(rows), markup=False, soft_wrap=True, highlight=False)
    console.print(f"Card stored in {out}", markup=False, soft_wrap=True)


def _require_models(jury: Jury) -> None:
    """Refuse what cannot be asked here, before anything is.

    Raises:
        MedbenchError: a role, which exists only while an evaluation runs, or a model that cannot be made.
    """
    from medbench.private.inspect import PrerequisiteError, reason

    for one in jury.judges:
        if isinstance(one, ModelJudge):
            if "/" not in one.name:
                raise MedbenchError(
                    f"{one.name} is a role, which only an evaluation has: name its model, PROVIDER/MODEL."
                )
            try:
                one.model()
            except PrerequisiteError as error:
                raise MedbenchError(f"judge {one.name} cannot be asked: {reason(error)}") from None
            except (ValueError, ModuleNotFoundError) as error:
                raise MedbenchError(f"judge {one.name} cannot be asked: {error}") from None


def _shipped(rows: Sequence[Labelled]) -> str:
    """The baseline as tasks use it, on these labels: its threshold is fitted to none of them, or to all."""
    known = [row for row in rows if row.label is not None]
    shipped = Lexical()
    said = [shipped.look_up(row.case).label == ENTAILED for row in known]
    kappa = stats.cohen_kappa(
        [row.label == ENTAILED for row in known], said, clusters=[row.case.question for row in known]
    )
    fitted_to = ", ".join(cards.lexical_card()["sources"])
    return (
        f"as shipped (threshold {shipped.threshold:.2f}, fitted to {fitted_to}): kappa of entailed "
        f"{shown(list(kappa))}, {sum(said)} claims"
    )


def _rows(files: Sequence[Path], verdicts: Path | None, jury: Jury) -> list[Labelled]:
    """The labelled claims; a judge whose own labels are among them is compared with the others'."""
    rows = [row for file in files for row in labelled(read_verdicts(file))]
    if verdicts is None or sha256_file(verdicts) not in {sha256_file(file) for file in files}:
        return rows
    own = {one.name for one in jury.judges}
    left = []
    for row in rows:
        raters = {name: label for name, label in row.raters.items() if name not in own}
        votes = [Verdict(label, judge=name) for name, label in raters.items() if label is not None]
        label = majority(votes).label if votes else None
        left.append(Labelled(row.case, label, raters, row.model, row.where))
    return left


def _show(card: dict[str, Any], console: Console) -> None:
    how = f", {card['how']}" if card["how"] else ""
    title = f"{card['judge']}{how}: {card['n']} claims, {card['questions']} questions"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "kappa", "found", "right", "people", "judge"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    agreement = card["agreement"]
    table.add_row("all three", shown(agreement["kappa"]), "", "", str(card["n"]), str(card["n"]))
    for label in LABELS:
        one = agreement[label]
        shares = [_percent(one[name], 0) for name in ("found", "right")]
        table.add_row(label, shown(one["kappa"]), *shares, str(one["people"]), str(one["judge"]))
    console.print(table)
    console.print("found: share of people's that the judge gives too; right: share of the judge's that people give too")
    for pair in card["people"]:
        each = ", ".join(f"{label} {shown(pair[label]['kappa'])}" for label in LABELS)
        said = f"{' and '.join(pair['raters'])}: kappa {shown(pair['kappa'])} ({each})"
        console.print(said, markup=False, soft_wrap=True, highlight=False)
    for text in _further(card):
        console.print(text, markup=False, soft_wrap=True, highlight=False)


def _further(card: dict[str, Any]) -> list[str]:
    """The rest of a card, a line each."""
    lines = []
    if card["auc"]:
        lines.append(f"its score tells entailed claims: AUC {shown(card['auc'])}")
    for name, both in card["rates"].items():
        lines.append(
            f"{name.replace('_', ' ')}: judge {_percent(both['judge'])}, people {_percent(both['people'])} of claims"
        )
    if card["floor"]:
        floor = card["floor"]
        lines.append(
            f"floor, answers to other questions ({floor['n']} claims): {_percent(floor['entailed'])} entailed, "
            f"{_percent(floor['contradicted'])} contradicted"
        )
    else:
        lines.append("floor: not known; no verdicts on answers to other questions")
    if card["length"]:
        slope = [None if x is None else 100 * x for x in card["length"]["per_doubling"]]
        low, high = (f"{x:+.1f}" for x in slope[1:])
        lines.append(f"length: twice the words, same human label: {slope[0]:+.1f} points [{low}, {high}] of entailed")
    for name, called in (("repeated", "asked again"), ("reordered", "texts and labels in the other order")):
        if card[name]:
            one = card[name]
            lines.append(f"{called}: {_percent(one['same'])} the same, kappa {shown(one['kappa'])} ({one['n']} claims)")
    for reason, count in card["unscored"].items():
        lines.append(f"without a verdict: {count} {reason.replace('_', ' ')}")
    if card["no_majority"]:
        lines.append(f"left out: {card['no_majority']} claims on which people are divided or silent")
    return lines


def _percent(value: Sequence[float | None], digits: int = 1) -> str:
    if value[0] is None:
        return "not defined"
    low, high = value[1], value[2]
    bounds = "" if low is None or high is None else f" [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"
    return f"{100 * value[0]:.{digits}f}%{bounds}"


@judge.command("correct")
@click.argument("judged", nargs=-1, required=True, type=Read())
@click.option("--labels", required=True, type=Read(), help="Human labels of some of the judged claims.")
@click.option("--judge", "judges", default=None, metavar="NAME[,NAME]", help="Judges of a verdict file. [default: all]")
@click.option("--tie", type=click.Choice(TIES), default="unscored", show_default=True, help="A divided jury's verdict.")
@click.option("--confidence", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True)
@click.option("--out", type=Write(replace=True), help="Write the figures as JSON.")
def correct_command(
    judged: tuple[Path, ...], labels: Path, judges: str | None, tie: str, confidence: float, out: Path | None
) -> None:
    """Rates of JUDGED (logs of medbench/kqa, their folders, or verdict files), corrected by labels of some claims.

    Prediction-powered inference: the labels are unbiased and few, the judge is biased and everywhere. Which claims
    people label must not depend on the answers: draw questions at random and label all their claims.
    """
    rows = labelled(read_verdicts(labels))
    console = Console(markup=False)
    results = {}
    for path in _expanded(judged):
        name, answers = _answers(path, judges, tie)
        known, lines = correcting.match(answers, rows, labels)
        found = correcting.corrected(answers, known, confidence)
        results[str(path)] = {"candidate": name} | {key: correcting.as_dict(one) for key, one in found.items()}
        _show_corrected(name, found, confidence, console)
        if lines:
            console.print(f"{len(lines)} of {len(rows)} labels are not used:", highlight=False)
            for line in listed(lines):
                console.print(f"  {line}", markup=False, soft_wrap=True, highlight=False)
    if out is not None:
        _write(out, json.dumps(results, ensure_ascii=False, indent=1) + "\n")


def _expanded(judged: Sequence[Path]) -> list[Path]:
    """Folders as the logs in them.

    Raises:
        MedbenchError: a folder without logs.
    """
    found: list[Path] = []
    for path in judged:
        logs = sorted(path.rglob("*.eval")) if path.is_dir() else [path]
        if not logs:
            raise MedbenchError(f"{path} holds no logs (.eval).")
        found += logs
    return found


def _answers(path: Path, judges: str | None, tie: str) -> tuple[str, list[correcting.Judged]]:
    if path.suffix == ".eval":
        return correcting.answers_of_log(str(path))
    file: VerdictFile = read_verdicts(path)
    return path.name, correcting.answers_of_file(file, names_in(judges), tie)


def _show_corrected(name: str, found: dict[str, correcting.Corrected], confidence: float, console: Console) -> None:
    title = f"{name}, {100 * confidence:g}% intervals"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "judge", "labels alone", "corrected", "lambda"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for key, one in found.items():
        rate = one.rate
        both = (_percent(list(rate.labels_alone)), _percent([rate.estimate, rate.low, rate.high]))
        table.add_row(key, f"{100 * rate.judge_alone:.1f}%", *both, f"{rate.lam:.2f}")
    console.print(table)
    for key, one in found.items():
        text = f"{key}: {one.labels} labelled claims of {one.labelled} answers to {one.questions} questions"
        console.print(f"{text}; {one.unlabelled} answers without labels", soft_wrap=True, highlight=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
