"""A tiny random model on disk, behind the provider, and as transformers loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from inspect_ai.model import (
    get_model,
)
from provider_rows import QUESTIONS

from medbench.provider import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("tiny"), text=QUESTIONS * 3, vocab_size=400, hidden=64, context=512)


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    with get_model(f"medbench/{directory}", memoize=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def reference(directory: Path) -> Any:
    return (
        transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval(),
        transformers.AutoTokenizer.from_pretrained(directory),
    )
