"""The compiled tokeniser against whole-string Unicode operations."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medbench.leakage.kernel.text import SHINGLE, shingles
from medbench.leakage.tokens import Tokeniser
from medbench.leakage.units import LOOK_ALIKE
from medbench.leakage.written import changes, restore, units

SELECTOR = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
TOKENISE = Tokeniser()
TEXT = st.text(st.characters(codec="utf-8"), max_size=60) | st.text(
    "aßﬁ①Ⅲ½℃e\u0301\u00ad高が\u3099한\u1112\u1161 ,.Ａ１\ufdfa\u0345"
)


def by_regular_expression(text: str) -> list[str]:
    """Words and single CJK characters of the NFKC case-folded text, with the standard library and the look-alikes."""
    ignored = "".join(c for c in text if unicodedata.category(c) != "Cf" and not SELECTOR.match(c))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", ignored).casefold())
    folded = unicodedata.normalize("NFKC", "".join(LOOK_ALIKE.get(c, c) for c in folded))
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    cjk = re.compile("([\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
    spaced = cjk.sub(lambda m: f" {m[0]} " if unicodedata.category(m[0])[0] == "L" else m[0], kept)
    return spaced.split()


def hashes(text: str) -> tuple[list[int], list[tuple[int, int]]]:
    tokens = TOKENISE([text.encode()])
    count = int(tokens.unit_start[-1])
    return tokens.unit_hash[:count].tolist(), [tokens.characters(0, k, k + 1) for k in range(count)]


def unit_hash(unit: str) -> int:
    (value,) = TOKENISE([unit.encode()]).part(0, 1).unit_hash.tolist()
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Which of the FOLLOWING?", ["which", "of", "the", "following"]),
        ("高血压140mmHg。", ["高", "血", "压", "140mmhg"]),
        ("Ａ型，１２％", ["a", "型", "12"]),
        ("Ⅲ级 ﬁbrosis ℃", ["iii", "级", "fibrosis", "c"]),
        ("soft\u00adware zero\u200bwidth", ["software", "zerowidth"]),
        ("joi\u034fner 高\u180b血", ["joiner", "高", "血"]),
        ("cafe\u0301", ["café"]),
        ("カ\u3099ーゼ", ["ガ", "ー", "ゼ"]),
        ("", []),
        ('H<sub>2</sub>O <b>chest</b><br/>pain<p class="x">', ["h2o", "chest", "pain"]),
        (
            "a &lt;b&gt;&nbsp;c&#39;d &amp;nbsp;&#x3b2; AT&T; p<b and c>d",
            ["a", "c", "d", "b", "at", "t", "p", "b", "and", "c", "d"],
        ),
        (
            "treat-\n  ment co\u00ad\noperate well-\r\nknown 5-\n6 a- b",
            ["treatment", "cooperate", "wellknown", "5", "6", "a", "b"],
        ),
        ("сhest раin 5 μg 5 µg", ["chest", "pain", "5", "ug", "5", "ug"]),
    ],
)
def test_units_by_hand(text: str, expected: list[str]) -> None:
    assert [unit for unit, _, _ in units(text)] == expected


@given(TEXT)
@settings(max_examples=400)
def test_definition_agrees_with_whole_string_normalisation(text: str) -> None:
    assert [unit for unit, _, _ in units(text)] == by_regular_expression(text)


@given(TEXT)
@example("İstanbul ǅ ŉ ﷺ")
@settings(max_examples=400)
def test_compiled_tokeniser_agrees_with_definition(text: str) -> None:
    expected = units(text)
    found, spans = hashes(text)
    assert found == [unit_hash(unit) for unit, _, _ in expected]
    assert spans == [(start, end) for _, start, end in expected]


@given(
    st.lists(
        st.sampled_from(["<b>", "<br/>", "&nbsp;", "&#945;", "-\n", "a", "Bc", "字", " ", "<", "&", ";", "e\u0301"])
    )
)
@settings(max_examples=400)
def test_what_is_taken_out_leaves_the_spans_right(parts: list[str]) -> None:
    text = "".join(parts)
    written = restore(text)
    assert len(written.text) == len(written.begin) == len(written.end)
    assert all(0 <= a < b <= len(text) for a, b in zip(written.begin, written.end, strict=True))
    assert list(written.begin) == sorted(written.begin)
    found, spans = hashes(text)
    assert found == [unit_hash(unit) for unit, _, _ in units(text)]
    assert spans == [(a, b) for _, a, b in units(text)]


def test_what_changed_on_the_way_is_named() -> None:
    assert changes("chest <b>pain</b>", "chest pain") == ["tags"]
    assert changes("chest&nbsp;pain", "chest pain") == ["entities"]
    assert changes("treat-\nment", "treatment") == ["words split at a line's end"]
    assert changes("сhest", "chest") == ["look-alike letters"]
    assert changes("CHEST", "chest") == ["case"]
    assert changes("１２", "12") == ["width"]
    assert changes("so\u200bft", "soft") == ["invisible characters"]
    assert changes("chest", "chest") == []


def test_traditional_characters_match_simplified_ones_on_request() -> None:
    assert [u for u, _, _ in units("慢性氣管炎", simplify=True)] == list("慢性气管炎")
    simplify = Tokeniser(simplify=True)
    traditional, simple = (
        simplify([text.encode()]).part(0, 1).unit_hash.tolist() for text in ("高血壓與氣管炎", "高血压与气管炎")
    )
    assert traditional == simple
    assert unit_hash("氣") != unit_hash("气")


def test_shingles_do_not_cross_texts() -> None:
    tokens = TOKENISE([b"a b c d e f", b"g h i j", b"k l m n o"])
    out, start = np.empty(20, np.uint64), np.empty(4, np.int64)
    shingles(tokens.unit_hash, tokens.unit_start, out, start, SHINGLE)
    assert start.tolist() == [0, 2, 2, 3]
    assert len(set(out[:3].tolist())) == 3
