"""A GGUF file as a model directory: dequantised safetensors, config, tokenizer, chat template, generation config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.errors import MedbenchError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNQUANTISED = {"F32", "F16", "BF16", "F64"}


def facts(file: Path) -> dict[str, Any]:
    """What a GGUF file says of itself: architecture, name, tokenizer, and how many tensors are stored in which type.

    Raises:
        MedbenchError: no such file, not GGUF, or cut off.
    """
    from gguf import GGUFReader

    if not file.is_file():
        raise MedbenchError(f"no GGUF file {file}: give the path of a *.gguf file, or the name smollm2.")
    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise MedbenchError(f"{file} is not a whole GGUF file ({error}): download it again.") from None
    types: dict[str, int] = {}
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] = types.get(tensor.tensor_type.name, 0) + 1

    def text(key: str) -> str | None:
        field = reader.get_field(key)
        return None if field is None else str(field.contents())

    architecture = text("general.architecture")
    context = reader.get_field(f"{architecture}.context_length")
    return {
        "architecture": architecture,
        "name": text("general.name"),
        "tensors": types,
        "pre_tokenizer": text("tokenizer.ggml.pre"),
        "context_length": None if context is None else int(context.contents()),
    }


def quantisation(types: dict[str, int]) -> str | None:
    """The type that most quantised tensors have, or None where the file holds the weights as they were."""
    quantised = {name: count for name, count in types.items() if name not in _UNQUANTISED}
    return max(quantised, key=lambda name: quantised[name]) if quantised else None


def convert(file: Path, target: Path, dtype: str, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write a GGUF file's model to `target` as transformers loads it.

    Args:
        file: the GGUF file.
        target: an existing, empty directory.
        dtype: ``float32`` or ``bfloat16``, of the weights written.
        known: what `facts` found, if it was asked before.

    Returns `facts`.

    Raises:
        MedbenchError: not GGUF, or an architecture that transformers does not read from GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM

    known = known or facts(file)
    _check_architecture(file, known)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise MedbenchError(
            f"{file}: transformers cannot turn this GGUF file into a model ({type(error).__name__}: {error}). "
            "Fetch the model in its own format instead."
        ) from error
    # What was loaded counts as quantised and will not be saved: a clean config, and the same weights under it.
    config = type(loaded.config).from_dict(
        {k: v for k, v in loaded.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    )
    with torch.device("meta"):
        clean: Any = AutoModelForCausalLM.from_config(config)
    clean.load_state_dict(loaded.state_dict(), assign=True)
    clean.tie_weights()
    clean.generation_config = loaded.generation_config
    clean.to(getattr(torch, dtype)).save_pretrained(target)
    tokenizer = _tokenizer(file, known)
    tokenizer.save_pretrained(target)
    return known


def _check_architecture(file: Path, known: dict[str, Any]) -> None:
    from medbench.private.transformers import gguf_architectures

    if known["architecture"] not in gguf_architectures():
        raise MedbenchError(
            f"{file} holds a model of architecture {known['architecture']!r}, which transformers does not read from "
            f"GGUF; it reads {', '.join(gguf_architectures())}. Fetch the model in its own format."
        )


def _tokenizer(file: Path, known: dict[str, Any]) -> PreTrainedTokenizerBase:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if known["pre_tokenizer"] == "smollm":
        # transformers takes GPT-2's rule for it; SmolLM's own first splits every digit off, which is seen where several
        # spaces stand before a number.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if known["context_length"]:
        tokenizer.model_max_length = known["context_length"]
    return tokenizer
