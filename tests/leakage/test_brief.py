"""Short questions that are a whole text, with up to three units changed; and what is none."""

from __future__ import annotations

import random

import pytest

from medbench.leakage.corpus import Batch
from medbench.leakage.index import Thresholds, build
from medbench.leakage.scan import Scanner
from medbench.sources.items import Item


def scan(items: list[Item], *texts: str) -> list[dict]:
    batch = Batch("corpus.jsonl")
    for number, text in enumerate(texts):
        batch.add(number, {"text": text})
    return Scanner(build([("items", items)], Thresholds())).scan(batch)[0]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_short_question_with_three_units_replaced_is_missed(language: str) -> None:
    """At the worst places too: of ten units every third one, so that no three in a row are left."""
    rng = random.Random(3)
    words = [chr(0x4E00 + k) for k in range(2000)] if language == "zh" else [f"w{k}x" for k in range(2000)]
    join = "".join if language == "zh" else " ".join
    originals = [[rng.choice(words) for _ in range(10 + k % 15)] for k in range(90)]
    texts = []
    for k, original in enumerate(originals):
        places = range(2, 9, 3) if k % 2 else rng.sample(range(len(original)), 3)
        texts.append(join([rng.choice(words) if n in places else word for n, word in enumerate(original)]))
    items = [Item(question=join(original), language=language) for original in originals]
    rows = scan(items, *texts)
    assert {(row["record"], row["item_id"]) for row in rows} == {(k, one.id) for k, one in enumerate(items)}
    whole = [row for row in rows if row.get("whole_text")]
    assert len(whole) > 20
    assert {row["severity"] for row in whole} <= {"likely", "look at it"}
    assert all(row["edits"] for row in whole)


def test_a_short_question_is_looked_for_as_a_whole_text_only() -> None:
    question = Item(question="调查食品安全事故的原则是什么", language="zh")
    changed = "调查药品安全故事的原则是什么"
    assert [row["signal"] for row in scan([question], changed)] == ["edited"]
    assert scan([question], f"他昨天在会上说，{changed}，大家都没有回答，后来又谈了很多别的事情，直到晚上才散会") == []


def test_a_stem_that_many_items_share_is_no_copy_of_another_one() -> None:
    subjects = ["肺炎", "肝炎", "胃炎", "肾炎", "脑炎", "肠炎", "鼻炎", "喉炎", "皮炎", "痛风", "贫血", "哮喘"]
    items = [Item(question=f"{name}的主要临床表现是什么", language="zh") for name in subjects]
    assert scan(items, "骨折的主要临床表现是什么") == []


def test_a_short_question_with_another_word_is_to_be_looked_at() -> None:
    """It may be another question in the same words; a misspelt one is not."""
    item = Item(
        question="What is the first choice of treatment for an adult with a headache after work?", language="en"
    )
    other = scan([item], "What is the first choice of treatment for adults with a cough after work?")
    misspelt = scan([item], "What is the frist choice of treatmnt for adults with a haedache after work?")
    assert [(row["signal"], row["severity"]) for row in other] == [("edited", "look at it")]
    assert [(row["signal"], row["severity"]) for row in misspelt] == [("edited", "likely")]
