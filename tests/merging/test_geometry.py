"""`medbench geometry` against dense matrices and scipy's subspace angles."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from click.testing import CliRunner  # noqa: E402
from scipy.linalg import subspace_angles  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.merging.adapters import read_adapter  # noqa: E402
from medbench.merging.checkpoints import open_checkpoint  # noqa: E402
from medbench.trainers import geometry as room  # noqa: E402

from .conftest import make_adapter  # noqa: E402


def compare(lab: Any, pt: float = 0.3, sft: float = 0.7, **settings: Any) -> Any:
    return room.compare(lab.base, [f"pt={lab.pt}:{pt}", f"sft={lab.sft}:{sft}"], **settings)[0]


def dense(lab: Any) -> dict[str, tuple[Any, Any, Any]]:
    base = open_checkpoint(lab.base).tensors
    pt, sft = (read_adapter("x", path).low_rank for path in (lab.pt, lab.sft))
    return {k: (pt[k].delta(torch.float64), sft[k].delta(torch.float64), base[k].read().double()) for k in pt}


def test_every_figure_is_that_of_the_dense_matrices(lab: Any) -> None:
    found = compare(lab, sample=1 << 30)
    matrices = dense(lab)
    assert found.by_weight.keys() == matrices.keys()
    for name, (one, other, base) in matrices.items():
        figures = found.by_weight[name].figures()
        assert figures["cosine"] == pytest.approx(float((one * other).sum() / one.norm() / other.norm()), abs=1e-9)
        assert figures["energy_1"] == pytest.approx(float(one.square().sum()), rel=1e-6)
        pt, sft = (read_adapter("x", path).low_rank[name] for path in (lab.pt, lab.sft))
        for key, left, right in (("column_overlap", pt.b, sft.b), ("row_overlap", pt.a.T, sft.a.T)):
            cosines = torch.from_numpy(subspace_angles(left.double().numpy(), right.double().numpy())).cos()
            assert figures[key] == pytest.approx(float(cosines.square().mean()), abs=1e-6)
        assert figures["sign_conflict"] == pytest.approx(float(((one * other) < 0).double().mean()), abs=1e-3)
        change = 0.3 * one + 0.7 * other
        # In two steps torch's own conversion rounds twice; a value in 2^16 differs.
        rounded = (base + change).float().bfloat16().double() - base
        assert figures["bf16_kept"] == pytest.approx(float((change * rounded).sum() / change.square().sum()), abs=1e-3)
        assert figures["bf16_unchanged"] == pytest.approx(float((rounded == 0).double().mean()), abs=1e-3)


def test_all_weights_together_and_by_kind(lab: Any) -> None:
    found, matrices = compare(lab), dense(lab)
    one, other = (torch.cat([m[at].flatten() for m in matrices.values()]) for at in (0, 1))
    assert found.total().figures()["cosine"] == pytest.approx(float(one @ other / one.norm() / other.norm()), abs=1e-9)
    assert set(found.by_kind()) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert sum(counts.sampled for counts in found.by_kind().values()) == found.total().sampled


def test_the_same_adapter_twice_and_its_opposite(lab: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    same = room.compare(lab.base, [f"a={lab.pt}", f"b={lab.pt}"])[0].total().figures()
    for key in ("cosine", "column_overlap", "row_overlap"):
        assert same[key] == pytest.approx(1.0, abs=1e-6)
    assert same["sign_conflict"] == 0.0
    import shutil

    minus = Path(shutil.copytree(lab.pt, tmp_path / "minus"))
    weights = load_file(minus / "adapter_model.safetensors")
    save_file({k: -v if "lora_B" in k else v for k, v in weights.items()}, minus / "adapter_model.safetensors")
    opposite = room.compare(lab.base, [f"a={lab.pt}", f"b={minus}"])[0].total().figures()
    assert opposite["cosine"] == pytest.approx(-1.0, abs=1e-6)
    assert opposite["sign_conflict"] == 1.0
    assert opposite["bf16_kept"] is None  # nothing was asked for


def test_a_sample_stands_for_the_whole(tmp_path: Path) -> None:
    from .conftest import make_base

    base = make_base(tmp_path / "base", hidden=256, layers=1, intermediate_size=512)
    adapters = [make_adapter(base, tmp_path / str(seed), seed=seed, std=0.02) for seed in (1, 2)]
    texts = [f"pt={adapters[0]}:0.3", f"sft={adapters[1]}:0.7"]
    whole, part = (room.compare(base, texts, sample=size)[0].total() for size in (1 << 30, 1 << 12))
    assert part.sampled < whole.sampled / 8
    assert part.size == whole.size == whole.sampled
    for key in ("sign_conflict", "bf16_kept", "bf16_unchanged"):
        assert part.figures()[key] == pytest.approx(whole.figures()[key], abs=0.02)


def test_small_weights_count_as_small_in_all(tmp_path: Path) -> None:
    """A sample takes as many values of a small weight as of a large one; their sums must not."""
    from safetensors.torch import load_file, save_file

    from .conftest import make_base

    base = make_base(tmp_path / "base", hidden=64, layers=1, intermediate_size=4096)
    texts = []
    for seed in (1, 2):
        adapter = make_adapter(base, tmp_path / str(seed), seed=seed, std=0.01)
        file = adapter / "adapter_model.safetensors"
        # Attention's weights, of 4,096 values, change much; the others, of 262,144, so little that bf16 loses them.
        save_file({k: v * (30 if "self_attn" in k else 1) for k, v in load_file(file).items()}, file)
        texts.append(f"{'pt' if seed == 1 else 'sft'}={adapter}:0.3")
    whole, part = (room.compare(base, texts, sample=size)[0].total().figures() for size in (1 << 30, 1 << 12))
    for key in ("sign_conflict", "bf16_kept", "bf16_unchanged"):
        assert part[key] == pytest.approx(whole[key], abs=0.03), key


def test_the_command_writes_table_drawing_and_json(lab: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--base", str(lab.base), "--adapter", f"pt={lab.pt}:0.3", "--adapter", f"sft={lab.sft}:0.7"]
    result = CliRunner().invoke(room.geometry_command, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert re.search(r"^all .*0\.\d{3}", result.output, re.MULTILINE)
    document = json.loads((out / "geometry.json").read_text())
    assert len(document["by_weight"]) == 21
    assert document["weights"] == {"pt": 0.3, "sft": 0.7}
    drawing = ElementTree.fromstring((out / "geometry.svg").read_text())
    assert len(drawing.findall(".//{*}rect/{*}title")) == 21 * len(room.PANELS)
    assert (out / "geometry.md").read_text().count("\n| model.layers.") == 21
    assert json.loads((out / "manifest.json").read_text())["kind"] == "geometry"


def test_bad_input(lab: Any, tmp_path: Path) -> None:
    one = [f"pt={lab.pt}"]
    for adapters, match in (
        (one, "two adapters"),
        ([*one, f"pt={lab.sft}"], "name them apart"),
        ([*one, "sft=/nowhere"], "no directory"),
    ):
        with pytest.raises(MedbenchError, match=match):
            room.compare(lab.base, adapters)
    up, down = (make_adapter(lab.base, tmp_path / t, seed=1, target_modules=[t]) for t in ("up_proj", "down_proj"))
    with pytest.raises(MedbenchError, match="no weight in common"):
        room.compare(lab.base, [f"a={up}", f"b={down}"])
