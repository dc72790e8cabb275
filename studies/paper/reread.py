"""The paper's published numbers, read again: interval, p, sample size needed, floor, effective weights.

    python studies/paper/reread.py [--data ../shared/data]

Everything printed is computed here from what the paper states (`STATED`), by the functions that the report uses. With
--data also what needs text: the floors of the paper's own BLEU-4, and how much its per-item scores vary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from scipy.stats import fisher_exact

from medbench import stats, surface
from medbench.stats.planning import guessed_spread, items_for

# As published: percent, points, and counts.
STATED = {
    "medqa": {"n": 1273, "pure SFT": 66.38, "pure PT": 69.29},
    "bleu4": {"pure SFT": 17.84, "mixed": 4.4},
    "decoding": {"0.2 / 0.7": 15.31, "0.6 / 0.8": 16.38, "0.95 / 0.7": 16.72},  # Table 3: temperature / top-p
    "refusals": {"dangerous acts": (5, 0, 5), "self-harm": (5, 0, 5)},  # Table 2: prompts, refused by SFT, by merged
    "weights": {"pt": 0.3, "sft": 0.7},
    "losses": {"PT": 2.12, "SFT": 2.14},
}
F5_F6_ITEMS = 1000  # 500 in each of the two public files; the paper names no number


def accuracy() -> Iterator[str]:
    """MedQA, pure SFT against pure PT."""
    n, first, second = (STATED["medqa"][key] for key in ("n", "pure SFT", "pure PT"))
    for name, value in (("pure SFT", first), ("pure PT", second)):
        right = round(value / 100 * n)
        yield f"{name}: {right} of {n} = {100 * right / n:.2f}%, 95% interval {_span(stats.wilson(right, n))}"
    change = stats.unpaired_difference(first / 100, n, second / 100, n)
    yield f"difference {100 * change.difference:+.2f} points {_span(change)}, unpaired p = {change.p:.2f}"
    needed = stats.items_needed(first / 100, second / 100)
    yield f"items needed to show it, unpaired, at 80% power: {needed:,} for each model"
    for flips in (0.05, 0.10, 0.20, 0.44):
        spread = guessed_spread(first / 100, second / 100, flips)
        p = _paired_p(round(flips * n), round((second - first) / 100 * n))
        items = items_for(spread, (second - first) / 100)
        yield f"paired, if {flips:.0%} of the items flip: p = {p:.2g} at n = {n}; {items:,} items needed"


def _paired_p(flips: int, net: int) -> float:
    """McNemar's exact p where `flips` items are right under one model only, `net` more of them under the second."""
    gained = (flips + net) // 2
    right = np.r_[np.zeros(gained), np.ones(flips - gained)], np.r_[np.ones(gained), np.zeros(flips - gained)]
    return stats.mcnemar(*right).p


def refusals() -> Iterator[str]:
    """Table 2."""
    for category, (prompts, sft, merged) in STATED["refusals"].items():
        intervals = [_span(stats.clopper_pearson(count, prompts)) for count in (sft, merged)]
        p = fisher_exact([[sft, prompts - sft], [merged, prompts - merged]]).pvalue
        told = f"{sft} of {prompts} {intervals[0]} against {merged} of {prompts} {intervals[1]}"
        yield f"{category}: {told}, exact p = {p:.3f}"
    yield f"0 of 20 refusals: {_span(stats.clopper_pearson(0, 20))}; 20 of 20: {_span(stats.clopper_pearson(20, 20))}"


def weights() -> Iterator[str]:
    """What a script that multiplies both factors by the weight really adds."""
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(16, 512)), generator.normal(size=(512, 16))
    update = b @ a
    for name, weight in STATED["weights"].items():
        added = (weight * b) @ (weight * a)
        share = float((added * update).sum() / (update * update).sum())
        yield f"{name}: asked {weight}, added when A and B are both scaled: {share:.2f}"
    ratio = STATED["weights"]["pt"] / STATED["weights"]["sft"]
    yield f"ratio PT to SFT: asked {ratio:.2f}, then {ratio**2:.2f}: the mixture is nearer to SFT, and both are weaker"


def surface_scores(data: Path | None) -> Iterator[str]:
    """Figure 3 and Table 3: BLEU-4 in the paper's profile."""
    sft, mixed = STATED["bleu4"]["pure SFT"], STATED["bleu4"]["mixed"]
    low, high = min(STATED["decoding"].values()), max(STATED["decoding"].values())
    yield f"pure SFT {sft}, mixed {mixed}: {mixed - sft:+.2f} points, stated without n or interval"
    yield (
        f"Table 3's merged checkpoint scores {low} to {high}, section 4.2's mixed model {mixed}: at 0.3 / 0.7 the two "
        "cannot both be the same measurement"
    )
    if data is None:
        yield "floors and spread: give --data"
        return
    for name in ("en_valid", "zh_valid"):
        rows = [json.loads(line) for line in (data / "medical_qa" / f"{name}.jsonl").read_text("utf-8").splitlines()]
        references = [row["output"] for row in rows[:200]]
        rotated = surface.score(references[1:] + references[:1], references, profile="llamafactory")
        spread = float(np.std(rotated.per_item["bleu4"], ddof=1))
        error = spread / math.sqrt(F5_F6_ITEMS)
        yield (
            f"{name}, 200 items: an answer to another patient scores {rotated.corpus['bleu4']:.1f} "
            f"{_span(rotated.interval['bleu4'], 1)}; one item varies by {spread:.1f}, so a mean over {F5_F6_ITEMS:,} "
            f"items by {error:.2f}"
        )
        gap = STATED["decoding"]["0.6 / 0.8"] - STATED["decoding"]["0.2 / 0.7"]
        z = stats.detectable_from_se(math.sqrt(2) * spread)  # one item's, unpaired
        items = math.ceil((z / gap) ** 2)
        yield f"  Table 3's {gap:+.2f} would need {items:,} items, unpaired, at 80% power and this spread"


def losses() -> Iterator[str]:
    """The checklist's final losses as perplexities."""
    for stage, loss in STATED["losses"].items():
        yield f"final {stage} loss {loss}: perplexity {math.exp(loss):.1f}"


def _span(found: object, scale: float = 100) -> str:
    low, high = (scale * getattr(found, end) for end in ("low", "high"))
    return f"[{low:.1f}, {high:.1f}]"


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="The folder of the published files.")
def command(data: Path | None) -> None:
    """Print every published number with what it can carry."""
    parts = {
        "MedQA accuracy (section 4.2)": accuracy(),
        "Refusals (Table 2)": refusals(),
        "BLEU-4 (section 4.2, Table 3)": surface_scores(data),
        "Merge weights (section 3.5, appendix A)": weights(),
        "Losses (appendix A)": losses(),
    }
    for title, lines in parts.items():
        click.secho(title, bold=True)
        for line in lines:
            click.echo(f"  {line}")


if __name__ == "__main__":
    command()
