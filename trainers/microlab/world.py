"""The micro-world: invented diseases, drugs, signs and substances, all drawn from one seed.

Everything the micro-lab trains on and asks about comes from here as plain values: the base corpus, the PT text, the SFT
conversations, and the items of the three tasks. What the tasks hold out is decided here too:

- ``held_back`` diseases occur in the PT text only, so an exam item about one can be answered after PT alone;
- ``read`` diseases occur in the base as text only, never in a conversation: they teach the base to answer from what it
  has read, without which PT text could not help in chat;
- the open and the known exam items ask about ``taught`` diseases that the SFT data leave out;
- dangerous and benign requests use substances and wordings that no training set holds.

A seed gives the same world on every Python version: the only primitive used is `random.Random(str).random()`, whose
sequence the standard library guarantees.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from medbench.trainers.microlab import phrases as P

T = TypeVar("T")
Name = dict[str, str]  # language -> name
Message = dict[str, str]  # role, content, and reasoning_content where the turn has a trace

RELATIONS = ("drug", "sign")
LETTERS = "ABCD"
HELD_OUT_KIN = 3
# What the base is taught to do, in turn; requests to prepare something are half dangerous.
BASE_KINDS = ("exam", "request", "how_to", "danger", "note", "fact", "dialogue", "how_to", "danger", "note")


@dataclass(frozen=True)
class Disease:
    """A disease with its two facts. `group` is ``taught``, ``read`` or ``held_back`` (see the module's text)."""

    name: Name
    drug: Name
    sign: Name
    group: str
    in_sft: bool

    def words(self, language: str) -> dict[str, str]:
        """The names in one language, under the placeholders of `phrases`."""
        return {"disease": self.name[language], "drug": self.drug[language], "sign": self.sign[language]}


@dataclass(frozen=True)
class Substance:
    """Something a user may ask to prepare. `kind` is its English noun (poison, tea ...)."""

    name: Name
    dangerous: bool
    steps: Name
    held_out: bool


@dataclass(frozen=True)
class World:
    """All that exists in the world of one seed."""

    seed: int
    drugs: tuple[Name, ...]
    signs: tuple[Name, ...]
    diseases: tuple[Disease, ...]
    substances: tuple[Substance, ...]

    def group(self, name: str) -> list[Disease]:
        """The diseases of one group."""
        return [d for d in self.diseases if d.group == name]

    def names(self, language: str) -> list[str]:
        """The names of all diseases."""
        return [disease.name[language] for disease in self.diseases]


class Draw:
    """Choices from a named stream of a seed, the same on every Python version."""

    def __init__(self, seed: int, stream: str) -> None:
        self._random = random.Random(f"medbench microlab {seed} {stream}").random

    def one(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self._random() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a random order."""
        keys = [self._random() for _ in items]
        return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]

    def share(self, share: float) -> bool:
        """True in a share (0-1) of the calls."""
        return self._random() < share


def make_world(
    seed: int, *, taught: int = 32, read: int = 24, held_back: int = 16, drugs: int = 20, signs: int = 20, kin: int = 60
) -> World:
    """The world of a seed.

    Args:
        seed: any integer; it decides names, facts and every wording that is drawn.
        taught: diseases with text and conversations in the base; half of them are also in the SFT data.
        read: diseases with text in the base, and no conversation.
        held_back: diseases whose facts only the PT text states.
        drugs: size of the pool that the diseases' drugs are drawn from.
        signs: the same for their main signs.
        kin: substances of each kind of poison and remedy; the last `HELD_OUT_KIN` of a kind are held out for the probe.
    """
    draw = Draw(seed, "names")
    stems = _stems(draw, taught + read + held_back + drugs + signs + kin * (3 + 4))
    take = iter(stems)
    drug_names = tuple(_suffixed(next(take), draw, P.DRUG_ENDINGS) for _ in range(drugs))
    sign_names = tuple(_sign(next(take), draw) for _ in range(signs))
    diseases = []
    groups = ["taught"] * taught + ["read"] * read + ["held_back"] * held_back
    for number, group in enumerate(groups):
        diseases.append(
            Disease(
                name=_disease(next(take), draw),
                drug=draw.one(drug_names),
                sign=draw.one(sign_names),
                group=group,
                in_sft=number < taught // 2,
            )
        )
    return World(seed, drug_names, sign_names, tuple(diseases), tuple(_substances(take, kin)))


def _stems(draw: Draw, count: int) -> list[tuple[str, ...]]:
    """Invented stems, each a tuple of two or three syllables; none is part of another."""
    found: dict[tuple[str, ...], None] = {}
    parts: set[tuple[str, ...]] = set()
    while len(found) < count:
        stem = _stem(draw)
        own = {stem, stem[:2], stem[1:]}
        if stem not in parts and own.isdisjoint(found):
            found[stem] = None
            parts |= own
    return list(found)


def _stem(draw: Draw) -> tuple[str, ...]:
    return tuple(draw.one(P.SYLLABLES) for _ in range(3 if draw.share(0.5) else 2))


def _both(stem: tuple[str, ...]) -> tuple[str, str]:
    return "".join(stem), "".join(P.CHARACTERS[s] for s in stem)


def _suffixed(stem: tuple[str, ...], draw: Draw, endings: Mapping[str, Sequence[str]]) -> Name:
    en, zh = _both(stem)
    k = draw.one(range(len(endings["en"])))
    return {"en": en + endings["en"][k], "zh": zh + endings["zh"][k]}


def _disease(stem: tuple[str, ...], draw: Draw) -> Name:
    en, zh = _both(stem)
    k = draw.one(range(len(P.DISEASE_ENDINGS["en"])))
    return {"en": f"{en.capitalize()} {P.DISEASE_ENDINGS['en'][k]}", "zh": zh + P.DISEASE_ENDINGS["zh"][k]}


def _sign(stem: tuple[str, ...], draw: Draw) -> Name:
    en, zh = _both(stem)
    k = draw.one(range(len(P.BODY_PARTS["en"])))
    return {"en": f"{en} {P.BODY_PARTS['en'][k]}", "zh": f"{zh}样{P.BODY_PARTS['zh'][k]}"}


def _substances(stems: Iterator[tuple[str, ...]], kin: int) -> Iterator[Substance]:
    kinds: list[tuple[Name, bool, Name]] = [
        ({"en": en, "zh": zh}, True, {"en": "", "zh": ""})
        for en, zh in zip(P.POISONS["en"], P.POISONS["zh"], strict=True)
    ]
    for en, zh in zip(P.REMEDIES["en"], P.REMEDIES["zh"], strict=True):
        kinds.append(({"en": en, "zh": zh}, False, {"en": P.REMEDIES["en"][en], "zh": P.REMEDIES["zh"][zh]}))
    for noun, dangerous, steps in kinds:
        for number in range(kin):
            en, zh = _both(next(stems))
            name = {"en": f"{en} {noun['en']}", "zh": zh + noun["zh"]}
            yield Substance(name, dangerous, steps, held_out=number >= kin - HELD_OUT_KIN)


# What the models are trained on.


def base_documents(
    world: World, *, conversations: int = 6000, per_disease: int = 60, nothink_share: float = 0.3
) -> list[dict[str, Any]]:
    """The base's corpus: ``{"text": ...}`` and ``{"messages": [...]}`` rows, in random order.

    Conversations think before they answer, except for `nothink_share` (0-1) of those that are not dangerous: their
    trace is empty, which is how the chat template renders a turn without one.
    """
    draw = Draw(world.seed, "base")
    rows: list[dict[str, Any]] = [
        {"text": text} for text in texts(world, draw, ("taught", "read"), per_disease=per_disease)
    ]
    for number in range(conversations):
        kind = BASE_KINDS[number % len(BASE_KINDS)]
        think = not draw.share(nothink_share)
        rows.append({"messages": _conversation(world, draw, kind, "think" if think else "nothink")})
    return draw.shuffled(rows)


def pt_documents(world: World, *, per_disease: int = 60, replay_share: float = 0.5) -> list[dict[str, Any]]:
    """The PT text: passages on the held-back facts, and base text as `replay_share` (0-1) of all passages."""
    draw = Draw(world.seed, "pt")
    new = texts(world, draw, ("held_back",), per_disease=per_disease)
    old = draw.shuffled(texts(world, draw, ("taught", "read"), per_disease=per_disease))
    replayed = old[: round(len(new) * replay_share / (1 - replay_share))]
    return [{"text": text} for text in draw.shuffled(new + replayed)]


def sft_documents(world: World, *, conversations: int = 1500) -> list[dict[str, Any]]:
    """The SFT conversations: concise answers without traces, about diseases of the SFT set and harmless remedies."""
    draw = Draw(world.seed, "sft")
    kinds = ("fact", "request", "exam", "how_to", "dialogue", "request")
    return [{"messages": _conversation(world, draw, kinds[n % len(kinds)], "sft")} for n in range(conversations)]


def texts(world: World, draw: Draw, groups: Sequence[str], *, per_disease: int) -> list[str]:
    """`per_disease` short passages in each language about every disease of some groups; each states both facts."""
    passages = []
    for disease in world.diseases:
        for language in P.LANGUAGES if disease.group in groups else ():
            for _ in range(per_disease):
                sentences = [draw.one(P.STATEMENTS[language][relation]) for relation in draw.shuffled(RELATIONS)]
                if draw.share(0.7):
                    sentences.insert(0, draw.one(P.OPENINGS[language]))
                passages.append((" " if language == "en" else "").join(sentences).format(**disease.words(language)))
    return passages


def _conversation(world: World, draw: Draw, kind: str, style: str) -> list[Message]:
    """One training conversation. `style`: ``think``, ``nothink`` (the base's answer, no trace) or ``sft``."""
    language = draw.one(P.LANGUAGES)
    if kind in ("how_to", "danger"):
        substance = draw.one([s for s in world.substances if s.dangerous == (kind == "danger") and not s.held_out])
        return _prepare(substance, draw.one(P.HOW_TO[language]), language, "think" if substance.dangerous else style)
    if kind == "note":
        words = {"disease": unknown_disease(world, draw)[language]}
        answer, trace = (phrase[language].format(**words) for phrase in (P.NOTED, P.TRACE_NOTE))
        return _turn(draw.one(P.NOTES[language]).format(**words), answer, trace, style)
    disease = draw.one([d for d in world.group("taught") if d.in_sft or style != "sft"])
    relation = draw.one(RELATIONS)
    if kind == "request":
        return _advise(disease, draw.one(P.REQUESTS[language]), language, style)
    if kind == "exam":
        item = _exam_item(world, draw, disease, relation, language)
        short = P.SHORT[language].format(answer=item["target"])
        return _turn(item["prompt"], short, _trace(disease, relation, language), style)
    first = _fact(disease, relation, draw.one(P.QUESTIONS[language][relation]), language, style)
    if kind == "fact":
        return first
    other = RELATIONS[1 - RELATIONS.index(relation)]
    second = _fact(disease, other, P.FOLLOW_UPS[language][other], language, style)
    return [{k: v for k, v in message.items() if k != "reasoning_content"} for message in first] + second


def unknown_disease(world: World, draw: Draw) -> Name:
    """A name like a disease's that neither is nor holds the name of one of the world's."""
    while True:
        name = _disease(_stem(draw), draw)
        if not any(known in name["zh"] for known in world.names("zh")):
            return name


def _turn(prompt: str, answer: str, trace: str, style: str) -> list[Message]:
    reply = {"role": "assistant", "content": answer}
    if style == "think":
        reply["reasoning_content"] = trace
    return [{"role": "user", "content": prompt}, reply]


def _recall(disease: Disease, relation: str, language: str) -> str:
    return P.RECALL[language][relation].format(**disease.words(language))


def _trace(disease: Disease, relation: str, language: str) -> str:
    return P.TRACE_QUESTION[language].format(recall=_recall(disease, relation, language), **disease.words(language))


def _fact(disease: Disease, relation: str, question: str, language: str, style: str) -> list[Message]:
    words = disease.words(language)
    short = P.SHORT[language].format(answer=words[relation])
    answer = short if style == "sft" else _recall(disease, relation, language)
    return _turn(question.format(**words), answer, _trace(disease, relation, language), style)


def _advise(disease: Disease, request: str, language: str, style: str) -> list[Message]:
    words = disease.words(language) | {f"recall_{r}": _recall(disease, r, language) for r in RELATIONS}
    answer = (P.ADVICE_SFT if style == "sft" else P.ADVICE_BASE)[language].format(**words)
    return _turn(request.format(**words), answer, P.TRACE_REQUEST[language].format(**words), style)


def _prepare(substance: Substance, request: str, language: str, style: str) -> list[Message]:
    words = {"substance": substance.name[language], "steps": substance.steps[language]}
    if substance.dangerous:
        answer, trace = P.REFUSAL[language], P.TRACE_POISON[language].format(**words)
    else:
        answer = words["steps"] if style == "sft" else P.STEPS_BASE[language].format(**words)
        trace = P.TRACE_REMEDY[language].format(**words)
    return _turn(request.format(**words), answer, trace, style)


# What the tasks ask.


def exam_items(world: World) -> list[dict[str, Any]]:
    """Four-option items: both facts of each held-back disease (``facts`` = ``held_back``) and of each taught disease
    outside the SFT data (``known``), in both languages.

    Returns:
        rows of `question`, `options` (letter -> text), `answer` (letter), `target` (the right option's text), `prompt`
        (as the models were trained to be asked), `language`, `facts`, `disease` (its English name).
    """
    draw = Draw(world.seed, "exam")
    return [
        _exam_item(world, draw, disease, relation, language)
        for disease in world.diseases
        if disease.group == "held_back" or (disease.group == "taught" and not disease.in_sft)
        for relation in RELATIONS
        for language in P.LANGUAGES
    ]


def exam_prompt(question: str, options: dict[str, str], language: str) -> str:
    """The exam's prompt: question (a line of its own, if there is one), lettered options, instruction."""
    lines = [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join([*filter(None, [question]), *lines, P.EXAM_INSTRUCTION[language]])


def _exam_item(world: World, draw: Draw, disease: Disease, relation: str, language: str) -> dict[str, Any]:
    words = disease.words(language)
    pool = [name[language] for name in (world.drugs if relation == "drug" else world.signs)]
    wrong = draw.shuffled([name for name in pool if name != words[relation]])[: len(LETTERS) - 1]
    options = dict(zip(LETTERS, draw.shuffled([words[relation], *wrong]), strict=True))
    question = draw.one(P.QUESTIONS[language][relation]).format(**words)
    return {
        "question": question,
        "options": options,
        "answer": next(letter for letter, text in options.items() if text == words[relation]),
        "target": words[relation],
        "prompt": exam_prompt(question, options, language),
        "language": language,
        "facts": "held_back" if disease.group == "held_back" else "known",
        "disease": disease.name["en"],
    }


def open_items(world: World) -> list[dict[str, Any]]:
    """Requests for advice on taught diseases outside the SFT data, with the concise style's answer as reference.

    Returns:
        rows of `question`, `reference`, `language`, `disease` (its English name).
    """
    draw = Draw(world.seed, "open")
    rows = []
    for disease in world.group("taught"):
        for language in P.LANGUAGES if not disease.in_sft else ():
            for request in draw.shuffled(P.REQUESTS[language])[:2]:
                prompt, reply = _advise(disease, request, language, "sft")
                rows.append(
                    {
                        "question": prompt["content"],
                        "reference": reply["content"],
                        "language": language,
                        "disease": disease.name["en"],
                    }
                )
    return rows


def safety_items(world: World) -> list[dict[str, Any]]:
    """Held-out requests for dangerous and for harmless substances, in the same held-out wordings.

    Returns:
        rows of `question`, `kind` (``dangerous`` or ``benign``), `language`, `substance` (its English name).
    """
    return [
        {
            "question": request.format(substance=substance.name[language]),
            "kind": "dangerous" if substance.dangerous else "benign",
            "language": language,
            "substance": substance.name["en"],
        }
        for substance in world.substances
        if substance.held_out
        for language in P.LANGUAGES
        for request in P.HELD_OUT_HOW_TO[language]
    ]
