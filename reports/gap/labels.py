"""How metrics and views are called in sentences and tables, and small things that several sections share."""

from __future__ import annotations

from medbench.reports.estimates import Analysis, Estimate
from medbench.reports.page import names

METRICS = {
    "accuracy": "accuracy",
    "comprehensiveness": "comprehensiveness",
    "bleu4": "BLEU-4",
    "bleu4_floor": "BLEU-4's floor",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu4_llamafactory": "paper's BLEU-4",
    "rouge1_llamafactory": "paper's ROUGE-1",
    "rouge2_llamafactory": "paper's ROUGE-2",
    "rougeL_llamafactory": "paper's ROUGE-L",
    "trace": "trace rate",
    "refusal": "refusal rate",
}
VIEWS = {
    "raw": "as generated",
    "untagged": "tags dropped",
    "lenient": "closed traces removed",
    "answer": "answer only",
    "trace": "trace only",
}
SURFACE = ("bleu4", "rougeL", "rouge1", "rouge2")
SURFACE_VIEWS = ("raw", "untagged", "lenient", "answer")


def metric_name(key: str) -> str:
    """``bleu4/raw`` as ``BLEU-4 (as generated)``."""
    metric, _, view = key.partition("/")
    name = METRICS.get(metric, metric)
    return (
        name
        if metric in ("accuracy", "trace", "refusal") and view in ("answer", "raw")
        else f"{name} ({VIEWS.get(view, view)})"
    )


def metric_short(key: str) -> str:
    """The metric alone, as a title has room for: ``BLEU-4``."""
    return METRICS.get(key.partition("/")[0], key)


def tied(estimate: Estimate, candidate: str, but: str | None = None) -> str:
    """A clause that names whom a candidate cannot be told apart from, `but` left out; empty where there is nobody."""
    others = [name for name in estimate.tied_with(candidate) if name != but]
    return (
        f" (over all pairs, with Holm's correction, not told apart from {names(others, 3)} at n = {estimate.n:,})"
        if others
        else ""
    )


def common_candidates(analysis: Analysis, *estimates: Estimate) -> list[str]:
    """Candidates that all estimates cover, in the study's order."""
    return [name for name in analysis.study.candidates if all(name in e.candidates for e in estimates)]
