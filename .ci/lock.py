"""Resolves pyproject.toml into the lock files, with the hashes of all files that an index may serve (make lock).

    requirements.lock   all that tests and checks need, for each supported Python on Linux and macOS
    locks/cuda.lock     what torch of the public index needs besides on Linux; a CPU build of torch needs none of it
    locks/build.lock    what builds the two packages that have no wheel, and medbench itself
    locks/docs.lock     what builds the documentation

Versions stay as they are where they still fit: `make lock UPGRADE=--upgrade`, or `UPGRADE="--upgrade-package NAME"`,
moves them. Needs uv in the Python that runs it, and writes nothing unless all four resolve.
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
# PyTorch's CPU builds, which a machine's own pip may be set to find: their hashes stand beside the public index's.
CPU_TORCH = {
    "2.13.0": {
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": (
            "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
        )
    }
}
FOR_CUDA = re.compile(r"(nvidia|cuda|triton)\b")
HEAD = "# Made by `make lock` from pyproject.toml. Do not edit.\n"


def main(options: list[str]) -> None:
    """Resolve and write all four; `options` are uv's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    known = "".join(path.read_text("utf-8") for path in _paths().values() if path.exists())
    with tempfile.TemporaryDirectory() as folder:
        extras = [part for extra in EXTRAS for part in ("--extra", extra)]
        found = resolve([str(ROOT / "pyproject.toml"), *extras], known, Path(folder) / "all.txt", options)
        wanted = Path(folder) / "docs.in"
        wanted.write_text("\n".join(project["project"]["optional-dependencies"]["docs"]), "utf-8")
        docs = resolve([str(wanted)], known, Path(folder) / "docs.txt", options)
    cuda = {name: entry for name, entry in found.items() if FOR_CUDA.match(name)}
    rest = {name: entry for name, entry in found.items() if name not in cuda}
    rest["torch"] = with_cpu_builds(rest["torch"])
    parts = {"requirements": rest, "cuda": cuda, "build": {"setuptools": rest["setuptools"]}, "docs": docs}
    for name, path in _paths().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + "".join(parts[name].values()), "utf-8")
        print(f"{path.relative_to(ROOT)}: {len(parts[name])} packages")


def _paths() -> dict[str, Path]:
    beside = {name: ROOT / "locks" / f"{name}.lock" for name in ("cuda", "build", "docs")}
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


def with_cpu_builds(entry: str) -> str:
    """torch's entry with the hashes of the CPU builds of its version."""
    version = re.match(r"torch==(\S+)", entry)
    builds = CPU_TORCH.get(version[1] if version else "")
    if not builds:
        raise SystemExit(f"{entry.splitlines()[0]}: add the hashes of its CPU builds to CPU_TORCH in .ci/lock.py")
    return entry.rstrip("\n") + "".join(f" \\\n    --hash=sha256:{one}" for one in builds.values()) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
