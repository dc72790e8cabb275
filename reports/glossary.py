"""The words of the report, each in a sentence or two, and where they occur in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator

# anchor -> (heading, the words that are linked, what it means)
TERMS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "abstain": (
        "Abstain",
        ("abstention", "abstentions", "abstain"),
        "The output states no answer that can be read. It counts as wrong, unless a table says otherwise.",
    ),
    "auc": (
        "AUC",
        ("AUC",),
        "How often a right answer scores higher than a wrong one, for all pairs of them. 0.5 is no better than a coin.",
    ),
    "bleu": (
        "BLEU-4",
        ("BLEU-4",),
        "How many runs of one to four words an output shares with the reference text, 0 to 100. It measures wording, "
        "not whether the answer is right.",
    ),
    "chance": (
        "Chance",
        ("chance", "guessing"),
        "The accuracy of choosing among the options blindly: 25% with four. An interval that reaches down to it does "
        "not show any knowledge.",
    ),
    "context": (
        "Context",
        ("contexts",),
        "Items that share a text, such as several questions about one case, are no independent evidence: intervals "
        "count them as one cluster.",
    ),
    "comprehensiveness": (
        "Comprehensiveness",
        ("Comprehensiveness", "comprehensiveness"),
        "The share of the claims a good answer must make that the answer makes, by a judge's verdict on each. What it "
        "is worth depends on the judge, whose card stands under the table.",
    ),
    "brier": (
        "Brier score",
        ("Brier",),
        "How far a model's confidence lies from being right (1) or wrong (0), squared and averaged. 0 is perfect.",
    ),
    "equivalent": (
        "Equivalent",
        ("equivalent",),
        "Shown to differ by less than the margin that you named. Not shown to differ is less: it may be too few items.",
    ),
    "pass-at-k": (
        "Pass@k",
        ("pass@k",),
        "The chance that at least one of k runs of an item is right.",
    ),
    "floor": (
        "Floor",
        ("floor", "floors"),
        "What the same outputs score when each is compared with the reference of another question. A score near its "
        "floor says nothing about the answer.",
    ),
    "holm": (
        "Holm's correction",
        ("Holm's correction", "Holm"),
        "With many pairs tested, some look different by luck. Holm's correction asks more of each test, so that in "
        "fewer than 1 of 20 studies any pair is called different that is not.",
    ),
    "interval": (
        "95% interval",
        ("95% interval", "95% intervals"),
        "The range in which the true value lies, in 95 of 100 such studies. Short with many items, long with few.",
    ),
    "mde": (
        "MDE, minimum detectable effect",
        ("MDE",),
        "The smallest true difference that this many items would show in four of five studies (80% power).",
    ),
    "merge": (
        "PT, SFT, merge",
        ("SFT", "PT"),
        "PT is domain pretraining, SFT instruction tuning, each kept as an adapter: a change to the base model. A "
        "merge adds both changes, each times its weight.",
    ),
    "people": (
        "What people say",
        ("What people say",),
        "How a metric fared on other outputs, which people had rated or labelled: how often it gives the higher score "
        "to the one that they prefer. 50% is no better than a coin. Your texts are others: it is a warning, not a "
        "measurement of this study.",
    ),
    "p": (
        "p",
        ("paired p",),
        "How often a difference at least this large would come up if there were none. Below 0.05 it is called shown.",
    ),
    "regret": (
        "Regret",
        ("regret",),
        "The accuracy that is lost by taking the candidate that another metric has first, in percentage points.",
    ),
    "rouge": (
        "ROUGE-L",
        ("ROUGE-L",),
        "Like BLEU-4, by the longest sequence of words that output and reference share.",
    ),
    "tied": (
        "Tied",
        ("told apart", "tied"),
        "Candidates that share a letter in a table are tied: the test of that pair shows no difference. That is not "
        "the same as being equal.",
    ),
    "trace": (
        "Trace",
        ("trace", "traces"),
        "The reasoning that a model writes between think tags before its answer.",
    ),
    "view": (
        "View",
        ("view", "views", "as generated", "answer only"),
        "The part of an output that is scored: as generated (with the trace), or the answer only, and some between.",
    ),
}

_ANCHORS = {word.lower(): anchor for anchor, (_, words, _) in TERMS.items() for word in words}
# A word inside a name (pt-0.3, floor_model, v1.view) is part of the name.
_WORDS = re.compile(
    r"(?<![\w./+-])(" + "|".join(sorted(map(re.escape, _ANCHORS), key=len, reverse=True)) + r")(?![\w/+]|[-.]\w)",
    re.IGNORECASE,
)


def parts(text: str, seen: set[str]) -> Iterator[tuple[str, str | None]]:
    """A text in pieces: (piece, anchor of its term or None). A term is linked at its first use; `seen` keeps those."""
    start = 0
    for found in _WORDS.finditer(text):
        anchor = _ANCHORS[found[0].lower()]
        # PT and SFT are abbreviations; in small letters they are names.
        if anchor in seen or (anchor == "merge" and not found[0].isupper()):
            continue
        seen.add(anchor)
        yield text[start : found.start()], None
        yield found[0], anchor
        start = found.end()
    yield text[start:], None


def anchor_of(heading: str) -> str | None:
    """The term that a column heading is, if it is one."""
    return _ANCHORS.get(heading.lower()) or {"regret": "regret", "p": "p", "p (holm)": "holm"}.get(heading.lower())
