"""Two real processes on a CPU, over gloo, train what one does; and end together."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medbench.cli import cli
from medbench.errors import MedbenchError
from medbench.files.manifest import read_manifest

pytest.importorskip("trl", reason="training needs medbench[train]")

from medbench.trainers import processes
from medbench.trainers.recipe import load_recipe
from medbench.trainers.train import train

MANY = Path(__file__).with_name("many.py")
# Sums of float32 in another order: a loss differs by some 1e-7 of itself. AdamW divides by the root of the second
# moment, so that weights whose gradient is small against its own rounding differ more; of a whole adapter it is 1e-6.
LOSS, ADAPTER = 1e-5, 1e-4
ANSWERS = ["Rest and drink.", "See a doctor today, please.", "No.", "Take it after meals.", "It heals in a week."]
COMMON = [
    "cutoff_len=100",
    "logging_steps=1",
    "save_steps=4",
    "learning_rate=0.01",
    "lora_dropout=0",
    "num_train_epochs=3",
]
SFT = ["gradient_accumulation_steps={}", "max_grad_norm=0.2", "per_device_eval_batch_size=3", "warmup_steps=2"]
# 13 rows, 4 a step: the last step of an epoch has one row, and of two processes one has none for it
PT = ["packing=false", "max_samples=13", "per_device_train_batch_size=2", "gradient_accumulation_steps={}"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from medbench.provider.tiny import build

    folder = tmp_path_factory.mktemp("work")
    build(folder / "base", context=512)
    rows = [{"instruction": f"Question {'?' * n}", "output": ANSWERS[n % 5] * (1 + n % 3)} for n in range(14)]
    (folder / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pt.jsonl").write_text("".join(json.dumps({"text": row["output"]}) + "\n" for row in rows))
    return folder


def settings(work: Path, stage: str, out: str, processes: int, *more: str) -> list[str]:
    """A run's settings; the rows of a step are the same for any number of processes."""
    source = work / f"{stage}.jsonl"
    steps = 8 if stage == "sft" else 2
    own = [text.format(steps // processes) for text in (SFT if stage == "sft" else PT)]
    given = [f"model_name_or_path={work / 'base'}", f"dataset={source}", f"eval_dataset={source}"]
    return [*given, f"output_dir={work / out}", *COMMON, *own, *more]


def alone(work: Path, stage: Any, out: str, *more: str) -> Path:
    recipe, origin = load_recipe(stage, None, settings(work, stage, out, 1, *more))
    train(stage, recipe, origin)
    return work / out


def together(work: Path, configuration: str, jobs: list[dict[str, Any]]) -> None:
    file = work / f"{configuration}.json"
    file.write_text(json.dumps(jobs))
    processes.launch(["jobs", str(file)], configuration, 2, program=[str(MANY)])


def unfinished(run: Path, copy: Path) -> Path:
    """A run as it was after its fourth step."""
    shutil.copytree(run, copy)
    (copy / "manifest.json").unlink()
    for checkpoint in copy.glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-4":
            shutil.rmtree(checkpoint)
    return copy


@pytest.fixture(scope="module")
def one(work: Path) -> dict[str, Path]:
    return {stage: alone(work, stage, f"one-{stage}", "save_total_limit=9") for stage in ("sft", "pt")}


@pytest.fixture(scope="module")
def two(work: Path, one: dict[str, Path]) -> Path:
    """Both stages on two processes; one that resumes what one process began; and two that go wrong on purpose."""
    unfinished(one["pt"], work / "resumed-pt")
    jobs: list[dict[str, Any]] = [
        {"stage": stage, "settings": settings(work, stage, f"two-{stage}", 2, "save_total_limit=9")}
        for stage in ("sft", "pt")
    ]
    jobs.append({"stage": "pt", "settings": settings(work, "pt", "resumed-pt", 2, "resume_from_checkpoint=true")})
    for stage, mistake in (("sft", "mean over processes"), ("pt", "rows twice")):
        out = mistake.split()[0]
        jobs.append({"stage": stage, "settings": settings(work, stage, out, 2), "mistake": mistake})
    together(work, "ddp", jobs)
    return work


def losses(run: Path, key: str = "loss") -> dict[int, float]:
    return {entry["step"]: entry[key] for entry in read_manifest(run)["log_history"] if key in entry}


def apart(a: Path, b: Path) -> float:
    """How far two adapters lie apart, of the length of the first."""
    import torch
    from safetensors.torch import load_file

    first, second = (load_file(run / "adapter_model.safetensors") for run in (a, b))
    assert first.keys() == second.keys()
    x, y = (torch.cat([tensors[name].flatten().double() for name in first]) for tensors in (first, second))
    return ((x - y).norm() / x.norm()).item()


def assert_equal(a: Path, b: Path) -> None:
    for key in ("loss", "eval_loss"):
        assert losses(b, key) == pytest.approx(losses(a, key), rel=LOSS), key
    assert apart(a, b) < ADAPTER


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "pt"])
def test_two_processes_train_as_one(stage: str, one: dict[str, Path], two: Path) -> None:
    assert_equal(one[stage], two / f"two-{stage}")
    assert len(losses(one[stage])) == {"sft": 6, "pt": 12}[stage]
    manifest = read_manifest(two / f"two-{stage}")
    assert manifest["optimizer_step"]["processes"] == 2
    assert manifest["optimizer_step"]["rows"] == read_manifest(one[stage])["optimizer_step"]["rows"]
    assert manifest["distributed"] == "MULTI_CPU"
    assert {path.name for path in (two / f"two-{stage}").iterdir()} == {path.name for path in one[stage].iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "mistake"), [("sft", "mean"), ("pt", "rows")])
