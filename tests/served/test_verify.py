"""`verify-served` against a llama.cpp server on loopback, and its arithmetic against distributions made by hand."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medbench.errors import MedbenchError
from medbench.served import distance

PROMPTS = ("What helps against a headache?", "Hello!", "Name a drug.", "Why is the sky blue?", "I cannot sleep.", "1+1")


def set_scales(address: str, **scales: float) -> None:
    body = json.dumps([{"id": place, "scale": scales[name]} for place, name in enumerate(("pt", "sft"))]).encode()
    request = urllib.request.Request(f"{address}/lora-adapters", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()


def test_five_candidates_are_told_apart_at_a_real_server(world, tmp_path: Path) -> None:
    from medbench.served.command import verify
    from medbench.served.gguf import write_checkpoint
    from medbench.served.llama_server import serving
    from medbench.trainers.merge import merge

    adapters = [f"pt={world.pt}:0.3", f"sft={world.sft}:0.7"]

    def found(address: str, model: Path) -> str:
        served = verify(
            f"openai-api/llama/{model}", str(world.base), adapters, base_url=f"{address}/v1",
            model_args={"api_key": "none"}, prompts=PROMPTS, repeats=2,
        )  # fmt: skip
        return served.verdict

    with serving(world.base_gguf, [f"{world.pt_gguf}:0", f"{world.sft_gguf}:0"]) as address:
        for scales, expected in (
            ((0.3, 0.7), "asked"),
            ((0, 0), "base"),
            ((1, 0), "pt alone"),
            ((0, 1), "sft alone"),
            ((0.09, 0.49), "squared weights"),
        ):
            set_scales(address, pt=scales[0], sft=scales[1])
            assert found(address, world.base_gguf) == expected, scales
        set_scales(address, pt=0.15, sft=0.35)  # half of the asked update: none of the candidates
        assert found(address, world.base_gguf) in ("other weights", "cannot tell")
    # A merge in bfloat16, to nearest, served as a checkpoint of its own.
    half = tmp_path / "half"
    _as_bfloat16(world.base, half)
    merge(half, adapters, tmp_path / "merged", rounding="nearest", any_base=True)
    write_checkpoint(tmp_path / "merged", world.base_gguf, tmp_path / "merged.gguf")
    with serving(tmp_path / "merged.gguf") as address:
        served = verify(
            f"openai-api/llama/{tmp_path / 'merged.gguf'}", str(half), adapters, base_url=f"{address}/v1",
            model_args={"api_key": "none"}, prompts=PROMPTS, repeats=2, any_base=True, top=100,
        )  # fmt: skip
        assert served.verdict == "rounded to bfloat16"
        assert served.failed


def _as_bfloat16(source: Path, target: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    weights = {name: value.to(torch.bfloat16) for name, value in load_file(source / "model.safetensors").items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def test_below_its_own_noise_nothing_can_be_told(world, tmp_path: Path) -> None:
    from tiny_gguf import build_adapter

    from medbench.served.command import command
    from medbench.served.llama_server import serving

    faint = build_adapter(tmp_path, world.base, "faint", seed=5, size=1e-8)
    with serving(world.base_gguf) as address:
        words = ["--model", f"openai-api/llama/{world.base_gguf}", "--base-url", f"{address}/v1", "-M", "api_key=none"]
        words += ["--base", str(world.base), "--adapter", f"faint={faint}:1", "--repeats", "2"]
        result = CliRunner().invoke(command, words)
    assert result.exit_code == 1, result.output
    assert "CANNOT TELL" in result.output


def test_another_model_is_none_of_the_candidates(world, tmp_path: Path) -> None:
    from medbench.served.command import describe, verify
    from medbench.served.gguf import write_checkpoint
    from medbench.served.llama_server import serving

    other = tmp_path / "other"
    _shuffled(world.base, other)
    write_checkpoint(other, world.base_gguf, tmp_path / "other.gguf")
    with serving(tmp_path / "other.gguf", context=256, slots=1) as address:
        served = verify(
            f"openai-api/llama/{tmp_path / 'other.gguf'}", str(world.base), [f"pt={world.pt}:1"],
            base_url=f"{address}/v1", model_args={"api_key": "none"}, prompts=PROMPTS, repeats=2,
        )  # fmt: skip
    assert served.verdict == "none"
    text = "\n".join(describe(served))
    assert "NONE of these" in text
    assert "takes 256 tokens, the base 1024" in text


def _shuffled(source: Path, target: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    weights = load_file(source / "model.safetensors")
    weights = {name: value.roll(7, 0) if value.ndim == 2 else value for name, value in weights.items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


def test_greedy_text_and_logprobs_agree_with_this_process(world) -> None:
    """The same float32 weights behind llama.cpp and in this process choose the same tokens."""
    import asyncio

    from inspect_ai.model import GenerateConfig, get_model

    from medbench.served.llama_server import serving

    config = GenerateConfig(temperature=0, max_tokens=24, logprobs=True, top_logprobs=2)

    async def answers(model) -> list:
        return [(await model.generate(prompt, config=config)).choices[0] for prompt in PROMPTS]

    here = asyncio.run(answers(get_model(f"medbench/{world.base}", device="cpu", memoize=False)))
    with serving(world.base_gguf) as address:
        there = asyncio.run(
            answers(get_model("openai-api/x/y", base_url=f"{address}/v1", api_key="none", memoize=False))
        )
    same = 0
    for one, other in zip(here, there, strict=True):
        for ours, theirs in zip(one.logprobs.content, other.logprobs.content, strict=True):
            assert theirs.logprob == pytest.approx(ours.logprob, abs=5e-3)
            if ours.token != theirs.token:  # a tie, up to the rounding of sums in another order
                first, second = ours.top_logprobs
                assert first.logprob - second.logprob < 5e-3
                break
            same += 1
    assert same > 100


def logs(*rows: list[float]) -> np.ndarray:
    return np.log(np.array(rows))


def test_distance_is_hellingers_of_what_was_named() -> None:
    # The endpoint names tokens 0 and 1 of four; tokens 2 and 3 are one class.
    answers = [[{0: np.log(0.5), 1: np.log(0.3)}]] * 2
    exact = {"a": logs([0.5, 0.3, 0.1, 0.1]), "b": logs([0.5, 0.3, 0.2, 1e-9]), "c": logs([0.3, 0.5, 0.1, 0.1])}
    found = distance.compare(answers, exact)
    assert found.distances["a"] == pytest.approx(0, abs=1e-9)
    assert found.distances["b"] == pytest.approx(0, abs=1e-6)  # what was not named cannot be told
    by_hand = np.sqrt(((np.sqrt(0.5) - np.sqrt(0.3)) ** 2 * 2) / 2)
    assert found.distances["c"] == pytest.approx(by_hand)
    assert found.noise == 0
    assert found.covered == pytest.approx(0.8)
    assert "b" in found.untold
    assert "c" not in found.untold


def test_noise_hides_a_small_difference_and_no_large_one() -> None:
    generator = np.random.default_rng(0)
    base = generator.dirichlet(np.ones(6), size=40)
    near, far = base * np.array([1.02, 1, 1, 1, 1, 1]), base * np.array([3, 1, 1, 1, 1, 1])
    near, far = (rows / rows.sum(axis=1, keepdims=True) for rows in (near, far))

    def asked(sigma: float) -> list[list[dict[int, float]]]:
        noisy = [np.log(base) + generator.normal(scale=sigma, size=base.shape) for _ in range(3)]
        return [[dict(enumerate(row[:4])) for row in rows] for rows in noisy]

    exact = {"base": np.log(base), "near": np.log(near), "far": np.log(far)}
    quiet, loud = distance.compare(asked(1e-4), exact), distance.compare(asked(0.1), exact)
    assert (quiet.nearest, quiet.untold) == ("base", [])
    assert loud.nearest in ("base", "near")
    assert len(loud.untold) == 1
    assert "far" not in loud.untold


def test_place_is_the_share_of_the_way() -> None:
    start = [np.array([0.6, 0.8]), np.array([0.8, 0.6])]
    end = [np.array([0.8, 0.6]), np.array([0.6, 0.8])]
    part = [a + 0.25 * (b - a) for a, b in zip(start, end, strict=True)]
    place, error = distance.place_between(part, start, end)
    assert (place, error) == (pytest.approx(0.25), pytest.approx(0, abs=1e-12))
    assert np.isinf(distance.place_between(part, start, start)[1])


def test_candidates_are_unlike() -> None:
    from medbench.served.exact import candidates

    assert list(candidates({"pt": 0.3, "sft": 0.7})) == [
        "asked", "base", "pt alone", "sft alone", "squared weights", "rounded to bfloat16",
    ]  # fmt: skip
    assert list(candidates({"pt": 1.0})) == ["asked", "base", "rounded to bfloat16"]
    assert list(candidates({"pt": 0.0})) == ["asked", "pt alone"]


def test_what_is_asked_must_be_said(world) -> None:
    from medbench.served.command import verify

    with pytest.raises(MedbenchError, match="at least one --adapter"):
        verify("openai-api/x/y", str(world.base), [])
    with pytest.raises(MedbenchError, match="has no weight"):
        verify("openai-api/x/y", str(world.base), [f"pt={world.pt}"])
    with pytest.raises(MedbenchError, match="at least 2"):
        verify("openai-api/x/y", str(world.base), [f"pt={world.pt}:1"], repeats=1)
