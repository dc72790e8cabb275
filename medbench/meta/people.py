"""What people say of each output: labels or ratings, by one or several raters, of one or several facets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medbench.errors import MedbenchError, unknown
from medbench.meta.asked import Facet, Labels
from medbench.meta.columns import Judged, as_number, counted, few, is_blank, named_values

_TIE = 1e-9


@dataclass(frozen=True)
class Panel:
    """Ratings of the same things by several people, for their agreement.

    Attributes:
        of: what was judged.
        ratings: shape (things, raters), NaN where one did not judge; labels by their number in `labels`.
        raters: their names.
        clusters: shape (things,), the group of each.
        labels: names of the values, in their order; empty for numbers.
    """

    of: str
    ratings: np.ndarray
    raters: list[str]
    clusters: np.ndarray
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class People:
    """What people say of each row.

    Attributes:
        kind: ``labels`` or ``ratings``.
        value: shape (n,): 1 or 0 for labels (positive by majority or not), the mean rating otherwise; NaN where people
            say nothing that can be used.
        positive: shape (n,), bool.
        target, positive_is: both in words.
        panels: who can be compared with whom.
        notes: missing and odd cells.
    """

    kind: str
    value: np.ndarray
    positive: np.ndarray
    target: str
    positive_is: str
    panels: list[Panel]
    notes: list[str]


def people(judged: Judged, facets: Sequence[Facet], labels: Labels) -> People:
    """Values, and who can be compared with whom.

    Raises:
        MedbenchError: labels without a positive one or numbers, nothing but odd cells, several facets of labels.
    """
    found = _labelled(judged, facets, labels) if labels.positive else _rated(judged, facets, labels)
    if judged.raters is not None:
        ratings = Counter(zip(judged.raters, judged.groups, judged.predictions, judged.references, strict=True))
        again = sum(count - 1 for count in ratings.values())
        if again:
            found.notes.append(
                f"one rater judged the same texts again in {counted(again, 'row')}: agreement takes the first"
            )
    return found


def _labelled(judged: Judged, facets: Sequence[Facet], labels: Labels) -> People:
    if len(facets) > 1 or facets[0].same_as:
        raise MedbenchError(
            "labels take one --human, its raters separated by commas (--human label_1,label_2); "
            "several --human are facets of ratings, which need numbers: --labels A=1,B=0."
        )
    columns, notes = facets[0].columns, []
    cells, spelled = [], dict(labels.names)
    for column in columns:
        found, strange = [], []
        for row in judged.rows:
            text = "" if row.data.get(column) is None else _as_label(row.data[column])
            key = text.casefold()
            if key not in labels.names and is_blank(text):
                text = key = ""
            if text and labels.names and key not in labels.names:
                strange.append((row.row, text))
                key = ""
            elif text:
                spelled.setdefault(key, text)
            found.append(key)
        cells.append(found)
        notes += _missing(column, [row.row for row, key in zip(judged.rows, found, strict=True) if not key], strange)
    _need_positive(labels, spelled, judged, columns)
    order = list(labels.names or sorted(spelled))
    codes = np.array([[order.index(key) if key else np.nan for key in column] for column in cells], dtype=float).T
    said = np.isfinite(codes)
    chosen = np.isin(codes, [order.index(key) for key in labels.positive])
    votes, against = (said & chosen).sum(axis=1), (said & ~chosen).sum(axis=1)
    value = np.where(votes == against, np.nan, (votes > against).astype(float))
    for i, row in enumerate(judged.rows):
        if not said[i].any():
            judged.left_out.add("no label", row.row)
        elif votes[i] == against[i]:
            judged.left_out.add("no majority among its raters", row.row)
    positive = " or ".join(spelled[key] for key in labels.positive)
    how = f"the majority of {', '.join(columns)}" if len(columns) > 1 else columns[0]
    panels = _panels(judged, facets[0].name, codes, columns, tuple(spelled[key] for key in order))
    if len(order) > 2:
        either = np.where(said, chosen.astype(float), np.nan)
        panels += _panels(judged, f"{positive} or not", either, columns, (f"not {positive}", positive))
    return People("labels", value, value > 0.5, f"{how} is {positive}", positive, panels, notes)


def _need_positive(labels: Labels, spelled: dict[str, str], judged: Judged, columns: Sequence[str]) -> None:
    missing = [key for key in labels.positive if key not in spelled]
    if missing:
        raise MedbenchError(
            f"{judged.rows[0].file}: no cell of {', '.join(columns)} says {missing[0]!r}. "
            f"{unknown('label', missing[0], spelled.values())}"
        )


def _as_label(value: object) -> str:
    """A cell as its label: 1.0 and 1 are one."""
    number = as_number(value)
    return f"{number:g}" if number is not None and not isinstance(value, str) else str(value).strip()


def _rated(judged: Judged, facets: Sequence[Facet], labels: Labels) -> People:
    notes: list[str] = []
    panels: list[Panel] = []
    shares, ratings_of, plain = [], [], np.zeros(len(judged.rows), dtype=bool)
    if len(set(labels.numbers.values())) > 1:  # labels with numbers are a scale
        ends = min(labels.numbers.values()), max(labels.numbers.values())
        facets = [facet if facet.scale or facet.same_as else replace(facet, scale=ends) for facet in facets]
    for facet in facets:
        if facet.same_as:
            same = _same(judged, facet.columns[0], facet.same_as, notes)
            shares.append(same)
            panels += _panels(judged, facet.name, same[:, None], facet.columns)
            continue
        ratings = np.stack([_ratings(judged, column, facet, labels, notes) for column in facet.columns], axis=1)
        ratings_of.append(ratings)
        plain |= np.isfinite(ratings).any(axis=1)
        shares.append(_scaled(_mean(ratings), facet, len(facets) > 1, notes))
        panels += _panels(judged, facet.name, ratings, facet.columns)
    if not ratings_of:
        plain[:] = True
    value = _mean(np.stack(shares, axis=1))
    value[~plain] = np.nan
    for row, known in zip(judged.rows, np.isfinite(value), strict=True):
        if not known:
            judged.left_out.add("no rating", row.row)
    if len(facets) > 1:
        part = np.stack(shares, axis=1)[np.isfinite(value)]
        some = int(np.sum(~np.isfinite(part).all(axis=1)))
        if some:
            notes.append(f"not every facet was rated in {counted(some, 'row')}; their value is the mean of the others")
        panels += _panels(judged, "mean of all facets", value[:, None], ("mean",))
    low, high = _range(facets, value, ratings_of)
    bound = labels.at_least if labels.at_least is not None else (low + high) / 2
    return People(
        "ratings",
        value,
        value >= bound - _TIE,
        _in_words(facets),
        f"at least {bound:g} of {low:g} to {high:g}",
        panels,
        notes,
    )


def _ratings(judged: Judged, column: str, facet: Facet, labels: Labels, notes: list[str]) -> np.ndarray:
    """A column as numbers, NaN where it holds none; odd cells are noted."""
    values = np.full(len(judged.rows), np.nan)
    blank, strange = [], []
    for i, row in enumerate(judged.rows):
        cell = row.data.get(column)
        if is_blank(cell):
            blank.append(row.row)
            continue
        number = labels.numbers.get(_as_label(cell).casefold()) if labels.numbers else as_number(cell)
        outside = number is not None and facet.scale is not None and not facet.scale[0] <= number <= facet.scale[1]
        if number is None or outside:
            strange.append((row.row, cell))
        else:
            values[i] = number
    if len(strange) > np.isfinite(values).sum():
        counts = Counter(str(value)[:40] for _, value in strange)
        seen = ", ".join(f"{value!r} ({count})" for value, count in counts.most_common(5))
        raise MedbenchError(
            f"{judged.rows[0].file}: most cells of {column!r} are no rating"
            f"{f' of {facet.scale[0]:g} to {facet.scale[1]:g}' if facet.scale else ''}: {seen}. "
            "For labels, name the one that counts as positive (--positive LABEL) or give numbers (--labels A=1,B=0)."
        )
    notes += _missing(column, blank, strange)
    return values


def _missing(column: str, blank: list[str], strange: Sequence[tuple[str, object]]) -> list[str]:
    odd = {row for row, _ in strange}
    blank = [row for row in blank if row not in odd]
    notes = [f"{column}: {counted(len(blank), 'row')} without a judgement ({few(blank)})"] if blank else []
    if strange:
        notes.append(f"{column}: {counted(len(strange), 'cell')} outside its labels: {named_values(strange)}")
    return notes


def _same(judged: Judged, first: str, second: str, notes: list[str]) -> np.ndarray:
    """1 where two columns say the same, two blank ones too, else 0."""
    pairs = [
        tuple("" if is_blank(row.data.get(name)) else _plain(row.data[name]) for name in (first, second))
        for row in judged.rows
    ]
    blank = sum(pair == ("", "") for pair in pairs)
    if blank:
        notes.append(f"{first} = {second}: both blank in {counted(blank, 'row')}, which counts as the same")
    return np.array([float(a == b) for a, b in pairs])


def _plain(value: object) -> str:
    number = as_number(value)
    return str(value).strip().casefold() if number is None else f"{number:g}"


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is there, NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _scaled(rating: np.ndarray, facet: Facet, several: bool, notes: list[str]) -> np.ndarray:
    """A facet that is averaged with others as a share of its scale."""
    if not several:
        return rating
    scale = facet.scale
    if scale is None:
        known = rating[np.isfinite(rating)]
        if not len(known) or np.ptp(known) == 0:
            raise MedbenchError(
                f"--human {facet.name}: without two different ratings its scale is unknown; write {facet.name}:0-2."
            )
        scale = (float(known.min()), float(known.max()))
        notes.append(
            f"{facet.name}: no scale given, taken as {scale[0]:g} to {scale[1]:g}, as found; "
            f"write {facet.name}:LOW-HIGH so that other files are measured alike"
        )
    return (rating - scale[0]) / (scale[1] - scale[0])


def _range(facets: Sequence[Facet], value: np.ndarray, ratings: list[np.ndarray]) -> tuple[float, float]:
    if len(facets) > 1 or facets[0].same_as:
        return 0.0, 1.0
    if facets[0].scale:
        return facets[0].scale
    known = ratings[0][np.isfinite(ratings[0])]
    if not len(known):
        raise MedbenchError(f"--human {facets[0].name}: no row holds a rating.")
    return float(known.min()), float(known.max())


def _in_words(facets: Sequence[Facet]) -> str:
    parts = []
    for facet in facets:
        name = f"whether {facet.columns[0]} and {facet.same_as} are the same" if facet.same_as else facet.name
        if not facet.same_as and len(facet.columns) > 1:
            name = f"the mean of {name}"
        if facet.scale and len(facets) > 1:
            name += f" ({facet.scale[0]:g} to {facet.scale[1]:g}, as a share)"
        parts.append(name)
    return f"the mean of {'; '.join(parts)}" if len(parts) > 1 else parts[0]


def _panels(
    judged: Judged, of: str, ratings: np.ndarray, columns: Sequence[str], labels: tuple[str, ...] = ()
) -> list[Panel]:
    """A panel of the columns, or of the raters of rows with the same texts; none where only one person judged."""
    if judged.raters is None:
        return [Panel(of, ratings, list(columns), judged.groups, labels)] if ratings.shape[1] > 1 else []
    if ratings.shape[1] > 1:
        raise MedbenchError(
            f"--rater says that each row is one rating, but --human {', '.join(columns)} names several raters; "
            "leave one of the two out, or give facets as several --human."
        )
    names = sorted(set(judged.raters))
    things: dict[tuple[int, str, str], int] = {}
    where = [
        things.setdefault(key, len(things))
        for key in zip(judged.groups.tolist(), judged.predictions, judged.references, strict=True)
    ]
    table, clusters = np.full((len(things), len(names)), np.nan), np.zeros(len(things), np.int64)
    for row, thing in enumerate(where):
        rater = names.index(judged.raters[row])
        clusters[thing] = judged.groups[row]
        if np.isnan(table[thing, rater]):
            table[thing, rater] = ratings[row, 0]
    return [Panel(of, table, names, clusters, labels)] if len(names) > 1 else []
