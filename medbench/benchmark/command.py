"""`medbench tasks`: what there is to evaluate, and how each is asked for."""

from __future__ import annotations

import inspect
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medbench.benchmark import catalog
from medbench.benchmark.task import HubSource
from medbench.errors import unknown


@click.command()
@click.argument("name", required=False)
def tasks(name: str | None) -> None:
    """List the benchmarks and probes; with NAME, one of them and all its -T parameters."""
    if name is None:
        _list()
        return
    bare = name.removeprefix("medbench/")
    known = catalog.names()
    if bare not in known:
        raise unknown("task", bare, known)
    function = catalog.function(bare)
    click.echo(f"inspect eval medbench/{bare} --model MODEL [-T NAME=VALUE ...]\n")
    click.echo(inspect.cleandoc(function.__doc__ or ""))
    published = _published(bare)
    if published is not None:
        click.echo(f"\nFrom the hub: {published.repository}, {published.split} split, revision {published.revision}")
    module = sys.modules[function.__module__]
    about = inspect.cleandoc(module.__doc__ or "")
    click.echo(f"\n{about}")


def _list() -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("inspect eval …", "what it asks and scores", "from"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "inspect eval …")
    for name in catalog.names():
        published = _published(name)
        first = inspect.cleandoc(catalog.function(name).__doc__ or "").partition("\n\n")[0].replace("\n", " ")
        source = "the package" if published is None else f"hf.co/datasets/{published.repository}"
        table.add_row(Text(f"medbench/{name}"), Text(first), Text("your file" if name == "custom" else source))
    Console().print(table)
    click.echo("\nmedbench tasks NAME: its parameters. An own set: inspect eval medbench/custom -T source=FILE")


def _published(name: str) -> HubSource | None:
    found = getattr(sys.modules[catalog.function(name).__module__], "HUB", None)
    if isinstance(found, dict):  # a page of several sets
        found = found.get(name)
    return found if isinstance(found, HubSource) else None
