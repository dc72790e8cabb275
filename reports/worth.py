"""What a surface score says about what people judge, from the cards of `medbench meta`: a line a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medbench.meta.line import lines, of_key
from medbench.reports.rows import TaskTable
from medbench.reports.sources import Sources


def note_of(table: TaskTable, keys: Sequence[str], sources: Sources) -> str:
    """The best-fitting card's line on some metrics of one profile, e.g. ``bleu4/raw``; empty where no card has them."""
    asked = list(dict.fromkeys(of_key(key) for key in keys))
    found = []
    for profile in dict.fromkeys(profile for _, profile in asked):
        metrics = [metric for metric, own in asked if own == profile]
        found += lines(metrics, profile, sources.cards, language=_language(table))
    return f"What people say: {' '.join(found)}" if found else ""


def _language(table: TaskTable) -> str | None:
    """The language of most items, or None where their logs do not say."""
    known = Counter(str(facts["language"]) for facts in table.facts.values() if facts.get("language"))
    return known.most_common(1)[0][0] if known else None
