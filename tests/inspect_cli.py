"""Inspect's own command line, in this process, through the entry point that its package declares."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from unittest import mock


def inspect_command(*arguments: str) -> int:
    """Run ``inspect ARGUMENTS`` and return its exit status."""
    (command,) = entry_points(group="console_scripts", name="inspect")
    with mock.patch.object(sys, "argv", ["inspect", *arguments]), mock.patch.object(sys, "excepthook", sys.excepthook):
        try:
            command.load()()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
