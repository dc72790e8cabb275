"""Reasoning traces: where a model's thinking ends and its answer begins.

`split` reads an output as a sequence of tag tokens and walks over them once with a small state machine. `views` gives
the five readings of one output under which everything is judged.

How the hard cases are read (each is a decision; the tests hold them):

- **Opening tag in the prompt.** With ``prefilled=True`` the text begins inside a trace: a closing tag ends it
  (``closed``), none at all means that it was cut off there (``unterminated``). Without it, a closing tag that nothing
  opened makes all text before it the trace (``orphan_close``), and a text without tags has none (``absent``): nothing
  in the text itself could tell a cut-off prefilled trace from an answer, so the caller must say which it was.
- **Nested and reopened blocks.** A closing tag ends the thinking; one more closing tag for an opening tag that was
  nested takes the text between along. A repeated opening tag (``<think><think>``) therefore costs nothing.
- **Other models' markers** count as the tag: ``[THINK]``, ``<|begin_of_thought|>``, ``<seed:think>``, ``<reasoning>``,
  gpt-oss's channels, HuatuoGPT-o1's "## Thinking" / "## Final Response" and more (`_TAG`, `_LAYOUTS`). Markers around
  the answer alone (``<answer>``, ``<|begin_of_solution|>``) are part of the answer.
- **A second closing tag that nothing opened** turns the text since the last block into trace when an answer follows
  it (models restart), and is only a stray tag when nothing does.
- **A cut-off trace** runs to the end of the text, and leaves the answer empty: the model was still thinking, so what it
  said before is not taken for its answer.
- **A mention of the tag** ("do not output <think> tags", `` `<think>` ``) is text. See `_mentions`.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

Status = Literal["absent", "closed", "unterminated", "orphan_close"]
Kind = Literal["open", "close", "empty"]
VIEWS = ("raw", "untagged", "lenient", "answer", "trace")


@dataclass(frozen=True)
class Thought:
    """One output taken apart.

    Attributes:
        trace: the text of all traces, tags dropped, outer white space stripped.
        answer: the text outside of traces; the whole text, untouched, where there is no trace; empty where the last
            trace never ends.
        status: ``absent`` (no trace), ``closed``, ``unterminated`` (the last trace never ends), ``orphan_close``
            (a trace whose opening tag is missing from the text).
    """

    trace: str
    answer: str
    status: Status


class TraceStats(NamedTuple):
    """What one output's trace amounts to: three per-output metrics and the status behind them."""

    has_trace: bool
    unterminated: bool
    share: float
    """Characters of trace over characters of trace and answer, 0-1; 0 for an empty output."""
    status: Status


class _Tag(NamedTuple):
    start: int
    end: int
    kind: Kind


class _Span(NamedTuple):
    """A stretch of trace, tags included. `paired` is False for an orphan close and for a cut-off trace."""

    start: int
    end: int
    paired: bool


