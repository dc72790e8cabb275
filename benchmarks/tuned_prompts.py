"""How often "better than its base" is said falsely when each model is asked with its own best prompt.

    python benchmarks/tuned_prompts.py [--simulations 2000] [--seed 1] [--only unequal]

Two models are simulated whose answers depend on the prompt: an answer is right where
skill + item + (model x item) + (model x item x prompt) + prompt effect > 0, with variances .4, .3 and .3 of the items,
and prompt effects of which a part is common to both models (what suits everybody) and a part is each model's own. Each
model is asked with K prompts on m tuning items and takes its best; both are then tested on n other items. Three ways to
be equal:

  exchangeable  both models have the same skill, and own prompt effects drawn alike: tuned alike, either may come out
                ahead. Saying that one *model* is better is false.
  best          as before, and the best of the K prompts is exactly as good for both: only what tuning misses differs.
  asked         with the two prompts that were picked both are exactly equal.

`plain` is the house's paired test on the tested items (`stats.paired_rates`), `general` the claim that also counts the
spread over prompts (`stats.tuned_rates`). `sign` is how often the plain test's claim has the wrong sign, or any, about
the difference that the two picked prompts truly have: what it does promise. Then models of which only one minds the
prompt, and the shortcuts that inflate: tuning the adapted model alone, and picking prompts on the tested items. All in
percent of simulations, two-sided tests at 5%.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np

from medbench import stats

SHARES = np.sqrt([0.4, 0.3, 0.3])
POINT = 0.01 / 0.3989  # of accuracy at 50%, in units of the latent sum


@dataclass(frozen=True)
class World:
    """What is simulated: items to test (n) and to tune on (m), prompts (k), and how far they matter, in points."""

    n: int
    m: int
    k: int
    own: float
    common: float
    broken: float = 0.0  # chance that a prompt costs a model 20 points
    ahead: float = 0.0  # what the adapted model truly is better, in points
    base_own: float | None = None  # the base's own effects, where they are not the adapted model's


def effects(world: World, null: str, rng: np.random.Generator) -> np.ndarray:
    """Prompt effects, shape (2, k), in latent units."""
    spread = [[world.own if world.base_own is None else world.base_own], [world.own]]
    found = rng.normal(0, world.common, world.k) + rng.normal(0, spread, (2, world.k))
    found -= 20 * (rng.random((2, world.k)) < world.broken)
    if null == "best":
        found[1] += found[0].max() - found[1].max()
    found[1] += world.ahead
    return found * POINT


def answers(effect: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Right or wrong, shape (2, prompts, n), for effects of shape (2, prompts)."""
    item, own = rng.normal(size=n), rng.normal(size=(2, 1, n))
    each = rng.normal(size=(*effect.shape, n))
    return (SHARES[0] * item + SHARES[1] * own + SHARES[2] * each + effect[:, :, None] > 0).astype(float)


def simulate(world: World, null: str, rng: np.random.Generator) -> dict[str, bool]:
    """One study: who claims what."""
    effect = effects(world, null, rng)
    tuning = answers(effect, world.m, rng)
    picked = tuning.mean(axis=2).argmax(axis=1)
    true = effect[[0, 1], picked]
    if null == "asked":
        true = np.array([true[0], true[0]])
    base, adapted = answers(true[:, None], world.n, rng)[:, 0]
    found = stats.tuned_rates(base, adapted, tuning[0], tuning[1])
    change, p = found.asked.difference, found.asked.p
    return {
        "plain": p < 0.05,
        "plain better": p < 0.05 and change > 0,
        "general": found.general.p < 0.05,
        "general better": found.general.p < 0.05 and change > 0,
        "sign": p < 0.05 and np.sign(change) != np.sign(true[1] - true[0]),
    }


def shortcuts(world: World, rng: np.random.Generator) -> dict[str, bool]:
    """What tuning one model alone, or on the tested items, claims of exchangeable models (plain test, "better")."""
    effect = effects(world, "exchangeable", rng)
    tuning, tested = answers(effect, world.m, rng), answers(effect, world.n, rng)
    fair, peeked = tuning.mean(axis=2).argmax(axis=1), tested.mean(axis=2).argmax(axis=1)

    def better(base: int, adapted: int) -> bool:
        found = stats.paired_rates(tested[0, base], tested[1, adapted])
        return found.p < 0.05 and found.difference > 0

    return {
        "both tuned on other items": better(fair[0], fair[1]),
        "adapted alone, on other items": better(0, fair[1]),
        "both, on the tested items": better(peeked[0], peeked[1]),
        "adapted alone, on the tested items": better(0, peeked[1]),
    }


