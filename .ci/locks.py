"""Prints the lock files that this machine's environment is installed from, as arguments of pip.

torch of the public index needs CUDA's libraries on Linux; where pip finds a CPU build, they are gigabytes of nothing.
Which of the two pip would take is asked of pip itself.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """`-r requirements.lock`, and the lock of the torch that pip finds here."""
    (torch,) = re.findall(r"^torch==[^\s;\\]+", (ROOT / "locks" / "torch.lock").read_text("utf-8"), re.MULTILINE)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--dry-run", "--ignore-installed", "--report", "-", torch]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    version = report["install"][0]["metadata"]["version"]
    print("-r requirements.lock -r", "locks/torch-cpu.lock" if version.endswith("+cpu") else "locks/torch.lock")


if __name__ == "__main__":
    main()
