"""`medbench tasks`: what there is to evaluate, and how each is asked for."""

from __future__ import annotations

import inspect
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medbench.benchmark import catalog
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
    published = catalog.published(bare)
    if published is not None:
        click.echo(f"\nFrom the hub: {published.repository}, {published.split} split, revision {published.revision}")
    module = sys.modules[function.__module__]
    about = inspect.cleandoc(module.__doc__ or "")
    click.echo(f"\n{about}")


def _list() -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("medbench/…", "items", "asks in", "scores", "v."):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("items", "v.") else "left")
    table.add_column("from (hub)", overflow="fold")
    for name in catalog.names():
        about = catalog.about(name)
        told = ("–", "–", "–", "–")
        if about is not None:
            items = "–" if about.items is None else f"{about.items:,}"
            told = (items, about.language, about.scores, str(about.version))
        table.add_row(*map(Text, (name, *told, _from(name))))
    Console(markup=False).print(table)
    click.echo(
        "\nRun one: inspect eval medbench/medqa --model MODEL. What it is, and its parameters: medbench tasks NAME.\n"
        "A copy of its data on this machine: -T source=FILE. An own set: inspect eval medbench/custom -T source=FILE"
    )


def _from(name: str) -> str:
    published = catalog.published(name)
    if published is not None:
        return published.repository
    return "your file" if name == "custom" else "the package"
