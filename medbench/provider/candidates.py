"""`-M adapters=`: candidates of one base, which its engine becomes one after the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medbench.errors import MedbenchError
from medbench.merging.live import LiveWeights
from medbench.provider.errors import ProviderError
from medbench.provider.loading import resolve

if TYPE_CHECKING:
    from medbench.provider.engine import Candidate, Engine
    from medbench.provider.loading import Source

_lock = threading.Lock()


def make_candidate(
    engine: Engine,
    source: Source,
    adapters: str | Sequence[str],
    *,
    method: str = "linear",
    settings: Mapping[str, Any] | None = None,
    any_base: bool = False,
    rounding: str = "auto",
) -> tuple[Candidate, dict[str, Any]]:
    """A candidate from ``NAME=DIR:WEIGHT`` adapters, as a list or joined by commas.

    `rounding`: ``auto`` keeps the sum in float32 where the model runs in it and rounds stochastically elsewhere; or one
    of `medbench.merging.live.ROUNDINGS`.

    Returns it, and which rounding was used with the weights that take effect (`LiveWeights.facts`).

    Raises:
        ProviderError: whatever `medbench merge` would refuse.
    """
    from medbench.provider.engine import Candidate

    texts = adapters.split(",") if isinstance(adapters, str) else [str(text) for text in adapters]
    try:
        with _lock:
            if engine.live is None:
                engine.live = LiveWeights(resolve(source.model), engine.model.device, source.revision)
                engine.base = Candidate(engine.base.name, engine.live.restore)
        if rounding == "auto":
            rounding = "float32" if str(engine.model.dtype) == "torch.float32" else "stochastic"
        recipe = engine.live.recipe(texts, method=method, settings=settings, any_base=any_base, rounding=rounding)
        facts = engine.live.facts(recipe, rounding)
    except ProviderError:
        raise
    except MedbenchError as error:
        raise ProviderError(str(error)) from error
    name = json.dumps([texts, method, dict(settings or {}), rounding])
    return Candidate(name, engine.live.apply(recipe, rounding)), facts
