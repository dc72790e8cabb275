"""`medbench merge` on a small sharded bf16 model, against PEFT in float64, and everything it refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.files.manifest import read_manifest  # noqa: E402
from medbench.merging.adapters import parse_adapter  # noqa: E402
from medbench.merging.checkpoints import open_checkpoint  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402


def tensors(path: Path) -> dict[str, Any]:
    return {name: stored.read() for name, stored in open_checkpoint(path).tensors.items()}


def deltas(base: Path, adapter: Path) -> dict[str, Any]:
    """Every update as PEFT computes it, in float64."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    wrapped = peft.PeftModel.from_pretrained(model, adapter).double()
    found = {}
    for name, module in wrapped.base_model.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            found[f"{name}.weight"] = module.get_delta_weight("default").detach()
    return found


def merge(lab: Any, out: Path, **settings: Any) -> Path:
    settings = {"rounding": "nearest", **settings}
    room.merge(lab.base, [f"pt={lab.pt}:0.3", f"sft={lab.sft}:0.7"], out, **settings)
    return out


def half_ulp(values: Any) -> Any:
    up = torch.nextafter(values.abs(), torch.tensor(float("inf"), dtype=values.dtype))
    return (up.double() - values.abs().double()) / 2


def test_checkpoint_is_within_half_an_ulp_of_peft_in_float64(lab: Any, tmp_path: Path) -> None:
    out = merge(lab, tmp_path / "out")
    base, merged = tensors(lab.base), tensors(out)
    pt, sft = deltas(lab.base, lab.pt), deltas(lab.base, lab.sft)
    assert pt.keys() == sft.keys()
    assert len(pt) == 21
    for name, value in merged.items():
        assert value.dtype == torch.bfloat16
        if name not in pt:
            assert value.equal(base[name])
            continue
        exact = base[name].double() + 0.3 * pt[name] + 0.7 * sft[name]
        assert ((value.double() - exact).abs() <= half_ulp(value) * (1 + 1e-9)).all(), name


def test_checkpoint_keeps_the_layout_and_what_lies_beside_the_weights(lab: Any, tmp_path: Path) -> None:
    out = merge(lab, tmp_path / "out")
    base, merged = open_checkpoint(lab.base), open_checkpoint(out)
    assert len(base.files) > 2
    assert [file.name for file in base.files] == [file.name for file in merged.files]
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (lab.base / name).read_bytes()
    assert not (out / "README.md").exists()
    manifest = read_manifest(out)
    assert manifest["settings"]["weights"] == {"pt": 0.3, "sft": 0.7}
    assert len(manifest["inputs"]["pt"]["sha256"]) == 64
    model, info = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert model.dtype == torch.bfloat16
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_adapter_of_summed_rank_loads_in_peft_and_equals_equation_1(lab: Any, tmp_path: Path) -> None:
    out = merge(lab, tmp_path / "out", format="adapter")
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 12
    assert set(config["rank_pattern"].values()) == {14}  # q_proj: 6 + 8
    combined, pt, sft = deltas(lab.base, out), deltas(lab.base, lab.pt), deltas(lab.base, lab.sft)
    assert combined.keys() == pt.keys()
    for name, value in combined.items():
        exact = 0.3 * pt[name] + 0.7 * sft[name]
        assert (value - exact).norm() <= 1e-7 * exact.norm()


