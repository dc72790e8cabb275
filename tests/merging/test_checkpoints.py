"""Model directories as strangers make them: indexes and links that would mix up, or copy, what is not the model's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from medbench.errors import MedbenchError  # noqa: E402
from medbench.merging.checkpoints import open_checkpoint  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402

INDEX = "model.safetensors.index.json"


@pytest.fixture
def base(lab: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lab.base, tmp_path / "base"))


def edit_index(base: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((base / INDEX).read_text())
    change(index)
    (base / INDEX).write_text(json.dumps(index))


def refused(lab: Any, base: Path, tmp_path: Path, match: str) -> None:
    with pytest.raises(MedbenchError, match=match):
        room.merge(base, [f"pt={lab.pt}:0.3"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_shards_of_one_name_in_different_folders(lab: Any, base: Path, tmp_path: Path) -> None:
    shards = sorted(base.glob("*.safetensors"))[:2]
    moved = {}
    for number, shard in enumerate(shards):
        folder = base / f"part{number}"
        folder.mkdir()
        shard.rename(folder / "model.safetensors")
        moved[shard.name] = f"part{number}/model.safetensors"
    edit_index(base, lambda index: index["weight_map"].update(
        {name: moved.get(shard, shard) for name, shard in index["weight_map"].items()}
    ))  # fmt: skip
    refused(lab, base, tmp_path, r"part0/model\.safetensors'; expected the plain name")


@pytest.mark.parametrize("entry", ["../model.safetensors", "/etc/passwd", "..", "", "a\\b", "a\0b", 7, None, ["x"]])
def test_index_entries_that_are_no_plain_names(lab: Any, base: Path, tmp_path: Path, entry: Any) -> None:
    edit_index(base, lambda index: index["weight_map"].update({"lm_head.weight": entry}))
    refused(lab, base, tmp_path, "lm_head.weight lies in .*expected the plain name")


@pytest.mark.parametrize("weight_map", [[], {}, None, "model.safetensors", 3])
def test_a_weight_map_that_is_none(lab: Any, base: Path, tmp_path: Path, weight_map: Any) -> None:
    edit_index(base, lambda index: index.update(weight_map=weight_map))
    refused(lab, base, tmp_path, "weight_map is .*expected tensor names")


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "extra.txt", "additional_chat_templates/a.jinja", "config.json"]
)
def test_links_that_leave_the_model_are_not_followed(lab: Any, base: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text((base / "config.json").read_text())
    (base / name).parent.mkdir(exist_ok=True)
    (base / name).unlink(missing_ok=True)
    (base / name).symlink_to(secret)
    refused(lab, base, tmp_path, "outside the model's folder")


def test_a_shard_that_is_a_link_to_elsewhere(lab: Any, base: Path, tmp_path: Path) -> None:
    shard = sorted(base.glob("*.safetensors"))[0]
    shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    refused(lab, base, tmp_path, "outside the model's folder")


def test_links_within_the_model_and_those_of_a_hub_snapshot_are_followed(lab: Any, base: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--base"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(base.iterdir())):
        file.rename(repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    (snapshot / "notes.txt").symlink_to("chat_template.jinja")
    room.merge(snapshot, [f"pt={lab.pt}:0.3"], tmp_path / "out")
    merged = open_checkpoint(tmp_path / "out")
    assert merged.tensors.keys() == open_checkpoint(lab.base).tensors.keys()
    assert not (tmp_path / "out" / "notes.txt").is_symlink()


def test_json_that_nests_without_end(lab: Any, base: Path, tmp_path: Path) -> None:
    (base / INDEX).write_text("[" * 200_000)
    refused(lab, base, tmp_path, "not valid JSON")
