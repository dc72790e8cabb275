"""medbench: does a medical language model know more, or does it only write more like the reference?

What a notebook needs is here, and is imported when it is first used:

    import medbench
    medbench.split(output).answer
    medbench.extract_choice(output, "ABCD").letters
    medbench.load_rows("logs")

Importing the package loads neither torch nor Inspect; each module documents what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medbench.answers import extract_choice, extract_decision
    from medbench.leakage.audit import audit
    from medbench.refusal.detector import classify as classify_refusal
    from medbench.reports.notebook import compare, leaderboard, load_rows, report
    from medbench.surface import score as score_surface
    from medbench.thinking import split, views

__version__ = "0.2.0.dev0"

__all__ = [
    "audit",
    "classify_refusal",
    "compare",
    "extract_choice",
    "extract_decision",
    "leaderboard",
    "load_rows",
    "report",
    "score_surface",
    "split",
    "views",
]

# name -> where it is defined
_HOMES = {
    "audit": "medbench.leakage.audit:audit",
    "classify_refusal": "medbench.refusal.detector:classify",
    "compare": "medbench.reports.notebook:compare",
    "extract_choice": "medbench.answers:extract_choice",
    "extract_decision": "medbench.answers:extract_decision",
    "leaderboard": "medbench.reports.notebook:leaderboard",
    "load_rows": "medbench.reports.notebook:load_rows",
    "report": "medbench.reports.notebook:report",
    "score_surface": "medbench.surface:score",
    "split": "medbench.thinking:split",
    "views": "medbench.thinking:views",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- modules and functions alike
    """A name of the front door, imported now."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
