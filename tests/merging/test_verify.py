"""`medbench verify-merge` on merges by medbench, by PEFT, and by the arithmetic of the paper's script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.merging.equations import Weight, spacing  # noqa: E402
from medbench.merging.solve import recover_weights  # noqa: E402
from medbench.merging.stored import InMemory  # noqa: E402
from medbench.merging.updates import LowRank  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402
from medbench.trainers import verify_merge as verifying  # noqa: E402

from .conftest import make_adapter, make_base  # noqa: E402


@pytest.fixture(scope="module")
def pair(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of equal rank, as PEFT's linear combination needs them."""
    root = tmp_path_factory.mktemp("pair")
    return tuple(make_adapter(lab.base, root / str(seed), seed=seed) for seed in (11, 12))  # type: ignore[return-value]


def verify(lab: Any, merged: Path, pair: tuple[Path, Path], *extra: str) -> Any:
    adapters = ["--adapter", f"pt={pair[0]}", "--adapter", f"sft={pair[1]}"]
    return CliRunner().invoke(
        verifying.verify_command, ["--base", str(lab.base), "--merged", str(merged), *adapters, *extra]
    )


def saved(model: Any, path: Path, base: Path) -> Path:
    model.save_pretrained(path, max_shard_size="60KB")
    return path


def sequential(lab: Any, pair: tuple[Path, Path], weights: tuple[float, float], *, both_factors: bool) -> Any:
    """Load, scale, merge_and_unload, one adapter after the other: what export scripts do."""
    model = transformers.AutoModelForCausalLM.from_pretrained(lab.base)
    for adapter, weight in zip(pair, weights, strict=True):
        wrapped = peft.PeftModel.from_pretrained(model, adapter)
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name or (both_factors and "lora_A" in name):
                parameter.data *= weight
        model = wrapped.merge_and_unload()
    return model


