"""The sections of the gap report, in their order. Each module has one `section(analysis) -> Section`."""

from __future__ import annotations

from collections.abc import Callable

from medbench.reports.estimates import Analysis
from medbench.reports.gap import (
    chance,
    contamination,
    curve,
    decoding,
    decomposition,
    flips,
    floor,
    robustness,
    safety,
    seen,
    training,
    validity,
    verdict,
)
from medbench.reports.page import Section
from medbench.reports.sources import Sources

SECTIONS: tuple[Callable[[Analysis, Sources], Section], ...] = (
    verdict.section,
    chance.section,
    curve.section,
    floor.section,
    decomposition.section,
    validity.section,
    flips.section,
    safety.section,
    decoding.section,
    contamination.section,
    seen.section,
    training.section,
    robustness.section,
)
