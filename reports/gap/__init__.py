"""The sections of the gap report, in their order. Each module has one `section(analysis) -> Section`."""

from __future__ import annotations

from collections.abc import Callable

from medbench.reports.estimates import Analysis
from medbench.reports.gap import (
    across,
    chance,
    consistency,
    contamination,
    controls,
    curve,
    decoding,
    decomposition,
    equivalence,
    flips,
    floor,
    geometry,
    pairs,
    probability,
    prompts,
    robustness,
    safety,
    seen,
    subjects,
    training,
    validity,
    verdict,
)
from medbench.reports.page import Section
from medbench.reports.sources import Sources

SECTIONS: tuple[Callable[[Analysis, Sources], Section], ...] = (
    verdict.section,
    chance.section,
    controls.section,
    prompts.section,
    equivalence.section,
    curve.section,
    geometry.section,
    floor.section,
    decomposition.section,
    validity.section,
    subjects.section,
    probability.section,
    flips.section,
    pairs.section,
    safety.section,
    decoding.section,
    consistency.section,
    contamination.section,
    seen.section,
    training.section,
    robustness.section,
    across.section,
)
