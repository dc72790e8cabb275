"""Options of commands that name places: paths, or fsspec URLs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import click

from medbench.errors import MedbenchError
from medbench.files import places
from medbench.files.manifest import read_manifest


class Read(click.ParamType):
    """A file or a directory that is read; one that lies elsewhere is copied first (`places.local`)."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path on this machine."""
        return places.local(value)


class ReadText(click.ParamType):
    """As `Read`, for a command that takes the path as a text."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The path on this machine, as it was given where it is one."""
        return str(places.local(value)) if places.is_remote(value) else value


cards_option = click.option(
    "--card",
    "cards",
    multiple=True,
    type=ReadText(),
    metavar="FILE",
    help="What people say of a metric: a card of `medbench meta`.",
)


class Write(click.ParamType):
    """Where something is made; what goes elsewhere is made here and written there when the command ends well.

    Args:
        replace: whether an artefact that lies there may be replaced.
        known_by: see `places.staged`.
    """

    name = "path"

    def __init__(self, *, replace: bool = False, known_by: Collection[str] | None = None) -> None:
        self._replace, self._known_by = replace, known_by

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path on this machine."""
        if not places.is_remote(value) or ctx is None:
            return places.path_of(value)
        made: Path = ctx.with_resource(places.staged(value, replace=self._replace, known_by=self._known_by))
        return made


class Here(click.ParamType):
    """Where something is made on this machine, and not at a URL: what is resumed file by file needs a file system."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path."""
        if places.is_remote(value):
            raise MedbenchError(
                f"{value}: this is made, and gone on with, in a directory of this machine. Name one, and then copy it: "
                f"medbench publish DIRECTORY {value}"
            )
        return places.path_of(value)


@click.command("publish")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.argument("url")
def publish(directory: Path, url: str) -> None:
    """Write a finished artefact in DIRECTORY, or a single file, to URL: files first, the manifest last.

    \b
    medbench publish adapters/pt s3://bucket/adapters/pt
    """
    if not places.is_remote(url):
        raise MedbenchError(f"{url} is no URL; expected one such as s3://bucket/folder.")
    if directory.is_dir():
        read_manifest(directory)
    places.publish(directory, url)
    click.echo(f"wrote {url}")
