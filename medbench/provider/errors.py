"""Errors of the provider."""

from __future__ import annotations

from medbench.advice import install
from medbench.private.inspect_error import InspectError


class ProviderError(InspectError):
    """A model that cannot be loaded or a request that it cannot serve."""


def need(extra: str, error: ImportError) -> ProviderError:
    """The error for a package that the optional install `extra` brings."""
    return ProviderError(
        f"models that run in this process need the package {error.name!r}, which is not installed: {install(extra)}"
    )
