"""Sharded safetensors checkpoints: opened, checked, and written anew.

A new checkpoint grows in a hidden directory beside its place and is renamed into it when everything is on the disk, so
that a kill or a full disk leaves nothing that loads.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from medbench.errors import DISK_FULL, MedbenchError
from medbench.files import places
from medbench.files.manifest import require_finished
from medbench.merging.stored import Stored, read_header

WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx"}
INDEX = "model.safetensors.index.json"
_COPY_BYTES = 1 << 20  # stays in a core's cache on its way


@dataclass(frozen=True)
class Checkpoint:
    """A model directory: its tensors by name, its weight files in order, its config."""

    path: Path
    tensors: dict[str, Stored]
    files: list[Path]
    config: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Size of the weight files."""
        return sum(file.stat().st_size for file in self.files)


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """The directory of a model: itself, or a Hugging Face id's snapshot (downloaded unless cached)."""
    try:
        path = places.local(name).expanduser()
        if path.is_dir():
            return path
    except (OSError, RuntimeError):  # a name that is too long, an unknown user's home
        path = Path()
    if len(path.parts) != 2 or path.is_absolute() or str(name).startswith("."):
        raise MedbenchError(
            f"no model directory {name!s:.200}: give a directory, or a Hugging Face id such as Qwen/Qwen3-0.6B."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        others = ["*.bin", "*.pth", "*.gguf", "*.h5", "*.msgpack"]
        return Path(snapshot_download(str(name), revision=revision, ignore_patterns=others))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise MedbenchError(f"no model directory {name}, and the hub did not give it either ({error}).") from None


def open_checkpoint(name: str | Path, revision: str | None = None) -> Checkpoint:
    """Read a model directory's headers.

    Raises:
        MedbenchError: no such directory, no config or weights, pickled weights, a shard that is missing or does not
            parse, an index that names tensors that its shards lack.
    """
    path = find_model(name, revision)
    require_finished(path)
    index_file = path / INDEX
    config = read_json(path / "config.json")
    weight_map = _weight_map(index_file) if index_file.exists() else {}
    files = [path / file for file in dict.fromkeys(weight_map.values())] or [path / "model.safetensors"]
    missing = [file for file in files if not file.exists()]
    if missing:
        pickled = sorted(file.name for file in path.iterdir() if file.suffix in {".bin", ".pt", ".pth", ".ckpt"})
        if pickled:
            raise MedbenchError(
                f"{path} holds pickled weights ({pickled[0]}), which run code when loaded. If you trust them, convert "
                "once with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)."
            )
        raise MedbenchError(f"{path} lacks {missing[0].name}: the model is not complete.")
    for file in (path / "config.json", index_file, *files, *companions(path)):
        _refuse_leaving(path, file)
    tensors: dict[str, Stored] = {}
    for file in files:
        tensors |= read_header(file)
    lost = sorted(set(weight_map) - set(tensors))
    if lost:
        raise MedbenchError(f"{index_file} names {lost[0]}, which is in none of its shards: download the model again.")
    return Checkpoint(path, tensors, files, config)


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> shard, each shard a file's plain name beside the index."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise MedbenchError(f"{index}: weight_map is {weight_map!r:.80}; expected tensor names with their shards.")
    for name, shard in weight_map.items():
        # Shards of one name in two folders would be written over each other, and ../ leads out of the model.
        if not isinstance(shard, str) or shard in ("", ".", "..") or re.search(r"[/\\\0]", shard):
            raise MedbenchError(
                f"{index} says that {name} lies in {shard!r:.80}; expected the plain name of a file beside it. "
                "Save the model again: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)."
            )
    return weight_map


def _refuse_leaving(model: Path, file: Path) -> None:
    """Refuse a link to outside the model's folder: what it leads to would be copied into the merged model.

    A hub snapshot is made of links to the blobs of its own repository in the cache.
    """
    roots = [model.resolve()]
    if roots[0].parent.name == "snapshots" and roots[0].parent.parent.name.startswith("models--"):
        roots.append(roots[0].parent.parent / "blobs")
    real = file.resolve()
    if not any(real.is_relative_to(root) for root in roots):
        raise MedbenchError(
            f"{file} is a link to {real}, outside the model's folder, and a merge would copy it. If it belongs to the "
            "model, put the file itself there."
        )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file, or the error that says which file is at fault."""
    try:
        document = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise MedbenchError(f"{file.parent} holds no {file.name}.") from None
    except (ValueError, RecursionError) as error:
        raise MedbenchError(f"{file} is not valid JSON ({error}).") from None
    except OSError as error:
        raise MedbenchError(f"{file} cannot be read ({error.strerror}).") from None
    if not isinstance(document, dict):
        raise MedbenchError(f"{file} holds {type(document).__name__}, not a JSON object.")
    return document


class Syncer:
    """Brings files to the disk in the background, while others are made."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._pending: list[Any] = []

    def finish(self, file: FileIO) -> None:
        """Fsync and close a file, later."""
        self._pending.append(self._pool.submit(self._finish, file))

    @staticmethod
    def _finish(file: FileIO) -> None:
        with file:
            os.fsync(file.fileno())

    def __enter__(self) -> Syncer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown()
        if kind is None:
            for future in self._pending:
                future.result()


def copy_bytes(source: FileIO, target: FileIO, begin: int, end: int, place: int | None = None) -> None:
    """Copy a byte range of one open file to a place in another (None: the same place), from any thread."""
    place = begin if place is None else place
    while begin < end:
        try:
            # Within the kernel, and without copying anything where the file system can share blocks.
            count = os.copy_file_range(source.fileno(), target.fileno(), end - begin, begin, place)
        except (AttributeError, OSError) as error:
            # Not on this system, or not between these file systems.
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            data = os.pread(source.fileno(), min(_COPY_BYTES, end - begin), begin)
            count = len(data)
            write_at(target, memoryview(data), place)
        if not count:
            raise MedbenchError(f"{source.name} ended early: it was changed while it was read.")
        begin, place = begin + count, place + count


def write_at(target: FileIO, data: memoryview, position: int) -> None:
    """Write all of `data` at a byte position, from any thread."""
    while data:
        count = os.pwrite(target.fileno(), data, position)
        data, position = data[count:], position + count


def companions(source: Path) -> list[Path]:
    """The files that belong to a model beside its weights, config and index: tokenizer, chat templates, licence ...

    Model cards and manifests are left out: they describe this model and no other.
    """
    files = []
    for entry in sorted(source.iterdir()):
        stays = entry.name.startswith(".") or entry.name in {"README.md", "manifest.json", "config.json", INDEX}
        if stays or entry.suffix in WEIGHT_SUFFIXES or entry.name.endswith(".index.json"):
            continue
        if not entry.is_dir():
            files.append(entry)
        elif entry.name == "additional_chat_templates":
            files += sorted(path for path in entry.iterdir() if not path.is_dir())
    return files


def carry_along(source: Path, target: Path) -> list[str]:
    """Copy what belongs to a model beside its weights into a new one, and return the names copied."""
    names = [str(file.relative_to(source)) for file in companions(source)]
    # Last of all: without a config nothing loads the directory.
    names += [name for name in (INDEX, "config.json") if (source / name).exists()]
    for name in names:
        (target / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, target / name)
    return names
