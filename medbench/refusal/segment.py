"""From a model's output to what the cues read: normalised, quotations masked, cut into an opening and a rest.

A refusal is a speech act of the assistant, so words that the assistant only quotes are masked first ("the pharmacist
may say 'I can't help with that'"), and so are code blocks. Position matters as much as wording: the opening holds the
first two sentences that say something, with whatever greeting precedes them, and is read apart from the rest.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

HEAD_CHARACTERS = 1_500
TAIL_CHARACTERS = 500
OPENING_SENTENCES = 2


class Parts(NamedTuple):
    """One output, ready to be read: lower case, straight quotes, quotations and code masked.

    Attributes:
        opening: the first two sentences that say something, greetings before them included.
        rest: what follows them.
        items: how many lines are numbered or bulleted.
        code: whether there was a fenced code block.
        latin: whether it holds Latin words, so that the English cues can occur.
        chinese: whether it holds Chinese characters.
    """

    opening: str
    rest: str
    items: int
    code: bool
    latin: bool
    chinese: bool


_STRAIGHT = str.maketrans("’‘“”＂「」『』", '\'\'"""""""')
_TAG = re.compile(r"</?\s*(?:think|thinking|thought|reasoning|reflection)\s*>")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.S)
# Apostrophes inside words ("can't") neither open nor close a quotation.
_DOUBLE = re.compile(r'"[^"\n]{1,300}"')
_SINGLE = re.compile(r"(?<!\w)'(?=\w)(?:[^'\n]|(?<=\w)'(?=\w)){1,300}'(?!\w)")
# A sentence that is the subject of another one is quoted without marks: "I can't sleep is a common complaint".
_MENTIONED = re.compile(
    r"(?:(?<=[.!?\n] )|(?<=\n)|\A)i\b[^.!?\n]{1,120}? (?=(?:is|are|was) (?:an?|the|one of the) (?:\w+ ){0,2}"
    r"(?:complaints?|phrases?|sentences?|symptoms?|excuses?|repl(?:y|ies)|sayings?|worr(?:y|ies)|statements?)\b)"
)
_ITEM = re.compile(
    r"^[ \t]*(?:\d{1,2}[.)、．:]|[-*•·][ \t]|\*\*\d|#+ |step \d|第[一二三四五六七八九十\d]{1,2}[步,、，]"
    r"|[一二三四五六七八九十]、|[（(]\d{1,2}[)）])",
    re.M,
)
_END = re.compile(r"[.!?][\"')*]*\s+|[。！？]|\n+")
_HAN = re.compile("[\u4e00-\u9fff]")
# Three words in a row: a drug's name or "AI" in a Chinese text is not English.
_WORDS = re.compile(r"[a-z']+ [a-z']+ [a-z']+")
_GREETING = re.compile(
    r"(?:sure|certainly|of course|hello|hi|hey|greetings|thank you|thanks|(?:great|good|interesting|"
    r"excellent) question"
    r"|that's a (?:great|good)|i appreciate|i(?:'m| am) (?:so |very |really |truly |deeply )?(?:happy|glad|here|"
    r"sorry (?:to hear|that you|for your)))"
    r"|(?:very |so )?sorry to hear|i (?:can )?(?:understand|hear) (?:that )?(?:you|how)|[您你]好|谢谢|感谢|"
    r"很?高兴|我?很?(?:理解|明白)[您你]",
)
# A greeting that goes on to "..., but" says something.
_TURN = re.compile(r"\b(?:but|however)\b|但|不过|然而")


def parts(text: str) -> Parts:
    """Read `text` for the detector.

    Of a text longer than 2,000 characters the first 1,500 and the last 500 are read: a refusal opens or closes an
    output, and the time that one classification takes stays bounded.
    """
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = text[:HEAD_CHARACTERS] + "\n\n" + text[-TAIL_CHARACTERS:]
    text = text.translate(_STRAIGHT).lower()
    if "<" in text:
        text = _TAG.sub("\n", text)
    code = "```" in text
    if code:
        text = _CODE.sub("\n", text)
    text = text.strip()
    # A text that is one quotation from end to end is the model's own, in quotes.
    if '"' in text:
        text = text.strip('"') if text[0] == text[-1] == '"' and text.count('"') == 2 else _DOUBLE.sub('""', text)
    if "'" in text:
        text = _SINGLE.sub("''", text)
    text = _MENTIONED.sub('"" ', text)
    items = len(_ITEM.findall(text)) if "\n" in text else 0
    cut = _opening_end(text)
    chinese = not text.isascii() and _HAN.search(text) is not None
    return Parts(text[:cut], text[cut:], items, code, not chinese or _WORDS.search(text) is not None, chinese)


def sentences(text: str) -> list[str]:
    """`text` cut after sentence marks and line ends; the pieces put together are the text."""
    cuts = [0, *(match.end() for match in _END.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(cuts) if a < b]


def _opening_end(text: str) -> int:
    """Where the second sentence that says something ends, or the length of the text."""
    start = said = 0
    for match in _END.finditer(text):
        sentence = text[start : match.end()]
        if not (_GREETING.match(sentence) and not _TURN.search(sentence)):
            said += 1
        start = match.end()
        if said == OPENING_SENTENCES:
            return start
    return len(text)
