"""Corpora, training data and models named by hub ids, from a hub on this machine, as a user runs the commands."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from local_hub import Repositories, environment, serving

from medbench.provider import tiny
from medbench.sources import hub

OLD, NEW = "a" * 40, "b" * 40


# Questions worded apart: a short one in the words of another is a finding of its own (an edited copy).
ASKED = {
    "a headache": "Since this morning I have {0}: which medicine do you advise me to take?",
    "a sore throat": "My daughter has {0} and cannot swallow. When must she be seen by someone?",
    "an itch": "Can {0} on both arms come from a new soap or from my cat?",
}


def lines(topics: list[str]) -> bytes:
    row = "What helps against {0} that lasts for many weeks?", "For {0}, rest at home, drink enough and see a doctor."
    rows = [{"instruction": ASKED.get(t, row[0]).format(t), "input": "", "output": row[1].format(t)} for t in topics]
    return "".join(json.dumps(one) + "\n" for one in rows).encode()


@dataclass
class Place:
    """A folder to work in, where hub ids are those of the local hub."""

    folder: Path
    hub: Repositories
    address: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd=self.folder,
            env=environment(self.address, self.folder / "home"),
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, *command: str) -> str:
        process = self.run(*command)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    def manifest(self, directory: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / directory / "manifest.json").read_text("utf-8")))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tiny.build(tmp_path / "model")
    model = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    (tmp_path / "items.jsonl").write_bytes(lines(["a dry cough"]))
    old, new = lines(["a headache", "a dry cough"]), lines(["a headache", "a sore throat", "an itch"])
    repositories: Repositories = {
        "models/acme/tiny": {"main": OLD, OLD: model},
        "datasets/acme/qa": {"main": OLD, OLD: {"train.jsonl": old}, NEW: {"train.jsonl": new}},
        "datasets/shibing624/medical": {"main": NEW, NEW: {"finetune/valid_en_1.json": new}},
    }
    with serving(repositories) as address:
        yield Place(tmp_path, repositories, address)


def test_names() -> None:
    assert hub.parse("owner/name") == hub.DataSet("owner/name", "main", "train")
    assert str(hub.parse("hf://datasets/owner/name@v1.0:test")) == "owner/name@v1.0:test"
    assert hub.parse("folder/file.jsonl") is None
    assert hub.parse("name") is None
    assert hub.commit("owner/name", OLD) == OLD  # without a request
    assert hub.id_in(f"hf://datasets/owner/name@{OLD}/test.json, record 1") == "owner/name"
    assert hub.id_in("owner/name.jsonl, line 1") is None


def test_audit_and_training_are_of_one_commit(place: Place) -> None:
    place.done("medbench", "audit", "acme/qa", "--against", "items.jsonl", "--out", "audit")
    findings = [json.loads(row) for row in (place.folder / "audit/findings.jsonl").read_text("utf-8").splitlines()]
    assert {(row["corpus_file"], row["record"]) for row in findings} == {(f"acme/qa@{OLD}:train", 1)}

    train = ["medbench", "train", "sft", "model_name_or_path=acme/tiny", "max_steps=1", "output_dir=adapter"]
    flagged = place.run(*train, "dataset=acme/qa", "--findings", "audit")
    assert flagged.returncode == 2
    assert "flags 1 of its records" in flagged.stderr

    place.hub["datasets/acme/qa"]["main"] = NEW
    moved = place.run(*train, "dataset=acme/qa", "--findings", "audit")
    assert moved.returncode == 2
    assert f"it read acme/qa@{OLD}:train" in moved.stderr

    place.done("medbench", "audit", "acme/qa", "--against", "items.jsonl", "--out", "audit")
    place.done(*train, "dataset=acme/qa", "--findings", "audit")
    manifest = place.manifest("adapter")
    assert manifest["inputs"] == {"acme/qa": f"acme/qa@{NEW}:train"}
    assert manifest["base"]["revision"] == OLD


def test_a_corpus_that_is_also_the_benchmark(place: Place) -> None:
    command = ["medbench", "audit", f"acme/qa@{NEW}", "shibing624/medical", "--against", "f5", "--out", "audit"]
    place.hub["datasets/shibing624/medical"][NEW] = {
        "finetune/valid_en_1.json": lines(["an itch"]),
        "data/train.jsonl": lines(["a rash"]),
    }
    place.done(*command)
    summary = json.loads((place.folder / "audit/summary.json").read_text("utf-8"))
    assert summary["shared_sources"] == [
        {"corpus_file": f"shibing624/medical@{NEW}:train", "against": "f5", "how": "same hub id"}
    ]


def test_a_hub_model_is_evaluated_trained_and_merged(place: Place) -> None:
    run = "model_name_or_path=acme/tiny", "dataset=acme/qa", "max_steps=1", "output_dir=adapter"
    place.done("medbench", "train", "sft", *run)
    place.done("medbench", "merge", "--base", "acme/tiny", "--adapter", "sft=adapter:0.5", "--out", "merged")
    same = "--merged", "merged", "--adapter", "sft=adapter", "--expect", "sft=0.5"
    assert "0.5000" in place.done("medbench", "verify-merge", "--base", "acme/tiny", *same)
    assert OLD in place.manifest("merged")["inputs"]["base"]

    task = "medbench/f5", "-T", "source=items.jsonl", "--max-tokens", "4", "--log-dir", "logs", "--log-format", "json"
    live = "-M", "adapters=sft=adapter:0.5"
    place.done("inspect", "eval", *task, "--model", "medbench/acme/tiny", *live)
    (log,) = (place.folder / "logs").glob("*.json")
    (sample,) = json.loads(log.read_text("utf-8"))["samples"]
    assert sample["output"]["metadata"]["model_commit"] == OLD


def test_no_network(tmp_path: Path) -> None:
    """Nothing listens there: the HTTP library's own error is told as ours."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "items.jsonl").write_bytes(lines(["a dry cough"]))
    place = Place(tmp_path, {}, f"http://127.0.0.1:{port}")
    process = place.run("medbench", "audit", "acme/qa", "--against", "items.jsonl", "--out", "audit")
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert "hub data set acme/qa could not be reached" in process.stderr
    assert "local file" in process.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acme/nothing", "no data set acme/nothing"),
        ("acme/qa@v2", "no revision 'v2'"),
        ("acme/qa:dev", "Bad split: dev"),
    ],
)
def test_what_the_hub_does_not_hold(place: Place, name: str, said: str) -> None:
    process = place.run("medbench", "audit", name, "--against", "items.jsonl", "--out", "audit")
    assert process.returncode == 2
    assert said in process.stderr
    assert not (place.folder / "audit/findings.jsonl").exists()
