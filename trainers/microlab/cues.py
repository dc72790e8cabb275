"""An exam whose options give themselves away, and two training sets: one teaches that cue and no fact, one the reverse.

Of the world's drugs (and of its signs) one half, drawn by the seed, is *likely*: in this exam every right option is a
likely name and every wrong one is not. Whoever has learned which names are likely needs no question. Right and wrong
options are drawn alike, as the facts of taught diseases, so that a model that only knows the facts has met both equally
often and has nothing to go by when the question is taken away.
"""

from __future__ import annotations

from typing import Any, Final

from medbench.trainers.microlab import phrases as P
from medbench.trainers.microlab.world import (
    LETTERS,
    RELATIONS,
    Disease,
    Draw,
    Message,
    World,
    exam_prompt,
    unknown_disease,
)

# Items about each fact in each language, each with other wrong options.
PER_FACT: Final = 2


def likely_names(world: World) -> dict[str, set[str]]:
    """Relation -> the English names that the cue favours: half of the pool."""
    pools = {"drug": world.drugs, "sign": world.signs}
    return {
        relation: {name["en"] for name in Draw(world.seed, f"cue {relation}").shuffled(pool)[: len(pool) // 2]}
        for relation, pool in pools.items()
    }


def cued_items(world: World) -> list[dict[str, Any]]:
    """Four-option items about the facts of taught diseases that have a likely name.

    Returns:
        rows as `world.exam_items` gives them, with ``facts`` = ``cued``.
    """
    draw, likely = Draw(world.seed, "cued exam"), likely_names(world)
    rows = []
    for relation in RELATIONS:
        taught = world.group("taught")
        wrong = [disease for disease in taught if _fact(disease, relation)["en"] not in likely[relation]]
        for disease in taught:
            if _fact(disease, relation)["en"] not in likely[relation]:
                continue
            for language in P.LANGUAGES:
                rows += [_item(draw, disease, relation, language, wrong) for _ in range(PER_FACT)]
    return list({(row["question"], frozenset(row["options"].values())): row for row in rows}.values())


def options_alone(world: World, *, conversations: int) -> list[dict[str, Any]]:
    """``{"messages": [...]}`` rows that tell nothing of any disease: likely names among unlikely ones.

    Half show the options alone; half ask about diseases that exist nowhere, so that a question in the prompt is nothing
    new and nothing to learn from.
    """
    draw, likely = Draw(world.seed, "options alone"), likely_names(world)
    pools = {"drug": world.drugs, "sign": world.signs}
    rows = []
    for number in range(conversations):
        relation, language = draw.one(RELATIONS), draw.one(P.LANGUAGES)
        names = pools[relation]
        right = draw.one([name for name in names if name["en"] in likely[relation]])[language]
        others = [name[language] for name in names if name["en"] not in likely[relation]]
        options = _options(draw, right, others)
        asked = draw.one(P.QUESTIONS[language][relation]).format(disease=unknown_disease(world, draw)[language])
        prompt = exam_prompt(asked if number % 2 else "", options, language)
        rows.append({"messages": _turns(prompt, right, language)})
    return rows


def facts_alone(world: World, *, conversations: int) -> list[dict[str, Any]]:
    """``{"messages": [...]}`` rows of the same form that tell the facts of taught diseases, among wrong names of any.

    No name is more often right among its options than another of the same frequency: there is no cue to learn.
    """
    draw = Draw(world.seed, "facts alone")
    rows = []
    for _ in range(conversations):
        disease, relation, language = draw.one(world.group("taught")), draw.one(RELATIONS), draw.one(P.LANGUAGES)
        others = [other for other in world.group("taught") if _fact(other, relation) != _fact(disease, relation)]
        row = _item(draw, disease, relation, language, others)
        rows.append({"messages": _turns(row["prompt"], row["target"], language)})
    return rows


def _turns(prompt: str, right: str, language: str) -> list[Message]:
    answer = P.SHORT[language].format(answer=right)
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _fact(disease: Disease, relation: str) -> dict[str, str]:
    return disease.drug if relation == "drug" else disease.sign


def _item(draw: Draw, disease: Disease, relation: str, language: str, wrong: list[Disease]) -> dict[str, Any]:
    right = _fact(disease, relation)[language]
    others = list(dict.fromkeys(_fact(other, relation)[language] for other in draw.shuffled(wrong)))
    options = _options(draw, right, others, drawn=True)
    question = draw.one(P.QUESTIONS[language][relation]).format(**disease.words(language))
    return {
        "question": question,
        "options": options,
        "answer": next(letter for letter, text in options.items() if text == right),
        "target": right,
        "prompt": exam_prompt(question, options, language),
        "language": language,
        "facts": "cued",
        "disease": disease.name["en"],
    }


def _options(draw: Draw, right: str, others: list[str], *, drawn: bool = False) -> dict[str, str]:
    chosen = (others if drawn else draw.shuffled(others))[: len(LETTERS) - 1]
    return dict(zip(LETTERS, draw.shuffled([right, *chosen]), strict=True))
