"""Resolves pyproject.toml into the lock files, with the hashes of all files that an index may serve (make lock).

    requirements.lock     all that tests and checks need but torch, for each supported Python on Linux and macOS
    locks/torch.lock      torch of the public index, and CUDA's libraries, which it needs on Linux
    locks/torch-cpu.lock  PyTorch's CPU build of it, which needs none of them, for a pip that is set to find it
    locks/build.lock      what builds the two packages that have no wheel, and medbench itself
    locks/docs.lock       what builds the documentation

Versions stay as they are where they still fit: `make lock UPGRADE=--upgrade`, or `UPGRADE="--upgrade-package NAME"`,
moves them. Needs uv in the Python that runs it, and writes nothing unless all resolve.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("local", "gguf", "train", "cluster", "dev")
# The oldest patch release that all locked packages accept.
PYTHON = "3.11.5"
PLATFORM = ("--universal", "--python-version", PYTHON, "--generate-hashes", "--no-annotate", "--no-header", "--quiet")
# torch -> the files of PyTorch's CPU build and their hashes. In a lock of its own: of two files with a locked hash, pip
# takes the one whose hash an index tells before it looks, whatever their versions.
CPU_TORCH = {
    "2.13.0": {
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": (
            "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
        )
    }
}
WITH_TORCH = re.compile(r"(torch|nvidia-.*|cuda-.*|triton)")
HEAD = "# Made by `make lock` from pyproject.toml. Do not edit.\n"


def main(options: list[str]) -> None:
    """Resolve and write all; `options` are uv's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    known = "".join(path.read_text("utf-8") for name, path in _paths().items() if path.exists() and name != "torch-cpu")
    with tempfile.TemporaryDirectory() as folder:
        extras = [part for extra in EXTRAS for part in ("--extra", extra)]
        found = resolve([str(ROOT / "pyproject.toml"), *extras], known, Path(folder) / "all.txt", options)
        wanted = Path(folder) / "docs.in"
        wanted.write_text("\n".join(project["project"]["optional-dependencies"]["docs"]), "utf-8")
        docs = resolve([str(wanted)], known, Path(folder) / "docs.txt", options)
    torch = {name: entry for name, entry in found.items() if WITH_TORCH.fullmatch(name)}
    rest = {name: entry for name, entry in found.items() if name not in torch}
    parts = {
        "requirements": rest,
        "torch": torch,
        "torch-cpu": {"torch": cpu_build(torch["torch"])},
        "build": {"setuptools": rest["setuptools"]},
        "docs": docs,
    }
    for name, path in _paths().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + "".join(parts[name].values()), "utf-8")
        print(f"{path.relative_to(ROOT)}: {len(parts[name])} packages")


def _paths() -> dict[str, Path]:
    beside = {name: ROOT / "locks" / f"{name}.lock" for name in ("torch", "torch-cpu", "build", "docs")}
    return {"requirements": ROOT / "requirements.lock"} | beside


def resolve(wanted: list[str], known: str, out: Path, options: list[str]) -> dict[str, str]:
    """Package -> its entry: one pinned line with its marker, and a line for each hash.

    Args:
        wanted: what uv is to resolve.
        known: lock files as they are; their versions are kept where they fit.
    """
    out.write_text(known, "utf-8")
    command = [sys.executable, "-m", "uv", "pip", "compile", *PLATFORM, *options, *wanted, "--output-file", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    entries = re.findall(r"^[^ #\n].*\n(?: .*\n)*", out.read_text("utf-8"), re.MULTILINE)
    return {re.split("[=;@ ]", entry, maxsplit=1)[0]: entry for entry in entries}


def cpu_build(entry: str) -> str:
    """The entry of the CPU build of the same torch."""
    version = re.match(r"torch==([\d.]+)", entry)
    files = CPU_TORCH.get(version[1] if version else "")
    if version is None or not files:
        raise SystemExit(f"{entry.splitlines()[0]}: add the hashes of its CPU build to CPU_TORCH in .ci/lock.py")
    return f"torch=={version[1]}+cpu" + "".join(f" \\\n    --hash=sha256:{one}" for one in files.values()) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
