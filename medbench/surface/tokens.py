"""The four ways the two profiles cut a text into tokens, all from one pass over it.

| layer | profile and metric | tokens |
|---|---|---|
| `characters` | llamafactory BLEU | code points, spaces and line ends included, in English too |
| `chinese_words` | llamafactory ROUGE | jieba words as rouge_chinese reads them back from a joined string |
| `bleu_words` | standard BLEU | en, zh: sacreBLEU's `13a` and `zh` tokenizers; other: Unicode words |
| `rouge_words` | standard ROUGE | en: rouge_score's default; zh, other: lowercased words with a letter or digit |

zh: jieba's words; other: Unicode words.

`other` is every language but English and Chinese: `13a` sees one word in a Thai sentence, and rouge_score's tokenizer
drops whatever is not a-z or 0-9. Unicode words are those of UAX #29 over NFC text. Scripts that put no spaces between
words (Thai, Lao, Khmer, Burmese, Han and hiragana in Japanese) fall into user-perceived characters by that rule.
"""

from __future__ import annotations

import functools
import re
import unicodedata

import numpy as np
import regex

from medbench.errors import unknown
from medbench.surface import segment
from medbench.surface.kernels import announced, jit

LANGUAGES = ("en", "zh", "other")

_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]+")
_KANA = re.compile("[\u3041-\u30ff]+")
# Not option letters, nor acronyms, which Chinese texts use too. At most one in a run of letters, looked for from its
# start alone: from every letter of a long run of capitals it would take quadratic time.
_LATIN_WORD = re.compile("(?<![A-Za-z])[A-Za-z]*[a-z]{2,}")
_ANY_LATIN_WORD = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]{2,}")
# Letters neither Latin nor Chinese. Greek ones count from two in a row: "α-blocker" is English.
_OTHER_SCRIPT = re.compile(
    r"[^\W\d_A-Za-z\u00aa\u00b5\u00ba\u00c0-\u024f\u0370-\u03ff\u1e00-\u1eff\u3400-\u9fff\uf900-\ufaff]+"
    "|[\u0370-\u03ff]{2,}"
)
_ENGLISH_WORD = re.compile(r"\b(?:the|of|and|is|are|to|with|for|that|be|or|by|it|you|your)\b", re.I)
# Chosen on sentences: French, Spanish, German and Portuguese have diacritics on 9-20% of their words, Vietnamese on
# most; English on names (Ménière), which seldom come in twos without a word of `_ENGLISH_WORD` near.
_ACCENTED_SHARE, _ENGLISH_SHARE = 0.07, 0.1


def detect_language(*texts: str, default: str = "en") -> str:
    """`zh`, `en` or `other`, from the first text that tells.

    Chinese has at least as many Chinese characters as Latin words: a Chinese answer full of English drug names is
    Chinese by this count, an English one that quotes a Chinese term is English. `other` has more words of other
    scripts than of these two (kana make Chinese characters Japanese), or Latin words many of which carry diacritics.
    Texts without any of these (figures, option letters, empty) leave it to the next text, and at last to `default`.
    """
    for text in texts:
        if text.isascii():
            if _LATIN_WORD.search(text):
                return "en"
            continue
        language = _detect(text)
        if language:
            return language
    return default


def _detect(text: str) -> str | None:
    han = sum(map(len, _HAN.findall(text)))
    latin = len(_LATIN_WORD.findall(text))
    other = _OTHER_SCRIPT.findall(text)
    if other:
        kana = sum(map(len, _KANA.findall(text)))
        japanese = kana >= 2 and 9 * kana >= han
        if len(other) >= latin and (japanese or sum(map(len, other)) > han):
            return "other"
    if han >= latin and han:
        return "zh"
    if _has_diacritics(text):
        return "other"
    return "en" if latin else None


def _has_diacritics(text: str) -> bool:
    words = _ANY_LATIN_WORD.findall(unicodedata.normalize("NFC", text))
    accented = sum(not word.isascii() for word in words)
    if accented < max(2, _ACCENTED_SHARE * len(words)):
        return False
    return len(_ENGLISH_WORD.findall(text)) < _ENGLISH_SHARE * len(words)


