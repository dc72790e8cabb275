"""Where an output mentions an option: as a letter, as letters joined by any separator, or as the option's text.

What the sentence around a mention does with it is the matter of `medbench.reading.sentences`.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from medbench.reading.clean import clean_text, lower_case


@dataclass(frozen=True)
class Mention:
    """A place where one option, several joined ones, or "none" and the like stand."""

    start: int
    end: int
    letters: tuple[str, ...]
    kind: str  # letter, lower, run, text, none, unknown, outside
    label: bool = False  # "B." or "(B)" at the start of a line that goes on


# Words that can follow an option as the subject of a sentence; after "A" any other word makes it an article.
_FOLLOWS = frozenset(
    re.findall(
        r"[\w']+",
        """is was are isn't wasn't aren't has can cannot can't would wouldn't will won't should could may might must
        does doesn't seems appears looks fits describes represents matches makes explains contradicts states says
        suggests refers and or but because since as due nor over instead rather not alone only both so then correct
        incorrect wrong right true false here given based though although while whereas which being best""",
    )
)
# What turns a letter into part of a name: cells and viruses, species, blood and drug classes.
_COMPOUND = re.compile(
    r"""
      [ -](?:cells?|lymphocytes?|virus|viral|waves?|lines?|strep\w*|antigens?|symptoms|influenza|fib|diff|receptors?
        |fibers?|fibres?|proteins?|vitamins?|complex|blood|negative|positive)\b
    | \.?[ ]?(?:coli|difficile|diff|albicans|cereus|burgdorferi|fragilis|anthracis|pertussis|tetani|perfringens
        |botulinum|jejuni|trachomatis|pneumoniae|psittaci|neoformans|fumigatus|baumannii|faecalis|faecium|diphtheriae|henselae
        |abortus|melitensis|dermatitidis|lumbricoides|histolytica|duodenale|burnetii|granulosus)\b
    | [型族超细胞类组期级肝群链淋]
    """,
    re.VERBOSE,
)
# Words that a letter after them belongs to ("vitamin A", "Dr. B", "维生素C"). Looked up, since a pattern that ends at a
# place must be tried from every place before it.
_NAMED_BY = frozenset(
    re.findall(
        r"[\w-]+",
        """vitamin vitamins hepatitis type types group groups patient patients figure figures fig table tables class
        grade grades stage stages phase phases study panel panels part section sections appendix schedule category
        factor protein proteins hemoglobin haemoglobin influenza strain plan case child-pugh immunoglobulin subtype
        serotype cohort arm zone region drug compound coenzyme lipid cyclosporin cyclosporine amphotericin polymyxin
        complement kell rh immunity doctor dr mr mrs ms prof hospital point step box column row""",
    )
)
_NAMED_BY_HAN = (
    *("维生素", "维他命", "肝炎", "患者", "病人", "图", "表", "类型", "因子", "蛋白", "辅酶", "血型"),
    *("组", "型", "期", "级", "点", "方案", "附录", "通路", "两性霉素"),
)
_NO_WORD = re.compile(r"[^a-z-]")
NONE = re.compile(
    r"""
      \b(?:none\ of\ (?:the|these|those)(?:\ (?:above|options?|choices?|answers?|given|following|provided|listed))+
        |none(?!\ (?:other|but)\b)
        |no\ correct\ (?:answer|option)|n/a)\b
    | 以上(?:都|均|皆)?(?:不对|不是|非|不正确|错误|错)
    | (?<!其他)(?<!其余)(?<![A-Za-z项])(?:都|均)不(?:对|正确|是) | (?:没有|无)正确(?:答案|选项)
    """,
    re.VERBOSE,
)
_ALL = re.compile(
    r"""
      \ball\ (?:of\ )?(?:the|these)\ (?:above|options?|choices?|answers?|following)\b
    | \ball\ (?:four|five|options|choices)\b
    | 以上(?:都|均|皆|全)都?(?:是|对|正确) | 全选 | 全部选 | 全部都?(?:正确|对)
    """,
    re.VERBOSE,
)
UNKNOWN = re.compile(
    r"""
      \b(?:unknown|undetermined|unclear|uncertain|not\ (?:be\ )?determin\w+|(?:cannot|can't|can\ not)\ be\ determined
        |i\ don't\ know|insufficient\ information|not\ enough\ information)\b
    | 不知道 | 不清楚 | 无法(?:确定|判断|回答) | 不(?:能|好)确定 | 难以(?:确定|判断)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_WORDINGS = {  # with what must occur for the pattern to match, which is quicker to rule out
    "none": (("none", "no correct", "n/a", "不", "以上", "正确"), NONE),
    "all": (("all ", "全", "以上", "都", "均"), _ALL),
    "unknown": (("unknown", "determin", "unclear", "uncertain", "know", "information", "不", "无法", "难以"), UNKNOWN),
}
_STEMS = "甲乙丙丁戊"
_ORDINAL = re.compile(
    r"""
      (?<!my\ )\b(first|second|third|fourth|fifth|last)\ (?:option|choice|answer|one)\b(?!\s*:)
    | \b(?:option|choice)\ ([1-5])\b
    | 第([一二三四五1-5])个?(?:选项|项|个)
    """,
    re.VERBOSE,
)
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "last": -1} | dict(
    zip("一二三四五12345", list(range(5)) * 2, strict=True)
)


@lru_cache(maxsize=64)
def _letter_pattern(letters: tuple[str, ...]) -> re.Pattern[str]:
    """Runs of the letters in upper case, one of them in lower case, or one other capital (outside the options)."""
    own = "".join(map(re.escape, letters))
    return re.compile(
        rf"(?<![A-Za-z0-9])(?:[{own}]{{1,{len(letters)}}}|[{own.lower()}]{{1,{len(letters)}}}|[A-Z])(?![A-Za-z0-9])"
    )


def option_mentions(clean: str, letters: tuple[str, ...], texts: dict[str, str]) -> list[Mention]:
    """All mentions in order; a longer one swallows those inside it."""
    found = _text_mentions(clean, texts)
    lower = lower_case(clean)
    for kind, (hints, pattern) in _WORDINGS.items():
        if any(hint in lower for hint in hints):
            found += [Mention(m.start(), m.end(), (), kind) for m in pattern.finditer(lower)]
    if any(hint in lower for hint in ("option", "choice", "answer", " one", "第")):
        for match in _ORDINAL.finditer(lower):
            place = _ORDINALS[next(filter(None, match.groups()))]
            if place < len(letters) and not texts.get(letters[place], "x").isdigit():
                found.append(Mention(match.start(), match.end(), (letters[place],), "letter"))
    found += _letter_mentions(clean, letters)
    found.sort(key=lambda mention: (mention.start, -mention.end))
    kept: list[Mention] = []
    for mention in found:
        if not kept or (mention.start >= kept[-1].end and not _is_text_of(clean, kept[-1], mention, texts)):
            kept.append(mention)
    special = {kind: _special_option(kind, texts) for kind in ("none", "all")}
    return likeliest(clean, [_resolve(mention, letters, special) for mention in kept])


_WEIGHT = re.compile(
    r"[ \t]{0,3}(?:[:=(≈~-][ \t]{0,2}){0,2}(?:about |around |约)?"
    r"(?:(\d{1,3}(?:\.\d+)?)[ ]?%|([01]?\.\d+|[01](?=[ \n,})])))(?![\w%])\)?"
)
_WEIGHT_ENDS = re.compile(rf"{_WEIGHT.pattern}\s*(?:[,;/|]|and\b|or\b|$)", re.MULTILINE)  # not "a 5% solution"
_BETWEEN_WEIGHTS = 40  # characters from one weight to the next option


def likeliest(clean: str, mentions: list[Mention]) -> list[Mention]:
    """Options listed with probabilities ("C (90%), D (10%)") as one mention of the likeliest, or of those that tie."""
    weighed: list[tuple[Mention, int, float]] = []  # mention, end of its weight, weight
    for mention, after in itertools.zip_longest(mentions, mentions[1:]):
        weight = _WEIGHT.match(clean, mention.end) if len(mention.letters) == 1 else None
        if weight and not (
            after and after.start < weight.end() and after.letters == mention.letters
        ):  # "A: 5%" as text
            weighed.append((mention, weight.end(), float(weight[1]) / 100 if weight[1] else float(weight[2])))
    lists: list[list[tuple[Mention, int, float]]] = []
    for entry in weighed:
        if lists and entry[0].start - lists[-1][-1][1] <= _BETWEEN_WEIGHTS:
            lists[-1].append(entry)
        else:
            lists.append([entry])
    found: list[Mention] = []
    for entries in lists:
        weights = [weight for *_, weight in entries]
        distinct = {mention.letters for mention, *_ in entries}
        if len(entries) == len(distinct) > 1 and sum(weights) <= 1.05:  # more than 1 is no distribution
            likely = [mention for mention, _, weight in entries if weight == max(weights)]
            best = sorted(mention.letters[0] for mention in likely)
            kind = "run" if len(best) > 1 else "letter" if entries[0][0].kind == "outside" else entries[0][0].kind
            if any(mention.kind == "outside" for mention in likely):
                kind = "outside"
            found.append(Mention(entries[0][0].start, entries[-1][1], tuple(best), kind))
    starts = [mention.start for mention in found]
    for mention in mentions:
        at = bisect.bisect_right(starts, mention.start) - 1
        if at < 0 or mention.start >= found[at].end:
            found.append(mention)
    return sorted(found, key=lambda mention: mention.start)


def _is_text_of(clean: str, label: Mention, mention: Mention, texts: dict[str, str]) -> bool:
    """ "A. B" where option A reads "B"."""
    near = label.kind == mention.kind == "letter" and mention.start - label.end <= 3
    return near and texts.get(label.letters[0], "").strip() == clean[mention.start : mention.end]


def _resolve(mention: Mention, letters: tuple[str, ...], special: dict[str, str | None]) -> Mention:
    """ "None" and "all of the above" as the option that says so; else "all" as all letters."""
    option = special.get(mention.kind)
    if option:
        return Mention(mention.start, mention.end, (option,), "letter")
    if mention.kind == "all":
        return Mention(mention.start, mention.end, letters, "run")
    return mention


def _special_option(kind: str, texts: dict[str, str]) -> str | None:
    pattern = NONE if kind == "none" else _ALL
    fitting = [letter for letter, text in texts.items() if pattern.match(lower_case(clean_text(text)).strip())]
    return fitting[0] if len(fitting) == 1 else None


_RANGE = re.compile(r"(?<![A-Za-z0-9])([A-Z])(?: ?[-–—~] ?| ?[至到] ?| (?:to|through) )([A-Z])(?![A-Za-z0-9]|-)")


def _letter_mentions(clean: str, letters: tuple[str, ...]) -> Iterable[Mention]:
    known = set(letters)
    for match in _RANGE.finditer(clean):
        if {match[1], match[2]} <= known:
            between = letters[letters.index(match[1]) : letters.index(match[2]) + 1]
            if len(between) > 2:  # two can be put either way: "A - B is wrong"
                yield Mention(match.start(), match.end(), between, "run")
    for match in _letter_pattern(letters).finditer(clean):
        start, end = match.span()
        word = match.group()
        before, after = clean[max(0, start - 2) : start], clean[end : end + 2]
        if before and before[-1] in "-'" and before[0].isalnum() and len(before) == 2:
            continue
        if after and (after[0] in "-'_" or (after[0] == "." and after[1:2].islower())) and after[1:2].isalnum():
            continue
        single = len(word) == 1
        if single and not stands_for_option(clean, start, end, word):
            continue
        if not single and (len(set(word)) < len(word) or (word.islower() and clean.strip(" .,()") != word)):
            continue  # "should be", "bad": letters run together in lower case are an answer only by themselves
        if (
            word == "a"
            and not clean[end:].strip()
            and clean[:start].strip()
            and not _ANSWER_BEFORE.search(clean, max(0, start - 16), start)
        ):
            continue  # an article on which the output breaks off
        if single and word.islower() and after[:1] == "." and after[1:].strip() and not _at_line_start(clean, start):
            continue  # "such as: a.this; b.that"
        upper = word if set(word) <= known else word.upper()
        if set(upper) <= known:
            kind = "letter" if word == upper and single else "run" if word == upper else "lower"
            label = single and _LABEL_AFTER.match(clean, end) is not None and _at_line_start(clean, start)
            yield Mention(start, end, tuple(sorted(upper, key=letters.index)), kind, label)
        elif single and _ENDS.match(clean, end):
            yield Mention(start, end, (word,), "outside")
    if "A" in known and any(stem in clean for stem in _STEMS):
        for match in re.finditer(rf"[{_STEMS}](?![一-鿿])|[{_STEMS}](?=[对错项是为正不选])", clean):
            place = _STEMS.index(match.group())
            if place < len(letters):
                yield Mention(match.start(), match.end(), (letters[place],), "lower")


_LABEL_AFTER = re.compile(
    r"[ \t]{0,2}(?:\)[.:]?|[.:。-]|、(?![A-Z](?![A-Za-z])))[ \t]{0,4}(?=[^\s.,;:。，])"
    r"|[ \t]{1,4}[-–—:|][ \t]{1,4}(?=\S)"
)
_ENDS = re.compile(r"[ \t]{0,3}(?:[.,;:!?)\]}\n，。；：！？、）】<]|$)")
_ANSWER_BEFORE = re.compile(
    r"(?:answer|option|choice)(?: is)?[:(= ]{0,3}$(?<!choice is )(?<!option is )", re.IGNORECASE
)
_OPTION_BEFORE = re.compile(r"(?:option|choice|letter|answer|answer is)[ (]{0,2}$", re.IGNORECASE)
_NEXT_WORD = re.compile(r" {1,3}([A-Za-z0-9][A-Za-z']*)")


def _at_line_start(clean: str, start: int) -> bool:
    line = clean[max(0, start - 24) : start].rpartition("\n")[2]
    return re.fullmatch(r"[\s>•|([\-–]*(?:(?:option|choice)\s*\(?|选项\s*)?", line, re.IGNORECASE) is not None and (
        start <= 24 or "\n" in clean[max(0, start - 24) : start]
    )


def stands_for_option(clean: str, start: int, end: int, word: str) -> bool:
    """Whether a single letter can be an option here: no article, pronoun, or part of a name."""
    named_option = _OPTION_BEFORE.search(clean, max(0, start - 12), start) is not None
    if _COMPOUND.match(clean, end) and not named_option:
        return False
    following = _NEXT_WORD.match(clean, end)
    if following and not _WEIGHT_ENDS.match(clean, end):
        next_word = following.group(1)
        if len(next_word) == 1 and next_word.isupper() and next_word != "I":
            pass  # "A C D"
        elif word == "a" and next_word.lower() not in _FOLLOWS:
            return False  # "the answer is a cephalosporin"
        elif word in "Aa" and (next_word.lower() not in _FOLLOWS or word == "a"):
            if not named_option:
                return False
        elif word in "Ii" and next_word.lower() not in ("is", "and", "or"):
            return False
        elif word.islower() and next_word.lower() not in _FOLLOWS:
            return named_option
    before = clean[max(0, start - 24) : start].rstrip(" -")
    if before.endswith(_NAMED_BY_HAN):
        return False
    return _NO_WORD.split(before.rstrip(".").lower())[-1] not in _NAMED_BY


def _text_mentions(clean: str, texts: dict[str, str]) -> list[Mention]:
    if not texts:
        return []
    lower = lower_case(clean)
    found = []
    needles: dict[str, list[str]] = {}  # two options can read the same
    for letter, text in texts.items():
        needles.setdefault(clean_text(text).lower().strip(" .。;；,，\n\t"), []).append(letter)
    for needle, of in needles.items():
        if not needle or needle.upper() in texts:  # a text that is another option's letter is read as the letter
            continue
        for match in _needle(needle).finditer(lower):
            at, end = match.span()
            if not (_joins(lower, at - 1, at) or _joins(lower, end - 1, end)):
                stop = _OWN_STOP.match(clean, end)
                found.append(Mention(at, stop.end() if stop else end, tuple(of), "text"))
    return found


_OWN_STOP = re.compile(r"[.。](?= ?[)）]| [a-z(])")  # the full stop of an option that is a sentence, within another


_SPACES = re.compile(r"(?P<unit>(?<=\d)\s*(?=[a-z]))|\s+")


@lru_cache(maxsize=64)
def _needle(text: str) -> re.Pattern[str]:
    """An option's text, however its words are wrapped and its units spaced ("100 mg" is "100mg")."""
    written, at = "", 0
    for space in _SPACES.finditer(text):
        written += re.escape(text[at : space.start()]) + (r"\s{0,2}" if space["unit"] is not None else r"\s+")
        at = space.end()
    return re.compile(written + re.escape(text[at:]))


def _joins(text: str, left: int, right: int) -> bool:
    """Whether two neighbouring characters belong to one word or number."""
    if left < 0 or right >= len(text):
        return False
    pair = text[left] + text[right]
    if pair[0].isdigit() and pair[1] in ".,":
        return text[right + 1 : right + 2].isdigit()
    if pair[1].isdigit() and pair[0] in ".,":
        return left > 0 and text[left - 1].isdigit()
    return pair.isascii() and pair.isalnum()
