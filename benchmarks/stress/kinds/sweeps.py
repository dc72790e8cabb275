"""`medbench sweep`: two candidates of the micro-lab on two tasks."""

from __future__ import annotations

from pathlib import Path

import yaml

from stress.kind import Content, Kind, digest, steady
from stress.kinds.imports import whole_logs

RUNS = 4


def _prepare(inputs: Path) -> None:
    from medbench.provider.loading import MICROLAB

    study = {
        "base": str(MICROLAB),
        "adapters": {"pt": str(MICROLAB / "pt"), "sft": str(MICROLAB / "sft")},
        "candidates": [{"pt": [0, 0.5], "sft": "1 - pt"}],
        "controls": False,
        "tasks": [{"task": f"medbench/microlab_{name}", "args": {"seed": 0}} for name in ("exam", "open")],
        "decoding": [{"temperature": 0, "max_tokens": 24}],
        "limit": 16,
    }
    (inputs / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), "utf-8")


def _command(inputs: Path, place: Path) -> list[str]:
    return ["sweep", str(inputs / "study.yaml"), "--out", str(place)]


def _content(place: Path) -> Content:
    from medbench.files.manifest import read_manifest

    found = whole_logs(place)
    manifest = steady(read_manifest(place))
    names = sorted(path.name for path in (place / "logs").iterdir() if path.suffix == ".eval")
    assert manifest.pop("logs") == names, "the manifest's logs are not those that are there"
    assert len(found) == RUNS == len(names), (sorted(found), names)
    return {**found, "manifest": digest(manifest)}


def _whole(place: Path) -> Content:
    return _content(place) if (place / "manifest.json").exists() else whole_logs(place)


KIND = Kind(
    "sweep",
    f"{RUNS} runs: two mixtures of the micro-lab's adapters on two tasks, 16 items each",
    (
        "inspect_ai",
        "medbench.trainers.sweep",
        "torch",
        "medbench.provider",
        "medbench.provider.engine",
        "transformers.models.qwen3.modeling_qwen3",
    ),
    _prepare,
    _command,
    _content,
    _whole,
    None,
    lambda name: name.endswith(".eval"),
)
