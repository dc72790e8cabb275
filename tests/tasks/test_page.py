"""What pages share: one declaration makes signature, documentation and refusals."""

from __future__ import annotations

import inspect
import logging

import pytest
from inspect_ai import Task

from medbench.benchmark.page import ALWAYS, CHOICE, COMMON, page
from medbench.benchmark.task import Settings
from medbench.errors import MedbenchError
from medbench.tasks.f5_f6 import f5
from medbench.tasks.medqa import medqa
from medbench.tasks.pubmedqa import pubmedqa


def test_signature_and_documentation_are_made_from_the_declaration() -> None:
    parameters = inspect.signature(pubmedqa).parameters
    assert list(parameters)[:3] == ["source", "revision", "ids"]
    assert parameters["fewshot"].default == 0
    assert parameters["fewshot"].annotation == "int"
    text = inspect.getdoc(medqa) or ""
    assert text.startswith(
        "MedQA-US, four options, test split (1,273 items).\n\nArgs:\n    source: local file instead of"
    )
    assert "drawn from the training split." in text
    for name in (*ALWAYS, *CHOICE):
        assert f"\n    {name}: " in text
    assert "ids: the publisher's" in (inspect.getdoc(pubmedqa) or "")


def test_every_common_parameter_is_a_setting() -> None:
    assert set(COMMON) <= set(inspect.signature(Settings).parameters)


def test_a_misspelt_parameter_is_refused_and_one_of_another_page_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MedbenchError, match=r"unknown parameter of medqa \(-T\) 'sauce'. Did you mean source"):
        medqa(sauce="own.jsonl")
    with caplog.at_level(logging.WARNING), pytest.raises(MedbenchError, match="does not exist"):
        f5(source="nowhere.jsonl", mode="logprob", ids="x.json")
    assert "f5 takes no parameter mode; it is passed over." in caplog.text


def test_a_page_that_takes_what_is_not_there_is_a_defect() -> None:
    with pytest.raises(ValueError, match="a page takes no colour"):
        page("colour")
    with pytest.raises(ValueError, match="a page takes no fewshot"):
        page(fewshot="the training split")


def test_values_reach_the_page_as_settings() -> None:
    seen = {}

    @page(*CHOICE)
    def mine(settings: Settings, colour: str = "red") -> Task:
        """Mine."""
        seen.update(settings=settings, colour=colour)
        return Task()

    mine(thinking=False, shuffle_options=3, colour="blue")
    assert seen["settings"].thinking == "off"
    assert (seen["settings"].shuffle_options, seen["colour"]) == (3, "blue")
    with pytest.raises(MedbenchError, match="unknown mode 'logprobs'"):
        mine(mode="logprobs")
