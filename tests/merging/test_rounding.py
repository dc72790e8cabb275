"""Stochastic rounding and what a merge kept, against enumerations, PEFT in float64 and numpy's least squares."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.files.manifest import read_manifest  # noqa: E402
from medbench.merging.exact import ExactSum  # noqa: E402
from medbench.merging.proof import NotFinite, Term, round_to_grid  # noqa: E402
from medbench.merging.rounding import Rounding, stochastic  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402

from .conftest import make_adapter  # noqa: E402

KEY = Rounding("stochastic", 5).key("a.weight")
assert KEY is not None


def adapters(lab: Any) -> list[str]:
    return [f"pt={lab.pt}:0.3", f"sft={lab.sft}:0.7"]


def weights(directory: Path) -> dict[str, Any]:
    return {k: v for file in sorted(directory.glob("*.safetensors")) for k, v in load_file(file).items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e-5, 3e-8, 1e-38])
def test_each_value_becomes_a_neighbour_with_the_chance_of_its_distance(dtype: Any, scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    values = (torch.randn(6, 1, generator=generator) * scale).expand(6, 40_000).contiguous()
    rounded = stochastic(values, KEY, 0, dtype).double()
    for row in range(6):
        value = float(values[row, 0])
        near = float(round_to_grid(np.array([value]), str(dtype).removeprefix("torch."))[0])
        towards = torch.tensor(float("inf") if near <= value else float("-inf"), dtype=dtype)
        other = float(torch.nextafter(torch.tensor(near, dtype=dtype), towards))
        assert set(rounded[row].tolist()) <= {near, other}
        chance = abs(value - near) / abs(other - near)
        found = float((rounded[row] == other).double().mean())
        assert found == pytest.approx(chance, abs=4.5 * (chance * (1 - chance) / 40_000) ** 0.5 + 1e-4)


def test_the_kernel_and_the_general_way_agree_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(2)
    base = (torch.randn(37, 53, generator=generator) * 0.02).bfloat16()
    left, right = torch.randn(37, 4, generator=generator) * 1e-3, torch.randn(4, 53, generator=generator) * 0.1
    block = ExactSum([Term(0.7, left, right)], key=KEY).block(base)
    update = torch.mm((left.double() * 0.7).float(), right)
    assert block.rows.equal(stochastic(base.float() + update, KEY, 0, torch.bfloat16))
    change = block.rows.float() - base.float()
    assert block.unchanged == int((block.rows == base).sum())
    assert block.square == pytest.approx(float(update.double().square().sum()), rel=1e-5)
    assert block.product == pytest.approx(float((update.double() * change).sum()), rel=1e-4)
    assert block.parts == [block.product]
    # Any block of rows is those rows of the whole.
    assert ExactSum([Term(0.7, left, right)], key=KEY).rows(base[11:30], 11).equal(block.rows[11:30])


def test_random_numbers_of_rows_tensors_and_seeds_are_unlike() -> None:
    from medbench.merging.kernels import random32

    def bits(seed: int, tensor: str, first: int = 0) -> Any:
        key = Rounding("stochastic", seed).key(tensor)
        assert key is not None
        out = np.empty((64, 1024), np.uint32)
        random32(key, first, out)
        return out

    one = bits(0, "a")
    assert (bits(0, "a", 3)[:-3] == one[3:]).all()
    for other in (bits(1, "a"), bits(0, "b"), np.roll(one, 1, axis=0), np.roll(one, 1, axis=1)):
        correlation = np.corrcoef(one.ravel() / 2**32, other.ravel() / 2**32)[0, 1]
        assert abs(correlation) < 5 / one.size**0.5
    # 256 equal cells: chi-square of 255 degrees of freedom, upper 0.0001 point 345.
    for shift in (24, 16):
        counts = np.bincount(((one >> shift) & 255).ravel(), minlength=256)
        assert ((counts - one.size / 256) ** 2).sum() / (one.size / 256) < 345


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads_and_shards(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.merge(lab.base, adapters(lab), tmp_path / "a", seed=3)
    one = weights(tmp_path / "a")
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    shutil.copytree(lab.base, tmp_path / "base")
    for file in (tmp_path / "base").glob("*.safetensors*"):
        file.unlink()
    transformers.AutoModelForCausalLM.from_pretrained(lab.base).save_pretrained(tmp_path / "base")
    room.merge(tmp_path / "base", adapters(lab), tmp_path / "b", seed=3, any_base=True)
    assert len(list((tmp_path / "b").glob("*.safetensors"))) == 1 < len(list((tmp_path / "a").glob("*.safetensors")))
    two = weights(tmp_path / "b")
    assert all(value.view(torch.int16).equal(two[name].view(torch.int16)) for name, value in one.items())
    room.merge(lab.base, adapters(lab), tmp_path / "c", seed=4)
    assert any(not value.equal(weights(tmp_path / "c")[name]) for name, value in one.items())


def test_the_mean_over_seeds_is_peft_s_sum(lab: Any, tmp_path: Path) -> None:
    """Deviations from the float64 sum, in standard errors of 12 seeds: mean square 1, as of an unbiased estimate."""
    exact = {}
    model = transformers.AutoModelForCausalLM.from_pretrained(lab.base, dtype=torch.float64)
    for path, weight in ((lab.pt, 0.3), (lab.sft, 0.7)):
        wrapped = peft.PeftModel.from_pretrained(model, path).double()
        for name, module in wrapped.base_model.model.named_modules():
            if hasattr(module, "get_delta_weight"):
                start = module.base_layer.weight.double()
                exact[name] = exact.get(name, start) + weight * module.get_delta_weight("default")
        model = wrapped.unload()
    draws = []
    for seed in range(12):
        room.merge(lab.base, adapters(lab), tmp_path / str(seed), seed=seed)
        draws.append(weights(tmp_path / str(seed)))
    deviations = []
    for name, value in exact.items():
        stacked = torch.stack([draw[f"{name}.weight"].double() for draw in draws])
        assert ((stacked - value).abs() < 2.0**-7 * stacked.abs().clamp_min(value.abs()) * (1 + 1e-6)).all()
        deviations.append(((stacked - value).sum() / (stacked - value).square().sum().sqrt()).item())
    assert np.mean(np.square(deviations)) < 2.2  # of 21 tensors: chi-square, upper 0.1% point 46.8 / 21
    assert abs(np.mean(deviations)) < 3.5 / len(deviations) ** 0.5


@pytest.mark.parametrize("mode", ["nearest", "stochastic"])
def test_what_was_kept_is_plain_least_squares(lab: Any, tmp_path: Path, mode: str) -> None:
    paths = [make_adapter(lab.base, tmp_path / f"a{seed}", seed=seed, std=0.004) for seed in (1, 2)]
    facts = room.merge(lab.base, [f"pt={paths[0]}:0.3", f"sft={paths[1]}:0.7"], tmp_path / "out", rounding=mode)
    before, after = weights(lab.base), weights(tmp_path / "out")
    columns: list[list[Any]] = [[], []]
    model = transformers.AutoModelForCausalLM.from_pretrained(lab.base, dtype=torch.float64)
    names = []
    for at, path in enumerate(paths):
        wrapped = peft.PeftModel.from_pretrained(model, path).double()
        modules = [(n, m) for n, m in wrapped.base_model.model.named_modules() if hasattr(m, "get_delta_weight")]
        names = [f"{name}.weight" for name, _ in modules]
        columns[at] = [module.get_delta_weight("default").detach().flatten() for _, module in modules]
        model = wrapped.unload()
    x = torch.stack([torch.cat(column) for column in columns], dim=1).numpy()
    change = torch.cat([(after[name].double() - before[name].double()).flatten() for name in names]).numpy()
    expected = np.linalg.lstsq(x, change, rcond=None)[0]
    assert list(facts["effective_weights"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    asked = x @ [0.3, 0.7]
    assert facts["update_kept"] == pytest.approx(asked @ change / (asked @ asked), abs=1e-5)
    assert facts["values_unchanged"] == pytest.approx((change == 0).mean(), abs=1e-12)
    assert facts["adapted_values"] == change.size
    assert (facts["update_kept"] < 0.95) == (mode == "nearest")
    assert read_manifest(tmp_path / "out")["effective_weights"] == facts["effective_weights"]


def test_a_merge_that_lost_much_says_so_and_what_to_do(lab: Any, tmp_path: Path) -> None:
    small = make_adapter(lab.base, tmp_path / "small", seed=1, std=0.003)

    def run(*extra: str) -> str:
        out = tmp_path / "-".join(("out", *extra))
        command = ["--base", str(lab.base), "--adapter", f"pt={small}:0.5", "--out", str(out)]
        result = CliRunner().invoke(room.merge_command, [*command, *extra])
        assert result.exit_code == 0, result.output
        return result.output

    nearest = run("--rounding", "nearest")
    assert "WARNING: rounding to bfloat16 (nearest) kept 0." in nearest
    for remedy in ("--rounding stochastic", "--format adapter", "--dtype float32"):
        assert remedy in nearest
    assert "WARNING" not in run("--rounding", "stochastic", "--seed", "1")
    assert re.search(r"effective weights: pt 0\.(49|50)", run())


def test_float16_and_a_whole_module(tmp_path: Path) -> None:
    from .conftest import make_base

    base = make_base(tmp_path / "base", dtype=torch.float16)
    one = make_adapter(base, tmp_path / "one", seed=1, std=0.01, modules_to_save=["lm_head"])
    facts = room.merge(base, [f"pt={one}:0.5"], tmp_path / "out", rounding="stochastic")
    assert facts["effective_weights"]["pt"] == pytest.approx(0.5, abs=0.002)
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.float16}


def test_a_sum_beyond_the_dtype_is_refused_and_unknown_roundings_too() -> None:
    base = torch.full((2, 3), 60_000.0).half()
    term = Term(1.0, torch.full((2, 1), 10_000.0), torch.ones(1, 3))
    with pytest.raises(NotFinite):
        ExactSum([term], key=KEY).rows(base)
    with pytest.raises(NotFinite):
        ExactSum([Term(1.0, torch.full((2, 1), 3e38), torch.ones(1, 3))], key=KEY).rows(base.bfloat16() * 1e34)
    with pytest.raises(MedbenchError, match="stochastic"):
        Rounding("stochastik")  # type: ignore[arg-type]