def test_own_merge_is_recovered_to_the_last_bit(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    room.merge(lab.base, [f"pt={pair[0]}:0.3", f"sft={pair[1]}:0.7"], tmp_path / "out", rounding="nearest")
    for extra in ([], ["--expect", "pt=0.3,sft=0.7"]):
        result = verify(lab, tmp_path / "out", pair, *extra)
        assert result.exit_code == 0, result.output
        assert "pt  0.3000" in result.output
        assert "sft  0.7000" in result.output
        assert "0.0000% of" in result.output
        assert result.output.endswith("ok\n")


@pytest.fixture(scope="module")
def faint(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters whose updates are mostly below half a step of their bfloat16 base, as after a short training."""
    root = tmp_path_factory.mktemp("faint")
    return tuple(make_adapter(lab.base, root / str(s), seed=s, std=0.004) for s in (11, 12))  # type: ignore[return-value]


@pytest.mark.parametrize("extra", [[], ["--expect", "pt=0.3,sft=0.7"]])
def test_what_rounding_to_nearest_lost_fails_unless_told_otherwise(
    lab: Any, faint: tuple[Path, Path], tmp_path: Path, extra: list[str]
) -> None:
    facts = room.merge(lab.base, [f"pt={faint[0]}:0.3", f"sft={faint[1]}:0.7"], tmp_path / "out", rounding="nearest")
    result = verify(lab, tmp_path / "out", faint, *extra)
    assert result.exit_code == 1
    assert "pt  0.3000" in result.output
    assert f"effective {facts['effective_weights']['pt']:.4f}" in result.output
    assert facts["effective_weights"]["pt"] < 0.27
    assert "ATTENUATED by rounding: pt takes effect" in result.output
    told = verify(lab, tmp_path / "out", faint, *extra, "--asked-only")
    assert told.exit_code == 0, told.output


def test_stochastic_rounding_is_told_from_nearest(lab: Any, faint: tuple[Path, Path], tmp_path: Path) -> None:
    room.merge(lab.base, [f"pt={faint[0]}:0.3", f"sft={faint[1]}:0.7"], tmp_path / "out", rounding="stochastic")
    result = verify(lab, tmp_path / "out", faint, "--expect", "pt=0.3,sft=0.7", "--tolerance", "0.02")
    assert result.exit_code == 0, result.output
    assert "rounded stochastically" in result.output
    # The weights are found to three digits: of values near zero a few seem further than a step from the sum.
    assert float(re.search(r"place; (\S+)% of", result.output)[1]) < 0.1  # type: ignore[index]
    squares = verify(lab, tmp_path / "out", faint, "--expect", "pt=0.09,sft=0.49", "--tolerance", "0.02")
    assert squares.exit_code == 1
    assert "MISMATCH" in squares.output


def test_scaling_both_factors_gives_the_squares(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    merged = saved(sequential(lab, pair, (0.3, 0.7), both_factors=True), tmp_path / "m", lab.base)
    result = verify(lab, merged, pair, "--expect", "pt=0.3,sft=0.7")
    assert result.exit_code == 1
    assert "pt is 0.09" in result.output
    assert "sft is 0.49" in result.output
    assert "squares of the expected weights" in result.output
    assert "NOT of the form" not in result.output
    assert verify(lab, merged, pair).exit_code == 0


def test_sequential_bf16_merge_is_accepted_with_its_wrong_roundings_shown(
    lab: Any, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    merged = saved(sequential(lab, pair, (0.3, 0.7), both_factors=False), tmp_path / "m", lab.base)
    result = verify(lab, merged, pair, "--expect", "pt=0.3,sft=0.7")
    assert result.exit_code == 0, result.output
    assert "0.0000% of" not in result.output


def test_peft_linear_is_named_as_not_of_that_form(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(lab.base)
    wrapped = peft.PeftModel.from_pretrained(model, pair[0], adapter_name="pt")
    wrapped.load_adapter(pair[1], adapter_name="sft")
    wrapped.add_weighted_adapter(["pt", "sft"], [0.3, 0.7], "mix", combination_type="linear")
    wrapped.set_adapter("mix")
    merged = saved(wrapped.merge_and_unload(adapter_names=["mix"]), tmp_path / "m", lab.base)
    result = verify(lab, merged, pair, "--expect", "pt=0.3,sft=0.7")
    assert result.exit_code == 1
    assert "NOT of the form" in result.output
    assert "cross term B_pt A_sft" in result.output
    assert "combination_type='linear'" in result.output


def test_another_model_is_not_of_that_form(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    third = make_adapter(lab.base, tmp_path / "third", seed=99)
    room.merge(lab.base, [f"pt={pair[0]}:0.3", f"x={third}:0.7"], tmp_path / "out")
    result = verify(lab, tmp_path / "out", pair)
    assert result.exit_code == 1
    assert "larger than rounding explains" in result.output


def test_layer_wise_weights_are_seen(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    room.merge(
        lab.base,
        [f"pt={pair[0]}:0.3", f"sft={pair[1]}:0.7"],
        tmp_path / "out",
        overrides=[("layers:1", {"pt": 0.45})],
        rounding="nearest",
    )
    result = verify(lab, tmp_path / "out", pair, "--expect", "pt=0.3,sft=0.7")
    assert result.exit_code == 1
    assert "1 of 3 layers used other weights" in result.output
    assert "layer 1: pt 0.4500, sft 0.7000" in result.output
    assert "NOT of the form" not in result.output
    free = verify(lab, tmp_path / "out", pair)
    assert free.exit_code == 0
    assert "layer 1: pt 0.4500, sft 0.7000" in free.output


def test_module_wise_weights_are_seen(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    room.merge(
        lab.base, [f"pt={pair[0]}:0.3", f"sft={pair[1]}:0.7"], tmp_path / "out", overrides=[("*.2.mlp.*", {"pt": 0})]
    )
    result = verify(lab, tmp_path / "out", pair, "--expect", "pt=0.3,sft=0.7")
    assert result.exit_code == 1
    assert re.search(r"model\.layers\.2\.mlp\.up_proj\.weight: pt -?0\.000\d, sft 0\.(700|699)\d", result.output)
    assert "model.layers.2.self_attn" not in result.output
    assert "layer 1:" not in result.output
    assert "NOT of the form" not in result.output


def test_an_update_of_a_few_tensors_that_nobody_named_is_seen(
    lab: Any, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    # Over all tensors it is less than a merge in bfloat16 leaves
    third = make_adapter(lab.base, tmp_path / "third", seed=99, target_modules=["k_proj"], std=0.008)
    room.merge(lab.base, [f"pt={pair[0]}:0.3", f"sft={pair[1]}:0.7", f"x={third}:1"], tmp_path / "out")
    result = verify(lab, tmp_path / "out", pair)
    assert result.exit_code == 1
    assert "NOT of the form" in result.output
    assert "in 3 tensors, most in model.layers" in result.output
    assert float(re.search(r"residual (\S+)", result.output)[1]) < 0.02  # type: ignore[index]


def test_tensors_outside_the_adapters_must_be_the_base_s(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = sequential(lab, pair, (0.3, 0.7), both_factors=False)
    model.model.norm.weight.data[0] += 1
    result = verify(lab, saved(model, tmp_path / "m", lab.base), pair)
    assert result.exit_code == 1
    assert "model.norm.weight" in result.output


def test_different_files_and_expectations_are_refused(lab: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", layers=2)
    assert "do not hold the same tensors" in str(verify(lab, other, pair).exception)
    wide = make_base(tmp_path / "wide", intermediate_size=64)
    assert "has shape" in str(verify(lab, wide, pair).exception)
    assert "--expect names pt" in str(verify(lab, lab.base, pair, "--expect", "pt=0.3").exception)


def low_rank(seed: int, size: float) -> LowRank:
    g = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(256, 8, generator=g) * size, torch.randn(8, 256, generator=g), 1.0)


@pytest.mark.parametrize("size", [1.0, 0.1, 0.03])
def test_updates_below_the_spacing_of_bf16_are_not_pulled_to_zero(size: float) -> None:
    # At 0.03 nearly every update is below half the spacing of its base: plain least squares finds far too little.
    g = torch.Generator().manual_seed(0)
    base = torch.randn(256, 256, generator=g).bfloat16()
    one, other = low_rank(1, size * 1e-2), low_rank(2, size * 1e-2)
    merged = (base.double() + 0.3 * one.delta(torch.float64) + 0.7 * other.delta(torch.float64)).float().bfloat16()
    weight = Weight("w", "layer 0", InMemory(base), InMemory(merged), {"pt": one, "sft": other})
    found = recover_weights([weight], ["pt", "sft"])
    assert found.has_form
    assert found.weights["pt"] == pytest.approx(0.3, abs=max(0.005, 4 * found.errors["pt"]))
    assert found.weights["sft"] == pytest.approx(0.7, abs=max(0.005, 4 * found.errors["sft"]))


def test_against_numpy_least_squares_where_nothing_is_rounded() -> None:
    import numpy as np

    base = torch.randn(40, 30, generator=torch.Generator().manual_seed(5))
    one, other = low_rank(1, 1.0), low_rank(2, 1.0)
    one, other = (LowRank(u.left[:40], u.right[:, :30], u.scale) for u in (one, other))
    noise = torch.randn(40, 30, generator=torch.Generator().manual_seed(6))
    merged = base + 0.25 * one.delta() - 0.5 * other.delta() + noise
    weight = Weight("w", "w", InMemory(base), InMemory(merged), {"pt": one, "sft": other})
    found = recover_weights([weight], ["pt", "sft"])
    columns = np.stack([one.delta().flatten(), other.delta().flatten()], axis=1)
    right = (merged - base).flatten().numpy()
    solution, residual, _, _ = np.linalg.lstsq(columns, right, rcond=None)
    if not found.cross:
        assert list(found.weights.values()) == pytest.approx(solution.tolist(), abs=2e-3)
    assert found.residual == pytest.approx((residual[0] / (right**2).sum()) ** 0.5, rel=1e-2)


def test_proportional_and_empty_adapters_cannot_be_told_apart() -> None:
    base = torch.zeros(256, 256)
    one = low_rank(1, 1.0)
    twice = LowRank(one.left, one.right, 2.0)
    weight = Weight("w", "w", InMemory(base), InMemory(base + one.delta()), {"pt": one, "sft": twice})
    with pytest.raises(MedbenchError, match="proportional"):
        recover_weights([weight], ["pt", "sft"])
    empty = LowRank(torch.zeros(256, 8), one.right, 1.0)
    weight = Weight("w", "w", InMemory(base), InMemory(base + one.delta()), {"pt": one, "sft": empty})
    with pytest.raises(MedbenchError, match="changes nothing"):
        recover_weights([weight], ["pt", "sft"])


def test_spacing_is_the_gap_to_the_next_number() -> None:
    values = torch.tensor([1.0, 1.5, -3.0, 0.02, 1e-3, 1e-41], dtype=torch.bfloat16)
    up = torch.nextafter(values.abs(), torch.tensor(float("inf"), dtype=torch.bfloat16))
    assert spacing(values).tolist() == (up.double() - values.abs().double()).tolist()
