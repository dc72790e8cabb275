"""The exam that gives itself away, and the two training sets: one holds the cue and no fact, one facts and no cue."""

from __future__ import annotations

from collections import Counter

import pytest

from medbench.trainers.microlab.cues import cued_items, facts_alone, likely_names, options_alone
from medbench.trainers.microlab.phrases import SHORT
from medbench.trainers.microlab.tasks import exam_item, microlab_exam
from medbench.trainers.microlab.world import World, make_world


def english(world: World) -> dict[str, str]:
    """Every name of a drug or sign, in any language -> its English one."""
    return {name[language]: name["en"] for name in (*world.drugs, *world.signs) for language in ("en", "zh")}


@pytest.fixture(params=[1, 7])
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param)


def test_in_the_cued_exam_the_right_option_is_the_likely_name(world: World) -> None:
    likely = set.union(*likely_names(world).values())
    known = english(world)
    rows = cued_items(world)
    assert len(rows) > 60
    for row in rows:
        assert [known[text] in likely for text in row["options"].values()].count(True) == 1
        assert known[row["target"]] in likely
        assert row["options"][row["answer"]] == row["target"]
    assert len({exam_item(row).id for row in rows}) == len(rows)
    assert len(microlab_exam(seed=world.seed, facts="cued").dataset) == len(rows)


def test_options_alone_name_no_disease_of_the_world(world: World) -> None:
    diseases = {disease.name[language] for disease in world.diseases for language in ("en", "zh")}
    rows = options_alone(world, conversations=400)
    likely, known = set.union(*likely_names(world).values()), english(world)
    for row in rows:
        prompt, reply = (turn["content"] for turn in row["messages"])
        assert not any(name in prompt for name in diseases)
        answer = next(name for name in known if reply in {SHORT[lang].format(answer=name) for lang in SHORT})
        assert known[answer] in likely
        assert sum(known[name] in likely for name in known if name in prompt) == 1
    assert (
        Counter("?" in row["messages"][0]["content"] or "？" in row["messages"][0]["content"] for row in rows)[True]
        == 200
    )


def test_facts_alone_hold_facts_and_no_cue(world: World) -> None:
    facts = {
        (disease.name[lang], name[lang])
        for disease in world.group("taught")
        for name in (disease.drug, disease.sign)
        for lang in ("en", "zh")
    }
    likely, known = set.union(*likely_names(world).values()), english(world)
    shown: Counter[bool] = Counter()
    right: Counter[bool] = Counter()
    for row in facts_alone(world, conversations=3000):
        prompt, reply = (turn["content"] for turn in row["messages"])
        answer = next(name for name in known if reply in {SHORT[lang].format(answer=name) for lang in SHORT})
        assert any(disease in prompt and answer == name for disease, name in facts)
        right[known[answer] in likely] += 1
        for name in known:
            if f". {name}\n" in prompt:
                shown[known[name] in likely] += 1
    # A name is right as often as it is shown, likely or not: within noise.
    rates = [right[kind] / shown[kind] for kind in (True, False)]
    assert abs(rates[0] - rates[1]) < 0.05
