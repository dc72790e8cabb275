"""Full fine-tuned checkpoints as task vectors, beside adapters, in merge and verify-merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.files.manifest import read_manifest  # noqa: E402
from medbench.merging.checkpoints import open_checkpoint  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402
from medbench.trainers import verify_merge as verifying  # noqa: E402

from .conftest import make_base  # noqa: E402
from .test_merge import deltas, half_ulp  # noqa: E402


def tensors(path: Path) -> dict[str, Any]:
    return {name: stored.read() for name, stored in open_checkpoint(path).tensors.items()}


def tune(base: Path, out: Path, seed: int = 5, std: float = 0.02, **settings: Any) -> Path:
    """A fine-tuned copy: every weight moved, norms too, in other shards than the base's."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += (torch.randn(parameter.shape, generator=generator) * std).to(parameter.dtype)
    model.save_pretrained(out, **settings)
    return out


@pytest.fixture(scope="module")
def tuned(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tune(lab.base, tmp_path_factory.mktemp("tuned") / "sft", max_shard_size="200KB")


def test_a_task_vector_beside_an_adapter_is_equation_1(lab: Any, tuned: Path, tmp_path: Path) -> None:
    room.merge(lab.base, [f"pt={lab.pt}:0.3"], tmp_path / "out", task_vectors=[f"sft={tuned}:0.7"], rounding="nearest")
    base, after, merged, pt = tensors(lab.base), tensors(tuned), tensors(tmp_path / "out"), deltas(lab.base, lab.pt)
    for name, value in merged.items():
        exact = base[name].double() + 0.7 * (after[name].double() - base[name].double())
        exact = exact + 0.3 * pt[name] if name in pt else exact
        # float64 itself errs where base and tuned cancel.
        assert ((value.double() - exact).abs() <= half_ulp(value) * (1 + 1e-9) + 1e-16).all(), name
    assert any(value.ndim == 1 and not value.equal(base[name]) for name, value in merged.items())
    inputs = read_manifest(tmp_path / "out")["inputs"]
    assert set(inputs) == {"base", "pt", "sft"}
    assert inputs["sft"]["sha256"].keys() == {file.name for file in tuned.glob("*.safetensors")}


def test_weight_1_alone_is_the_fine_tuned_model_bit_for_bit(lab: Any, tuned: Path, tmp_path: Path) -> None:
    room.merge(lab.base, [], tmp_path / "out", task_vectors=[f"sft={tuned}:1"])
    after, merged = tensors(tuned), tensors(tmp_path / "out")
    assert all(value.equal(after[name]) for name, value in merged.items())


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "della", "sce", "slerp", "model_stock", "norm_preserving"])
def test_other_methods_see_the_same_update_as_from_dense_matrices(
    lab: Any, tuned: Path, tmp_path: Path, method: str
) -> None:
    from medbench.merging.deltas import Deltas, DenseUpdate
    from medbench.merging.methods import METHODS
    from medbench.merging.updates import Whole

    chosen = METHODS[method]
    other = tune(lab.base, tmp_path / "pt", seed=6)
    pt, sft = (":0.3", ":0.7") if chosen.needs_weights else ("", "")
    vectors = [f"pt={other}{pt}", f"sft={tuned}{sft}"]
    room.merge(lab.base, [], tmp_path / "out", method=method, task_vectors=vectors, rounding="nearest")
    weights = {"pt": 0.3, "sft": 0.7} if chosen.needs_weights else {"pt": 1.0, "sft": 1.0}
    base, one, two, merged = (tensors(path) for path in (lab.base, other, tuned, tmp_path / "out"))
    for name in ("model.norm.weight", "model.layers.1.mlp.up_proj.weight"):
        updates = [one[name].float() - base[name].float(), two[name].float() - base[name].float()]
        if chosen.kind == "dense":
            deltas = Deltas([Whole(u, torch.zeros_like(u)) for u in updates], name)
            update = DenseUpdate(deltas, list(weights.values()), chosen.function, chosen.settings({}))
            expected = torch.from_numpy(update.rows(0, len(updates[0]))).reshape(updates[0].shape)
        else:
            wholes = {"pt": Whole(one[name], base[name]), "sft": Whole(two[name], base[name])}
            found = chosen.function(weights, wholes)
            gram = torch.tensor([[float((x.double() * y.double()).sum()) for y in updates] for x in updates])
            if method == "model_stock":
                cosine = float(gram[0, 1] / (gram[0, 0] * gram[1, 1]) ** 0.5)
                assert found["pt"] == pytest.approx(cosine / (1 + cosine), rel=1e-4)
            expected = sum(found[n] * u for n, u in zip(found, updates, strict=True))
        error = (merged[name].double() - (base[name].double() + expected.double())).abs()
        assert (error <= half_ulp(merged[name]) * 1.01 + 1e-7).all(), name


def test_verify_merge_recovers_the_weights(lab: Any, tuned: Path, tmp_path: Path) -> None:
    room.merge(lab.base, [f"pt={lab.pt}:0.3"], tmp_path / "out", task_vectors=[f"sft={tuned}:0.7"])
    found, changed = verifying.recover(
        lab.base, tmp_path / "out", [f"pt={lab.pt}"], {"pt": 0.3, "sft": 0.7}, task_vectors=[f"sft={tuned}"]
    )
    assert found.weights == pytest.approx({"pt": 0.3, "sft": 0.7}, abs=0.005)
    assert not changed


def test_the_command_line(lab: Any, tuned: Path, tmp_path: Path) -> None:
    arguments = ["--base", str(lab.base), "--task-vector", f"sft={tuned}:0.7", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(room.merge_command, arguments)
    assert result.exit_code == 0, result.output
    check = ["--base", str(lab.base), "--merged", str(tmp_path / "out"), "--task-vector", f"sft={tuned}"]
    result = CliRunner().invoke(verifying.verify_command, [*check, "--expect", "sft=0.7"])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(verifying.verify_command, [*check, "--expect", "sft=0.3"]).exit_code == 1


def test_what_is_no_task_vector_of_this_base(lab: Any, tuned: Path, tmp_path: Path) -> None:
    def refused(path: Path, match: str, **more: Any) -> None:
        with pytest.raises(MedbenchError, match=match):
            room.merge(lab.base, [], tmp_path / "out", task_vectors=[f"sft={path}:0.7"], **more)
        assert not (tmp_path / "out").exists()

    refused(lab.base, "holds the same weights")
    refused(tmp_path / "nowhere", "no model directory")
    refused(make_base(tmp_path / "deep", layers=4), "other tensors that .* lacks")
    refused(make_base(tmp_path / "wide", vocab_size=308), "tokens were added")
    refused(tuned, "low-rank", method="knots")
    refused(tuned, "no low-rank result", format="adapter")
    with pytest.raises(MedbenchError, match="nothing to merge"):
        room.merge(lab.base, [], tmp_path / "out")
    config = tuned / "config.json"
    assert json.loads(config.read_text())
