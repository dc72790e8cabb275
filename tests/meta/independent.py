"""A card's figures computed again from its file, plainly, with the publishers' libraries and no code of medbench."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import cohen_kappa_score

_ROUGE = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
_BLEU = BLEU(effective_order=True)


def standard_metrics(prediction: str, reference: str) -> dict[str, float]:
    """sacreBLEU's sentence BLEU and rouge_score's three figures."""
    row = {"bleu4": _BLEU.sentence_score(prediction, [reference]).score}
    for name, found in _ROUGE.score(reference, prediction).items():
        row[name] = found.fmeasure
        row[f"{name}_precision"], row[f"{name}_recall"] = found.precision, found.recall
    return row


def llamafactory_metrics(prediction: str, reference: str) -> dict[str, float]:
    """As LLaMA-Factory's ComputeSimilarity does it, with the precision and recall that it throws away."""
    import jieba
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from rouge_chinese import Rouge

    words = [" ".join(jieba.cut(text)) for text in (prediction, reference)]
    row = {"bleu4": sentence_bleu([list(reference)], list(prediction), smoothing_function=SmoothingFunction().method3)}
    for name, found in Rouge().get_scores(*words)[0].items():
        metric = name.replace("rouge-l", "rougeL").replace("-", "")
        row[metric], row[f"{metric}_precision"], row[f"{metric}_recall"] = found["f"], found["p"], found["r"]
    return {name: round(100 * value, 4) for name, value in row.items()}


def association(
    x: list[float], y: list[float], groups: list[Any], positive: list[bool], within: list[Any]
) -> dict[str, float]:
    """All figures of one metric."""
    pairs = [(i, j) for i, j in itertools.combinations(range(len(x)), 2) if abs(y[i] - y[j]) > 1e-9]
    credit = [_credit(x, y, i, j) for i, j in pairs]
    near = [_credit(x, y, i, j) for i, j in pairs if within[i] == within[j]]
    return {
        "spearman": spearmanr(x, np.round(y, 9)).statistic,
        "kendall": kendalltau(x, np.round(y, 9)).statistic,
        "auc": sum(credit) / len(credit),
        "pairs": sum(near) / len(near),
        "kappa": _held_out(np.array(x), np.array(positive), np.array(groups)),
    }


def _credit(x: list[float], y: list[float], i: int, j: int) -> float:
    if x[i] == x[j]:
        return 0.5
    return float((x[i] > x[j]) == (y[i] > y[j]))


def _held_out(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    called = np.zeros(len(x), dtype=bool)
    for group in np.unique(groups):
        train = groups != group
        best, cut = 0.0, np.inf
        total, positives = train.sum(), y[train].sum()
        for threshold in np.unique(x[train]):
            high = x[train] >= threshold
            agreed = np.mean(high == y[train])
            chance = (high.sum() * positives + (total - high.sum()) * (total - positives)) / total**2
            kappa = (agreed - chance) / (1 - chance) if chance < 1 else 0.0
            if kappa > best + 1e-12:
                best, cut = kappa, threshold
        called[~train] = x[~train] >= cut
    return float(cohen_kappa_score(y, called))


def alpha(ratings: list[list[float | None]], distance: Any) -> float:
    """Krippendorff's alpha by its definition: disagreement of ratings of one thing over that of all ratings."""
    things = [[value for value in row if value is not None] for row in ratings]
    things = [row for row in things if len(row) > 1]
    pooled = Counter(itertools.chain.from_iterable(things))
    n = sum(pooled.values())
    observed = (
        sum(sum(distance(a, b, pooled) for a, b in itertools.permutations(row, 2)) / (len(row) - 1) for row in things)
        / n
    )
    expected = sum(pooled[a] * (pooled[b] - (a == b)) * distance(a, b, pooled) for a in pooled for b in pooled) / (
        n * (n - 1)
    )
    return 1 - observed / expected


def nominal(a: Any, b: Any, pooled: Counter[Any]) -> float:
    return float(a != b)


def interval(a: float, b: float, pooled: Counter[Any]) -> float:
    return (a - b) ** 2


def ordinal(a: float, b: float, pooled: Counter[Any]) -> float:
    low, high = sorted((a, b))
    return (sum(count for value, count in pooled.items() if low <= value <= high) - (pooled[a] + pooled[b]) / 2) ** 2


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
