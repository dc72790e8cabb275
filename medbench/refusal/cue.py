"""A cue: one thing that a sentence does in an answer that refuses or complies, and how to see it.

Python's regular expressions step through a text at some ten nanoseconds a character and pattern, `in` at a hundredth
of that. So every pattern carries the literals of which one must stand in whatever it matches, derived from the pattern
itself, and is tried only where one of them occurs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from re import _constants as op  # type: ignore[attr-defined]  # the parse tree has no public interface
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

# More literals than this cost more to look for than they save.
_MOST = 40
# Longer literals are cut: "regardless of their" and "regardless of his" are looked for once.
_LONG = 7
# A pattern without usable literals: it is always tried.
_NONE = ("",)
# A node of the parse tree: its code, and an argument whose type follows from the code.
_Node = tuple[object, Any]


class Pattern(NamedTuple):
    """One alternative of a cue.

    Attributes:
        literals: one of them stands in every match.
        regex: over lower-case text, quotations masked.
    """

    literals: tuple[str, ...]
    regex: re.Pattern[str]


@dataclass(frozen=True)
class Cue:
    """What a sentence can do, and the patterns that show it.

    Attributes:
        name: its kind (`medbench.refusal.rules`): all languages share these, and the weights belong to them.
        alternatives: any of these regular expressions shows it.
    """

    name: str
    alternatives: tuple[str, ...]

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """The alternatives, compiled when first needed: every Inspect process imports the detector, few read a text."""
        return tuple(Pattern(required_literals(one), re.compile(one)) for one in self.alternatives)

    def found(self, text: str) -> bool:
        """Whether `text` holds this cue."""
        for literals, regex in self.patterns:
            for literal in literals:
                if literal in text:
                    if regex.search(text):
                        return True
                    break
        return False

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where `text` holds this cue: start and end of every match of every alternative."""
        for literals, regex in self.patterns:
            if any(literal in text for literal in literals):
                for match in regex.finditer(text):
                    yield match.span()


def required_literals(pattern: str) -> tuple[str, ...]:
    """Strings of which at least one occurs in every match of `pattern`; ("",) where none can be told.

    Of several such sets the one whose shortest member is longest is taken: long strings are rare ones. Inline flags
    and case-insensitive patterns are not supported.
    """
    exact, required = _literals(parser.parse(pattern))
    best = max((found for found in (exact, required) if found), key=_selectivity, default=None)
    if not best or "" in best:
        return _NONE
    return tuple(sorted(_shortest({one[:_LONG] for one in _shortest(best)})))


def _shortest(strings: Collection[str]) -> list[str]:
    """Without those that contain another."""
    return [one for one in strings if not any(other in one for other in strings if other != one)]


def _selectivity(strings: frozenset[str]) -> tuple[int, int]:
    return min(4, min(map(len, strings))), -len({one[:_LONG] for one in strings})


def _literals(tree: Iterable[_Node]) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """(every string that the tree can match, or None if not listable; the best required set found, or None)."""
    run: frozenset[str] = frozenset({""})
    whole, candidates = True, []
    for node in tree:
        exact, required = _node(node)
        if required:
            candidates.append(required)
        if exact is not None and len(run) * len(exact) <= _MOST:
            run = frozenset(a + b for a, b in product(run, exact))
            continue
        whole = False
        candidates.append(run)
        run = exact if exact is not None and len(exact) <= _MOST else frozenset({""})
    candidates.append(run)
    best = max((found for found in candidates if "" not in found), key=_selectivity, default=None)
    return (run if whole else None), best


def _node(node: _Node) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    code, argument = node
    if code is op.LITERAL:
        return frozenset({chr(argument)}), None
    if code in (op.AT, op.ASSERT, op.ASSERT_NOT):
        return frozenset({""}), None
    if code is op.IN and all(kind is op.LITERAL for kind, _ in argument):
        return frozenset(chr(value) for _, value in argument), None
    if code is op.SUBPATTERN:
        return _literals(argument[-1])
    if code is op.BRANCH:
        branches = [_literals(branch) for branch in argument[1]]
        if all(exact is not None for exact, _ in branches):
            return frozenset().union(*(exact for exact, _ in branches if exact is not None)), None
        needed = [required or exact for exact, required in branches]
        if any(not found or "" in found for found in needed):
            return None, None
        return None, frozenset().union(*(found for found in needed if found))
    if code in (op.MAX_REPEAT, op.MIN_REPEAT):
        low, high, body = argument
        exact, required = _literals(body)
        if low == 0:
            return (exact | {""} if high == 1 and exact is not None else None), None
        return None, required or exact
    return None, None