class TokenizedText:
    """One text with its token layers, each computed once and when first asked for.

    Args:
        text: the text.
        language: one of `LANGUAGES`; decides `bleu_words` and `rouge_words`.

    Raises:
        MedbenchError: another language.
    """

    def __init__(self, text: str, language: str) -> None:
        if language not in LANGUAGES:
            raise unknown("language", language, LANGUAGES)
        self.text, self.language = text, language

    @functools.cached_property
    def characters(self) -> np.ndarray:
        """The code points, uint32."""
        return segment.code_points(self.text)

    @functools.cached_property
    def _jieba_ends(self) -> np.ndarray:
        return segment.cut(self.characters)

    @functools.cached_property
    def chinese_words(self) -> tuple[np.ndarray, np.ndarray]:
        """Code points and (start, end) of each word."""
        return self.characters, _rouge_chinese_words(self.characters, self._jieba_ends)

    @functools.cached_property
    def bleu_words(self) -> tuple[np.ndarray, np.ndarray]:
        """Code points and (start, end) of each token."""
        if self.language == "other":
            return _unicode_words(self.text)
        line = self.text.rstrip()
        if self.language == "zh":
            codes = segment.code_points(line.strip())
            return codes, _sacrebleu_words(codes, _sacrebleu_han(), False)
        for old, new in _13A_REPLACEMENTS:
            line = line.replace(old, new)
        codes = segment.code_points(line)
        return codes, _sacrebleu_words(codes, _NO_HAN, True)

    @functools.cached_property
    def rouge_words(self) -> tuple[np.ndarray, np.ndarray]:
        """Code points and (start, end) of each token."""
        if self.language == "other":
            codes, spans = _unicode_words(lower(self.text))
            return codes, _words_with(codes, spans, _alphanumeric())
        if self.language == "zh":
            codes = segment.code_points(lower(self.text))
            return codes, _words_with(codes, _spans(self._jieba_ends), _alphanumeric())
        codes = segment.code_points(self.text.lower())
        return codes, _ascii_runs(codes)


def lower(text: str) -> str:
    """`str.lower` without its two exceptions to one character for one: a final sigma, and the dotted capital I."""
    return text.replace("Σ", "σ").replace("İ", "i").lower()


# What sacreBLEU's 13a tokenizer does before its regular expressions, in its order ("&amp;lt;" ends as "<").
_13A_REPLACEMENTS = (
    ("<skipped>", ""),
    ("-\n", ""),
    ("\n", " "),
    ("&quot;", '"'),
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
)
_NO_HAN = np.zeros(1, np.bool_)


@functools.cache
def _sacrebleu_han() -> np.ndarray:
    """Which code points sacreBLEU's `zh` tokenizer sets apart, from the installed sacreBLEU's own ranges.

    It compares strings, and two ranges it writes with five hex digits are really two characters long: such a start
    excludes its first character, and such an end includes it.
    """
    from sacrebleu.tokenizers.tokenizer_zh import _UCODE_RANGES

    table = np.zeros(0x10000, np.bool_)
    for first, last in _UCODE_RANGES:
        table[ord(first[0]) + (len(first) > 1) : ord(last[0]) + 1] = True
    return table


@functools.cache
def _alphanumeric() -> np.ndarray:
    """`str.isalnum` of every code point."""
    return np.fromiter((chr(code).isalnum() for code in range(0x110000)), np.bool_, 0x110000)


@jit
def _is_space(code: int) -> bool:
    """`str.isspace`."""
    return (
        9 <= code <= 13
        or 28 <= code <= 32
        or code in (0x85, 0xA0, 0x1680)
        or 0x2000 <= code <= 0x200A
        or code in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
    )


@jit
def _is_digit(code: int) -> bool:
    return 48 <= code <= 57


