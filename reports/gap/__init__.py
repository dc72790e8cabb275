"""The sections of the gap report. Each module here with a `section(analysis, sources) -> Section` is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from medbench.reports.estimates import Analysis
from medbench.reports.page import Section
from medbench.reports.sources import Sources

# In the order of reading. A section that is not named here follows these.
_ORDER = (
    "verdict",
    "chance",
    "controls",
    "prompts",
    "equivalence",
    "curve",
    "geometry",
    "floor",
    "decomposition",
    "validity",
    "subjects",
    "probability",
    "flips",
    "pairs",
    "safety",
    "decoding",
    "consistency",
    "contamination",
    "seen",
    "training",
    "robustness",
    "across",
)


def _sections() -> tuple[Callable[[Analysis, Sources], Section], ...]:
    modules = {
        found.name: importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    }
    shown = {name: module.section for name, module in modules.items() if hasattr(module, "section")}
    return tuple(shown[name] for name in (*_ORDER, *sorted(shown.keys() - set(_ORDER))))


SECTIONS = _sections()
