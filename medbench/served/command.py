"""`medbench verify-served`: is the endpoint serving what it should?

medbench verify-served --model openai-api/server/NAME --base-url URL --base B --adapter pt=DIR:0.3 --adapter sft=DIR:0.7
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import click

from medbench.errors import MedbenchError
from medbench.served.distance import ERRORS, OFF, Comparison

if TYPE_CHECKING:
    from medbench.served.endpoint import Answers
    from medbench.served.server import Listed

ASKED = "asked"


@dataclass(frozen=True)
class Served:
    """What an endpoint serves, as far as its predictions tell.

    Attributes:
        comparison: where it lies among the candidates.
        weights: of the candidates' adapters.
        effect: distance from the base to the asked candidate, exactly; 0 where the base is asked.
        place: where the endpoint lies from the base (0) to the asked candidate (1), and its standard error.
        notes: what else was seen: other prompts, another context.
    """

    comparison: Comparison
    weights: Mapping[str, str]
    effect: float
    place: tuple[float, float] | None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def verdict(self) -> str:
        """A candidate's name, or ``cannot tell``, ``none`` or ``other weights``."""
        from medbench.served.exact import ROUNDED

        found = self.comparison
        if found.distances[found.nearest] > max(self.scale, 3 * found.noise):
            return "none"
        # Where the rounded sum cannot be told from the asked one, rounding has done no harm.
        if set(found.untold) | {found.nearest} <= {ASKED, ROUNDED} and found.untold:
            return ASKED
        if found.untold:
            return "cannot tell"
        if found.nearest == ASKED and self.place is not None:
            place, error = self.place
            if abs(place - 1) > max(OFF, ERRORS * error):
                return "other weights"
        return found.nearest

    @property
    def scale(self) -> float:
        """What the adapters change at all: farther from every candidate than this, an endpoint is none of them."""
        return max((pair.separation for pair in self.comparison.pairs.values()), default=0.0)

    @property
    def failed(self) -> bool:
        """Whether the endpoint was not shown to serve what was asked."""
        return self.verdict != ASKED


def verify(
    model: str,
    base: str,
    adapters: Sequence[str],
    *,
    base_url: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
    repeats: int = 3,
    top: int = 20,
    timeout: int = 120,
    any_base: bool = False,
    chat_template: str | None = None,
) -> Served:
    """Compare an endpoint's next-token log-probabilities with every candidate's, computed here.

    Args:
        model: Inspect's name of the endpoint.
        base: a model directory, or a hub id.
        adapters: ``NAME=DIR:WEIGHT``: what the endpoint should serve; weight 0 for the base alone.
        base_url: the server's address.
        model_args: further arguments of Inspect's provider.
        prompts: a user's messages; `medbench.served.prompts.PROMPTS` by default.
        repeats: how often each is asked, at least 2.
        top: tokens to ask for at each.
        timeout: seconds for one request.
        any_base: accept adapters that record another base's name, or other layers.
        chat_template: the server's, where it differs from the base's: a Jinja file, or ``none``.

    Raises:
        MedbenchError: files that do not fit together; an endpoint that does not answer, or without log-probabilities.
    """
    from medbench.served import endpoint
    from medbench.served.exact import Exact, candidates, token_ids
    from medbench.served.prompts import PROMPTS

    if repeats < 2:
        raise MedbenchError(f"repeats is {repeats}: at least 2 show how far the server's answers are from themselves.")
    prompts = PROMPTS if prompts is None else prompts
    there = _listed(model, base_url)
    exact = Exact(base, adapters, any_base=any_base, chat_template=chat_template)
    ids = token_ids(exact.tokenizer)
    own = endpoint.llama_cpp(ids) if there is not None and there.owner == "llamacpp" else None
    tokens = [exact.tokens(prompt) for prompt in prompts]
    answers = endpoint.ask(
        model, prompts, ids, base_url=base_url, model_args=model_args,
        repeats=repeats, top=top, timeout=timeout, tokens=tokens, extra_body=own,
    )  # fmt: skip
    listed = candidates(exact.asked)
    predicted = {name: exact.predict(candidate, tokens) for name, candidate in listed.items()}
    notes = _notes(answers, tokens, exact.context, there.context if there else None)
    return judge(answers.likeliest, predicted, {n: _text(c.weights) for n, c in listed.items()}, notes)


def judge(
    answers: Sequence[Any], predicted: Mapping[str, Any], weights: Mapping[str, str], notes: Sequence[str] = ()
) -> Served:
    """The comparison and what follows from it; `answers` and `predicted` as `distance.compare` takes them."""
    from medbench.served.distance import between, compare

    found = compare(answers, predicted)
    effect, place = 0.0, None
    if "base" in predicted:
        effect, *place_and_error = between(answers, predicted["base"], predicted[ASKED])
        place = (place_and_error[0], place_and_error[1])
    return Served(found, weights, effect, place, tuple(notes))


def _text(weights: Mapping[str, float]) -> str:
    return ",".join(f"{name}={weight:g}" for name, weight in weights.items())


def _notes(answers: Answers, tokens: Sequence[Sequence[int]], context: int | None, served: int | None) -> list[str]:
    notes = []
    unlike = [(n, len(row)) for n, row in zip(answers.lengths, tokens, strict=True) if n is not None and n != len(row)]
    if unlike:
        there, here = unlike[0]
        notes.append(
            f"the server counts {there} tokens where the base's chat template makes {here} ({len(unlike)} of "
            f"{len(tokens)} prompts): it uses another template, or adds tokens. Give its template with --chat-template."
        )
    if answers.unknown > 0:
        notes.append(f"up to {answers.unknown} of the tokens it names are not in the base's vocabulary")
    if served is not None and context is not None and served != context:
        notes.append(
            f"the server takes {served} tokens, the base {context}: longer prompts "
            + ("are refused or cut there" if served < context else "run past what the base was made for")
        )
    return notes


