"""The cue controls by name: how each is asked, read and had of a benchmark's items (`-T control=NAME`).

A control changes what an item shows and keeps its id, so that a log under a control joins the plain one item by item.
The log's metadata names it (`benchmark.control`), with how many items it was asked on and why the others were left out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medbench.benchmark.controls import derive, prompts
from medbench.benchmark.controls.rephrased import read_rephrased
from medbench.benchmark.task import CONTROLS as NAMES
from medbench.benchmark.task import Loaded, Settings, user_file
from medbench.errors import MedbenchError, unknown
from medbench.files.manifest import sha256_file
from medbench.sources.items import Item, describe

Prompt = Callable[[Item, str], str]
# Orders of each item under `reorder` where the user names no number.
ORDERS = 4


@dataclass(frozen=True)
class Kind:
    """What a control is.

    Attributes:
        says: what it does, in a few words.
        derive: one item to its variant; raises `NoControl`.
        prompt: its own prompt, given whether several letters may be right and whether one token is asked for; None for
            the benchmark's.
        by_text: it is answered with the text of an option, because no letters are shown.
        shows_options: the model sees the options.
        of_examples: few-shot examples are put into the same form. Not where that would give the key away.
        keeps_answer: a model that knows the answer can still give it: such controls count for "right under all".
    """

    says: str
    derive: Callable[[Item], Item]
    prompt: Callable[..., Prompt] | None = None
    by_text: bool = False
    shows_options: bool = True
    of_examples: bool = False
    keeps_answer: bool = True


KINDS: Mapping[str, Kind] = {
    "options_only": Kind(
        "the options without the question", derive.options_only, prompts.options_only, of_examples=True,
        keeps_answer=False,
    ),
    "no_options": Kind(
        "the question without the options", derive.no_options, prompts.no_options, by_text=True, shows_options=False,
        of_examples=True,
    ),
    "none_of_these": Kind("the right option replaced by none of the others", derive.none_of_these),
    "no_labels": Kind(
        "the options without letters", derive.no_labels, prompts.no_labels, by_text=True, of_examples=True
    ),
    "reorder": Kind("the options in other orders", lambda item: derive.reordered(item, 1)[0]),
    "rephrase": Kind("the question in other words", lambda item: item),
}  # fmt: skip
assert tuple(KINDS) == NAMES


@dataclass(frozen=True)
class Control:
    """A control as the user asked for it.

    Attributes:
        orders: seeded orders per item, each an epoch, for ``reorder``; None for all others.
        questions: item id -> question, for ``rephrase``.
        about: what the log keeps of it.
    """

    name: str
    orders: int | None
    questions: Mapping[str, str]
    about: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """What it is."""
        return KINDS[self.name]

    def variant(self, item: Item) -> Item:
        """One item under the control; under ``reorder`` the original, whose options the solver moves.

        Raises:
            NoControl: the item cannot have it.
        """
        if self.name == "rephrase":
            return derive.rephrased(item, self.questions.get(item.id))
        found = self.kind.derive(item)
        return item if self.name == "reorder" else found

    def applied(self, loaded: Loaded) -> tuple[Loaded, dict[str, Any]]:
        """The benchmark under the control, and what the log's metadata keeps of it.

        Items that cannot have it are left out, counted by reason and listed.

        Raises:
            MedbenchError: no item can have it.
        """
        kept: list[Item] = []
        listed: list[str] = []
        reasons: Counter[str] = Counter()
        for item in loaded.items:
            try:
                kept.append(self.variant(item))
            except derive.NoControl as why:
                reasons[str(why)] += 1
                listed.append(f"{item.source or item.id}: control {self.name}: {why}")
        if not kept:
            why_not = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
            raise MedbenchError(f"control={self.name}: none of {len(loaded.items)} items can have it: {why_not}.")
        examples = loaded.examples
        if self.kind.of_examples:
            examples = tuple(found for one in examples if (found := self._example(one)) is not None)
            if len(examples) < len(loaded.examples):
                raise MedbenchError(
                    f"control={self.name}: {len(loaded.examples) - len(examples)} of {len(loaded.examples)} few-shot "
                    "examples cannot have it; take others (-T fewshot_source=FILE) or none."
                )
        counted = {**self.about, "asked": len(kept), "left_out": dict(reasons.most_common())}
        under = dataclasses.replace(
            loaded,
            items=kept,
            left_out=loaded.left_out + listed,
            provenance=loaded.provenance | describe(kept),
            examples=examples,
        )
        return under, counted

    def _example(self, example: Item) -> Item | None:
        try:
            return self.kind.derive(example)
        except derive.NoControl:
            return None


def chosen(settings: Settings) -> Control | None:
    """The control that the user asked for; None where none was.

    Raises:
        MedbenchError: parameters that do not go together, or a file of questions that cannot be read.
    """
    name = settings.control
    for parameter, of in (("orders", "reorder"), ("rephrased", "rephrase")):
        if getattr(settings, parameter) is not None and name != of:
            raise MedbenchError(f"{parameter} belongs to control={of}, not to control={name}.")
    if name is None:
        return None
    if name not in KINDS:
        raise unknown("control", str(name), KINDS)
    if settings.mode == "logprob" and KINDS[name].by_text:
        raise MedbenchError(
            f"control={name} shows no letters, so mode=logprob has no probabilities of letters to read. Run it with "
            "mode=generate, which reads the answer from the text."
        )
    if settings.prompt is not None and KINDS[name].prompt is not None:
        raise MedbenchError(
            f"control={name} shows other things and has a wording of its own: prompt={settings.prompt} has no place, "
            "give one of the two. Controls that take any wording: "
            f"{', '.join(other for other, kind in KINDS.items() if kind.prompt is None)}."
        )
    if name == "reorder":
        orders = ORDERS if settings.orders is None else settings.orders
        if isinstance(orders, bool) or not isinstance(orders, int) or orders < 1:
            raise MedbenchError(f"orders is how many orders each item is asked in, 1 or more, not {orders!r}.")
        return Control(name, orders, {}, {"name": name, "orders": orders})
    if name == "rephrase":
        if settings.rephrased is None:
            raise MedbenchError(
                "control=rephrase needs the questions in other words: -T rephrased=FILE (id, question)."
            )
        file = user_file(settings.rephrased)
        questions = read_rephrased(file, settings.encoding)
        about = {"name": name, "file": Path(file).name, "sha256": sha256_file(file), "questions": len(questions)}
        return Control(name, None, questions, about)
    return Control(name, None, {}, {"name": name})
