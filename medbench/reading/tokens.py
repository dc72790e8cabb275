"""A sentence as a string of word categories, one character for each word or mark.

Which word belongs to which category is data (`rules/words.en.yaml`, `rules/words.zh.yaml`); marks are here. Patterns
name categories (`[ANSWER] [BE] {option}`) and are compiled to regular expressions over these characters; nothing else
depends on which character stands for which.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from medbench.reading.rulefile import RuleSet, load

# What a sentence of a kind does with the option in it, in the order in which they are tried.
KINDS = (
    "excludes", "is_answer", "odd_one", "turns_to", "answers", "chooses", "weighs", "supports", "rejects", "judges",
    "label_judges", "concludes", "fits", "lures",
)  # fmt: skip
CODES = {
    "ANSWER": "A", "CHOOSE": "C", "SUPPORT": "V", "OPTION": "O", "RIGHT": "+", "WRONG": "-", "NOT": "N",
    "EXCLUDE": "E", "EXCEPT": "X", "BE": "=", "SO": "T", "IF": "I", "LURE": "P", "WAIT": "W", "BUT": "B",
    "MAYBE": "H", "AND": "&", "OR": "R", "FUNCTION": "f", "ASK": "?", "OTHER": "w",
    # marks, any other word, and the mention of an option
    "COLON": ":", "COMMA": ",", "OPEN": "(", "CLOSE": ")", "STOP": ".", "SLASH": "/", "WORD": "w", "MENTION": "L",
}  # fmt: skip
MARKS = ("ASK", "COLON", "COMMA", "OPEN", "CLOSE", "STOP", "SLASH", "WORD", "MENTION")
_MARK_CODES = {
    **dict.fromkeys("√✓✔✅☑", "+,"), **dict.fromkeys("×✗✘❌╳", "-,"),  # a mark is a verdict whatever follows it
    ".": ".", "!": ".", "。": ".", "！": ".", ";": "/", "；": "/", "\n": ".", "?": "?", "？": "?",
    ",": ",", "，": ",", "•": ",", "·": ",", "-": ",", "–": ",", "—": ",", "|": ",",
    "、": "/", "/": "/", "+": "/", "&": "&", ":": ":", "：": ":", "=": ":", "→": ":", ">": ":", "⇒": ":",
    "(": "(", "（": "(", "[": "(", "【": "(", "<": "(", "{": "(", "《": "(",
    ")": ")", "）": ")", "]": ")", "】": ")", "}": ")", "》": ")",
}  # fmt: skip
WORD_FILES = ("words.en.yaml", "words.zh.yaml", "sentences.yaml")


class Lexicon:
    """Which category each word belongs to, by a set of rules."""

    def __init__(self, rules: RuleSet) -> None:
        words: dict[str, str] = {}
        self._phrases: dict[tuple[str, str], str] = {}  # (all words but the last, the last) -> code
        han: set[str] = set()
        for category in rules.categories:
            code = CODES[category.name]
            for entry in category.words:
                first, _, last = entry.word.rpartition(" ")
                if first:
                    self._phrases[first, last] = code
                else:
                    words.setdefault(entry.word, code)
                    if not entry.word.isascii():
                        han.add(entry.word)
        self._codes = _MARK_CODES | words
        self._seconds = frozenset(last for _, last in self._phrases)
        heads = "".join(sorted({word[0] for word in han}))
        # Characters that begin no word of the lexicon are passed over before its words are tried, longest first.
        self._token = re.compile(
            rf"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?%?|[^\W\da-z_{heads}]|"
            + "".join(f"{re.escape(word)}|" for word in sorted(han, key=lambda word: (-len(word), word)))
            + r"[^\W\da-z_]|[^\w\s]|\n"
        )

    def codes(self, text: str, start: int, end: int) -> list[str]:
        """The codes of the words and marks of `text[start:end]` (in lower case), in order, one an element."""
        found: list[str] = []
        previous = ""
        for word in self._token.findall(text, start, end):
            if word in self._seconds and (previous, word) in self._phrases:
                found[-1] = self._phrases[previous, word]
                word = f"{previous} {word}"  # so that a third word can change it: "none other than"
            else:
                code = self._codes.get(word)
                if word == "had" and found and found[-1] not in ".,B":
                    code = "f"  # "Had she ..., " supposes, "she had ..." does not
                elif code is None and word.endswith("'s"):
                    code = self._codes.get(word[:-2], "w") + "="  # "the answer's B"
                elif code is None:
                    code = "f" if word[-1] == "%" else "w" if word[0].isalnum() else ""
                found.extend(code or "")
            previous = word
        return found


_CLASS = re.compile(r"\[(\^?)([A-Z_|]+)\]")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern over category names as a regular expression over codes; blanks in it mean nothing."""

    def written(match: re.Match[str]) -> str:
        codes = "".join(re.escape(CODES[name]) for name in match[2].split("|"))
        return f"[{match[1]}{codes}]"

    return re.compile(_CLASS.sub(written, pattern).replace(" ", ""))


@cache
def sentence_rules() -> RuleSet:
    """The words and rules for sentences that ship with medbench."""
    folder = files("medbench.reading") / "rules"
    return load(*(str(folder / name) for name in WORD_FILES), kinds=KINDS, extra_categories=MARKS)