@jit
def _rouge_chinese_words(codes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The words that rouge_chinese 1.0.3 sees when it is given `" ".join(words)`, as LLaMA-Factory does.

    It breaks that string into lines after 。！？? and after six full stops, strips its end, and splits each line at
    white space. Two things follow that a plain list of words would not have: a line of nothing but white space
    counts as one empty word (a blank line between paragraphs is one), and a row of full stops is cut after the
    sixth, the character after the cut not being looked at again.
    """
    words = np.empty((len(codes) + len(ends), 2), np.int64)
    count = 0
    last = len(ends) - 1
    while last >= 0 and _is_space(codes[ends[last] - 1]):
        last -= 1
    line_empty, line_blank = True, True  # nothing at all in this line; only white space so far
    for word in range(last + 1):
        start = ends[word - 1] if word else 0
        end = ends[word]
        if word:
            line_empty = False  # the space that joins the words
        if _is_space(codes[end - 1]):
            if codes[end - 1] == 10:
                if end - start == 2:
                    line_empty = False  # "\r\n": the first of the two
                if line_blank and not line_empty:
                    words[count, 0], words[count, 1] = end, end
                    count += 1
                line_empty, line_blank = True, True
            else:
                line_empty = False
            continue
        line_empty, line_blank = False, False
        i = start
        while i + 6 <= end:
            dots = 0
            while dots < 6 and codes[i + dots] == 46:
                dots += 1
            if dots < 6:
                i += 1
            elif i + 6 < end:
                words[count, 0], words[count, 1] = start, i + 6
                count += 1
                start = i + 6
                i += 7
            else:
                break
        words[count, 0], words[count, 1] = start, end
        count += 1
        # the same cut at the word's end, before the joining space
        if i + 6 == end or codes[end - 1] in (0x3002, 0xFF01, 0xFF1F, 63):
            line_empty, line_blank = True, True
    return words[:count].copy()


@announced
def _sacrebleu_words(codes: np.ndarray, han: np.ndarray, padded: bool) -> np.ndarray:
    """sacreBLEU's `13a` (padded) and `zh` tokenizers as rules that open gaps between characters.

    Their regular expressions only ever insert spaces, one expression after the other. `gap[i]` says that a space
    stands before character i; `taken` is the character that the expression's previous match used up.
    """
    size = len(codes)
    gap = np.zeros(size + 1, np.bool_)
    gap[0] = gap[size] = padded
    for i in range(size):
        code = codes[i]
        if (
            (code < len(han) and han[code])
            or 32 <= code <= 38
            or 40 <= code <= 43
            or code == 47
            or 58 <= code <= 64
            or 91 <= code <= 96
            or 123 <= code <= 126
        ):
            gap[i] = gap[i + 1] = True
    # a full stop or comma that does not follow a digit
    open_after = False  # an insertion of this pass, which the pass itself does not see
    taken = -1
    for i in range(size):
        before = gap[i]
        if open_after:
            gap[i] = True
            open_after = False
        follows_other = before or (i > 0 and not _is_digit(codes[i - 1]) and taken != i - 1)
        if (codes[i] == 44 or codes[i] == 46) and follows_other:
            gap[i], open_after, taken = True, True, i
    gap[size] |= open_after
    # one that does not precede a digit
    taken = -1
    for i in range(size):
        if (codes[i] == 44 or codes[i] == 46) and taken != i:
            if gap[i + 1]:
                gap[i] = True
            elif i + 1 < size and not _is_digit(codes[i + 1]):
                gap[i] = gap[i + 1] = True
                taken = i + 1
    # a dash after a digit
    for i in range(1, size):
        if codes[i] == 45 and _is_digit(codes[i - 1]) and not gap[i]:
            gap[i] = gap[i + 1] = True

    words = np.empty((size, 2), np.int64)
    count = 0
    start = -1
    for i in range(size + 1):
        space = i == size or _is_space(codes[i])
        if start >= 0 and (space or gap[i]):
            words[count, 0], words[count, 1] = start, i
            count += 1
            start = -1
        if not space and start < 0:
            start = i
    return words[:count].copy()


_BOUNDARY = regex.compile(r"\b", regex.WORD | regex.VERSION1)


def _unicode_words(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Code points of the NFC text and (start, end) of its UAX #29 words; white space is none, a mark is one."""
    text = unicodedata.normalize("NFC", text)
    bounds = [match.start() for match in _BOUNDARY.finditer(text)]
    spans = [(a, b) for a, b in zip([0, *bounds], [*bounds, len(text)], strict=True) if text[a:b].strip()]
    return segment.code_points(text), np.array(spans, np.int64).reshape(-1, 2)


def _spans(ends: np.ndarray) -> np.ndarray:
    """(start, end) of words that follow each other without gaps."""
    return np.column_stack([np.concatenate([[0], ends])[: len(ends)], ends]).astype(np.int64)


@jit
def _words_with(codes: np.ndarray, spans: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The words that hold at least one of the wanted characters."""
    words = np.empty((len(spans), 2), np.int64)
    count = 0
    for start, end in spans:
        for i in range(start, end):
            if wanted[codes[i]]:
                words[count, 0], words[count, 1] = start, end
                count += 1
                break
    return words[:count].copy()


@jit
def _ascii_runs(codes: np.ndarray) -> np.ndarray:
    """Runs of a-z and 0-9."""
    words = np.empty((len(codes) // 2 + 1, 2), np.int64)
    count = 0
    start = -1
    for i in range(len(codes) + 1):
        inside = i < len(codes) and (97 <= codes[i] <= 122 or 48 <= codes[i] <= 57)
        if inside and start < 0:
            start = i
        elif not inside and start >= 0:
            words[count, 0], words[count, 1] = start, i
            count += 1
            start = -1
    return words[:count].copy()