def test_the_comparison_sees_what_is_usually_wrong(stage: str, mistake: str, one: dict[str, Path], two: Path) -> None:
    """A mean over processes instead of tokens, and accelerate's own filling with rows of the first batches."""
    assert apart(one[stage], two / mistake) > 100 * ADAPTER


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(one: dict[str, Path], two: Path) -> None:
    """From the fourth step on, the first of the second epoch."""
    assert_equal(one["pt"], two / "resumed-pt")
    assert read_manifest(two / "resumed-pt")["resumed_from"] == "checkpoint-4"
    unfinished(two / "two-pt", two / "back-pt")
    with pytest.raises(MedbenchError, match="4 rows in an optimizer step; this one would take 6"):
        alone(two, "pt", "back-pt", "resume_from_checkpoint=true", "gradient_accumulation_steps=3")
    assert_equal(one["pt"], alone(two, "pt", "back-pt", "resume_from_checkpoint=true"))


Ended = Callable[[str], tuple[BaseException, str]]


@pytest.fixture
def ended(work: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Ended:
    """How a run ends in which process 1 fails in its second step, and what all processes said."""

    def run(way: str) -> tuple[BaseException, str]:
        words = ["train", "pt", *settings(work, "pt", "out", 2), f"output_dir={tmp_path / 'out'}"]
        before = time.monotonic()
        with pytest.raises((SystemExit, MedbenchError)) as caught:
            processes.launch([way, *words], None, 2, program=[str(MANY)])
        assert time.monotonic() - before < processes._ENDED_SOON
        assert not (tmp_path / "out" / "manifest.json").exists()
        return caught.value, "".join(capfd.readouterr())

    return run


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_with_one_message(ended: Ended) -> None:
    error, said = ended("error")
    assert isinstance(error, SystemExit)
    assert error.code == 2
    assert said.count("medbench: process 1 has had enough.") == 1
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_killed_process_is_named(ended: Ended) -> None:
    error, said = ended("kill")
    assert isinstance(error, MedbenchError)
    assert "process 1 was ended by SIGKILL" in str(error)
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_same_error_of_all_is_told_once(work: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text('{"question": "a"}\n')
    given = [*settings(work, "sft", "out", 2), f"dataset={tmp_path / 'bad.jsonl'}", f"output_dir={tmp_path / 'out'}"]
    result = CliRunner().invoke(cli, ["train", "sft", *given, "--processes", "2"])
    assert result.exit_code == 2
    said = "".join(capfd.readouterr())
    assert said.count("expected instruction/output (alpaca)") == 1
    assert "Traceback" not in said


def test_what_cannot_be_started_is_said_before(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(work, "sft", "out", 2)
    refused = CliRunner().invoke(cli, ["train", "sft", *given, "--accelerate", "fsdp3"])
    assert "no accelerate configuration fsdp3: expected a file" in str(refused.exception)
    assert "ddp, fsdp2, zero2, zero3" in str(refused.exception)
    refused = CliRunner().invoke(cli, ["train", "sft", *given, "seed=-1", "--processes", "2"])
    assert "seed must be 0 or more" in str(refused.exception)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv(
        "MASTER_ADDR", "127.0.0.1"
    )  # what accelerate launch --cpu --num_processes 2 sets, for one process
    refused = CliRunner().invoke(cli, ["train", "sft", *given, f"output_dir={tmp_path / 'out'}"])
    assert "started a single process" in str(refused.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero2", "zero3"])
def test_shipped_configurations_are_accelerates(name: str) -> None:
    """Read by accelerate's own parser, which refuses unknown keys, and turned into its own environment."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    file = str(processes.configuration(name))
    found = load_config_from_file(file)
    kind = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}[name]
    assert found.distributed_type.value == kind
    parser = launch_command_parser()
    args, _, _ = _validate_launch_command(parser.parse_args(["--config_file", file, "--module", "medbench"]))
    assert (args.use_fsdp, args.use_deepspeed) == (kind == "FSDP", kind == "DEEPSPEED")
    if name == "fsdp2":
        assert (args.fsdp_version, args.fsdp_state_dict_type) == (2, "FULL_STATE_DICT")
    if kind == "DEEPSPEED":
        assert str(args.zero_stage) == name[-1]
    known = {action.dest for action in parser._actions}
    for prefix, config in (("fsdp_", found.fsdp_config), ("", found.deepspeed_config)):
        names = {key if key.startswith(prefix) else prefix + key for key in config}
        assert names <= known  # accelerate itself says nothing of a misspelt one
