"""`medbench train sft`: the micro-lab's SFT adapter, with checkpoints on the way."""

from __future__ import annotations

import json
from pathlib import Path

from stress.kind import Content, Kind, digest, steady

STEPS = 20


def _prepare(inputs: Path) -> None:
    from medbench.provider.loading import MICROLAB
    from medbench.trainers.microlab.demo import demo_plan

    demo_plan(inputs, lab=MICROLAB)


def _command(inputs: Path, place: Path) -> list[str]:
    from medbench.provider.loading import MICROLAB

    settings = {
        "model_name_or_path": MICROLAB, "dataset": inputs / "corpus" / "sft.jsonl", "output_dir": place,
        "max_steps": STEPS, "logging_steps": 5, "save_steps": 5, "val_size": 16, "per_device_train_batch_size": 4,
        "on_bad_row": "skip",
    }  # fmt: skip
    return ["train", "sft", "--config", "microlab/sft", *(f"{key}={value}" for key, value in settings.items())]


def _content(place: Path) -> Content:
    from safetensors.numpy import load_file

    from medbench.files.manifest import read_manifest

    manifest = steady(read_manifest(place))
    resumed = ("resumed_from", "settings", "origin", "log_history")
    kept = {key: value for key, value in manifest.items() if key not in resumed}
    tensors = load_file(place / "adapter_model.safetensors")
    state = max(place.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert json.loads((state / "trainer_state.json").read_text())["global_step"] == STEPS
    return {
        "adapter": digest([[name, digest(tensor.tobytes())] for name, tensor in sorted(tensors.items())]),
        "curve": digest((place / "loss_curve.csv").read_bytes()),
        "manifest": digest(kept),
        "losses": json.dumps(manifest["losses"]),
    }


def _whole(place: Path) -> Content:
    from medbench.errors import MedbenchError
    from medbench.merging.adapters import read_adapter

    if not place.exists():
        return {}
    try:
        read_adapter("sft", str(place))
    except MedbenchError:
        return {}
    return _content(place)


KIND = Kind(
    "train",
    f"the micro-lab's SFT adapter, {STEPS} steps, a checkpoint every 5",
    (
        "medbench.trainers.train",
        "medbench.trainers.loop",
        "medbench.trainers.model",
        "transformers.models.qwen3.modeling_qwen3",
        "peft",
    ),
    _prepare,
    _command,
    _content,
    _whole,
)
