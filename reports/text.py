"""Text from logs made safe to show: what a terminal or a browser would obey, or hide, becomes a sign that is seen."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and newline, direction marks and overrides, byte-order and interlinear marks, tag
# characters, line and paragraph separators, broken code points. The joiners U+200C and U+200D are part of some scripts.
_OBEYED = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f"
)
_IN_TEXT = re.compile(f"[{_OBEYED}]")
# In a name, what takes no room is there to deceive, and it stands in one line.
_IN_NAME = re.compile(f"[{_OBEYED}\t\n\u00ad\u180e\u200b-\u200d\u2060-\u2064]")


def visible(text: str) -> str:
    """Text of any length that neither a terminal nor a browser obeys; different texts stay different.

    ASCII controls become their own signs (``␀``, ``␛``), all else its code point (``‹U+202E›``).
    """
    return _IN_TEXT.sub(_sign, text)


def visible_name(text: str) -> str:
    """A name on one line in which nothing is hidden. A backquote, which starts code in a sentence, becomes ``ˋ``."""
    return _IN_NAME.sub(_sign, text).replace("`", "ˋ")


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 32 else f"‹U+{code:04X}›"
