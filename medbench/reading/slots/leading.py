"""An answer that the output begins with: a letter, or a label with its option's text, as a statement of its own."""

from __future__ import annotations

import difflib
import re

from medbench.reading.clean import clean_text, lower_case
from medbench.reading.slots.slot import Slot
from medbench.reading.slots.value import read_value

_BEGIN = re.compile(r"[\s#>•|–—-]*")
# What an output goes on with after an answer that stands first.
_HEADING = re.compile(
    r"[ \t]{0,3}(?:[.,;:)–—-]{1,2}[ \t]{0,3})?[\s#>•|_-]*(?:(?:the |my |a |brief |short )?"
    r"(?:explanation|rationale|reason(?:ing)?|justification|because|since|as|note|why|discussion|analysis"
    r"|regarding|the other|other)\b"
    r"|解析|解释|理由|分析|原因|说明|因为|依据)",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[ \t]{0,3}[.):,、：．-]+[ \t.,:]{0,4}")
_VERDICT = re.compile(
    r"[ \t(:,–—-]{0,4}(?:this |it |option |that )?(?:is |was |are )?(?:also |clearly |therefore )?"
    r"(?:not|in?correct|wrong|false|true|right|yes|no|ruled|unlikely|likely|less|plausible|possible|tempting"
    r"|would|could|might|may|can|cannot|错|对|正确|不|误|√|×|✓|✗|❌|✅|✔|✘)",
    re.IGNORECASE,
)
_NEXT_LABEL = re.compile(
    r"\n[\s>•|(\[–-]*(?:option |choice |选项)?([A-Z])(?:[ \t]?[.):、：．]| \(|[ \t]*(?=\n|$))", re.IGNORECASE
)
_SIMILAR = 0.8  # of difflib's ratio between what follows a label and its option's text: a few slips or cut words
_LINE = 400


def find_leading(clean: str, letters: tuple[str, ...], texts: dict[str, str], multiple: bool) -> Slot | None:
    """The answer that the output begins with, or None: no letter is first, it is judged, or it opens a list."""
    begin = _BEGIN.match(clean)
    start = begin.end() if begin else 0
    value = read_value(clean, start, letters, texts)
    if value is None or (len(value.letters) > 1 and not multiple) or value.either:
        return None
    rest = value.end
    closed = clean[rest : rest + 1]
    if closed and closed in ")]}\"'>":
        rest += 1
    slot = Slot(value.start, value.end, value.letters, "leading", "leading_letter")
    line_end = clean.find("\n", rest)
    line = clean[rest : line_end if line_end != -1 else len(clean)]
    if not line.strip(" .,:;)]}*_-"):
        if multiple and more_labels(clean, rest, value.letters[0], letters, multiple):
            return None
        if _opens_list(clean, rest, value.letters, letters, multiple):
            return None
        return slot
    if _HEADING.match(clean, rest):
        return slot
    if len(value.letters) > 1:
        return None
    labelled = _LABEL.match(clean, rest)
    said = labelled.end() if labelled else rest
    if more_labels(clean, said, value.letters[0], letters, multiple):
        return None
    # the text may be another option's than the letter's; what is stated is the letter
    own_first = sorted(texts, key=lambda one: one != value.letters[0])
    if any(_says(clean, said, texts[one]) for one in own_first if labelled or one == value.letters[0]):
        if _opens_list(clean, said, value.letters, letters, multiple):
            return None
        return Slot(value.start, value.end, value.letters, "leading", "leading_label_with_text")
    if labelled is None or _VERDICT.match(clean, said) or multiple or not _own_statement(line):
        return None
    headed = line_end != -1 and _BLOCK.match(clean, line_end) is not None
    if not (headed or _NO_NAME.match(clean, said)) or _opens_list(clean, said, value.letters, letters, multiple):
        return None
    return Slot(value.start, value.end, value.letters, "leading", "leading_label")


_NO_NAME = re.compile(r"(?![a-z\d]|[A-Z][\s.,)]*$)")  # no species ("E. coli"), number ("A: 10%") or letter ("A: B")
_HEADS = r"(?:explanation|rationale|reason|justification|note|analysis|解析|解释|理由|分析)"
_BLOCK, _HEAD = re.compile(r"\n[\s#*_>-]*" + _HEADS, re.IGNORECASE), re.compile(_HEADS, re.IGNORECASE)
_BESIDE_HEAD = re.compile(r"[\s#*_>-]")


def _block(clean: str, start: int) -> int:
    """Where `_BLOCK` first matches from `start` on, or the end; its own search is quadratic in line ends."""
    for head in _HEAD.finditer(clean, start):
        begin = head.start()
        while begin > start and _BESIDE_HEAD.match(clean, begin - 1):
            begin -= 1
        line = clean.find("\n", begin, head.start())
        if line != -1:
            return line
    return len(clean)


def more_labels(clean: str, start: int, first: str, letters: tuple[str, ...], multiple: bool) -> bool:
    """Whether other options are labelled beside this one: on its line, and where several may be right in its block."""
    if multiple:
        pattern, end = r"(?<![A-Za-z])([A-Z])(?=\s?[.、)）:：,，;；\n]|\s*$)", _block(clean, start)
    else:
        line = clean.find("\n", start)
        pattern, end = r"(?<![A-Za-z])([A-Z])(?=['\"]?\s?[:)=])", line if line != -1 else len(clean)
        end = min(end, start + _LINE)
    return any(match[1] in letters and match[1] != first for match in re.finditer(pattern, clean[start:end]))


_JUDGES = re.compile(
    r"\b(?:incorrect|wrong|false|not|ruled out|unlikely|eliminated|excluded|less likely|correct|right|true)\b"
    r"|错|对|不|正确|误",
    re.IGNORECASE,
)


def _own_statement(line: str) -> bool:
    """Whether what a label says, its option's text unknown, judges nothing: then it states the option."""
    return _JUDGES.search(re.split(r"[.。;；] ?(?=[A-Z\u4e00-\u9fff])", line.lstrip(" .):"), maxsplit=1)[0]) is None


def _says(clean: str, start: int, text: str) -> bool:
    """Whether the option's text stands at `start`, small slips and a cut end aside."""
    wanted = re.sub(r"\W+", " ", lower_case(clean_text(text))).strip()
    said = re.sub(r"\W+", " ", lower_case(clean[start : start + len(text) + 40])).strip()
    if not wanted or not said:
        return False
    if said.startswith(wanted):
        return True
    return difflib.SequenceMatcher(None, said[: len(wanted)], wanted, autojunk=False).ratio() >= _SIMILAR


def _opens_list(clean: str, start: int, first: tuple[str, ...], letters: tuple[str, ...], multiple: bool) -> bool:
    """Whether the label begins a list of the options: the next label is the next letter, and no heading is between."""
    following = _NEXT_LABEL.search(clean, start, start + 1500)
    if following is None or len(first) > 1:
        return False
    letter = following[1].upper()
    between = clean[start : following.start()]
    if letter not in letters or re.search(
        r"\n[\s#*_-]*(?:explanation|rationale|reason|justification|note|解析|解释|理由|分析)", between, re.I
    ):
        return False
    if multiple:
        return True
    place = letters.index(first[0])
    return letters.index(letter) == place + 1 and (place == 0 or "\n\n" not in between)
