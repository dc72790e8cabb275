"""Judges by name: a model, a role of Inspect's, a file's judge, or the lexical baseline; several make a jury."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from medbench import thinking
from medbench.claims.files import Replay, VerdictFile, read_verdicts
from medbench.claims.lexical import NAME as LEXICAL
from medbench.claims.lexical import Lexical
from medbench.claims.prompt import Order, parse, prompt
from medbench.claims.verdicts import NEUTRAL, TIES, Case, Verdict, jury_name, majority
from medbench.errors import MedbenchError
from medbench.refusal.detector import classify

if TYPE_CHECKING:
    from inspect_ai.model import Model


class Judge(Protocol):
    """Anything that says something of a claim; never raises for one claim, but gives a verdict with a reason."""

    name: str

    async def verdict(self, case: Case) -> Verdict:
        """What it says of one claim."""
        ...


class ModelJudge:
    """A model behind a judge.

    Attributes:
        name: the role or the model.
        order: see `medbench.claims.prompt.Order`.
        model: gives the model; asked for at each call, because roles exist only while an evaluation runs.
    """

    def __init__(self, name: str, model: Callable[[], Model], order: Order = "claim_first") -> None:
        self.name, self.order, self.model = name, order, model

    async def verdict(self, case: Case) -> Verdict:
        """One call for one claim; whatever goes wrong in it leaves this claim without a verdict."""
        model = self.model()
        try:
            output = await model.generate(prompt(case, self.order))
        except Exception as error:  # any provider's failure leaves this claim unscored, with its reason
            return Verdict(None, "failed", self.name, f"{type(error).__name__}: {error}")
        reply = output.completion
        label = parse(thinking.split(reply).answer)
        if label is not None:
            return Verdict(label, "", self.name, reply)
        refused = output.stop_reason == "content_filter" or (reply.strip() and classify(reply) == "refusal")
        return Verdict(None, "refused" if refused else "outside_form", self.name, reply)


@dataclass(frozen=True)
class Jury:
    """One or several judges.

    Attributes:
        judges: at least one.
        tie: what stands where they are divided (`medbench.claims.verdicts.TIES`).
    """

    judges: Sequence[Judge]
    tie: str = "unscored"

    @property
    def name(self) -> str:
        """The judges' names."""
        return jury_name([judge.name for judge in self.judges])

    @property
    def asks_models(self) -> bool:
        """Whether a verdict costs a call."""
        return any(isinstance(judge, ModelJudge) for judge in self.judges)

    async def verdict(self, case: Case) -> Verdict:
        """The majority's verdict. An empty answer says nothing, so it is neutral to every claim; nobody is asked."""
        if not case.answer.strip():
            return Verdict(NEUTRAL, judge=self.name)
        return majority([await judge.verdict(case) for judge in self.judges], self.tie)


def jury_of(
    judge: str | Sequence[str] | None = None,
    verdicts: str | None = None,
    tie: str = "unscored",
    *,
    encoding: str = "utf-8",
) -> Jury:
    """The jury that a user names.

    Args:
        judge: names, as a list or with commas between: `lexical`, a model (`openai/gpt-4o`) or a role (`grader`); with
            a file of verdicts, judges of that file. None takes all judges of the file, or else `lexical`.
        verdicts: a file of verdicts, replayed.
        tie: see `Jury`.
        encoding: of the file.

    Raises:
        MedbenchError: the file cannot be read, has no such judge, or a judge is named twice.
    """
    if tie not in TIES:
        raise MedbenchError(f"a divided jury is {' or '.join(TIES)} (-T tie=), not {tie!r}.")
    names = names_in(judge)
    if len(set(names)) < len(names):
        raise MedbenchError(f"a judge has one vote; one is named twice: {', '.join(names)}.")
    if verdicts is not None:
        return replayed(read_verdicts(verdicts, encoding=encoding), names, tie)
    return Jury([by_name(name) for name in names or [LEXICAL]], tie)


def names_in(text: str | Sequence[str] | None) -> list[str]:
    """Names out of a list or a text with commas: Inspect makes a list of ``-T judge=a,b``."""
    parts = text.split(",") if isinstance(text, str) else list(text or ())
    return [str(part).strip() for part in parts if str(part).strip()]


def replayed(file: VerdictFile, names: Sequence[str] = (), tie: str = "unscored") -> Jury:
    """A jury of a file's judges; all of them where none is named."""
    return Jury([Replay(file, name) for name in names or file.judges], tie)


def by_name(name: str, order: Order = "claim_first") -> Judge:
    """`lexical`, a model where the name has a slash, else a role."""
    if name == LEXICAL:
        return Lexical()

    def model() -> Model:
        from inspect_ai.model import get_model

        # `required`: without it, the model under test would judge itself.
        return get_model(name) if "/" in name else get_model(role=name, required=True)

    return ModelJudge(name, model, order)
