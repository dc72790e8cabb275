"""Advice in messages works: every command, option, extra, parameter and page that a message names is there."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from medbench import advice
from medbench.benchmark import catalog
from medbench.cli import COMMANDS, cli
from medbench.provider.api import MedbenchAPI

ROOT = Path(__file__).resolve().parents[1]
# What stands after the word "medbench" where it is the subject of a sentence, not a command.
PROSE = {"does", "knows", "merges", "model", "provider"}
# Options of other tools that messages speak of: the servers of vLLM and llama.cpp, lm-eval, accelerate launch, sbatch,
# medbench.provider.tiny.
OTHERS = {
    "--array",
    "--config_file",
    "--cpu",
    "--module",
    "--num_processes",
    "--enable-lora",
    "--log_samples",
    "--lora",
    "--max-lora-rank",
    "--text",
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]+")


def texts() -> Iterator[tuple[str, str]]:
    """(where, text) of every string in the package that is no docstring; what an f-string fills in reads ``{}``."""
    for room in ("medbench", "tasks", "probes", "trainers", "reports"):
        for path in sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    skipped |= {id(part) for part in node.values}
                    parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", "".join(parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


TEXTS = list(texts())


@cache
def options(command: str) -> frozenset[str]:
    """All options of a command, those of its subcommands among them."""
    context = click.Context(cli)
    found = cli.get_command(context, command)
    assert found is not None
    inner = [found, *(found.commands.values() if isinstance(found, click.Group) else ())]
    parameters = [one for each in inner for one in each.params]
    return frozenset(name for one in parameters for name in [*one.opts, *one.secondary_opts]) | {"--help"}


@cache
def inspect_options() -> frozenset[str]:
    names = ("eval", "score", "view")  # of Inspect's own commands, which no public module offers
    found = [
        one
        for name in names
        for one in getattr(importlib.import_module(f"inspect_ai._cli.{name}"), f"{name}_command").params
    ]
    return frozenset(name for one in found for name in [*one.opts, *one.secondary_opts])


def test_commands_named_in_messages_exist() -> None:
    wrong, prose = [], set()
    for where, text in TEXTS:
        for word in re.findall(r"(?<![/\w.-])medbench ([a-z][a-z-]*)", text):
            if word in COMMANDS:
                continue
            prose.add(word)
            if word not in PROSE:
                wrong.append(f"{where}: medbench {word}")
    assert wrong == []
    assert prose == PROSE, "a word of PROSE that no message uses any more hides a misspelt command"


def test_options_named_in_messages_exist() -> None:
    anywhere = frozenset().union(*map(options, COMMANDS)) | inspect_options() | OTHERS
    wrong = []
    for where, text in TEXTS:
        if " " not in text.strip():
            continue  # a word of a command that is run
        wrong += [f"{where}: {name}" for name in _OPTION.findall(text) if name not in anywhere]
        # What follows a command in the same clause is its own.
        for command, rest in re.findall(r"(?<![/\w.-])medbench ([a-z][a-z-]*)([^.;,:()`]*)", text):
            own = options(command) if command in COMMANDS else anywhere
            clause = re.split(r"\b(?:then|and) ", rest)[0]
            wrong += [f"{where}: medbench {command} {name}" for name in _OPTION.findall(clause) if name not in own]
    assert wrong == []


def test_parameters_named_in_messages_exist() -> None:
    import inspect

    pages = {name for task in catalog.names() for name in inspect.signature(catalog.function(task)).parameters}
    provider = set(inspect.signature(MedbenchAPI.__init__).parameters) | {"enable_thinking"}  # the hf provider's
    wrong = [
        f"{where}: -{kind} {name}="
        for where, text in TEXTS
        for kind, name in re.findall(r"-([TM]) ([a-z_]+)=", text)
        if name not in (pages if kind == "T" else provider)
    ]
    assert wrong == []


def test_tasks_pages_and_inspects_commands_named_in_messages_exist() -> None:
    inspect_cli = importlib.import_module("inspect_ai._cli.main").inspect

    wrong = []
    for where, text in TEXTS:
        wrong += [f"{where}: {page}" for page in re.findall(r"docs/[\w-]+\.md", text) if not (ROOT / page).is_file()]
        for task in re.findall(r"inspect eval medbench/(\w+)", text):
            wrong += [] if task in catalog.names() else [f"{where}: medbench/{task}"]
        for name in re.findall(r"`inspect ([a-z-]+)", text):
            wrong += [] if name in inspect_cli.commands else [f"{where}: inspect {name}"]
    assert wrong == []


def test_extras_asked_for_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    asked: set[str] = set()
    for room in ("medbench", "trainers", "probes", "reports", "tasks"):
        for path in (ROOT / room).rglob("*.py"):
            for extra in re.findall(r"""\b(?:install|need)\(["']([\w,]+)["']""", path.read_text("utf-8")):
                asked |= set(extra.split(","))
    assert {"local", "train", "cluster", "sheets", "flash"} <= asked <= set(extras)


def test_no_message_spells_an_install_command_out() -> None:
    spelt = [where for where, text in TEXTS if "pip install" in text and not where.startswith("medbench/advice.py")]
    assert spelt == []


def test_a_checkout_is_installed_by_its_path() -> None:
    assert advice.install("local") == f"pip install -e '{ROOT}[local]'"


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        ({}, "medbench[local]"),
        ({"url": "file:///gone/medbench-0.1.0-py3-none-any.whl", "archive_info": {}}, "medbench[local]"),
        ({"url": f"file://{ROOT}", "dir_info": {}}, f"{ROOT}[local]"),
        (
            {"url": "https://example.org/medbench.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "medbench[local] @ git+https://example.org/medbench.git@abc",
        ),
        ({"url": "https://example.org/m.whl", "archive_info": {}}, "medbench[local] @ https://example.org/m.whl"),
    ],
)
def test_an_installation_is_named_by_where_it_came_from(origin: dict[str, object], requirement: str) -> None:
    assert advice._requirement("local", origin) == requirement


def test_what_is_missing_is_found_without_importing() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['peft'] = None\n"
        "from medbench.advice import missing; print(missing('train')); print('transformers' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["['peft', 'torch']", "False"]