def rates(rows: list[dict[str, bool]]) -> dict[str, float]:
    """Percent of simulations."""
    return {key: 100 * float(np.mean([row[key] for row in rows])) for key in rows[0]}


HEADS = ("n", "K", "m", "plain", "better", "general", "better", "sign")
NULLS = ("exchangeable", "best", "asked")
SENSITIVITY = {
    "prompts do not matter": (0.0, 0.0, 0.0),
    "own effects of 1 point": (1.0, 1.0, 0.0),
    "own effects of 2 points, common of 2": (2.0, 2.0, 0.0),
    "own effects of 5 points": (5.0, 2.0, 0.0),
    "2 points, and 3 in 10 prompts cost 20": (2.0, 0.0, 0.3),
}


def unequal(simulations: int, seed: int) -> None:
    """Print the claims where only the adapted model minds the prompt, and its best is as good as the base's."""
    rng = np.random.default_rng([seed, 1])
    print("only the adapted model is sensitive (own effects 6 points, the base's 0.5), best prompts equal, n = 1000")
    for k, m in itertools.product((3, 6, 12), (50, 200)):
        world = World(1000, m, k, own=6.0, common=0.0, base_own=0.5)
        found = rates([simulate(world, "best", rng) for _ in range(simulations)])
        print(f"K {k:2}, m {m:3}: " + ", ".join(f"{key} {value:.1f}" for key, value in found.items()), flush=True)
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["unequal"], help="one part alone")
    options = parser.parse_args()
    unequal(options.simulations, options.seed)
    if options.only:
        return
    rng = np.random.default_rng(options.seed)
    times = range(options.simulations)
    worst: dict[tuple[str, str], dict[str, float]] = {}
    print(f"{options.simulations} simulations a row; percent that claim a difference (and of them: 'better')\n")
    print(
        f"{'null':13}{'prompts':38}{'n':>5}{'K':>4}{'m':>5}{'plain':>8}{'better':>8}{'general':>9}{'better':>8}{'sign':>7}"
    )
    for null, (name, (own, common, broken)) in itertools.product(NULLS, SENSITIVITY.items()):
        for n, k, m in itertools.product((200, 1000), (3, 6, 12), (50, 200)):
            world = World(n, m, k, own, common, broken)
            found = rates([simulate(world, null, rng) for _ in times])
            shown = "".join(f"{found[key]:{width}.1f}" for key, width in zip(found, (8, 8, 9, 8, 7), strict=True))
            print(f"{null:13}{name:38}{n:5}{k:4}{m:5}{shown}", flush=True)
            most = worst.setdefault((null, name), dict.fromkeys(found, 0.0))
            most.update({key: max(value, found[key]) for key, value in most.items()})
    print("\nthe largest of each block")
    for (null, name), most in worst.items():
        print(f"{null:13}{name:38}" + "".join(f"  {key} {value:.1f}" for key, value in most.items()))
    overall = {key: max(most[key] for most in worst.values()) for key in next(iter(worst.values()))}
    print("of all: " + ", ".join(f"{key} {value:.1f}%" for key, value in overall.items()))
    print("\nshortcuts: exchangeable models, 'better' by the plain test (nominal 2.5%)")
    for name, (own, common, broken) in SENSITIVITY.items():
        found = rates([shortcuts(World(1000, 200, 6, own, common, broken), rng) for _ in times])
        print(f"{name:38}" + ", ".join(f"{key} {value:.1f}" for key, value in found.items()), flush=True)
    print("\npower: the adapted model is truly better; n = 1000, own and common effects of 1 point")
    for ahead, k, m in itertools.product((5, 10), (6, 12), (50, 200, 500)):
        found = rates([simulate(World(1000, m, k, 1.0, 1.0, ahead=ahead), "exchangeable", rng) for _ in times])
        shown = f"plain {found['plain better']:.0f}, general {found['general better']:.0f}"
        print(f"{ahead:3} points, K {k:2}, m {m:3}: {shown}", flush=True)


if __name__ == "__main__":
    main()
