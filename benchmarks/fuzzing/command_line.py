"""Every command of `medbench` with arguments that nobody means: an exit code and a message, never a traceback.

The commands run in this process, their streams as a terminal's are (UTF-8), in a scratch folder. Those that would
build or fetch models, or ask another machine, are left out.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fuzzing import artefacts, settings, texts, values
from fuzzing.case import Case, Surface, require
from fuzzing.records import WORK
from fuzzing.rows import FINDINGS, OWN, PREDICTIONS

# What builds or fetches a model; what runs one has no model to run here.
LEFT_OUT = {"demo", "fetch", "microlab", "verify-served"}
HERE = WORK / "a" / "b" / "c" / "d"  # "../../x" stays in the scratch folder


def surfaces() -> list[Surface]:
    """The surfaces of this module."""
    return [Surface("command line", 2_000, _case, _command, seconds=120, least=15)]


@functools.cache
def _commands() -> dict[tuple[str, ...], click.Command]:
    """Every command by the words that name it, those of groups included."""
    from medbench.cli import COMMANDS

    found: dict[tuple[str, ...], click.Command] = {}
    for name, (place, _) in COMMANDS.items():
        if name in LEFT_OUT:
            continue
        module, attribute = place.split(":")
        command = getattr(importlib.import_module(module), attribute)
        if isinstance(command, click.Group):
            found |= {(name, inner): one for inner, one in command.commands.items()}
        else:
            found[name,] = command
    return found


@functools.cache
def _files() -> dict[str, bytes]:
    """Valid files that commands read, by the name under which they lie in the scratch folder."""
    rng = random.Random(1)
    found = {f"own{n}.jsonl": values.as_json_lines(rng, rows).encode() for n, rows in enumerate(OWN)}
    found |= {f"{form}.jsonl": values.as_json_lines(rng, rows).encode() for form, rows in PREDICTIONS.items()}
    found |= {
        "study.yaml": values.as_yaml(rng, settings.STUDY).encode(),
        "recipe.yaml": values.as_yaml(rng, settings.RECIPE).encode(),
        "own.yaml": values.as_yaml(rng, settings.MAPPING).encode(),
        "findings.jsonl": values.as_json_lines(rng, FINDINGS).encode(),
        "empty.jsonl": b"",
        "[bold]odd[/x] é\u202e.csv": b"question,answer\nQ?,A\n",
        "logs/2026-05-01T10-00-00-00-00_a.json": artefacts.valid_logs()[0].encode(),
        "logs/2026-05-01T10-00-00-00-00_b.json": artefacts.valid_logs()[1].encode(),
        "damaged/2026-05-01T10-00-00-00-00_a.json": artefacts.valid_logs()[0].encode()[:4000],
        "nothing/readme.txt": b"nothing",
    }
    return found


def _case(rng: random.Random) -> Case:
    names = list(_commands())
    words = rng.choice(names)
    arguments = [*words]
    for parameter in _commands()[words].params:
        if isinstance(parameter, click.Argument):
            arguments += [_value(rng, parameter) for _ in range(1 if parameter.nargs == 1 else rng.randrange(3))]
        elif parameter.required or rng.random() < 0.35:
            option = rng.choice([*parameter.opts, *parameter.secondary_opts])
            flag = getattr(parameter, "is_flag", False)
            arguments += [option] if flag else [option, _value(rng, parameter)]
    for _ in range(rng.choice((0, 0, 0, 1))):
        arguments.insert(rng.randrange(len(arguments) + 1), _plain(texts.word(rng)))
    return {"arguments": arguments}


def _value(rng: random.Random, parameter: click.Parameter) -> str:
    kind = rng.random()
    name = (parameter.name or "").lower()
    if name in ("out", "log_dir"):
        return rng.choice(("out", "[/model]", "out é", "logs", "own0.jsonl", "a/b/c", "nothing"))
    if kind < 0.25:
        return _plain(texts.word(rng))
    if isinstance(parameter.type, click.Choice):
        return str(rng.choice([one for one in parameter.type.choices if one != "ray"]))
    if isinstance(parameter.type, click.types.FloatParamType | click.types.IntParamType):
        return rng.choice(
            ("0", "1", "-1", "3", "0.5", "1e9", "nan", "inf", "100", "99999999999999999999", "1e-300", "x")
        )
    if name in ("arguments", "columns", "overrides", "settings", "adapters", "expect"):
        left = rng.choice(
            ("source", "question", "mode", "prediction", "pt", "sft", "seed", "limit", "lora_rank", "x", "")
        )
        return f"{left}={rng.choice(('own0.jsonl', '1', 'true', '[1', '{', 'x:0.3', '0.3', _plain(texts.word(rng))))}"
    if kind < 0.8:
        return rng.choice([*_files(), "logs", "damaged", "nothing", "missing", ".", ""])
    return rng.choice(
        (
            "medqa",
            "custom",
            "f5",
            "medbench/f5",
            "own.yaml",
            "m",
            "my[/model]",
            "none/none",
            "A",
            "ABCD",
            "0.8",
            "text of it",
        )
    )


def _plain(word: str) -> str:
    """A word as a shell could hand it over, that names no place outside of the scratch folder."""
    told = word.replace("\0", "").encode("utf-8", "replace").decode()
    return f"x{told}" if told.startswith(("/", "~")) else told


def _command(case: Case) -> None:
    from medbench import cli

    shutil.rmtree(HERE, ignore_errors=True)
    for name, data in _files().items():
        path = HERE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    code, said = _run(cli.main, case["arguments"])
    require(code in (0, 1, 2), f"exit code {code}")
    require("Traceback (most recent call last)" not in said, f"a traceback is shown: {said[-300:]}")
    require(code == 0 or said.strip(), f"exit code {code} without a word")


def _run(main: Callable[[], Any], arguments: list[str]) -> tuple[object, str]:
    """(exit code, what was printed) of a command."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    before, place, code = sys.argv, Path.cwd(), 0
    sys.argv = ["medbench", *arguments]
    os.chdir(HERE)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = before
        os.chdir(place)
    said = b"".join(stream.buffer.getvalue() for stream in (out, err))
    return code, said.decode("utf-8", "replace")
