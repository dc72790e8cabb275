"""`medbench merge`: two adapters into a random model of about 100 MB in four shards."""

from __future__ import annotations

from pathlib import Path

from shapes import write_adapters

from stress.kind import Content, Kind, digest, steady

_SHAPE = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 3, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 8192, "tie_word_embeddings": False,
}  # fmt: skip


def _prepare(inputs: Path) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen3ForCausalLM(Qwen3Config(**_SHAPE, dtype="bfloat16"))
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(inputs / "base", max_shard_size="25MB")
    model.name_or_path = str(inputs / "base")
    write_adapters(model, inputs, ("pt", "sft"), size=0.01)


def _command(inputs: Path, place: Path) -> list[str]:
    weights = [f"--adapter={name}={inputs / name}:{weight}" for name, weight in (("pt", 0.3), ("sft", 0.7))]
    return ["merge", "--base", str(inputs / "base"), *weights, "--out", str(place)]


def _content(place: Path) -> Content:
    from safetensors import safe_open

    from medbench.files.manifest import read_manifest
    from medbench.merging.checkpoints import open_checkpoint

    found = {"manifest": digest(steady(read_manifest(place)))}
    for file in sorted({file.name for file in open_checkpoint(place).path.glob("*.safetensors")}):
        with safe_open(place / file, "numpy") as shard:  # refuses a file that is shorter than its header says
            assert shard.keys(), file
        found[file] = digest((place / file).read_bytes())
    for file in sorted(place.glob("*.json")):
        if file.name != "manifest.json":
            found[file.name] = digest(file.read_bytes())
    return {"checkpoint": digest(found)}


def _whole(place: Path) -> Content:
    from medbench.errors import MedbenchError
    from medbench.merging.checkpoints import open_checkpoint

    if not place.exists():
        return {}
    try:
        open_checkpoint(place)
    except MedbenchError:
        return {}
    return _content(place)


KIND = Kind(
    "merge",
    "two rank-16 adapters into 43 M parameters in bfloat16, in shards of 25 MB",
    (
        "torch",
        "medbench.trainers.merge",
        "medbench.merging.streaming",
        "medbench.merging.kept",
        "medbench.merging.methods",
    ),
    _prepare,
    _command,
    _content,
    _whole,
)
