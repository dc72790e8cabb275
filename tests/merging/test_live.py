"""Candidates in one memory: their outputs are those of a fresh load of the merged checkpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from inspect_ai.model import GenerateConfig, get_model  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.merging.live import LiveWeights  # noqa: E402
from medbench.provider.tiny import build  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402

from .conftest import make_adapter  # noqa: E402

PROMPTS = [f"What helps against symptom {number}?" for number in range(6)]
MIXES = [(1.0, 0.0), (0.3, 0.7), (0.0, 1.0)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bf16 base with a tokenizer, and two adapters strong enough to change what it writes."""
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp("tiny")
    build(root / "base")
    AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.bfloat16).save_pretrained(root / "base")
    for seed, name in enumerate(("pt", "sft"), start=1):
        make_adapter(root / "base", root / name, seed=seed, std=0.3)
    return root


def model(root: Path, pt: float, sft: float, base: str = "base", **extra: Any) -> Any:
    adapters = [f"pt={root / 'pt'}:{pt}", f"sft={root / 'sft'}:{sft}"]
    return get_model(f"medbench/{root / base}", adapters=adapters, memoize=False, **extra)


async def outputs(used: Any) -> list[str]:
    config = GenerateConfig(max_tokens=24)
    return [result.completion for result in await asyncio.gather(*(used.generate(p, config=config) for p in PROMPTS))]


def test_live_outputs_equal_a_fresh_load_also_when_candidates_alternate(tiny: Path, tmp_path: Path) -> None:
    fresh: dict[Any, list[str]] = {}
    for pt, sft in MIXES:
        out = tmp_path / f"{pt}-{sft}"
        room.merge(tiny / "base", [f"pt={tiny / 'pt'}:{pt}", f"sft={tiny / 'sft'}:{sft}"], out)
        fresh[pt, sft] = asyncio.run(outputs(get_model(f"medbench/{out}", memoize=False)))
    alone = asyncio.run(outputs(get_model(f"medbench/{tiny / 'base'}", memoize=False)))
    assert len({tuple(texts) for texts in [*fresh.values(), alone]}) == 4  # the candidates do differ

    async def together() -> None:
        live = {mix: model(tiny, *mix, merge_rounding="stochastic") for mix in MIXES}
        base = get_model(f"medbench/{tiny / 'base'}", memoize=False)
        assert len({used.api.engine for used in [*live.values(), base]}) == 1
        # All at once, twice, with the base between them: its own weights come back too.
        for _ in range(2):
            results = await asyncio.gather(*(outputs(used) for used in live.values()), outputs(base))
            assert dict(zip(MIXES, results[:-1], strict=True)) == fresh
            assert results[-1] == alone

    asyncio.run(together())


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_weights_equal_the_checkpoint_s_bit_for_bit_in_any_order(tiny: Path, tmp_path: Path, rounding: str) -> None:
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(tiny / "base", dtype=torch.float32)
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    live = LiveWeights(str(tiny / "base"), torch.device("cpu"))
    only_pt = live.apply(live.recipe([f"pt={tiny / 'pt'}:0.5"]))
    given = [f"pt={tiny / 'pt'}:0.3", f"sft={tiny / 'sft'}:0.7"]
    mix = live.apply(live.recipe(given, rounding=rounding), rounding)
    ties = live.apply(live.recipe([f"pt={tiny / 'pt'}:1", f"sft={tiny / 'sft'}:1"], method="ties"))
    room.merge(tiny / "base", given, tmp_path / "out", rounding=rounding)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).state_dict()
    for change in (mix, only_pt, ties, mix):
        change(loaded)
    assert all(value.equal(merged[name]) for name, value in loaded.state_dict().items())
    live.restore(loaded)
    assert all(value.equal(before[name]) for name, value in loaded.state_dict().items())


