"""Which candidate an endpoint is nearest to, and whether its noise lets that be told.

An endpoint gives the likeliest few tokens of a prediction. At each prompt the vocabulary is therefore divided into the
tokens that it named in every repeat, one class each, and all others as one class; the candidates' exact predictions are
divided likewise. Between two such distributions p and q the distance is Hellinger's,

    d^2 = 1/2 sum (sqrt p - sqrt q)^2,        0 <= d <= 1,

over prompts its root mean square. Putting tokens together can only shrink it (it is an f-divergence), so a short list
hides differences and invents none. In the coordinates sqrt(p) it is Euclidean: the server lies at a place along the
line from one candidate (0) to another (1), and that place has a standard error over prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# The class of all other tokens gets at least this much. Its probability is one minus a sum of numbers that are exact
# to about 1e-6, whose square root would be noise below that.
FLOOR = 1e-5
# How many standard errors the place between two candidates must be from the middle.
ERRORS = 3.0
# How far from the asked weights' effect, as a share of it, counts as another weight.
OFF = 0.1

Likeliest = Mapping[int, float]  # token id -> natural logarithm of its probability


@dataclass(frozen=True)
class Pair:
    """The nearest candidate against another one.

    Attributes:
        separation: Hellinger distance of the two candidates, computed exactly.
        place: where the endpoint lies on the line from the nearest (0) to the other (1).
        error: its standard error over prompts.
        told: whether the endpoint is the nearest one rather than the other.
    """

    separation: float
    place: float
    error: float
    told: bool


@dataclass(frozen=True)
class Comparison:
    """Where an endpoint lies among candidates.

    Attributes:
        distances: candidate -> its distance from the endpoint's mean prediction.
        noise: the endpoint's distance from itself over repeats.
        nearest: the nearest candidate.
        pairs: every other candidate against it.
        covered: the probability that the named tokens hold, mean over prompts.
        tokens: how many tokens were named, mean over prompts.
    """

    distances: dict[str, float]
    noise: float
    nearest: str
    pairs: dict[str, Pair]
    covered: float
    tokens: float

    @property
    def untold(self) -> list[str]:
        """The candidates that cannot be told from the nearest one."""
        return [name for name, pair in self.pairs.items() if not pair.told]


def compare(answers: Sequence[Sequence[Likeliest]], candidates: Mapping[str, np.ndarray]) -> Comparison:
    """Compare an endpoint with candidates.

    Args:
        answers: repeats x prompts: the likeliest tokens, at least one for each.
        candidates: name -> log-probabilities of every token, prompts x vocabulary.
    """
    classes, repeats, server = _server(answers)
    exact = {name: _exact(rows, classes) for name, rows in candidates.items()}
    distances = {name: distance(server, exact[name]) for name in candidates}
    nearest = min(distances, key=lambda name: distances[name])
    noise = _noise(repeats)
    return Comparison(
        distances,
        noise,
        nearest,
        {name: pair(server, exact[nearest], exact[name], noise) for name in candidates if name != nearest},
        float(np.mean([1 - point[-1] ** 2 for point in server])),
        float(np.mean([len(own) for own in classes])),
    )


def between(answers: Sequence[Sequence[Likeliest]], start: np.ndarray, end: np.ndarray) -> tuple[float, float, float]:
    """The distance of two candidates, and the endpoint's place from the first to the second with its standard error."""
    classes, _, server = _server(answers)
    first, second = _exact(start, classes), _exact(end, classes)
    return distance(first, second), *place_between(server, first, second)


def _server(
    answers: Sequence[Sequence[Likeliest]],
) -> tuple[list[list[int]], list[list[np.ndarray]], list[np.ndarray]]:
    """The tokens named in every repeat, by prompt; the repeats' places; and their mean."""
    classes = [sorted(set.intersection(*map(set, named))) for named in zip(*answers, strict=True)]
    repeats = [_placed([[row[t] for t in own] for row, own in zip(answer, classes, strict=True)]) for answer in answers]
    return classes, repeats, [np.mean(points, axis=0) for points in zip(*repeats, strict=True)]


def _exact(rows: np.ndarray, classes: Sequence[Sequence[int]]) -> list[np.ndarray]:
    return _placed([rows[place][list(own)] for place, own in enumerate(classes)])


def _placed(logprobs: Sequence[Sequence[float] | np.ndarray]) -> list[np.ndarray]:
    """Of each prompt the square roots of the classes' probabilities, the class of all other tokens last."""
    points = []
    for row in logprobs:
        named = np.exp(np.asarray(row, dtype=float))
        points.append(np.sqrt(np.append(named, max(1 - named.sum(), FLOOR))))
    return points


def distance(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """Root mean square Hellinger distance over prompts, 0 to 1."""
    return float(np.sqrt(np.mean([np.sum((a - b) ** 2) / 2 for a, b in zip(first, second, strict=True)])))


def _noise(repeats: Sequence[Sequence[np.ndarray]]) -> float:
    """The distance between two repeats, root mean square over all pairs; 0 for a single one."""
    pairs = [
        distance(first, second) ** 2 for place, first in enumerate(repeats) for second in list(repeats)[place + 1 :]
    ]
    return float(np.sqrt(np.mean(pairs))) if pairs else 0.0


def pair(server: Sequence[np.ndarray], near: Sequence[np.ndarray], other: Sequence[np.ndarray], noise: float) -> Pair:
    """Where the server lies on the line between two candidates."""
    separation = distance(near, other)
    place, error = place_between(server, near, other)
    told = separation > noise and place + ERRORS * error < 0.5
    return Pair(separation, place, error, told)


def place_between(
    server: Sequence[np.ndarray], start: Sequence[np.ndarray], end: Sequence[np.ndarray]
) -> tuple[float, float]:
    """Least-squares place of the server from `start` (0) to `end` (1), and its standard error over prompts.

    The error is the sandwich estimate of a regression through the origin: prompts count as independent, so it holds for
    the server's precision too, whose error differs from prompt to prompt. (nan, inf) where the two ends are one.
    """
    lines = [b - a for a, b in zip(start, end, strict=True)]
    along = np.array([np.dot(s - a, line) for s, a, line in zip(server, start, lines, strict=True)])
    length = np.array([np.dot(line, line) for line in lines])
    total = length.sum()
    if total <= 0:
        return float("nan"), float("inf")
    place = along.sum() / total
    left = along - place * length
    count = len(lines)
    error = np.sqrt(np.sum(left**2) * count / max(count - 1, 1)) / total
    return float(place), float(error)
