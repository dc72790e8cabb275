"""Makes a card: reads the file, measures its texts, and compares both with what people say."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medbench.files.manifest import sha256_file, versions
from medbench.meta.asked import parse_facets, parse_labels
from medbench.meta.card import CARD_KIND
from medbench.meta.columns import Columns, Judged, empty_texts, names_of, read_rows, score_column, select
from medbench.meta.evaluate import Settings, agreement, evaluate
from medbench.meta.measures import PROFILE_METRICS, full_marks, measure
from medbench.meta.people import People, people
from medbench.surface.corpus import signature
from medbench.surface.items import PROFILES
from medbench.surface.tokens import detect_language


@dataclass(frozen=True)
class Asked:
    """What `medbench meta` was asked.

    Attributes:
        columns: which column holds what.
        human: facets as `asked.parse_facets` reads them.
        labels, positive: as `asked.parse_labels` reads them.
        name: what was judged, as the card's line calls it; "" takes the file's name.
        source, licence: of the data, as the user states them.
        language: of all rows, or None to detect it row by row.
        encoding: of the file.
    """

    columns: Columns
    human: tuple[str, ...]
    labels: str | None = None
    positive: str | None = None
    name: str = ""
    source: str = ""
    licence: str = ""
    language: str | None = None
    encoding: str = "utf-8"


def make_card(
    file: str | Path, asked: Asked, settings: Settings | None = None, command: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Compare every metric with what people say in a file.

    Args:
        command: how the card can be made again.

    Returns:
        The card, and what to list beside it: rows that are left out and why, by name (a card holds their counts).

    Raises:
        MedbenchError: columns are missing, no row can be used, labels cannot be compared.
    """
    settings = settings or Settings()
    rows, left_out = read_rows(file, asked.encoding)
    known = names_of(rows)
    asked.columns.check(known, file)
    facets = parse_facets(asked.human, known, file)
    judged = select(rows, left_out, asked.columns)
    said = people(judged, facets, parse_labels(asked.labels, asked.positive))
    languages = _languages(judged, asked.language)
    profiles, lengths = measure(judged.predictions, judged.references, languages)
    others = {
        f"{name} (column)" if name in lengths else name: score_column(judged, name) for name in asked.columns.scores
    }
    flat = {f"{profile} {name}": values for profile, found in profiles.items() for name, values in found.items()}
    figures, groups, notes = evaluate(judged, said, flat | lengths | others, settings)
    used = np.isfinite(said.value)
    judged.notes += empty_texts(judged, used)
    if not said.panels:
        notes.append("one rater: whether another person would say the same is unknown")
    card = {
        "kind": CARD_KIND,
        "name": asked.name or Path(file).name,
        "command": command,
        "data": {
            "file": Path(file).name,
            "sha256": sha256_file(file),
            "source": asked.source,
            "licence": asked.licence,
        },
        "columns": {**asdict(asked.columns), "human": list(asked.human), "labels": asked.labels or ""},
        "human": _of_people(said, used),
        "rows": {"read": judged.read, "used": int(used.sum()), "left_out": judged.left_out.counts()},
        "groups": {**groups, "by": asked.columns.group or f"equal {asked.columns.reference}"},
        "texts": _of_texts(languages, lengths, used),
        "settings": asdict(settings),
        "agreement": [agreement(panel, settings) for panel in said.panels],
        "profiles": {
            profile: {
                "signature": signature(profile, [one for one, here in zip(languages, used, strict=True) if here]),
                "metrics": {name: _out_of_100(figures[f"{profile} {name}"], profile, name) for name in PROFILE_METRICS},
            }
            for profile in PROFILES
        },
        "other": {name: figures[name] for name in (*lengths, *others)},
        "notes": notes,
        "versions": versions(),
    }
    return {key: rounded(value) for key, value in card.items()}, [*judged.left_out.listed(), *judged.notes, *said.notes]


def _out_of_100(figures: dict[str, Any], profile: str, metric: str) -> dict[str, Any]:
    """Figures with the threshold on the scale on which medbench shows the metric."""
    threshold = figures["kappa"]["threshold"]
    if threshold is not None:
        figures["kappa"]["threshold"] = 100 * threshold / full_marks(profile, metric)
    return figures


def _of_texts(languages: list[str], lengths: dict[str, np.ndarray], used: np.ndarray) -> dict[str, Any]:
    """What tells whether a card fits other texts: their languages and median lengths, in tokens."""
    words, over = lengths["length"][used], lengths["length_ratio"][used]
    references = words[over > 0] / over[over > 0]
    return {
        "languages": dict(Counter(language for language, here in zip(languages, used, strict=True) if here)),
        "median_prediction": float(np.median(words)),
        "median_reference": float(np.median(references)) if len(references) else None,
    }


def _languages(judged: Judged, given: str | None) -> list[str]:
    """One language for all where it is given; else each pair's own, the commonest where a pair does not tell."""
    if given:
        return [given] * len(judged.rows)
    found = [
        detect_language(reference, prediction, default="")
        for prediction, reference in zip(judged.predictions, judged.references, strict=True)
    ]
    usual = Counter(filter(None, found)).most_common(1)
    return [language or (usual[0][0] if usual else "en") for language in found]


def _of_people(said: People, used: np.ndarray) -> dict[str, Any]:
    values, counts = np.unique(np.round(said.value[used], 9), return_counts=True)
    found: dict[str, Any] = {
        "kind": said.kind,
        "target": said.target,
        "positive": said.positive_is,
        "positives": int(said.positive[used].sum()),
        "mean": float(said.value[used].mean()) if used.any() else None,
    }
    if len(values) <= 12:
        found["values"] = {f"{value:g}": int(count) for value, count in zip(values, counts, strict=True)}
    return found


def rounded(value: object) -> object:
    """Floats to twelve digits, so that a card is the same on every machine; NaN and infinities become null."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, 12) if math.isfinite(value) else None
    return value
