"""`medbench explain`: which slots and rules read an output, in order, and why the one that decided won."""

from __future__ import annotations

import re
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medbench.reading.choice import FORMS, Form, Step, read_choice
from medbench.reading.extraction import Extraction
from medbench.thinking import views

_WHY = {
    "record": "a field of a record, a box or a tag is the strongest statement",
    "final": "the answer is named as such; a later one of this kind would win, a rationale does not",
    "odd": "the option that is not so is named, and one option is asked for",
    "leading": "the output begins with it, nothing declares another, and a rationale does not outrank it",
    "conclusion": "no answer is declared and none leads; the text concludes on it",
    "sentence": "no slot decides; of the sentences this is the strongest statement, among equals the last",
    "": "nothing states an answer",
}
_SHOWN = 300  # characters on either side of the deciding span


@click.command()
@click.argument("text")
@click.option("--letters", default="ABCD", show_default=True, help="The options' letters.")
@click.option("--options", default=None, help="The options' texts, separated by '|'.")
@click.option("--question", default=None, help="The item's stem.")
@click.option("--multiple", is_flag=True, help="Several options may be right.")
@click.option("--form", type=click.Choice(FORMS), default=None, help="The form that the prompt asked for.")
def explain(
    text: str, letters: str, options: str | None, question: str | None, multiple: bool, form: Form | None
) -> None:
    """Which slots and rules read TEXT (or the file of that name), in order, and why the answer won.

    A reasoning trace is left out, as under the answer view.
    """
    said = views(_text_or_file(text))["answer"]
    choices = [part.strip() for part in options.split("|")] if options else None
    result, steps = read_choice(said, letters, choices=choices, multiple=multiple, question=question, form=form)
    console = Console(markup=False)
    print_reading(console, said, result, steps)


def _text_or_file(text: str) -> str:
    """The text itself, or what the file of that name holds."""
    try:
        path = Path(text)
        return path.read_text("utf-8") if len(text) < 1000 and path.is_file() else text
    except (OSError, ValueError):
        return text


def print_reading(console: Console, said: str, result: Extraction, steps: list[Step]) -> None:
    """Prints the result, the steps as a table, and the text around the deciding span, which is underlined."""
    answer = "".join(result.letters) or f"none ({result.status}: {result.reason})"
    console.print(Text(f"answer  {answer}", style="bold"))
    console.print(Text(f"why     {_WHY[result.slot]}"))
    table = Table(title="found, in this order", title_justify="left")
    for column in ("slot", "rule", "states", "characters", "text"):
        table.add_column(column)
    for step in steps:
        where = f"{step.start}-{step.end}"
        quoted = re.sub(r"\s+", " ", said[step.start : min(step.end, step.start + 60)])
        mark = "bold" if step.decided else ""
        table.add_row(step.what, step.rule, "".join(step.letters), where, Text(quoted), style=mark)
    console.print(table)
    if result.span:
        start, end = result.span
        shown = Text(said[max(0, start - _SHOWN) : start])
        shown.append(said[start:end], style="underline bold")
        shown.append(said[end : end + _SHOWN])
        console.print(shown)
