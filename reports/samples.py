"""The samples of a log, as plain values: the parts that the report reads, and nothing else is parsed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec
from pydantic import BaseModel, ConfigDict


class StoredScore(BaseModel):
    """The part of Inspect's Score that is read."""

    model_config = ConfigDict(extra="ignore")
    value: Any = None
    reason: str | None = None
    metadata: dict[str, Any] | None = None


class Sample(BaseModel):
    """The part of Inspect's EvalSample that is read; the parser skips the rest, which saves most of the time."""

    model_config = ConfigDict(extra="ignore")
    id: int | str
    epoch: int = 1
    scores: dict[str, StoredScore] | None = None
    metadata: dict[str, Any] = {}
    output: Any = None
    error: Any = None
    limit: Any = None


class ShownSample(Sample):
    """A sample whose prompt is shown, too."""

    input: Any = ""
    target: Any = ""

    @property
    def prompt(self) -> str:
        """The text of the prompt, its messages apart by an empty line."""
        return "\n\n".join(_text(m) for m in self.input) if isinstance(self.input, list) else str(self.input)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content if part.get("type") == "text")


def samples(file: str) -> Iterator[Sample]:
    """All samples of a log, in an order that does not depend on which was generated first.

    The zip is read directly: Inspect's reader validates every field, at thrice the cost.
    """
    if file.endswith(".eval"):
        with _archive(file) as archive:
            # Members written twice (a retried sample) are listed once here: the last.
            members = sorted(n for n in archive.NameToInfo if n.startswith("samples/") and n.endswith(".json"))
            for member in members:
                yield Sample.model_validate_json(archive.read(member))
        if members:
            return
    yield from sorted(_of_json(file, Sample), key=lambda sample: (str(sample.id), sample.epoch))


def some_samples(file: str, wanted: Sequence[tuple[str, int]]) -> list[ShownSample]:
    """The samples of some ids and epochs, in their order; those that a log lacks are left out.

    The log is opened once: Inspect's reader of single samples goes through the whole list of members for each.
    """
    if file.endswith(".eval"):
        with _archive(file) as archive:
            names = [f"samples/{identity}_epoch_{epoch}.json" for identity, epoch in wanted]
            return [ShownSample.model_validate_json(archive.read(name)) for name in names if name in archive.NameToInfo]
    known = {(str(sample.id), sample.epoch): sample for sample in _of_json(file, ShownSample)}
    return [known[pair] for pair in wanted if pair in known]


_S = TypeVar("_S", bound=Sample)


def _of_json(file: str, kind: type[_S]) -> Iterator[_S]:
    from inspect_ai.log import read_eval_log

    for sample in read_eval_log(file).samples or []:
        yield kind.model_validate(sample.model_dump(include=set(kind.model_fields), mode="json"))


@contextmanager
def _archive(file: str) -> Iterator[zipfile.ZipFile]:
    import medbench.private.inspect  # noqa: F401  registers zstandard, in which .eval members are compressed

    with fsspec.open(file, "rb") as handle, zipfile.ZipFile(handle) as archive:
        yield archive