def _listed(model: str, url: str | None) -> Listed | None:
    """How the server lists the model; None where it cannot be asked, or lists no such model.

    Raises:
        MedbenchError: nothing answers at the address.
    """
    from medbench.served.server import Server, ServerRefused

    if url is None:
        return None
    try:
        models = Server(url).models()
    except ServerRefused:
        return None
    return next((entry for entry in models if model.endswith(entry.name)), None)


def describe(served: Served) -> list[str]:
    """The lines that verify-served prints."""
    found = served.comparison
    width = max(map(len, found.distances))
    lines = [
        f"{name:{width}}  {distance:.4f}  {served.weights[name]}"
        for name, distance in sorted(found.distances.items(), key=lambda item: item[1])
    ]
    lines.insert(0, f"{'':{width}}  Hellinger distance from the endpoint, over prompts (0 to 1)")
    lines.append(
        f"noise: {found.noise:.4f} from one repeat to the next; it names {found.tokens:.0f} tokens a prompt, "
        f"{found.covered:.0%} of the probability"
    )
    closest = min(found.pairs.items(), key=lambda item: item[1].separation, default=None)
    if closest is not None:
        name, pair = closest
        lines.append(
            f"{found.nearest} against {name}: {pair.separation:.4f} apart; the endpoint lies at {pair.place:.3f} "
            f"(+- {pair.error:.2g}) from the first (0) to the second (1)"
        )
    if served.place is not None:
        lines.append(
            f"of the adapters' effect ({served.effect:.4f} from the base) it has {served.place[0]:.3f} "
            f"(+- {served.place[1]:.2g})"
        )
    lines += [f"WARNING: {note}" for note in served.notes]
    return [*lines, _conclusion(served)]


def _conclusion(served: Served) -> str:
    found, verdict = served.comparison, served.verdict
    if verdict == ASKED:
        rounded = " (or that, rounded: the difference is below what can be told)" if found.untold else ""
        return f"ok: it serves {served.weights[ASKED]}{rounded}"
    if verdict == "cannot tell":
        named = ", ".join([found.nearest, *found.untold])
        return (
            f"CANNOT TELL: {named} differ by less than the server's own noise or than {len(served.weights)} candidates "
            "can be told apart at. Ask more often (--repeats), at more prompts (--prompts), for more tokens (--top)."
        )
    if verdict == "none":
        return (
            f"NONE of these: even {found.nearest} is {found.distances[found.nearest]:.4f} away, more than the adapters "
            f"change ({served.scale:.4f}). Another base, precision or chat template? For a quantised model, make "
            "--base of the file that is served: medbench fetch FILE.gguf."
        )
    if verdict == "other weights":
        assert served.place is not None
        return (
            f"MISMATCH: nearest to {served.weights[ASKED]}, but with {served.place[0]:.2f} of its effect: other "
            "weights, or an update that rounding took a part of."
        )
    return f"MISMATCH: it serves {found.nearest} ({served.weights[found.nearest]}), not {served.weights[ASKED]}"


@click.command()
@click.option("--model", required=True, help="The endpoint as Inspect names it: openai-api/SERVER/NAME, vllm/NAME, …")
@click.option("--base-url", default=None, help="The server's address, e.g. http://localhost:8000/v1.")
@click.option("-M", "model_args", multiple=True, help="An argument of Inspect's provider, NAME=VALUE.")
@click.option("--base", required=True, help="Model directory or Hugging Face id that the adapters were trained on.")
@click.option("--adapter", "adapters", multiple=True, help="NAME=DIR:WEIGHT: what should be served.")
@click.option("--prompts", type=click.File(encoding="utf-8"), default=None, help="A file of prompts, one a line.")
@click.option("--repeats", default=3, show_default=True, help="How often each prompt is asked.")
@click.option("--top", default=20, show_default=True, help="Likeliest tokens to ask for; llama.cpp gives any number.")
@click.option("--timeout", default=120, show_default=True, help="Seconds to wait for one answer.")
@click.option("--any-base", is_flag=True, help="Accept adapters that record another base's name, or other layers.")
@click.option("--chat-template", default=None, help="The server's, where it differs: a Jinja file, or none.")
def command(
    model: str,
    base_url: str | None,
    model_args: tuple[str, ...],
    base: str,
    adapters: tuple[str, ...],
    prompts: IO[str] | None,
    repeats: int,
    top: int,
    timeout: int,
    any_base: bool,
    chat_template: str | None,
) -> None:
    """Tell from an endpoint's next-token log-probabilities whether it serves the base with these adapters.

    Or the base alone, one adapter, squared weights, a rounded sum. Exits 1 if it was not shown to serve what was asked.
    """
    served = verify(
        model,
        base,
        adapters,
        base_url=base_url,
        model_args=dict(_setting(text) for text in model_args),
        prompts=None if prompts is None else [line.strip() for line in prompts if line.strip()],
        repeats=repeats,
        top=top,
        timeout=timeout,
        any_base=any_base,
        chat_template=chat_template,
    )
    click.echo("\n".join(describe(served)))
    if served.failed:
        raise SystemExit(1)


def _setting(text: str) -> tuple[str, object]:
    from medbench.files.yaml_files import parse_yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise MedbenchError(f"-M {text!r}: expected NAME=VALUE.")
    return name, parse_yaml(value, f"-M {name}")
