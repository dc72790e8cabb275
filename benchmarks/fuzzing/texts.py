"""Texts that models might have written: real ones changed a little or a lot, and ones made to be awkward.

Everything is drawn from the generator that is passed in, so that an input can be made again from its seed.
"""

from __future__ import annotations

import functools
import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

from fuzzing.growth_texts import PIECES

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
# What a text rarely holds and a reader must stand: zero bytes, marks of order and direction, half characters, ...
ODD = (
    "\x00", "\x1b[31m", "\ufeff", "\ufffe", "\u202e", "\u2066", "\u200b", "\u200d", "\u2028", "\u0085", "\x0c",
    "\x1c", "\ud800", "\udfff",
    "e\u0301", "\u0301" * 30, "İ", "ß", "ﬁ", "ǆ", "Σ", "ς", "Ａ", "Ⅳ", "①", "²", "٣", "१२", "½", "𝐀", "𝟙", "🅰",
    "👨‍👩‍👧‍👦", "🏳️‍🌈", "\U0010ffff", "ก็", "한", "ا",
    "[/model]", "[bold]", "[/]", "{{x}}", "{0}", "%s", "%(x)s", "${x}", "\\x", "\\u", "\\ud83d", "<script>", "&#0;",
    "-->", "]]>",
    "NaN", "Infinity", "-0", "1e999", "9" * 400, "0x1F", "1_000", "٫", "None", "null", "true", "__class__",
    "../../x", "~root", "C:\\",
)  # fmt: skip


@functools.cache
def real_outputs() -> tuple[str, ...]:
    """Outputs of real models where the data lies beside the checkout, and the examples of the reading rules."""
    from medbench.reading.tokens import sentence_rules

    own = [example.text for rule in sentence_rules().rules for example in rule.examples]
    for name in ("choice_phrasings.jsonl", "decision_phrasings.jsonl", "thinking_variants.jsonl"):
        for file in sorted((ROOT / "tests").rglob(name)):
            rows = (json.loads(line) for line in file.read_text("utf-8").splitlines())
            own += [str(row.get("text") or row.get("input") or "") for row in rows]
    own += [
        "<think>\nThe stone is small.\n</think>\n\nAnswer: B",
        "思考：先排除A。\n</think>\n答案：C。因为B项错误。",
        "The clearance is (140 - 60) x 72 / (72 x 1.2) = 66.7 mL/min. Answer: 66.7",
        "I'm sorry, but I can't help with that. Please call a crisis line, e.g. 988.",
        '{"reason": "see above", "answer": "D"}',
        "No, metformin is not contraindicated. \\boxed{\\text{B}}",
    ]
    for name, field in (("outputs/outputs.jsonl", "text"), ("generations/DeepSeek-R1-Distill-Qwen-7B.jsonl", None)):
        file = DATA / name
        if file.is_file():
            for line in file.read_text("utf-8").splitlines():
                row = json.loads(line)
                own.append(str(row[field]) if field else max((str(v) for v in row.values()), key=len))
    return tuple(text for text in own if text)


def text(rng: random.Random, most: int | None = None) -> str:
    """One text: mostly a real one that was changed, sometimes one put together from pieces."""
    most = most or rng.choice((200, 400, 400, 1500))  # characters, before it is changed
    kind = rng.random()
    made = _composed(rng) if kind < 0.25 else rng.choice(real_outputs())[:most]
    for _ in range(min(8, int(rng.expovariate(0.5)) + (kind >= 0.03))):
        made = rng.choice(_CHANGES)(rng, made)
        if len(made) > 3 * most:
            made = made[: 3 * most]
    if rng.random() < 0.0005:
        made = rng.choice(("[", "(", "<", "{", "<think>", "A", "\n", "1", "是")) * 100_000 + made
    return made


def word(rng: random.Random) -> str:
    """A short text, as a name or a cell holds."""
    return rng.choice(
        (
            lambda: rng.choice(ODD),
            lambda: rng.choice(PIECES),
            lambda: "".join(rng.choices("abcAB .1是否/#=,:'\"\\", k=rng.randrange(12))),
            lambda: rng.choice(real_outputs())[:60],
            lambda: "x" * rng.choice((0, 1, 300, 5000)),
        )
    )()


def _composed(rng: random.Random) -> str:
    return "".join(rng.choice(PIECES if rng.random() < 0.9 else ODD) for _ in range(rng.randrange(60)))


def _place(rng: random.Random, made: str) -> tuple[int, int]:
    start = rng.randrange(len(made) + 1)
    return start, min(len(made), start + int(rng.expovariate(0.05)))


def _cut(rng: random.Random, made: str) -> str:
    start, end = _place(rng, made)
    return made[:start] + made[end:]


def _ended(rng: random.Random, made: str) -> str:
    start, _ = _place(rng, made)
    return made[:start] if rng.random() < 0.7 else made[start:]


def _doubled(rng: random.Random, made: str) -> str:
    start, end = _place(rng, made)
    return made[:start] + made[start:end] * rng.choice((2, 3, 20)) + made[end:]


def _inserted(rng: random.Random, made: str) -> str:
    start, _ = _place(rng, made)
    piece = rng.choice(PIECES if rng.random() < 0.75 else ODD)
    return made[:start] + piece * rng.choice((1, 1, 1, 2, 5, 40)) + made[start:]


def _spliced(rng: random.Random, made: str) -> str:
    other = rng.choice(real_outputs())
    return made[: _place(rng, made)[0]] + other[_place(rng, other)[0] :][:2000]


def _flipped(rng: random.Random, made: str) -> str:
    data = bytearray(made.encode("utf-8", "surrogatepass"))
    for _ in range(rng.choice((1, 1, 3, 10))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data.decode("utf-8", rng.choice(("replace", "ignore", "surrogateescape")))


def _swapped(rng: random.Random, made: str) -> str:
    a, b = sorted((_place(rng, made)[0], _place(rng, made)[0]))
    return made[b:] + made[a:b] + made[:a]


def _wrapped(rng: random.Random, made: str) -> str:
    around = rng.choice(
        (
            ("<think>", "</think>"),
            ("", "</think>"),
            ("<think>", ""),
            ("```\n", "\n```"),
            ('"', '"'),
            ("**", "**"),
            ("(", ")"),
        )
    )
    return around[0] + made + around[1]


def _written_otherwise(rng: random.Random, made: str) -> str:
    ways: tuple[Callable[[str], str], ...] = (
        str.upper, str.lower, str.swapcase, str.strip,
        lambda t: unicodedata.normalize("NFKC", t), lambda t: unicodedata.normalize("NFD", t),
        lambda t: t.replace(" ", ""), lambda t: t.replace(" ", "\u3000"), lambda t: t.replace("\n", " "),
        lambda t: t.replace(" ", "\n"), lambda t: t.replace("\n", "\r\n"), lambda t: t.replace("\n", "\\n"),
        lambda t: t[::-1],
        lambda t: t.encode("utf-8", "replace").decode("latin-1"), lambda t: " ".join(t),
    )  # fmt: skip
    return rng.choice(ways)(made)


_CHANGES = (
    _cut, _ended, _doubled, _inserted, _inserted, _inserted, _spliced, _flipped, _swapped, _wrapped,
    _written_otherwise,
)  # fmt: skip
