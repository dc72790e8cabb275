"""Errors that a user can act on.

Everything medbench refuses to do is raised as a `MedbenchError` whose text says what was wrong, where, what was
expected and what to do. The command line prints that text and exits with 2; a traceback means a defect of medbench.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # of an OSError: no more can be written there


# Of an address in any text: its user and password, host and path, and query. One pass, whatever the text.
_ADDRESS = re.compile(r"://(?:(?P<user>[^\s/?#'\"@]*(?:@[^\s/?#'\"@]*)*)@)?(?P<rest>[^\s?#'\"]*)(?:[?#][^\s'\")]*)?")
_NAMES_A_CONTAINER = ("abfs", "abfss", "az", "wasb", "wasbs")  # Azure's addresses: container@account


def without_secrets(text: str) -> str:
    """A text whose addresses have lost user, password, query and fragment; any other text as it is."""
    if "://" not in text:
        return text

    def shown(found: re.Match[str]) -> str:
        user = found["user"]
        container = user is not None and text.endswith(_NAMES_A_CONTAINER, 0, found.start())
        return f"://{user}@{found['rest']}" if container else f"://{found['rest']}"

    return _ADDRESS.sub(shown, text)


class MedbenchError(Exception):
    """Bad input or an impossible request. The text is complete: what, where, expected, what to do.

    Addresses in it are shown without their secrets, since messages go to logs and bug reports.
    """

    def __init__(self, message: str) -> None:
        shown = without_secrets(message)
        super().__init__(shown)
        self.args = (shown,)  # which Inspect's own error, where it is the base as well, would not set


class BadRow(MedbenchError):
    """One row of a data file that cannot be used.

    Attributes:
        file: the file as the user named it.
        row: where it lies, e.g. ``line 12`` or ``record 3``.
        field: the column at fault, or None where the whole row is.
    """

    def __init__(self, file: str, row: str, field: str | None, problem: str) -> None:
        self.file, self.row, self.field, self.problem = file, row, field, problem
        where = f"{file}, {row}" + (f", field {field!r}" if field else "")
        super().__init__(f"{where}: {problem}")


class LeftOut(BadRow):
    """A row that its publisher left without what the benchmark needs (a missing key, say).

    Such rows are left out under every policy, since no user can mend them, but are counted and listed like any other.
    """


class NoColumn(BadRow):
    """A column that the user named is not in a row: a matter of the setting, which no mending of rows helps."""


def unknown(what: str, name: str, choices: Iterable[str]) -> MedbenchError:
    """The error for a name that is not one of `choices`, with the nearest ones first."""
    known = sorted(set(choices))
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return MedbenchError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}.")


def no_file(path: str | Path, what: str = "") -> MedbenchError:
    """The error for a file that is not there, with the nearest names of its folder.

    Args:
        path: as the user named it.
        what: kind of file, for the message.
    """
    folder, named = Path(path).parent, f"{what} {path}".strip()
    if not folder.is_dir():
        return MedbenchError(f"{named} does not exist, nor does the folder {folder}.")
    beside = {one.stem: one for one in sorted(folder.iterdir(), reverse=True) if one.suffix == Path(path).suffix}
    near = difflib.get_close_matches(Path(path).stem, beside, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(str(beside[stem]) for stem in near)}?" if near else ""
    return MedbenchError(f"{named} does not exist.{hint}")
