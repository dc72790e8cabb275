"""What is wrong with a study file is said before anything is made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medbench.errors import MedbenchError
from medbench.trainers.study import read_study


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"candidates": [{"pt": "0..1 step 1e-9", "sft": 0.5}]}, "expected a weight, a list"),
        ({"candidates": [{"pt": "0..1 step .0000001", "sft": 0.5}]}, "over 1000 steps"),
        (
            {"candidates": [{"pt": "0..1 step .001", "sft": "0..1 step .001"}]},
            r"over 5,000 combinations \(pt has 1,001",
        ),
        ({"candidates": [{"model": ["a/b"]}]}, "expected PROVIDER/NAME"),
        ({"candidates": [{"model": "a/b", "name": {"x": 1}}]}, "name is .* expected a text"),
        ({"candidates": [{"model": "a/b", "args": [1]}]}, "args of a/b are"),
        ({"thinking": []}, "thinking is empty"),
        ({"decoding": []}, "decoding is empty"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    study = {"base": "b", "adapters": {"pt": "p", "sft": "s"}, "candidates": [{"model": "a/b"}], "tasks": ["t/u"]}
    path.write_text(yaml.safe_dump({**study, **changes}), "utf-8")
    with pytest.raises(MedbenchError, match=said):
        read_study(path)
