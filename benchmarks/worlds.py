"""Items of unlike difficulty whose runs and contexts hang together, at known rates: what the simulations draw from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri

CONTEXT = 0.2  # intraclass correlation of the items of a context


@dataclass(frozen=True)
class World:
    """`items` run `runs` times each, in contexts or not, at one true `rate`; runs of an item correlate by `agree`."""

    items: int
    runs: int
    contexts: bool
    rate: float
    agree: float = 0.6

    @cached_property
    def labels(self) -> np.ndarray | None:
        """The context of each item, None where each stands alone: 2 items each up to 10 items, 5 beyond."""
        if not self.contexts:
            return None
        return np.arange(self.items) // (2 if self.items <= 10 else 5)

    def difficulty(self, rng: np.random.Generator) -> np.ndarray:
        """Each item's own chance of a right answer; their mean over the population is `rate`."""
        p = np.full(self.items, self.rate)
        if self.labels is not None:
            p = _beta(np.full(self.labels.max() + 1, self.rate), CONTEXT, rng)[self.labels]
        return _beta(p, self.agree, rng) if self.runs > 1 else p

    def outputs(self, rng: np.random.Generator, candidates: int) -> np.ndarray:
        """Right (1) or wrong (0), shape (candidates, items, runs): half of each difficulty is shared by all."""
        shared = self.difficulty(rng)
        own = np.stack([self.difficulty(rng) for _ in range(candidates)])
        p = np.where(rng.random((candidates, self.items)) < 0.5, shared, own)
        return (rng.random((candidates, self.items, self.runs)) < p[:, :, None]).astype(float)

    def noise(self, rng: np.random.Generator, candidates: int = 1) -> np.ndarray:
        """Standard normal numbers, shape (candidates, items, runs), that hang together like the outputs do."""
        of_item = self.agree if self.runs > 1 else 0.3
        parts = [rng.normal(size=(candidates, self.items, self.runs)) * np.sqrt(1 - of_item)]
        shared = rng.normal(size=(1, self.items, 1))
        if self.labels is not None:
            context = rng.normal(size=self.labels.max() + 1)[self.labels][None, :, None]
            shared = np.sqrt(1 - CONTEXT) * shared + np.sqrt(CONTEXT) * context
        return parts[0] + np.sqrt(of_item) * shared

    def answers(self, rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Right (1) or wrong (0) at a rate per candidate (and item), shape (candidates, items, runs)."""
        p = np.asarray(rates, dtype=float)
        p = p[:, None, None] if p.ndim == 1 else p[:, :, None]
        return (self.noise(rng, len(p)) < ndtri(p)).astype(float)


def _beta(mean: np.ndarray, correlation: float, rng: np.random.Generator) -> np.ndarray:
    m, scale = np.clip(mean, 1e-6, 1 - 1e-6), (1 - correlation) / correlation
    return rng.beta(m * scale, (1 - m) * scale)
