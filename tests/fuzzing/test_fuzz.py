"""A few seconds of `benchmarks/fuzz.py`: every surface ends in a result or a `MedbenchError`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from fuzzing import growth
from fuzzing.case import Fault, Surface, attempt, require, smaller
from fuzzing.growth_functions import functions
from fuzzing.surfaces import SURFACES

from medbench.errors import MedbenchError

SEED = 5
# What takes milliseconds and more an input gets its `least`.
MANY = ("trace", "choice", "decision", "number", "refusal", "records", "items", "predictions", "findings", "manifest")


@pytest.mark.parametrize("name", SURFACES)
def test_no_end_but_a_result_or_a_medbench_error(name: str) -> None:
    surface = SURFACES[name]
    faults: list[Fault] = []
    for number in range(200 if name in MANY else min(30, surface.least)):
        fault = attempt(surface, surface.make(random.Random(f"{name}:{SEED}:{number}")))[1]
        if fault:
            faults.append(fault)
    assert not faults, f"{faults[0].kind} at {faults[0].place}\n{faults[0].trace}"


def test_an_input_is_made_again_from_its_seed() -> None:
    for name in ("choice", "records", "study", "cards"):
        make = SURFACES[name].make
        assert repr(make(random.Random(f"{name}:1:7"))) == repr(make(random.Random(f"{name}:1:7")))


def test_a_fault_is_seen_and_made_smaller() -> None:
    def run(case: dict[str, str]) -> None:
        if "\0" in case["text"]:
            raise KeyError("zero byte")
        if "refuse" in case["text"]:
            raise MedbenchError("no")
        require("twice twice" not in case["text"], "said twice")

    surface = Surface("s", 1, lambda rng: {"text": ""}, run)
    assert attempt(surface, {"text": "fine"}) == ("result", None)
    assert attempt(surface, {"text": "refuse"}) == ("refused", None)
    assert attempt(surface, {"text": "twice twice"})[1] is not None
    case = {"text": "before\0after" * 50}
    fault = attempt(surface, case)[1]
    assert fault is not None
    assert fault.kind.startswith("KeyError")
    assert smaller(surface, case, fault) == {"text": "\0"}


@pytest.mark.parametrize(
    ("function", "piece"),
    [
        ("detect_language", "A"),
        ("detect_language", "aA"),
        ("user_turn", "\nuser\n"),
        ("user_turn", "[INST]"),
        ("extract_choice", "."),
        ("extract_choice zh several", "\n"),
        ("thinking.views", "<think>"),
        ("extract_number", "1,"),
    ],
)
def test_time_grows_with_length_alone(function: str, piece: str) -> None:
    start = "B" if function.startswith("extract_choice") else ""
    timed = functions()[function]
    timed("The answer is B.")

    def seconds(length: int) -> float:
        return min(growth._seconds(timed, start + piece * (length // len(piece)) + "a") for _ in range(2))

    assert seconds(1 << 15) < 0.02 + 8 * max(seconds(1 << 13), 0.001)  # quadratic: sixteen times
