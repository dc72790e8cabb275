"""Rank and alpha by module, from an adapter's config."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import regex

from medbench.errors import MedbenchError

CONFIG = "adapter_config.json"
# What matching all modules against a config's patterns may take; hundreds of plain names take milliseconds.
_PATTERN_SECONDS = 2.0
# Fuzzy counts and POSIX classes: characters like others to PEFT's engine.
_READ_OTHERWISE = re.compile(r"\{[^}]*[a-z<]|\[:")


class Patterns:
    """Rank and alpha of each module. Patterns are regular expressions of a stranger: their time is bounded."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self._name, self._config = name, config
        self._left = _PATTERN_SECONDS
        self._compiled = {
            kind: [(self._compile(kind, pattern), value) for pattern, value in (config.get(kind) or {}).items()]
            for kind in ("rank_pattern", "alpha_pattern")
        }

    def rank(self, module: str) -> int:
        """The rank that the config records for a module."""
        return int(self._matching("rank_pattern", module, self._config["r"]))

    def scale(self, module: str) -> float:
        """alpha / r, or alpha / sqrt(r) with rsLoRA."""
        rank, alpha = self.rank(module), self._matching("alpha_pattern", module, self._config["lora_alpha"])
        return float(alpha / rank**0.5 if self._config.get("use_rslora") else alpha / rank)

    def _compile(self, kind: str, pattern: str) -> regex.Pattern[str]:
        start = time.thread_time()
        try:
            re.compile(pattern)  # PEFT's own; `regex` knows more, and can be stopped
            compiled = regex.compile(rf"(.*\.)?({pattern})$")
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise MedbenchError(f"adapter {self._name}: {kind} {pattern!r:.80} in {CONFIG}: {error}.") from None
        if _READ_OTHERWISE.search(pattern):
            raise MedbenchError(
                f"adapter {self._name}: {kind} {pattern!r:.80} in {CONFIG} holds what not every engine of regular "
                "expressions reads alike. Name the modules plainly instead."
            )
        self._spend(kind, pattern, time.thread_time() - start)
        return compiled

    def _spend(self, kind: str, pattern: str, seconds: float) -> None:
        self._left -= seconds
        if self._left < 0:
            raise MedbenchError(
                f"adapter {self._name}: {kind} in {CONFIG} takes longer than {_PATTERN_SECONDS} seconds to read, "
                f"at {pattern!r:.80}. Name the modules plainly instead."
            )

    def _matching(self, kind: str, module: str, default: float) -> float:
        """The value of the first pattern that matches a module's name as PEFT matches it: on its whole or its end."""
        for pattern, value in self._compiled[kind]:
            start = time.thread_time()
            try:
                matched = pattern.match(module, timeout=max(self._left, 0.001))
            except TimeoutError:
                self._left, matched = -1.0, None
            self._spend(kind, pattern.pattern, time.thread_time() - start)
            if matched:
                return value
        return default
