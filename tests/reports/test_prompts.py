"""Candidates under prompts of their own: compared on purpose, said so, and called better only beyond prompt luck."""

from __future__ import annotations

import numpy as np
import report_worlds as worlds

from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import prompts
from medbench.reports.logs import Run
from medbench.reports.rows import arrange
from medbench.reports.sources import Sources
from medbench.stats import Interval

WORDINGS = ("plain", "terse", "steps", "exam")


def tuned_run(name: str, right: np.ndarray, tuning: np.ndarray, weights: dict[str, float] | None = None) -> Run:
    values = {"accuracy/answer": right[:, None], "answered/answer": np.ones((len(right), 1))}
    run = worlds.run("exam", name, worlds.World(len(right), 1, False, 0.5), values, 0.0)
    best = WORDINGS[int(tuning.mean(axis=1).argmax())]
    run.weights = weights or {}
    run.provenance["metadata"] = {
        "benchmark": {
            "prompt": {
                "name": name,
                "tuned": {
                    "of": f"choice#{best}", "wordings": list(WORDINGS), "items": tuning.shape[1],
                    "ids_sha256": "ab" * 32, "tuning_items_tested": 0,
                    "scores": {w: "".join(str(int(x)) for x in row) for w, row in zip(WORDINGS, tuning, strict=True)},
                },
            }
        }
    }  # fmt: skip
    return run


def tossed(rng: np.random.Generator, rate: float, *shape: int) -> np.ndarray:
    return (rng.random(shape) < rate).astype(float)


def analysed(*runs: Run) -> Analysis:
    return Analysis(arrange("simulated", list(runs)), Options(resamples=300))


def test_a_gain_beyond_prompt_luck_is_called_better_than_the_base() -> None:
    rng = np.random.default_rng(1)
    base = tuned_run("base", tossed(rng, 0.3, 800), tossed(rng, 0.3, 4, 300), {"pt": 0.0, "sft": 0.0})
    sft = tuned_run("sft", tossed(rng, 0.6, 800), tossed(rng, 0.6, 4, 300), {"pt": 0.0, "sft": 1.0})
    found = prompts.section(analysed(base, sft), Sources())
    assert "own best of 4 prompts, picked on 300 other items; none of them is tested" in found.findings[0]
    assert found.findings[1].startswith("sft is better than base by 3")
    assert "would be with prompts like these" in found.findings[1]
    (row,) = found.tables[1].rows
    assert row[:2] == ["base", "sft"]
    assert isinstance(row[2], Interval)
    assert isinstance(row[4], Interval)
    assert row[4].low < row[2].low


def test_a_gain_that_prompt_luck_explains_is_not() -> None:
    rng = np.random.default_rng(2)
    swing = np.array([[0.2], [0.6], [0.3], [0.5]])
    base = tuned_run("base", tossed(rng, 0.5, 800), (rng.random((4, 300)) < swing).astype(float), {"pt": 0, "sft": 0})
    other = (rng.random((4, 300)) < swing[::-1]).astype(float)
    pt = tuned_run("pt", tossed(rng, 0.6, 800), other, {"pt": 1, "sft": 0})
    found = prompts.section(analysed(base, pt), Sources())
    assert "With these prompts pt answers better than base" in found.findings[1]
    assert "that the model is better is not shown" in found.findings[1]


def test_the_prompts_are_said_where_the_runs_are_arranged_and_untuned_ones_have_no_section() -> None:
    rng = np.random.default_rng(3)
    tuning = tossed(rng, 0.5, 4, 50)
    analysis = analysed(tuned_run("a", tossed(rng, 0.5, 60), tuning), tuned_run("b", tossed(rng, 0.5, 60), 1 - tuning))
    (notice,) = [notice for notice in analysis.study.notices if notice.kind == "prompts"]
    assert "compared on purpose under prompts of their own" in notice.text
    plain = tuned_run("a", tossed(rng, 0.5, 60), tuning)
    plain.provenance.clear()
    missing = prompts.section(analysed(plain), Sources()).missing
    assert missing is not None
    assert "medbench tune-prompt" in missing
