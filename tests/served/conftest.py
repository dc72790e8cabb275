"""A real server: llama.cpp, where the package xllamacpp is installed, over a random llama of two layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class World:
    """A base, two adapters, and all three as GGUF files."""

    base: Path
    pt: Path
    sft: Path
    base_gguf: Path
    pt_gguf: Path
    sft_gguf: Path


def make_world(folder: Path, seed: int = 0, size: float = 0.05) -> World:
    from tiny_gguf import build_adapter, build_llama

    from medbench.served.gguf import write_adapter

    base, base_gguf = build_llama(folder)
    files = []
    for place, name in enumerate(("pt", "sft")):
        directory = build_adapter(folder, base, name, seed=2 * seed + place, size=size)
        write_adapter(directory, base_gguf, folder / f"{name}.gguf")
        files += [directory, folder / f"{name}.gguf"]
    pt, pt_gguf, sft, sft_gguf = files
    return World(base, pt, sft, base_gguf, pt_gguf, sft_gguf)


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("torch")
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    pytest.importorskip("openai", reason="the extra api is not installed")
    pytest.importorskip("xllamacpp", reason="no llama.cpp server is installed: pip install xllamacpp")
    return make_world(tmp_path_factory.mktemp("served"))
