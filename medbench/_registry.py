"""What Inspect finds under `medbench/`, through the `inspect_ai` entry point. A front door to the rooms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from inspect_ai.model import modelapi
from inspect_ai.scorer import Scorer
from inspect_ai.util import RegistryInfo, registry_info

from medbench.claims.scorer import claim_entailment
from medbench.leak import option_format, trace_leak
from medbench.private.inspect import registry_add
from medbench.probes.refusal import refusal
from medbench.probes.trace import trace, trace_signals
from medbench.probes.xstest import xstest
from medbench.quantity_scorer import quantity_accuracy
from medbench.refusal.scorer import declined, refusal_judge
from medbench.refusal.scorer import refusal as refusal_class
from medbench.scorers import (
    decision_accuracy,
    named_accuracy,
    option_accuracy,
    option_probability,
    surface_overlap,
    trace_statistics,
)
from medbench.tasks.careqa import careqa
from medbench.tasks.cmb import cmb
from medbench.tasks.cmexam import cmexam
from medbench.tasks.cmexam_explain import cmexam_explain
from medbench.tasks.custom import custom
from medbench.tasks.f5_f6 import f5, f6
from medbench.tasks.kqa import kqa
from medbench.tasks.medcalc import medcalc
from medbench.tasks.medmcqa import medmcqa
from medbench.tasks.medqa import medqa
from medbench.tasks.medxpertqa import medxpertqa
from medbench.tasks.mmlu_med import mmlu_med
from medbench.tasks.pubmedqa import pubmedqa
from medbench.tasks.pubmedqa_long import pubmedqa_long
from medbench.trainers.microlab.safety import microlab_safety
from medbench.trainers.microlab.tasks import microlab_exam, microlab_open

if TYPE_CHECKING:
    from inspect_ai.model import ModelAPI

__all__ = [
    "careqa",
    "claim_entailment",
    "cmb",
    "cmexam",
    "cmexam_explain",
    "custom",
    "decision_accuracy",
    "declined",
    "f5",
    "f6",
    "kqa",
    "medbench",
    "medcalc",
    "medmcqa",
    "medqa",
    "medxpertqa",
    "microlab_exam",
    "microlab_open",
    "microlab_safety",
    "mmlu_med",
    "named_accuracy",
    "option_accuracy",
    "option_format",
    "option_probability",
    "pubmedqa",
    "pubmedqa_long",
    "quantity_accuracy",
    "refusal",
    "refusal_judge",
    "surface_overlap",
    "trace",
    "trace_leak",
    "trace_signals",
    "trace_statistics",
    "xstest",
]


@modelapi(name="medbench")
def medbench() -> type[ModelAPI]:
    """Local models: imports torch only when one is asked for."""
    from medbench.provider.api import MedbenchAPI

    return MedbenchAPI


def _also_by_bare_name(factory: Callable[..., Scorer]) -> None:
    """Let a scorer be found without `medbench/` too.

    Inspect writes the bare name of a package's scorer into an eval log, and `inspect score LOG` looks that name up as
    it stands: without this it would ask for a `--scorer` file for every log of ours.
    """

    @functools.wraps(factory)
    def alias(*args: object, **kwargs: object) -> Scorer:
        return factory(*args, **kwargs)

    info = registry_info(factory)
    registry_add(alias, RegistryInfo(type="scorer", name=info.name.removeprefix("medbench/"), metadata=info.metadata))


for _factory in (
    claim_entailment,
    decision_accuracy,
    declined,
    named_accuracy,
    option_accuracy,
    option_format,
    option_probability,
    quantity_accuracy,
    refusal_class,
    refusal_judge,
    surface_overlap,
    trace_leak,
    trace_statistics,
):
    _also_by_bare_name(_factory)
