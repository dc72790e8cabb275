"""No secret of a provider is written anywhere; what decides an answer is."""

import inspect
import json
import pickle
import re

import pytest

import medbench._registry  # noqa: F401 - registers the tasks
from medbench.errors import MedbenchError, without_secrets
from medbench.files import redact
from medbench.files.manifest import write_manifest
from medbench.private.inspect import registry_find
from medbench.private.inspect_error import InspectError
from medbench.provider.api import _arguments


@pytest.mark.parametrize(
    "name", ["api_key", "auth", "authorization", "key", "openai_key", "token", "default_headers", "x"]
)
def test_an_unknown_argument_is_named_and_its_value_withheld(name):
    assert redact.shown_arguments({name: "sk-123"}) == {name: redact.WITHHELD}
    assert redact.shown_arguments({name: {"deep": ["sk-123"]}}) == {name: redact.WITHHELD}
    assert redact.shown_arguments({name: 4711}) == {name: redact.WITHHELD}


def test_what_decides_an_answer_is_shown():
    given = {"dtype": "bfloat16", "max_model_len": 4096, "adapters": ["pt=DIR:0.3"], "use_x": True, "auth": None}
    assert redact.shown_arguments(given) == given
    nested = {"merge_settings": {"density": 0.5, "password": "p"}}
    assert redact.shown_arguments(nested) == {"merge_settings": {"density": 0.5, "password": redact.WITHHELD}}


def test_every_argument_of_the_own_provider_and_tasks_is_shown():
    assert set(_arguments()) <= redact.HARMLESS
    tasks = registry_find(lambda info: info.type == "task" and info.name.startswith("medbench/"))
    assert len(tasks) > 10
    assert {name for task in tasks for name in inspect.signature(task).parameters} <= redact.HARMLESS | {"unknown"}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://me:pw@host:8000/v1", "https://host:8000/v1"),
        ("https://host/v1?key=sk-1#t", "https://host/v1"),
        ("https://host/v1", "https://host/v1"),
        ("https://sk-1@host", "https://host"),
        ("pt=DIR:0.3", "pt=DIR:0.3"),
        ("http://[", "http://["),
        ("abfs://container@account/x?sig=sk-1", "abfs://container@account/x"),
        ("hf://datasets/owner/name@main/x", "hf://datasets/owner/name@main/x"),
        ("see https://me:p@w@host/v1?key=sk-1 (and ftp://u:p@h/x).", "see https://host/v1 (and ftp://h/x)."),
        ("://" * 100_000, "://" * 100_000),
    ],
)
def test_an_address_loses_its_secrets(given, shown):
    assert without_secrets(given) == shown


def test_messages_lose_them_too():
    for kind in (MedbenchError, InspectError):
        assert str(kind("no server at https://me:pw@host/v1?key=sk-1.")) == "no server at https://host/v1"
    assert InspectError("[a] https://me:pw@host").message == "\\[a] https://host"
    assert str(pickle.loads(pickle.dumps(MedbenchError("ftp://u:p@h/x")))) == "ftp://h/x"


def test_settings_that_are_withheld_stay_unlike():
    one, two, same = (redact.told_apart({"strictness": value, "mode": "a"}) for value in (1, 2, 1))
    assert one == same != two
    assert one["mode"] == "a"
    assert re.fullmatch(r"\(withheld, [0-9a-f]{6}\)", one["strictness"])


def test_a_command_line_loses_its_secrets():
    words = ["medbench", "contamination", "-M", "api_key=sk-1", "-Mauth=sk-2", "-M", "dtype=float32", "-M", "sk-3"]
    words += [
        "--model-base-url",
        "https://me:pw@host/v1",
        "--model-base-url=https://u:p@h/v1",
        "dataset=ftp://u:p@h/a.jsonl",
    ]
    assert redact.shown_command(words) == [
        "medbench", "contamination", "-M", "api_key=(withheld)", "-Mauth=(withheld)", "-M", "dtype=float32", "-M",
        "(withheld)", "--model-base-url", "https://host/v1", "--model-base-url=https://h/v1", "dataset=ftp://h/a.jsonl",
    ]  # fmt: skip


def test_a_manifest_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["medbench", "x", "-M", "api_key=sk-1"])
    settings = {"model_args": {"api_key": "sk-2"}, "candidates": [{"model": "openai/x", "args": {"auth": "sk-3"}}]}
    settings |= {"serve": {"base_url": "https://me:sk-4@host/v1"}, "limit": 3, "dataset": "a.jsonl"}
    path = write_manifest(
        tmp_path,
        "sweep",
        settings=settings,
        inputs={"ftp://u:sk-5@host/m": "https://sk-6@host/m"},
        base={"name": "ftp://u:sk-7@host"},
    )
    text = path.read_text("utf-8")
    assert "sk-" not in text
    written = json.loads(text)["settings"]
    assert written["limit"] == 3
    assert written["dataset"] == "a.jsonl"
    assert written["candidates"][0]["model"] == "openai/x"