def test_a_model_in_float32_keeps_the_sum_and_one_in_bfloat16_says_what_rounding_left(
    tiny: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    wide = tmp_path / "wide"
    AutoModelForCausalLM.from_pretrained(tiny / "base", dtype=torch.float32).save_pretrained(wide)
    faint = {name: make_adapter(tiny / "base", tmp_path / name, seed=7, std=0.004) for name in ("pt", "sft")}
    given = [f"pt={faint['pt']}:0.3"]
    room.merge(wide, given, tmp_path / "out", any_base=True)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    loaded = AutoModelForCausalLM.from_pretrained(tiny / "base", dtype=torch.float32)
    live = LiveWeights(str(tiny / "base"), torch.device("cpu"))
    recipe = live.recipe(given)
    live.apply(recipe)(loaded)
    assert all(value.equal(expected[name]) for name, value in loaded.state_dict().items())
    assert live.facts(recipe, "float32") == {"rounding": "float32", "effective": {"pt": 0.3}, "update_kept": 1.0}
    nearest = live.facts(live.recipe(given, rounding="nearest"), "nearest")
    assert nearest["effective"]["pt"] == pytest.approx(0.3 * nearest["update_kept"], abs=1e-4)
    assert nearest["effective"]["pt"] < 0.25
    told = get_model(f"medbench/{tiny / 'base'}", adapters=given, memoize=False).api.merged
    assert told["rounding"] == "float32"
    half = get_model(f"medbench/{tiny / 'base'}", adapters=given, memoize=False, dtype="bfloat16").api.merged
    assert half["rounding"] == "stochastic"
    assert half["effective"]["pt"] == pytest.approx(0.3, abs=0.03)
    with pytest.raises(MedbenchError, match="merge_rounding"):
        get_model(f"medbench/{tiny / 'base'}", adapters=given, memoize=False, merge_rounding="up")


def test_a_base_that_stores_other_names_than_the_model_s_parameters(tiny: Path, tmp_path: Path) -> None:
    """gpt2's own files have no `transformer.` prefix."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    from .test_real_adapters import gpt2, peft_logits

    base = gpt2(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.2, target_modules=["c_attn", "c_proj"])
    weights = load_file(base / "model.safetensors")
    plain = {key.removeprefix("transformer."): value for key, value in weights.items()}
    save_file(plain, base / "model.safetensors", metadata={"format": "pt"})
    loaded = AutoModelForCausalLM.from_pretrained(base)
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    live = LiveWeights(str(base), torch.device("cpu"))
    live.apply(live.recipe([f"pt={adapter}:1"]))(loaded)
    with torch.no_grad():
        logits = loaded(input_ids=torch.tensor([[1, 5, 7, 2, 9, 3]])).logits
    torch.testing.assert_close(logits, peft_logits(base, adapter), rtol=1e-4, atol=1e-4)
    live.restore(loaded)
    assert all(value.equal(before[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("auto", ["AutoModelForCausalLM", "Gemma3ForConditionalGeneration"])
def test_a_vision_language_candidate(tmp_path: Path, auto: str) -> None:
    import transformers

    from .test_real_adapters import IDS, medgemma, peft_logits

    base, adapter = medgemma(tmp_path)
    kind = getattr(transformers, auto)
    loaded = kind.from_pretrained(base)
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    live = LiveWeights(str(base), torch.device("cpu"))
    live.apply(live.recipe([f"pt={adapter}:1"]))(loaded)
    with torch.no_grad():
        logits = loaded(input_ids=IDS).logits
    expected = peft_logits(base, adapter, transformers.Gemma3ForConditionalGeneration)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    live.restore(loaded)
    assert all(value.equal(before[name]) for name, value in loaded.state_dict().items())
    with torch.no_grad():
        assert (loaded(input_ids=IDS).logits - expected).abs().max() > 0.01


def test_what_merge_refuses_the_provider_refuses(tiny: Path, tmp_path: Path) -> None:
    for adapters, match in (
        ("pt=/nowhere:0.3", "no directory"),
        (f"pt={tiny / 'pt'}", "has no weight"),
        (f"{tiny / 'pt'}:0.3", "NAME=DIR:WEIGHT"),
    ):
        with pytest.raises(MedbenchError, match=match):
            get_model(f"medbench/{tiny / 'base'}", adapters=adapters, memoize=False)
    with pytest.raises(MedbenchError, match="Did you mean linear"):
        model(tiny, 1, 1, merge_method="linera")


def test_a_candidate_that_cannot_be_applied_fails_its_requests_and_no_others(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medbench.merging.recipe import Recipe

    async def check() -> None:
        good, bad = model(tiny, 0.3, 0.7), model(tiny, 0.25, 0.75)
        texts = await outputs(good)
        merged = Recipe.merged

        def broken(self: Recipe, key: str) -> Any:
            if self.weights.default["pt"] == 0.25 and "down_proj" in key:
                raise MedbenchError("the sum holds NaN")
            return merged(self, key)

        monkeypatch.setattr(Recipe, "merged", broken)
        with pytest.raises(MedbenchError, match="holds NaN"):
            await bad.generate("x", config=GenerateConfig(max_tokens=2))
        assert await outputs(good) == texts

    asyncio.run(check())