_NAME = r"(?:\w{1,16}:)?(?:thinking|thinks?|thoughts?|reasoning|scratchpad|ｔｈｉｎｋ|思考过程|思考|推理过程|推理)"
_LEFT, _RIGHT = r"(?:\\?[<＜〈⟨‹◁]|&lt;)\s{0,8}", r"\s{0,8}(?:\\?[>＞〉⟩›▷]|&gt;)"
# White space and attributes are bounded and stop at the next bracket, so that matching stays linear.
_REST = r"(?:\s[^<>＜＞\n]{0,400}?)?\s{0,8}"
# gpt-oss: what is not in the final channel is no answer.
_CHANNEL = (
    r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>{}[^<>\n]{{0,60}}(?:<\|constrain\|>\w{{1,20}})?<\|message\|>"
)
# A tag's kind is the name of its group. After angle brackets: Magistral, Sky-T1, Cohere, MedGemma.
_TAG = re.compile(
    rf"""
    (?P<close> {_LEFT}[/／\\]{{1,2}}\s{{0,8}}{_NAME}{_REST}{_RIGHT}
        | [\[【][/／](?:think|思考)[\]】] | <\|end_of_thought\|> | <\|END_THINKING\|> | <unused95>
        | {_CHANNEL.format("final")} )
    | (?P<empty> {_LEFT}{_NAME}{_REST}[/／]\s{{0,8}}{_RIGHT} )
    | (?P<open> {_LEFT}{_NAME}{_REST}{_RIGHT}
        | [\[【](?:think|思考)[\]】] | <\|begin_of_thought\|> | <\|START_THINKING\|> | <unused94>(?:thought\n)?
        | {_CHANNEL.format("(?:analysis|commentary)")} )
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Layouts without brackets, told by how the whole output begins: HuatuoGPT-o1's headings (another heading after
# "Thinking" makes it a section of some other report), and gpt-oss where the tokenizer dropped its special tokens.
_LAYOUTS = (
    (
        re.compile(r"\s*#{1,4} *Thinking *:?(?=\s*\n|$)"),
        re.compile(r"^#{1,4} *(?P<known>Final Response|Final Answer|Response|Answer)[ :]*$|^#{1,4} ", re.MULTILINE),
    ),
    (re.compile(r"\s*analysis(?=[A-Z])"), re.compile(r"(?P<known>assistantfinal)")),
)
_FENCE = re.compile(r"^[ \t]{0,8}(?:```|~~~)", re.MULTILINE)
_INLINE_CODE = re.compile(r"(?<!`)(`{1,3})(?!`)[^`\n]+\1(?!`)")

# What tells a mention from a use, looked up in the line around the tag.
_REACH = 48
_CONNECTIVE = re.compile(r"[ \t]*(?:\.{2,}|…+|and|or|to|/|,|、|，|和|与|或|及|到)?[ \t]*")
_QUOTES_BEFORE, _QUOTES_AFTER = frozenset("`\"'“‘「『《(（"), frozenset("`\"'”’」』》)）")
_NOUN_AFTER = re.compile(r"[ -](?:style |xml |html )?(?:tag|token)s?\b|[ 的]?(?:标签|标记|标识|字样)", re.IGNORECASE)
_WEAK_NOUN_AFTER = re.compile(r" (?:block|section|element|marker|delimiter|part|field|format)s?\b|[ 的]?(?:块|部分|段)")
_CUE_BEFORE = re.compile(
    r"(?:\b(?:the|an?|any|no|us(?:e|es|ed|ing)|output(?:s|ting)?|emit(?:s|ting)?|includ(?:e|es|ing)|writ(?:e|es|ing)|"
    r"print(?:s|ing)?|produc(?:e|es|ing)|add(?:s|ing)?|insert|remove|strip|with|without|inside|within|between|in|into|"
    r"your|of|by|called|named|like|avoid|omit|tags?|and|or|not|opening|closing|literal|say|type)[ \t]+"
    r"|(?:使用|采用|输出|出现|包含|包括|包裹|添加|加上|加入|写出|写上|生成|带有|不要|避免|标签|标记)[ \t]*)$",
    re.IGNORECASE,
)
_WITHIN_SENTENCE = re.compile(r"\w[ \t]+$")
_SENTENCE_GOES_ON = re.compile(r"[ \t]*[,;:.!?，。；：！？、)）]|[ \t]+[a-z]")


def split(text: str, *, prefilled: bool = False) -> Thought:
    """Take an output apart into trace and answer; linear in the length of `text`.

    Args:
        text: the output as generated.
        prefilled: the prompt already held the opening tag, so the output begins inside a trace.
    """
    return _assemble(text, *_parse(text, prefilled))


def views(text: str, *, prefilled: bool = False) -> dict[str, str]:
    """The readings of one output: ``raw``, ``untagged``, ``lenient``, ``answer``, ``trace``.

    ``raw`` is the text as generated; ``untagged`` drops the tags and keeps what they enclose; ``lenient`` removes
    closed traces and keeps everything else as it stands (a cut-off trace or one without its opening tag stays, tag
    included: what stripping tag pairs does); ``answer`` removes every trace; ``trace`` is the traces alone. No
    character is invented, but for a line end under ``untagged`` where a tag was all that stood between two words.
    """
    tags, spans, status = _parse(text, prefilled)
    thought = _assemble(text, tags, spans, status)
    paired = [(span.start, span.end) for span in spans if span.paired]
    return {
        "raw": text,
        "untagged": _untagged(text, tags),
        "lenient": _without(text, paired).strip() if paired else text,
        "answer": thought.answer,
        "trace": thought.trace,
    }


def statistics(text: str, *, prefilled: bool = False) -> TraceStats:
    """Whether an output holds a trace, whether the trace was cut off, and its share of the characters."""
    thought = split(text, prefilled=prefilled)
    total = len(thought.trace) + len(thought.answer)
    return TraceStats(
        has_trace=bool(thought.trace),
        unterminated=thought.status == "unterminated",
        share=len(thought.trace) / total if total else 0.0,
        status=thought.status,
    )


def mentions(text: str, *, prefilled: bool = False) -> bool:
    """Whether an output mentions a think tag without using it ("do not output <think> tags")."""
    return _TAG.search(views(text, prefilled=prefilled)["untagged"]) is not None


def _assemble(text: str, tags: list[_Tag], spans: list[_Span], status: Status) -> Thought:
    if not spans:  # and then no tags either: a tag on its own always makes a span
        return Thought(trace="", answer=text, status=status)
    inside: list[list[_Tag]] = [[] for _ in spans]
    outside: list[tuple[int, int]] = []
    at = 0
    for tag in tags:
        while at < len(spans) and spans[at].end <= tag.start:
            at += 1
        if at < len(spans) and spans[at].start <= tag.start:
            inside[at].append(tag)
        else:
            outside.append((tag.start, tag.end))
    trace = "".join(
        _without(text, [(t.start, t.end) for t in held], s.start, s.end) for s, held in zip(spans, inside, strict=True)
    )
    # A cut-off trace means that no answer was reached: what was said before it is no answer either.
    unfinished = status == "unterminated"
    answer = "" if unfinished else _without(text, sorted(outside + [(span.start, span.end) for span in spans]))
    return Thought(trace=trace.strip(), answer=answer.strip(), status=status)


def _without(text: str, cuts: Iterable[tuple[int, int]], start: int = 0, end: int | None = None) -> str:
    """`text[start:end]` without the stretches `cuts`, which are in order and do not overlap."""
    kept = []
    for cut_start, cut_end in cuts:
        kept.append(text[start:cut_start])
        start = cut_end
    kept.append(text[start:end])
    return "".join(kept)


def _untagged(text: str, tags: list[_Tag]) -> str:
    """`text` without its tags; a line end keeps apart two words that only a tag had kept apart."""
    kept: list[str] = []
    start = 0
    for tag in [*tags, _Tag(len(text), len(text), "close")]:
        piece = text[start : tag.start]
        start = tag.end
        if piece and kept and kept[-1][-1].isalnum() and piece[0].isalnum():
            kept.append("\n")
        if piece:
            kept.append(piece)
    return "".join(kept)


def _parse(text: str, prefilled: bool) -> tuple[list[_Tag], list[_Span], Status]:
    """The tags that are used as tags, the stretches of trace in order, and the status."""
    tags = _used_tags(text)
    last_text = _last_text(text, tags)
    spans: list[_Span] = []
    opened: int | None = 0 if prefilled else None
    opening_end = 0  # where the latest opening tag ended: one more right after it is a repetition, not a nesting
    nested = 0  # opening tags inside a block whose closing tags are still due
    orphan = False
    previous_end = -1
    for tag in tags:
        if tag.kind == "open":
            if opened is None:
                opened = tag.start
            elif text[opening_end : tag.start].strip():
                nested += 1
            opening_end = tag.end
        elif opened is not None:
            spans.append(_Span(opened, tag.end, paired=True))
            opened = None
        elif tag.kind == "empty":
            spans.append(_Span(tag.start, tag.end, paired=True))
        elif nested:
            nested -= 1
            spans[-1] = spans[-1]._replace(end=tag.end)
        elif spans and spans[-1].end == previous_end and not text[previous_end : tag.start].strip():
            spans[-1] = spans[-1]._replace(end=tag.end)  # closed once more at once
        elif not spans or last_text >= tag.end:
            spans.append(_Span(spans[-1].end if spans else 0, tag.end, paired=False))
            orphan = True
        previous_end = tag.end
    if opened is not None:
        spans.append(_Span(opened, len(text), paired=False))
        return tags, spans, "unterminated"
    if orphan:
        return tags, spans, "orphan_close"
    return tags, spans, "closed" if spans else "absent"


def _last_text(text: str, tags: list[_Tag]) -> int:
    """Position of the last character that is neither white space nor part of a tag; -1 for none."""
    end = len(text)
    for tag in reversed(tags):
        between = text[tag.end : end].rstrip()
        if between:
            return tag.end + len(between) - 1
        end = tag.start
    return len(text[:end].rstrip()) - 1


def _used_tags(text: str) -> list[_Tag]:
    """The tag tokens of `text` that are used as tags, in order; those that are only mentioned are left out."""
    found = [_Tag(match.start(), match.end(), cast(Kind, match.lastgroup)) for match in _TAG.finditer(text)]
    mentions = _mentions(text, found)
    used = [tag for i, tag in enumerate(found) if i not in mentions]
    for opening, closing in _LAYOUTS:
        begins = opening.match(text)
        ends = closing.search(text, begins.end()) if begins else None
        if begins and (ends is None or ends["known"]):
            used += [_Tag(*begins.span(), "open")] + ([_Tag(*ends.span(), "close")] if ends else [])
            used.sort()
    return used


def _mentions(text: str, tags: list[_Tag]) -> set[int]:
    """Indices of the tags that the text talks about instead of using them.

    Evidence, strongest first: inside code or quotes; called a tag ("<think> tags", "<think>标签"); spelled out as a
    pair in running text ("between <think> and </think>"); the object of a sentence that goes on after it ("do not
    output <think> in your reply"). A tag on its own line, or followed at once by text, is a use.
    """
    mentions = _in_code(text, tags)
    last_close = max((i for i, tag in enumerate(tags) if tag.kind != "open"), default=-1)
    for cluster in _clusters(text, tags):
        first, last = tags[cluster[0]], tags[cluster[-1]]
        left = text[max(0, first.start - _REACH) : first.start].rpartition("\n")[2]
        right = text[last.end : last.end + _REACH].partition("\n")[0]
        unclosed = last.kind == "open" and last_close < cluster[-1]
        mid_line = bool(left.strip(" \t*#>-"))
        cued = mid_line and _CUE_BEFORE.search(left) is not None
        quoted = left[-1:] in _QUOTES_BEFORE and right[:1] in _QUOTES_AFTER and left and right
        if left[-1:] == '"' and left.count('"') % 2 == 0:
            quoted = False  # 'it says "B"</think>"B"': a quotation that ends before the tag
        named = _NOUN_AFTER.match(right) or (mid_line and _WEAK_NOUN_AFTER.match(right))
        is_pair = mid_line and len(cluster) > 1
        if quoted or named or (is_pair and (cued or text[first.end : tags[cluster[1]].start].strip())):
            mentions.update(cluster)
        elif cued:
            if (unclosed and not right.strip()) or _SENTENCE_GOES_ON.match(right):
                mentions.update(cluster)
                partner = cluster[-1] + 1
                if last.kind == "open" and partner < len(tags) and _same_sentence(text, last, tags[partner]):
                    mentions.add(partner)
        elif unclosed and _WITHIN_SENTENCE.search(left) and _SENTENCE_GOES_ON.match(right):
            mentions.update(cluster)
    return mentions


def _same_sentence(text: str, opening: _Tag, closing: _Tag) -> bool:
    return (
        closing.kind == "close"
        and text.find("\n", opening.end, closing.start) == -1
        and _SENTENCE_GOES_ON.match(text, closing.end) is not None
    )


def _clusters(text: str, tags: list[_Tag]) -> list[list[int]]:
    """Indices of tags that stand together, with at most a connective between them ("<think> and </think>")."""
    clusters: list[list[int]] = []
    for i, tag in enumerate(tags):
        between = text[tags[i - 1].end : tag.start][:9] if i else None
        if between is not None and _CONNECTIVE.fullmatch(between):
            clusters[-1].append(i)
        else:
            clusters.append([i])
    return clusters


def _in_code(text: str, tags: list[_Tag]) -> set[int]:
    """Indices of tags inside inline code, or inside a fenced block that talks about them.

    A fenced block that opens the output is a wrapping of it, and one with more closing than opening tags was begun
    inside a trace and cut by its end: the tags of both are used.
    """
    if not tags or ("`" not in text and "~~~" not in text):
        return set()
    fences = [match.start() for match in _FENCE.finditer(text)]
    blocks = list(zip(fences[::2], fences[1::2], strict=False))  # an odd last fence opens a block that never ends
    spans = [match.span() for match in _INLINE_CODE.finditer(text)]
    first_text = len(text) - len(text.lstrip())
    found: set[int] = set()
    for block in blocks:
        held = _between(tags, *block)
        closing = sum(tags[i].kind == "close" for i in held)
        if first_text < block[0] and 2 * closing <= len(held):
            found.update(held)
    for span in spans:
        found.update(_between(tags, *span))
    return found


def _between(tags: list[_Tag], start: int, end: int) -> range:
    starts = bisect.bisect_left(tags, start, key=lambda tag: tag.start)
    return range(starts, bisect.bisect_left(tags, end, key=lambda tag: tag.start))