def test_combined_adapter_gives_the_logits_of_peft_cat(lab: Any, tmp_path: Path) -> None:
    # Without rsLoRA: PEFT's cat keeps use_rslora, which multiplies its sum by sqrt(rank).
    from .conftest import make_adapter

    one, other = (make_adapter(lab.base, tmp_path / str(seed), seed=seed, r=seed) for seed in (3, 5))
    out = tmp_path / "out"
    room.merge(lab.base, [f"pt={one}:0.3", f"sft={other}:0.7"], out, format="adapter")
    model = transformers.AutoModelForCausalLM.from_pretrained(lab.base, dtype=torch.float32)
    wrapped = peft.PeftModel.from_pretrained(model, one, adapter_name="pt")
    wrapped.load_adapter(other, adapter_name="sft")
    wrapped.load_adapter(out, adapter_name="ours")
    wrapped.add_weighted_adapter(["pt", "sft"], [0.3, 0.7], "cat", combination_type="cat")
    logits = {}
    for name in ("ours", "cat", "pt"):
        wrapped.set_adapter(name)
        logits[name] = wrapped(torch.tensor([[1, 2, 3, 4]])).logits
    torch.testing.assert_close(logits["ours"], logits["cat"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits["ours"], logits["pt"], atol=1e-2)


def test_three_adapters_an_embedding_and_a_whole_head(lab: Any, tmp_path: Path) -> None:
    from .conftest import make_adapter

    third = make_adapter(
        lab.base, tmp_path / "third", seed=9, target_modules=["embed_tokens", "up_proj"], modules_to_save=["lm_head"]
    )
    out = tmp_path / "out"
    room.merge(lab.base, [f"pt={lab.pt}:0.3", f"sft={lab.sft}:0.5", f"x={third}:-0.4"], out, rounding="nearest")
    base, merged, x = tensors(lab.base), tensors(out), deltas(lab.base, third)
    name = "model.embed_tokens.weight"
    exact = base[name].double() - 0.4 * x[name]
    assert ((merged[name].double() - exact).abs() <= half_ulp(merged[name]) * (1 + 1e-9)).all()
    head = load_file(third / "adapter_model.safetensors")["base_model.model.lm_head.weight"]
    exact = base["lm_head.weight"].double() - 0.4 * (head.double() - base["lm_head.weight"].double())
    # float64 itself errs where base and head cancel.
    allowed = half_ulp(merged["lm_head.weight"]) + 1e-16 * base["lm_head.weight"].double().abs()
    assert ((merged["lm_head.weight"].double() - exact).abs() <= allowed).all()
    both = tmp_path / "both"
    room.merge(lab.base, [f"x={third}:1"], both, format="adapter")
    again = deltas(lab.base, both)
    torch.testing.assert_close(again[name], x[name], rtol=1e-6, atol=1e-9)


def test_layer_wise_weights(lab: Any, tmp_path: Path) -> None:
    out = merge(lab, tmp_path / "out", overrides=[("layers:1", {"pt": 1.0, "sft": 0.0})])
    base, merged = tensors(lab.base), tensors(out)
    pt, sft = deltas(lab.base, lab.pt), deltas(lab.base, lab.sft)
    for name in pt:
        a, b = (1.0, 0.0) if ".layers.1." in name else (0.3, 0.7)
        exact = base[name].double() + a * pt[name] + b * sft[name]
        assert ((merged[name].double() - exact).abs() <= half_ulp(merged[name]) * (1 + 1e-9)).all()


def test_ties_through_files_equals_peft_on_the_updates(lab: Any, tmp_path: Path) -> None:
    from peft.utils.merge_utils import ties

    out = merge(lab, tmp_path / "out", method="ties", settings={"density": 0.4})
    base, merged = tensors(lab.base), tensors(out)
    pt, sft = deltas(lab.base, lab.pt), deltas(lab.base, lab.sft)
    for name in pt:
        update = ties([pt[name], sft[name]], torch.tensor([0.3, 0.7], dtype=torch.float64), 0.4)
        off = (merged[name].double() - (base[name].double() + update)).abs() > 1.01 * half_ulp(merged[name])
        # A value at the edge of the kept share may fall on either side in float32.
        assert off.double().mean() < 0.005


def test_svd_reports_its_error_and_soup_averages(lab: Any, tmp_path: Path) -> None:
    facts = room.merge(
        lab.base, [f"pt={lab.pt}:0.3", f"sft={lab.sft}:0.7"], tmp_path / "svd",
        method="svd", settings={"rank": 4}, format="adapter",
    )  # fmt: skip
    pt, sft, kept = deltas(lab.base, lab.pt), deltas(lab.base, lab.sft), deltas(lab.base, tmp_path / "svd")
    gap = sum(((kept[n] - 0.3 * pt[n] - 0.7 * sft[n]) ** 2).sum() for n in pt)
    size = sum(((0.3 * pt[n] + 0.7 * sft[n]) ** 2).sum() for n in pt)
    assert facts["relative_error"] == pytest.approx(float((gap / size).sqrt()), rel=1e-4)
    from .conftest import make_adapter

    later = make_adapter(lab.base, tmp_path / "later", seed=3)
    first = make_adapter(lab.base, tmp_path / "first", seed=4)
    room.merge(lab.base, [f"a={first}", f"b={later}"], tmp_path / "soup", method="soup", format="adapter")
    soup, a, b = (deltas(lab.base, tmp_path / name) for name in ("soup", "first", "later"))
    for name in a:
        torch.testing.assert_close(soup[name], (a[name] + b[name]) / 2, rtol=1e-5, atol=1e-7)
    with pytest.raises(MedbenchError, match="not of one run"):
        room.merge(lab.base, [f"a={first}", f"sft={lab.sft}"], tmp_path / "no", method="soup")


def merge_with(lab: Any, name: str, out: Path, **more: Any) -> Path:
    """A merge by any registered method, with the settings and weights it needs."""
    from medbench.merging.methods import METHODS

    needed: dict[str, dict[str, Any]] = {"project_out": {"remove": "pt"}, "svd": {"rank": 3}}
    if name == "null_space":
        torch.manual_seed(0)
        inputs = {
            key.removesuffix(".weight"): torch.randn(3, t.shape[1])
            for key, t in tensors(lab.base).items()
            if t.ndim == 2
        }
        save_file(inputs, out.parent / "inputs.safetensors")
        needed[name] = {"project": "sft", "activations": str(out.parent / "inputs.safetensors")}
    pt, sft = (":0.3", ":0.7") if METHODS[name].needs_weights else ("", "")
    adapters = [f"pt={lab.pt}{pt}", f"sft={lab.sft}{sft}"]
    room.merge(lab.base, adapters, out, method=name, settings=needed.get(name), rounding="nearest", **more)
    return out


def names() -> list[str]:
    from medbench.merging.methods import METHODS

    return [name for name in METHODS if name != "soup"]  # of one run: tested apart


@pytest.mark.parametrize("name", names())
def test_every_method_writes_a_checkpoint_and_if_low_rank_the_same_adapter(lab: Any, tmp_path: Path, name: str) -> None:
    from medbench.merging.methods import METHODS

    base, merged = tensors(lab.base), tensors(merge_with(lab, name, tmp_path / "checkpoint"))
    assert any(not merged[key].equal(base[key]) for key in base)
    if METHODS[name].kind == "dense":
        with pytest.raises(MedbenchError, match="no low-rank result"):
            merge_with(lab, name, tmp_path / "adapter", format="adapter")
        return
    for key, delta in deltas(lab.base, merge_with(lab, name, tmp_path / "adapter", format="adapter")).items():
        error = (merged[key].double() - (base[key].double() + delta)).abs()
        assert (error <= half_ulp(merged[key]) * (1 + 1e-9) + 1e-6 * delta.abs().max()).all(), key


def test_methods_that_find_their_own_coefficients_take_no_weights(lab: Any, tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match="model_stock finds its own coefficients"):
        merge(lab, tmp_path / "out", method="model_stock")


# ---- bad input: refused before anything is written ----


def edited(source: Path, target: Path, config: dict[str, Any] | None = None, weights: Any = None) -> Path:
    """A copy of an adapter with another config or other weights."""
    shutil.copytree(source, target)
    if config:
        path = target / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    if weights:
        path = target / "adapter_model.safetensors"
        save_file(weights(load_file(path)), path)
    return target


def refuse(lab: Any, tmp_path: Path, adapter: Path, match: str, base: Path | None = None) -> None:
    with pytest.raises(MedbenchError, match=match):
        room.merge(base or lab.base, [f"pt={adapter}:0.3"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*unfinished"))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"r": None}, "r in adapter_config.json is None"),
        ({"lora_alpha": "16"}, "lora_alpha in adapter_config.json is '16'"),
        ({"rank_pattern": {"q_proj": 0}}, "expected a number above 0"),
        ({"alpha_pattern": {"(q_proj": 8}}, "missing \\)"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "learned bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"target_parameters": ["experts.w"]}, "bare parameters"),
        ({"r": 5}, "records rank 5"),
        ({"target_modules": ["q_proj", "w_pack"]}, "unknown target module 'w_pack'"),
        ({"base_model_name_or_path": "Qwen/Qwen3-14B"}, "--any-base"),
    ],
)
def test_configs_that_equation_1_does_not_cover(lab: Any, tmp_path: Path, config: dict[str, Any], match: str) -> None:
    refuse(lab, tmp_path, edited(lab.sft, tmp_path / "bad", config), match)


def test_nan_and_inf_in_an_adapter(lab: Any, tmp_path: Path) -> None:
    for number, bad in enumerate((float("nan"), float("inf"))):

        def spoil(weights: dict[str, Any], bad: float = bad) -> dict[str, Any]:
            next(iter(weights.values()))[0, 0] = bad
            return weights

        refuse(lab, tmp_path, edited(lab.pt, tmp_path / f"bad{number}", weights=spoil), "NaN or Inf")


def test_dora_vectors_and_lone_factors(lab: Any, tmp_path: Path) -> None:
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    bad = edited(lab.pt, tmp_path / "dora", weights=lambda w: w | {key: torch.ones(64)})
    refuse(lab, tmp_path, bad, "lora_magnitude_vector")
    lone = edited(
        lab.pt,
        tmp_path / "lone",
        weights=lambda w: {k: v for k, v in w.items() if "0.self_attn.q_proj.lora_B" not in k},
    )
    refuse(lab, tmp_path, lone, "both factors")


def test_adapters_of_another_hidden_size_or_depth(lab: Any, tmp_path: Path) -> None:
    from .conftest import make_base

    wider = make_base(tmp_path / "wide" / "base", hidden=96)
    refuse(lab, tmp_path, lab.pt, "is for another base", base=wider)
    shallow = make_base(tmp_path / "flat" / "base", layers=2)
    refuse(lab, tmp_path, lab.pt, "another depth: it changes model.layers.2", base=shallow)
    deep = make_base(tmp_path / "deep" / "base", layers=4)
    refuse(lab, tmp_path, lab.pt, "another depth", base=deep)


def test_tied_embeddings(lab: Any, tmp_path: Path) -> None:
    from .conftest import make_adapter, make_base

    tied = make_base(tmp_path / "tied", tie_word_embeddings=True)
    adapter = make_adapter(tied, tmp_path / "embedding", seed=1, target_modules=["embed_tokens"])
    refuse(lab, tmp_path, adapter, "ties", base=tied)


def test_pickles_damage_and_missing_files(lab: Any, tmp_path: Path) -> None:
    refuse(lab, tmp_path, tmp_path / "nowhere", "no directory")
    pickled = edited(lab.pt, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    refuse(lab, tmp_path, pickled, "weights_only=True")
    cut = edited(lab.pt, tmp_path / "cut")
    whole = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").write_bytes(whole[:-100])
    refuse(lab, tmp_path, cut, "not a whole safetensors file")
    (cut / "adapter_config.json").write_text("{")
    refuse(lab, tmp_path, cut, "not valid JSON")
    base = tmp_path / "broken" / "base"
    shutil.copytree(lab.base, base)
    shard = sorted(base.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-10])
    refuse(lab, tmp_path, lab.pt, "not a whole safetensors file", base=base)
    shard.unlink()
    refuse(lab, tmp_path, lab.pt, "lacks", base=base)
    for file in base.glob("model*"):
        file.unlink()
    (base / "pytorch_model.bin").write_bytes(b"\x80")
    refuse(lab, tmp_path, lab.pt, "save_pretrained", base=base)


def test_nan_in_the_base_leaves_nothing_behind(lab: Any, tmp_path: Path) -> None:
    base = tmp_path / "nan" / "base"
    shutil.copytree(lab.base, base)
    shard = next(file for file in sorted(base.glob("*.safetensors")) if any("o_proj" in k for k in load_file(file)))
    values = load_file(shard)
    next(v for k, v in values.items() if "o_proj" in k)[1, 1] = float("nan")
    save_file(values, shard, metadata={"format": "pt"})
    refuse(lab, tmp_path, lab.pt, "o_proj", base=base)


def test_output_directory_that_is_not_empty(lab: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(MedbenchError, match="not empty"):
        merge(lab, out)
    assert [file.name for file in out.iterdir()] == ["precious"]
    (out / "precious").unlink()
    assert (merge(lab, out) / "config.json").exists()


def test_the_same_merge_again_changes_nothing_and_another_is_refused(lab: Any, tmp_path: Path) -> None:
    out = merge(lab, tmp_path / "out")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    facts = room.merge(lab.base, [f"pt={lab.pt}:0.3", f"sft={lab.sft}:0.7"], out, rounding="nearest")
    assert facts["update_kept"] == json.loads((out / "manifest.json").read_text())["update_kept"]
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    with pytest.raises(MedbenchError, match="not empty"):
        merge(lab, out, rounding="stochastic")
    pt = tmp_path / "again" / "pt"
    shutil.copytree(lab.pt, pt)
    for adapters in ([f"pt={lab.pt}:0.4", f"sft={lab.sft}:0.7"], [f"pt={pt}:0.3", f"sft={lab.sft}:0.7"]):
        with pytest.raises(MedbenchError, match="not empty"):
            room.merge(lab.base, adapters, out, rounding="nearest")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["inputs"]["pt"]["sha256"] = "0" * 64  # the adapter was trained again since
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MedbenchError, match="not empty"):
        merge(lab, out)


def test_too_little_space_and_a_disk_that_fills(lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medbench.merging import checkpoints

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        with pytest.raises(MedbenchError, match="free some space"):
            merge(lab, tmp_path / "out")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for call in ("fsync", "pwrite"):  # pwrite: on a worker's thread
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints.os, call, full)
            with pytest.raises(MedbenchError, match="full"):
                merge(lab, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*unfinished"))


def test_a_kill_leaves_nothing_that_loads_and_the_next_run_clears_up(lab: Any, tmp_path: Path) -> None:
    # Slow every block down, so that the kill comes in the middle.
    script = (
        "import sys, time\n"
        "from medbench.merging.bfloat16 import Bfloat16Sum\n"
        "block = Bfloat16Sum.block\n"
        "Bfloat16Sum.block = lambda *a: (time.sleep(0.2), block(*a))[1]\n"
        "from medbench.cli import main\nmain()\n"
    )
    out = tmp_path / "out"
    command = ["merge", "--base", str(lab.base), "--adapter", f"pt={lab.pt}:0.3", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-c", script, *command], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob(".out.unfinished/*.safetensors")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    (left,) = tmp_path.glob(".out.unfinished")
    with pytest.raises((OSError, ValueError)):
        transformers.AutoModelForCausalLM.from_pretrained(left)
    merge(lab, out)
    assert not list(tmp_path.glob(".out.unfinished"))


def test_a_plain_merge_does_not_wait_for_torch(lab: Any, tmp_path: Path) -> None:
    script = "import sys\nfrom medbench.cli import cli\ncli(sys.argv[1:], standalone_mode=False)\n"
    script += "sys.exit('torch' in sys.modules)"
    command = ["merge", "--base", lab.base, "--adapter", f"pt={lab.pt}:0.3", "--adapter", f"sft={lab.sft}:0.7"]
    for mode in ("stochastic", "nearest"):
        given = [*map(str, command), "--rounding", mode, "--out", str(tmp_path / mode)]
        done = subprocess.run([sys.executable, "-c", script, *given], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_method_errors_and_flags_on_the_command_line(lab: Any, tmp_path: Path) -> None:
    def run(*extra: str, adapters: tuple[str, ...] = (f"pt={lab.pt}:0.3", f"sft={lab.sft}:0.7")) -> Any:
        given = [part for adapter in adapters for part in ("--adapter", adapter)]
        return CliRunner().invoke(
            room.merge_command, ["--base", str(lab.base), *given, "--out", str(tmp_path / "out"), *extra]
        )

    assert "Did you mean linear" in str(run("--method", "linar").exception)
    assert "no low-rank result" in str(run("--method", "ties", "--format", "adapter").exception)
    assert "share a name" in str(run(adapters=(f"pt={lab.pt}:1", f"pt={lab.sft}:1")).exception)
    assert "has no weight" in str(run(adapters=(f"pt={lab.pt}",)).exception)
    assert "NAME=WEIGHT" in str(run("--at", "layers:0-1").exception)
    assert "names adapter 'px'" in str(run("--at", "layers:0-1 px=1").exception)
    assert "matches no weight" in str(run("--at", "*.mpl.* pt=1").exception)
    result = run("--method", "svd", "--set", "rank=3", "--format", "adapter")
    assert result.exit_code == 0
    assert "relative Frobenius error 0." in result.output


def test_parse_adapter() -> None:
    assert parse_adapter("pt=/a/b:0.3") == ("pt", "/a/b", 0.3)
    assert parse_adapter("pt=/a:b/c") == ("pt", "/a:b/c", None)
    for bad in ("/a/b:0.3", "=x:1", "pt=", "pt=/a:x", "pt=/a:nan"):
        with pytest.raises(MedbenchError):
            parse_adapter(bad)
