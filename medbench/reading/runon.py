"""Where an output runs on: after a completed answer it begins another question, or another turn.

Base models do; what follows belongs to no item of ours and is cut off before anything is read.
"""

from __future__ import annotations

import re

_NEXT_ITEM = re.compile(
    r"^[ \t#*>-]*(?:(?:(?:Next )?Question|Q|Problem|题目|问题|例题)[ \t]*\d*[ \t]*[:：]"
    r"|(?:Human|User|用户|Instruction)[ \t]*[:：]"
    r"|<\|(?:im_start|start_header_id)\|>[ \t]*user"
    r"|(?:The |Now the |Here is the |Here's the )?(?:next|another|second) question\b)",
    re.MULTILINE | re.IGNORECASE,
)
_OPTION_LINE = re.compile(r"^[ \t]*\(?([A-J])[.):）．、][ \t]*(\S[^\n]*)", re.MULTILINE)


def next_items(clean: str, start: int) -> list[int]:
    """Places from `start` on at which another question or turn begins, in order."""
    return [match.start() for match in _NEXT_ITEM.finditer(clean, start)]


def cut_run_on(clean: str, answered: int, texts: dict[str, str]) -> int:
    """The end of what belongs to this item: where, after `answered`, another question begins or foreign options do.

    Args:
        clean: the text with its marks made plain.
        answered: where the first completed answer ends.
        texts: the item's option texts by letter; an option list with other texts is another item's.
    """
    markers = next_items(clean, answered)
    end = markers[0] if markers else len(clean)
    foreign = _foreign_list(clean, answered, end, texts)
    return foreign if foreign is not None else end


def _foreign_list(clean: str, start: int, end: int, texts: dict[str, str]) -> int | None:
    """Where the stem before a list A, B, C of other texts than the item's begins."""
    if not texts:
        return None
    run: list[re.Match[str]] = []
    for line in _OPTION_LINE.finditer(clean, start, end):
        if line[1] == "ABCDEFGHIJ"[len(run)]:
            run.append(line)
        else:
            run = [line] if line[1] == "A" else []
        if len(run) == 3:
            own = [_words(text) for text in texts.values()]
            if not any(_near(_words(one[2]), text) for one in run for text in own):
                stem = clean.rfind("\n\n", start, run[0].start())
                return stem if stem != -1 else run[0].start()
            run = []
    return None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _near(said: set[str], text: set[str]) -> bool:
    return bool(text) and len(said & text) >= max(1, len(text) // 2)
