"""An output with its marks made plain, character for character: every place in it is a place in the text as given."""

from __future__ import annotations

import re
from functools import lru_cache

_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width ASCII
_PLAIN |= {0x24B6 + i: ord("A") + i for i in range(26)} | {0x24D0 + i: ord("a") + i for i in range(26)}  # circled
_PLAIN |= {base + i: ord("A") + i for base in (0x1D400, 0x1D434, 0x1D468, 0x1D5A0, 0x1D5D4) for i in range(26)}  # maths
_PLAIN |= {ord(c): " " for c in '\u3000\u00a0\u200b\u200c\u200d\ufeff"“”「」『』*`$#'}  # type: ignore[misc]
_PLAIN |= dict(zip(map(ord, "АВСЕ’‘"), "ABCE''", strict=True))  # type: ignore[arg-type]
# Traditional characters of the words in the rule files.
_TRADITIONAL = (
    "選項為確錯誤應該題對個綜與還則並無會認後結論從這當準難斷視況屬擇餘處標參覺評價據顯過檢釋說寫還沒開劃適須將"
)
_SIMPLIFIED = (
    "选项为确错误应该题对个综与还则并无会认后结论从这当准难断视况属择余处标参觉评价据显过检释说写还没开划适须将"
)
_PLAIN |= {ord(c): p for c, p in zip(_TRADITIONAL, _SIMPLIFIED, strict=True)}  # type: ignore[misc]
# Every alternative starts with a literal, which lets the search skip to one.
_MARKUP = re.compile(
    r"\\n(?![a-z])|\\(?:text(?:bf|rm|it|sf)?|math(?:rm|bf|sf|it)|bf|rm|[()\[\]]|,|;|!|quad)|__+|'(?:(?<!\w')|(?!\w))"
)


_STRUCK = re.compile(r"~~(?=\S)[^~\n]{1,200}~~|<del>[^<\n]{0,200}</del>")


def clean_text(text: str) -> str:
    """`text` with full-width forms, Markdown, LaTeX and quotes made plain; every character keeps its place."""
    if "~~" in text or "<del>" in text:
        text = _STRUCK.sub(lambda match: " " * len(match.group()), text)
    plain = text.translate(_PLAIN)
    return _MARKUP.sub(lambda match: " \n" if match.group() == "\\n" else " " * len(match.group()), plain)


@lru_cache(maxsize=4)
def lower_case(clean: str) -> str:
    """The text in lower case, every character in its place (the lower case of "İ" is two characters)."""
    lower = clean.lower()
    return lower if len(lower) == len(clean) else "".join(c if len(c.lower()) > 1 else c.lower() for c in clean)
