"""`--dtype float32`: what the warning of a lossy merge advises, against PEFT's own logits in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from medbench.files.manifest import read_manifest  # noqa: E402
from medbench.merging.checkpoints import open_checkpoint  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402
from medbench.trainers import verify_merge as verifying  # noqa: E402

from .conftest import make_adapter, make_base  # noqa: E402

IDS = torch.tensor([[1, 5, 7, 2, 9, 3]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_faint_update_is_kept_whole_and_gives_peft_s_logits(tmp_path: Path, dtype: Any) -> None:
    base = make_base(tmp_path / "base", dtype=dtype)
    faint = make_adapter(base, tmp_path / "pt", seed=1, std=0.004, modules_to_save=["lm_head"])
    out = tmp_path / "out"
    command = ["--base", str(base), "--adapter", f"pt={faint}:1", "--dtype", "float32", "--out", str(out)]
    result = CliRunner().invoke(room.merge_command, command)
    assert result.exit_code == 0, result.output
    assert "stored as float32: 100.0% of the update kept" in result.output
    assert "effective weights: pt 1.0000" in result.output
    assert read_manifest(out)["dtype"] == "float32"
    model, info = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert model.dtype == torch.float32  # as the config says, without being told
    assert not info["missing_keys"]
    wrapped = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), faint
    )
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, wrapped(IDS).logits, rtol=1e-5, atol=1e-6)
    check = ["--base", str(base), "--merged", str(out), "--adapter", f"pt={faint}", "--expect", "pt=1"]
    result = CliRunner().invoke(verifying.verify_command, check)
    assert result.exit_code == 0, result.output
    assert "effective 1.0000" in result.output


def test_all_weights_and_the_index_are_those_of_float32(lab: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    room.merge(lab.base, [f"pt={lab.pt}:0.3"], out, dtype="float32")
    before, after = open_checkpoint(lab.base), open_checkpoint(out)
    assert [file.name for file in before.files] == [file.name for file in after.files]
    assert list(before.tensors) == list(after.tensors)
    changed = 0
    for file in after.files:
        for name, value in load_file(file).items():
            assert value.dtype == torch.float32
            changed += not value.equal(before.tensors[name].read().float())
    assert changed == 21
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.end - t.begin for t in after.tensors.values())
