"""How often do the intervals of `medbench meta` hold the truth? Simulated ratings with groups whose outputs are alike.

    python benchmarks/meta_coverage.py [--draws 200]

A group has 1 to 12 outputs (as MSLR's reviews), or 3 to 12 (as K-QA's questions). Score and rating share a part that
is the group's and a part that is the output's; ratings are cut to 0-3, or to yes and no. Truth is the figure on 20,000
groups; for the held-out kappa, whose threshold is as good as its data, the mean over all draws. Printed: the share of
95% intervals that hold the truth, and the share of replication intervals that hold the next draw's figure.
"""

from __future__ import annotations

import argparse

import numpy as np

from medbench.meta.columns import Judged, LeftOut
from medbench.meta.evaluate import FIGURES, Settings, evaluate
from medbench.meta.people import People

GROUPS = (6, 12, 29, 150)
WORLDS = {"ratings": (1, 4), "labels": (3, 2)}  # least outputs of a group, levels of the rating


def draw(rng: np.random.Generator, groups: int, least: int, levels: int) -> tuple[Judged, People, np.ndarray]:
    """A study: what `evaluate` takes, without texts."""
    sizes = np.minimum(12, least - 1 + rng.geometric(0.4 if least == 1 else 0.2, size=groups))
    index = np.repeat(np.arange(groups), sizes)
    own, shared = rng.normal(size=len(index)), rng.normal(size=groups)[index]
    score = 0.4 * own + 0.5 * shared + rng.normal(size=len(index))
    rating = 0.7 * own + 0.5 * shared + 0.7 * rng.normal(size=groups)[index] + rng.normal(size=len(index))
    cuts = np.array([-1.0, 0.3, 1.5]) if levels == 4 else np.array([0.6])
    value = np.digitize(rating, cuts).astype(float)
    judged = Judged([], [], [], index, [str(g) for g in range(groups)], None, LeftOut(), len(index), [])
    return judged, People("ratings", value, value >= (levels - 1) / 2, "", "", [], []), score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    print(f"{'world':8} {'groups':>6}  " + "  ".join(f"{name:>16}" for name in FIGURES))
    for world, (least, levels) in WORLDS.items():
        truth = figures(draw(np.random.default_rng(1), 20_000, least, levels), 2)
        for groups in GROUPS:
            rng = np.random.default_rng(groups)
            found = [figures(draw(rng, groups, least, levels), 200) for _ in range(given.draws)]
            cells = []
            for name in FIGURES:
                known = [one[name]["estimate"] for one in found if one[name]["estimate"] is not None]
                target = float(np.mean(known)) if name == "kappa" else truth[name]["estimate"]
                held = [_inside(one[name]["interval"], target) for one in found]
                pairs = zip(found, [*found[1:], found[0]], strict=True)
                again = [_inside(one[name]["replication_interval"], other[name]["estimate"]) for one, other in pairs]
                cells.append(" ".join(f"{_share(answers):>7}" for answers in (held, again)))
            print(f"{world:8} {groups:>6}  " + "  ".join(f"{cell:>16}" for cell in cells), flush=True)
    print("of each figure: truth inside the interval, next study inside the replication interval")


def figures(study: tuple[Judged, People, np.ndarray], resamples: int) -> dict[str, dict[str, object]]:
    """The figures of one study."""
    judged, said, score = study
    found: dict[str, dict[str, object]] = evaluate(judged, said, {"score": score}, Settings(resamples=resamples))[0][
        "score"
    ]
    return found


def _inside(bounds: object, value: object) -> bool | None:
    if not isinstance(bounds, list) or not isinstance(value, float):
        return None
    return bool(bounds[0] <= value <= bounds[1])


def _share(answers: list[bool | None]) -> str:
    known = [answer for answer in answers if answer is not None]
    return f"{np.mean(known):.1%}" if known else "-"


if __name__ == "__main__":
    main()
