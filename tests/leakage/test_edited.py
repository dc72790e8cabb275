"""Edited copies: the alignment against a plain one, the bound under which none is missed, what findings say."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medbench.leakage.corpus import Batch
from medbench.leakage.index import Thresholds, build
from medbench.leakage.kernel import edits
from medbench.leakage.scan import Scanner
from medbench.sources.items import Item

STEM = (
    "A 45-year-old man has crushing chest pain radiating to the left arm for two hours. "
    "His blood pressure is 150/90 mmHg and his pulse is 110 per minute. "
    "An electrocardiogram shows elevated segments in the inferior leads. "
    "Which of the following is the most appropriate next step in management?"
)
OPTIONS = ("Aspirin and urgent coronary angiography", "Reassurance and discharge", "Chest radiograph", "Antacids")
FILLER = "The clinic opens at nine and the staff are friendly. Parking is available behind the building. "


def item(text: str, **rest: Any) -> Item:
    return Item(question=text, language="en", **rest)


def scan(items: list[Item], *texts: str, **thresholds: Any) -> list[dict[str, Any]]:
    batch = Batch("corpus.jsonl")
    for number, text in enumerate(texts):
        batch.add(number, {"text": text})
    return Scanner(build([("items", items)], Thresholds(**thresholds))).scan(batch)[0]


def edited(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["signal"] == "edited"]


def plain_fit(query: list[int], weight: list[float], region: list[int], inserted: float) -> float:
    """The same maximum by recursion over every pair that may be the first, written apart from the kernel."""
    best = 0.0
    after: dict[tuple[int, int], float] = {}  # the best of what follows a pair, itself included
    for i in range(len(query) - 1, -1, -1):
        for j in range(len(region) - 1, -1, -1):
            if query[i] == region[j]:
                follow = [value - inserted * (q - j - 1) for (p, q), value in after.items() if p > i and q > j]
                after[i, j] = weight[i] + max([0.0, *follow])
                best = max(best, after[i, j])
    return best


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.2, 0.5, 1.0])), min_size=1, max_size=9),
    st.lists(st.integers(0, 4), min_size=1, max_size=14),
)
@settings(max_examples=300)
def test_fit_is_the_best_there_is(query: list[tuple[int, float]], region: list[int]) -> None:
    units, weight = [unit for unit, _ in query], [value for _, value in query]
    pairs, total = edits.fit(np.array(units, np.uint64), np.array(weight), np.array(region, np.uint64), 0.1)
    assert total == pytest.approx(plain_fit(units, weight, region, 0.1))
    assert all(units[i] == region[j] for i, j in pairs.tolist())
    gaps = sum(int(b - a - 1) for a, b in zip(pairs[:-1, 1], pairs[1:, 1], strict=True))
    assert total == pytest.approx(sum(weight[i] for i, _ in pairs.tolist()) - 0.1 * gaps)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_copy_with_one_edit_in_ten_units_is_missed(language: str) -> None:
    """Replaced, dropped and inserted units at any place of fields of 15 to 90 units, inside unrelated text."""
    rng = random.Random(7)
    words = [chr(0x4E00 + k) for k in range(3000)] if language == "zh" else [f"w{k}x" for k in range(3000)]
    join = "".join if language == "zh" else " ".join
    originals = [[rng.choice(words) for _ in range(rng.randint(15, 90))] for _ in range(60)]
    items = [Item(question=join(words), language=language) for words in originals]
    texts = []
    for original in originals:
        copy = list(original)
        for _ in range(max(1, len(original) // 10)):
            place = rng.randrange(len(copy))
            rng.choice([
                lambda copy=copy, place=place: copy.__setitem__(place, rng.choice(words)),
                lambda copy=copy, place=place: copy.pop(place),
                lambda copy=copy, place=place: copy.insert(place, rng.choice(words)),
            ])()  # fmt: skip
        around = [[rng.choice(words) for _ in range(200)] for _ in range(2)]
        texts.append(join([*around[0], *copy, *around[1]]))
    rows = scan(items, *texts)
    assert {(row["record"], row["item_id"]) for row in rows} == {(k, one.id) for k, one in enumerate(items)}


def test_what_was_changed_is_listed_and_spans_point_into_the_original() -> None:
    text = FILLER + STEM.replace("chest", "chset").replace("left", "right").replace("crushing ", "") + FILLER
    (row,) = edited(scan([item(STEM)], text, containment=1.0))
    assert {(e["kind"], e["item"], e["corpus"]) for e in row["edits"]} == {
        ("spelling", "chest", "chset"),
        ("word", "left", "right"),
        ("dropped", "crushing", ""),
    }
    begin, end = row["corpus_span"]
    assert text[begin:end] == row["corpus_text"]
    assert row["corpus_text"].startswith("A 45-year-old")
    assert row["corpus_text"].endswith("management")
    assert not row["other_numbers"]


def test_other_numbers_are_a_flag_of_their_own() -> None:
    text = STEM.replace("45", "61").replace("150/90", "142/84").replace("110", "98")
    (row,) = edited(scan([item(STEM)], FILLER + text, containment=1.0))
    assert row["other_numbers"]
    assert {edit["kind"] for edit in row["edits"]} == {"number"}


def test_sentences_in_another_order_and_left_out() -> None:
    a, b, c, d = (part + "." for part in STEM.rstrip("?").split(". "))
    (row,) = edited(scan([item(STEM)], FILLER + " ".join([c, a, d, b]), containment=1.0))
    assert row["score"] > 0.95
    assert {edit["kind"] for edit in row["edits"]} == {"sentence moved"}
    (row,) = edited(scan([item(STEM)], FILLER + " ".join([a, c, d])))
    assert [edit["item"][:18] for edit in row["edits"] if edit["kind"] == "dropped"] == ["his blood pressure"]


def test_question_and_options_are_weighed_apart() -> None:
    text = STEM.replace("crushing", "severe").replace("radiating", "going")
    listed = f"{FILLER}{text}\n" + "\n".join(OPTIONS)
    (row,) = edited(scan([item(STEM, options=OPTIONS, answer=("A",))], listed, containment=1.0))
    assert row["options_beside"] == 1.0
    (row,) = edited(scan([item(STEM, options=OPTIONS, answer=("A",))], FILLER + text, containment=1.0))
    assert row["options_beside"] == 0.0


def test_a_short_question_counts_with_its_options_only() -> None:
    short = item("属于大环内酯类的抗生素是", options=("阿奇霉素", "庆大霉素", "头孢他啶", "左氧氟沙星"), answer=("A",))
    stem = "属于大环内脂类的抗生素是"  # one character changed
    assert scan([short], f"天气很好。{stem}什么样的药呢") == []
    rows = scan([short], f"天气很好。{stem} A.阿奇霉素 B.庆大霉素 C.头孢他啶 D.左氧氟沙星")
    assert ("question+options", "edited") in {(row["field"], row["signal"]) for row in rows}


def test_a_fact_that_is_stated_is_no_leak_of_the_question_on_it() -> None:
    short = item("糖尿病最常见的并发症是", options=("心血管病变", "视网膜病变", "神经病变"), answer=("A",))
    # a statement of the fact holds the whole stem, and may be no leak; a part of it in other words is none
    stated = scan([short], "我们知道，糖尿病最常见的并发症是心血管病变，要注意。")
    assert {(row["signal"], row["severity"]) for row in stated if row["field"] == "question"} == {
        ("containment", "look at it")
    }
    assert scan([short], "我们知道，糖尿病最常见的并发是心血管病变，要注意。") == []
    assert scan([short], "第三题\n糖尿病最常见的并发症是（ ）\n") != []
    assert scan([short], "糖尿病最常见的并发症是心血管病变、视网膜病变还是别的") != []


def test_option_lists_that_items_share_are_no_leak_by_themselves() -> None:
    options = ("单纯随机抽样方法", "分层随机抽样方法", "整群随机抽样方法", "系统随机抽样方法")
    one = item("某研究者按年级抽取全校学生作为样本，这里用的是哪一种抽样", options=options, answer=("B",))
    other = item("从工厂的花名册里每隔二十人抽一人来做体检的做法，属于什么抽样", options=options[::-1], answer=("A",))
    text = "常用的方法有：" + "、".join(options) + "。"
    assert {row["signal"] for row in scan([one], text)} == {"option_set"}
    assert scan([one, other], text) == []


def test_stems_that_many_items_share_weigh_little() -> None:
    subjects = ["肺炎", "肝炎", "胃炎", "肾炎", "关节炎", "心肌炎", "脑炎", "肠炎", "鼻炎", "喉炎", "皮炎", "角膜炎"]
    items = [item(f"下列关于{name}的临床表现及其治疗原则的叙述，哪一项是不正确的") for name in subjects]
    assert scan(items, "下列关于骨折的临床表现及其治疗原则的叙述，哪一项是不正确的") == []
    found = scan(items, "下列关于肺炎的临床表现及其治疗原则的叙述，哪一项是错误的")
    assert {row["item_id"] for row in found} <= {items[0].id}


def test_findings_have_a_severity_and_edited_can_be_left_out() -> None:
    text = FILLER + STEM.replace("chest", "chset").replace("left", "right")
    rows = scan([item(STEM)], text, containment=1.0)
    assert {row["severity"] for row in rows} == {"certain"}
    assert edited(scan([item(STEM)], text, containment=1.0, edited=0)) == []
