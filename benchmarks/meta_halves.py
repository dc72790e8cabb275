"""Do a card's intervals hold on data that it has not seen? Half of the groups makes a card, the other half tries it.

    python benchmarks/meta_halves.py CARD FILE [--splits 60]

CARD is a shipped card (mslr, kqa) or a card's file, FILE the data that it was made from. The groups are dealt into two
halves again and again: each split makes the card's figures on one half and compares the other half's figures with them.
Printed per kind of figure: the share of comparisons inside the confidence interval (a replication of the same size
lands there in about 83%, not 95%, since it varies, too) and inside the replication interval (about 95%).
"""

from __future__ import annotations

import argparse
import shlex
from collections import defaultdict
from dataclasses import replace
from typing import Any

import click
import numpy as np

from medbench.meta.asked import parse_facets, parse_labels
from medbench.meta.card import load_cards
from medbench.meta.columns import Judged, names_of, read_rows, select
from medbench.meta.command import command
from medbench.meta.evaluate import FIGURES, Settings, agreement, evaluate
from medbench.meta.make import Asked
from medbench.meta.measures import measure
from medbench.meta.people import People, people
from medbench.surface.tokens import detect_language

SHOWN = ("standard bleu4", "standard rouge1_recall")  # metrics with lines of their own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card")
    parser.add_argument("file")
    parser.add_argument("--splits", type=int, default=60)
    parser.add_argument("--resamples", type=int, default=200)
    given = parser.parse_args()
    (card,) = load_cards([given.card])
    judged, said, scores = read(card, given.file)
    landed: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    undefined = 0
    for split in range(given.splits):
        groups = np.random.default_rng(split).permutation(len(judged.group_names))
        first = np.isin(judged.groups, groups[: len(groups) // 2])
        one = figures(judged, said, scores, first, given.resamples)
        two = figures(judged, said, scores, ~first, 2)
        for key, figure in one.items():
            estimate = two[key]["estimate"]
            if estimate is None or figure["interval"] is None:
                undefined += 1
                continue
            inside = [figure[name][0] <= estimate <= figure[name][1] for name in ("interval", "replication_interval")]
            shown = [key[0], "all", *([f"  {key[1]} {key[0]}"] if key[1] in SHOWN else [])]
            for name in shown:
                landed[name].append((inside[0], inside[1]))
    print(f"{card['name']}: {given.splits} splits of {len(judged.group_names)} groups into halves")
    print(f"{'figure':32} {'confidence':>10} {'replication':>11} {'comparisons':>11}")
    for name in sorted(landed, key=lambda name: (name.startswith(" "), name)):
        shares = np.mean(landed[name], axis=0)
        print(f"{name:32} {shares[0]:10.1%} {shares[1]:11.1%} {len(landed[name]):11,}")
    print(f"undefined on one of the halves: {undefined:,}")


def read(card: dict[str, Any], file: str) -> tuple[Judged, People, dict[str, np.ndarray]]:
    """The rows that a card's command uses, what people say of them, and every metric."""
    with click.Context(command, resilient_parsing=True) as ctx:
        parser = command.make_parser(ctx)
        given, _, _ = parser.parse_args(shlex.split(card["command"])[2:])
    asked = Asked(_columns(card), tuple(given["human"]), given.get("labels"), given.get("positive"))
    rows, left_out = read_rows(file)
    judged = select(rows, left_out, asked.columns)
    known = names_of(rows)
    said = people(judged, parse_facets(asked.human, known, file), parse_labels(asked.labels, asked.positive))
    languages = [detect_language(text) for text in judged.references]
    profiles, lengths = measure(judged.predictions, judged.references, languages)
    scores = {f"{profile} {name}": values for profile, found in profiles.items() for name, values in found.items()}
    return judged, said, scores | lengths


def _columns(card: dict[str, Any]) -> Any:
    from medbench.meta.columns import Columns

    names = card["columns"]
    return Columns(names["prediction"], names["reference"], names["group"], names["rater"], tuple(names["scores"]))


def figures(
    judged: Judged, said: People, scores: dict[str, np.ndarray], rows: np.ndarray, resamples: int
) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind of figure, metric) -> figure, on some rows."""
    raters = None if judged.raters is None else [r for r, here in zip(judged.raters, rows, strict=True) if here]
    part = replace(judged, groups=judged.groups[rows], raters=raters)
    settings = Settings(resamples=resamples)
    found, _, _ = evaluate(
        part,
        replace(said, value=said.value[rows], positive=said.positive[rows]),
        {name: values[rows] for name, values in scores.items()},
        settings,
    )
    kept = {(kind, name): own[kind] for name, own in found.items() for kind in FIGURES}
    groups = np.unique(judged.groups[rows])
    for panel in said.panels:
        here = np.isin(panel.clusters, groups)
        agreed = agreement(replace(panel, ratings=panel.ratings[here], clusters=panel.clusters[here]), settings)
        for level, figure in agreed.get("alpha", {}).items():
            kept["people: alpha", f"{panel.of} {level}"] = figure
        for entry in agreed.get("kappa", []):
            kept["people: kappa", f"{panel.of} {entry['raters']}"] = entry["kappa"]
    return kept


if __name__ == "__main__":
    main()
