"""The error that both medbench and Inspect show as a message instead of a traceback."""

from __future__ import annotations

from rich.markup import escape

from medbench.errors import MedbenchError
from medbench.private.inspect import PrerequisiteError


class InspectError(MedbenchError, PrerequisiteError):
    """Bad input met under `inspect eval`: a `MedbenchError` that is also Inspect's own missing prerequisite.

    Attributes:
        message: the text with square brackets escaped. Inspect prints it as rich markup, which would swallow
            ``[local]`` in an install command and fail on a ``[/b]`` in a bad row.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = escape(str(self))
