"""Study files, and sweeps through Inspect: what is run, what the logs say, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from click.testing import CliRunner  # noqa: E402
from inspect_ai.log import list_eval_logs, read_eval_log  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.trainers.study import Candidate, read_study  # noqa: E402
from medbench.trainers.study_tasks import system_prompt  # noqa: E402
from medbench.trainers.sweep import command, groups, sweep  # noqa: E402

from .test_live import tiny  # noqa: E402, F401

TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def names(count: int = 6) -> Task:
    samples = [Sample(id=f"item{i}", input=f"What is {i}?", target="x") for i in range(count)]
    return Task(dataset=MemoryDataset(samples), solver=generate(), scorer=includes(),
                config=GenerateConfig(max_tokens=4, temperature=0.5))
"""


def write(folder: Path, **keys: Any) -> Path:
    (folder / "names.py").write_text(TASK)
    study = {"candidates": [{"model": "mockllm/model"}], "tasks": ["names.py"], **keys}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def mixture(folder: Path, candidates: list[dict[str, Any]], **keys: Any) -> Any:
    adapters = {"pt": "adapters/pt", "sft": "adapters/sft"}
    return read_study(write(folder, **{"base": "org/base", "adapters": adapters, "candidates": candidates, **keys}))


def test_ranges_dependent_weights_and_controls(tmp_path: Path) -> None:
    study = mixture(tmp_path, [{"pt": "0..1 step 0.1", "sft": "1 - pt"}])
    weights = [(c.series, c.weights["pt"], c.weights["sft"]) for c in study.candidates]
    tenths = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert weights[:11] == [("mix", pt, sft) for pt, sft in zip(tenths, reversed(tenths), strict=True)]
    # Full SFT is in the mixtures already, so each control adds ten.
    assert weights[11:21] == [("sft_only", 0.0, sft) for sft in reversed(tenths[:-1])]
    assert weights[21:] == [("pt_added", pt, 1.0) for pt in tenths[1:]]
    assert study.candidates[3].name == "pt=0.3,sft=0.7"
    assert study.candidates[3].model == "medbench/org/base"
    assert study.candidates[3].model_args["adapters"] == ["pt=adapters/pt:0.3", "sft=adapters/sft:0.7"]
    assert len(mixture(tmp_path, [{"pt": "0..1 step 0.1", "sft": "1 - pt"}], controls=False).candidates) == 11


def test_lists_products_methods_and_plain_models(tmp_path: Path) -> None:
    study = mixture(
        tmp_path,
        [
            {"pt": [0, 0.5], "sft": [1, 0.5]},
            {"pt": 0.3, "sft": 0.7, "method": "ties", "density": 0.2},
            {"model": "openai/gpt-5-mini", "name": "mini"},
        ],
        controls=False,
    )
    assert [c.name for c in study.candidates] == [
        "pt=0,sft=1", "pt=0,sft=0.5", "pt=0.5,sft=1", "pt=0.5,sft=0.5", "ties(density=0.2) pt=0.3,sft=0.7", "mini",
    ]  # fmt: skip
    assert [c.series for c in study.candidates] == ["mix", "sft_only", "pt_added", "mix", "mix", "model"]
    assert study.candidates[4].model_args["merge_method"] == "ties"
    assert [len(group) for group in groups(study.runs)] == [1, 5]


def test_a_plain_model_may_carry_the_weights_it_was_made_with(tmp_path: Path) -> None:
    served = {"model": "openai-api/server/mix", "weights": {"pt": 0.25, "sft": 0.75}}
    study = mixture(tmp_path, [served, {"model": "openai-api/server/sft", "weights": {"sft": 0.5, "pt": 0}}])
    # Stated weights put it on the curve; no control is made of a model that is not made here.
    assert [(c.series, c.weights, c.model_args) for c in study.candidates] == [
        ("mix", {"pt": 0.25, "sft": 0.75}, {}),
        ("sft_only", {"pt": 0.0, "sft": 0.5}, {}),
    ]
    with pytest.raises(MedbenchError, match="expected a number for each adapter"):
        mixture(tmp_path, [served | {"weights": {"pt": "0.3"}}])


def test_runs_keep_a_candidate_together_and_expand_seeds_and_thinking(tmp_path: Path) -> None:
    study = mixture(
        tmp_path,
        [{"pt": [0.1, 0.2], "sft": 0.5}],
        controls=False,
        decoding=[{"temperature": 0}, {"temperature": 0.6, "top_p": 0.8, "seeds": [1, 2]}],
        thinking=[True, "off"],
    )
    runs = study.runs
    assert len(runs) == 2 * 1 * 3 * 2
    assert [run.candidate.name for run in runs] == ["pt=0.1,sft=0.5"] * 6 + ["pt=0.2,sft=0.5"] * 6
    assert [run.decoding.get("seed") for run in runs[:6:2]] == [None, 1, 2]
    assert [run.thinking for run in runs[:2]] == ["on", "off"]


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"task": ["x"]}, "Did you mean tasks"),
        ({"tasks": []}, "tasks must be a list"),
        ({"tasks": [{"tsk": "x"}]}, "expected a name such as"),
        ({"decoding": [{"temprature": 1}]}, "Did you mean temperature"),
        ({"decoding": [{"temperature": "hot"}]}, "expected a number"),
        ({"decoding": [{"seed": 1, "seeds": [1]}]}, "not both"),
        ({"thinking": "maybe"}, "unknown thinking mode"),
        ({"limit": 0}, "above 0"),
        ({"adapters": ["pt"]}, "must map names"),
        ({"candidates": [{"pt": 0.3, "sfd": 0.7}]}, "Did you mean sft"),
        ({"candidates": [{"pt": "0..1 step 0", "sft": 1}]}, "empty range"),
        ({"candidates": [{"pt": "a lot", "sft": 1}]}, "0..1 step 0.1"),
        ({"candidates": [{"pt": "0..1", "sft": "1 - px"}]}, "Known: pt"),
        ({"candidates": [{"pt": 1, "method": "tis"}]}, "Did you mean ties"),
        ({"candidates": [{"pt": 1, "density": 0.5}]}, "unknown adapter or setting"),
        ({"candidates": [{"modle": "mockllm/model"}]}, "Did you mean model"),
        ({"candidates": [{"model": "gpt"}]}, "PROVIDER/NAME"),
        ({"decoding": [{"temperature": -1}]}, "temperature is -1; expected a number of 0 or more"),
        ({"decoding": [{"top_p": 1.5}]}, "at most 1"),
        ({"decoding": [{"max_tokens": 2.5}]}, "whole number above 0"),
        ({"decoding": [{"seeds": [1, "x"]}]}, "list of whole numbers"),
        ({"candidates": [{"pt": 1}], "base": None}, "base must name"),
        ({"candidates": [{"pt": 1, "name": "a"}, {"pt": 0.5, "name": "a"}]}, "another name"),
        ({"adapters": 5}, "must map names"),
        ({"candidates": [{"pt": ".5.5..1"}]}, "is no range"),
        ({"candidates": [{"pt": "0..1e9 step 0.001"}]}, "expected a weight"),
        ({"candidates": [{"pt": "0..1000000 step 0.001"}]}, "over 1000 steps"),
        ({"candidates": [{"pt": 1, "sft": "-.- - pt"}]}, "expected '1 - OTHER'"),
        ({"candidates": [{"pt": 1, "method": ["x"]}]}, "name of a merge method"),
        ({"thinking": [{}]}, "unknown thinking mode"),
        ({"model_args": "x"}, "expected a mapping"),
        ({"adapters": {"pt": "x" * 5000, "sft": "b"}, "limit": 0}, "above 0"),
    ],
)
def test_bad_studies_are_named(tmp_path: Path, keys: dict[str, Any], match: str) -> None:
    with pytest.raises(MedbenchError, match=match):
        mixture(tmp_path, **{"candidates": [{"pt": 0.5, "sft": 0.5}], **keys})


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"tasks": ["medbench/microlab_exm"]}, "unknown task.*Did you mean medbench/microlab_exam"),
        ({"tasks": ["nowhere.py"]}, "page nowhere.py does not exist"),
        ({"tasks": [{"task": "medbench/microlab_exam", "args": {"sed": 1}}]}, "argument of task .* 'sed'.*mean seed"),
        ({"tasks": [{"task": "medbench/microlab_exam", "args": {"facts": "knwn"}}]}, "Did you mean known"),
        ({"candidates": [{"model": "mockllm/a"}, {"model": "openi/gpt"}]}, "candidate openi/gpt: .*not recognized"),
        ({"candidates": [{"model": "mockllm/a"}, {"model": "groq/a"}]}, "(?s)candidate groq/a: .*pip install groq"),
        ({"candidates": [{"model": "mockllm/a"}, {"pt": 1}], "adapters": {"pt": "nowhere"}}, "no directory nowhere"),
        ({"candidates": [{"pt": 1}], "base": "/nowhere"}, "no model directory"),
    ],
)
def test_what_cannot_run_is_said_before_anything_runs(tmp_path: Path, keys: dict[str, Any], match: str) -> None:
    document = {"base": "microlab", "adapters": {"pt": "pt"}, "candidates": [{"model": "mockllm/a"}], **keys}
    study = write(tmp_path, **{"tasks": ["medbench/microlab_exam"], **document})
    with pytest.raises(MedbenchError, match=match):
        sweep(read_study(study), tmp_path / "out", display="none")
    if "candidate " not in match:  # whether a provider's package and key are there, only the run itself asks
        assert isinstance(CliRunner().invoke(command, [str(study), "--dry-run"]).exception, MedbenchError)
    assert not list(tmp_path.glob("out/logs/*.eval"))


def test_files_that_are_no_study(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match=r"study file .* does not exist"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(MedbenchError, match="not valid YAML"):
        read_study(tmp_path / "bad.yaml")


def test_dry_run_prints_the_plan(tmp_path: Path) -> None:
    path = write(tmp_path, decoding=[{"temperature": 0.6, "seeds": [1, 2]}], limit=4)
    result = CliRunner().invoke(command, [str(path), "--dry-run", "--seconds-per-generation", "30"])
    assert result.exit_code == 0, result.output
    assert "2 runs, 8 generations" in result.output
    assert "about 4 min" in result.output
    shared = CliRunner().invoke(command, [str(path), "--dry-run", "--workers", "2"]).output
    assert "worker 0: 1 runs of 1 candidates, 4 generations" in shared
    assert "worker 1: 1 runs of 1 candidates, 4 generations" in shared
    assert not path.with_suffix("").exists()


def test_a_small_sweep_of_live_candidates(tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    path = write(
        tmp_path,
        base=str(tiny / "base"),
        adapters={"pt": str(tiny / "pt"), "sft": str(tiny / "sft")},
        candidates=[{"pt": [0, 0.5, 1], "sft": "1 - pt"}],
        controls=False,
        decoding=[{"temperature": 0, "max_tokens": 8}, {"temperature": 1, "seeds": [7]}],
    )
    success, logs = sweep(read_study(path), tmp_path / "out", display="none")
    assert success
    assert len(logs) == 6
    about = [log.eval.metadata["medbench"] for log in logs]
    assert {entry["candidate"] for entry in about} == {"pt=0,sft=1", "pt=0.5,sft=0.5", "pt=1,sft=0"}
    assert {entry["series"] for entry in about} == {"mix"}
    assert all(set(entry["hashes"]) == {"pt", "sft"} for entry in about)
    assert {len(digest) for entry in about for digest in entry["hashes"].values()} == {64}
    assert about[0]["weights"] == {"pt": 0.0, "sft": 1.0}
    # A study's decoding comes before the task's own, which fills what the study leaves open.
    assert [(log.plan.config.temperature, log.plan.config.max_tokens, log.plan.config.seed) for log in logs[:2]] == [
        (0, 8, None),
        (1, 4, 7),
    ]
    texts = {}
    for log in logs:
        full = read_eval_log(log.location)
        assert full.samples is not None
        texts[log.eval.metadata["medbench"]["candidate"], log.plan.config.temperature] = [
            sample.output.completion for sample in full.samples
        ]
    assert len({tuple(text) for text in texts.values()}) == 6
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["runs"] == 6
    # A second call finds everything done.
    before = {info.name for info in list_eval_logs(str(tmp_path / "out" / "logs"))}
    assert sweep(read_study(path), tmp_path / "out", display="none")[0]
    assert {info.name for info in list_eval_logs(str(tmp_path / "out" / "logs"))} == before


KILLED = """
import os, sys, time
from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi


@modelapi("slow")
class Slow(ModelAPI):
    async def generate(self, input, tools, tool_choice, config):
        import anyio

        await anyio.sleep(0.15)
        with open(os.environ["GENERATIONS"], "a") as file:
            file.write(f"{self.model_name} {input[-1].text}\\n")
        output = ModelOutput.from_content(self.model_name, "x")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output

    def max_connections(self):
        return 2


from medbench.cli import main
main()
"""


def test_a_killed_sweep_goes_on_with_no_sample_lost_or_run_twice(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        candidates=[{"model": "slow/a"}, {"model": "slow/b"}],
        tasks=[{"task": "names.py", "args": {"count": 12}}],
        max_samples=2,
    )
    (tmp_path / "run.py").write_text(KILLED)
    generations = tmp_path / "generations"
    environment = {**os.environ, "GENERATIONS": str(generations), "XDG_DATA_HOME": str(tmp_path / "data")}
    arguments = [sys.executable, "run.py", "sweep", str(path), "--out", "out", "--display", "none"]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    # Well into the second model's run.
    while time.monotonic() < deadline and (not generations.exists() or generations.read_text().count("b What") < 6):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = len(generations.read_text().splitlines())
    assert 18 <= killed_at < 24
    subprocess.run(arguments, cwd=tmp_path, env=environment, check=True, capture_output=True)
    counts = Counter(generations.read_text().splitlines())
    assert len(counts) == 24
    # Only what was in flight at the kill (two samples) may be asked again.
    assert sum(counts.values()) <= 24 + 2
    for info in list_eval_logs(str(tmp_path / "out" / "logs")):
        log = read_eval_log(info)
        assert log.status == "success"
        assert Counter(sample.id for sample in log.samples or []) == {f"item{i}": 1 for i in range(12)}
    assert len(list_eval_logs(str(tmp_path / "out" / "logs"))) == 2


def test_a_key_in_a_study_is_in_no_file_of_the_sweep(tmp_path: Path) -> None:
    from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi

    @modelapi("keyed")
    class Keyed(ModelAPI):
        def __init__(self, model_name: str, base_url: Any, api_key: Any, config: Any, auth: str, **rest: Any) -> None:
            super().__init__(model_name, base_url, api_key, [], config)
            self.auth = auth

        async def generate(self, **_: Any) -> ModelOutput:
            assert self.auth == "sk-1"
            output = ModelOutput.from_content(self.model_name, "x")
            output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
            return output

    args = {"auth": "sk-1", "default_headers": {"x": "sk-2"}, "max_model_len": 7}
    path = write(tmp_path, candidates=[{"model": "keyed/m", "args": args}], tasks=["names.py"], limit=1)
    success, done = sweep(read_study(path), tmp_path / "out", display="none")
    assert success, [log.error for log in done]
    logs = list_eval_logs(str(tmp_path / "out" / "logs"))
    assert [read_eval_log(log).eval.model_args["auth"] for log in logs] == ["(withheld)"]
    manifest = (tmp_path / "out" / "manifest.json").read_text("utf-8")
    assert "max_model_len" in manifest
    for file in (tmp_path / "out").rglob("*"):
        if file.suffix == ".eval":
            with zipfile.ZipFile(file) as archive:
                assert not any(b"sk-" in archive.read(name) for name in archive.namelist())
        elif file.is_file():
            assert b"sk-" not in file.read_bytes()


def adapters_trained_under(folder: Path, **prompts: str | None) -> dict[str, str]:
    """Adapter directories whose manifests say under which system prompt they were trained."""
    for name, prompt in prompts.items():
        (folder / name).mkdir()
        made = {"kind": "adapter", "settings": {}, "inputs": {}, "system_prompt": prompt}
        (folder / name / "manifest.json").write_text(json.dumps(made))
    return {name: name for name in prompts}


def test_a_server_s_address_with_a_password_is_refused_before_inspect_logs_it() -> None:
    from medbench.trainers.sweep import _model

    args = {"base_url": "http://me:sk-1@host/v1"}
    with pytest.raises(MedbenchError, match="base_url http://host/v1 holds a user, password or query"):
        _model(Candidate("c", "model", "mockllm/model", args))
    args["base_url"] = "http://host/v1"
    assert _model(Candidate("c", "model", "mockllm/model", args)).api.base_url == "http://host/v1"


def test_candidates_get_the_system_prompt_of_training(tmp_path: Path) -> None:
    adapters = adapters_trained_under(tmp_path, pt=None, sft="You are a doctor.")
    given: dict[str, Any] = {"candidates": [{"pt": [0, 1], "sft": "1 - pt"}], "adapters": adapters}
    assert system_prompt(mixture(tmp_path, **given)) == "You are a doctor."
    assert system_prompt(mixture(tmp_path, **given, system="none")) is None
    assert system_prompt(mixture(tmp_path, **given, system="Be brief.")) == "Be brief."
    with pytest.raises(MedbenchError, match="system is 3; expected training, none, or the system prompt itself"):
        mixture(tmp_path, **given, system=3)


def test_unlike_system_prompts_of_training_must_be_decided(tmp_path: Path) -> None:
    adapters = adapters_trained_under(tmp_path, pt="You are a nurse.", sft="You are a doctor.")
    given: dict[str, Any] = {"candidates": [{"pt": [0, 1], "sft": "1 - pt"}], "adapters": adapters}
    with pytest.raises(MedbenchError, match=r"different system prompts.*nurse.*doctor.*system: TEXT"):
        system_prompt(mixture(tmp_path, **given))
    assert system_prompt(mixture(tmp_path, **given, system="none")) is None


def test_a_studys_system_prompt_reaches_the_model(tmp_path: Path) -> None:
    from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi

    asked: list[tuple[str, str]] = []

    @modelapi("asked")
    class Asked(ModelAPI):
        async def generate(self, input: Any, **_: Any) -> ModelOutput:
            asked.extend((message.role, message.text) for message in input)
            output = ModelOutput.from_content(self.model_name, "x")
            output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
            return output

    path = write(tmp_path, candidates=[{"model": "asked/m"}], system="Be brief.", limit=1)
    success, done = sweep(read_study(path), tmp_path / "out", display="none")
    assert success, [log.error for log in done]
    assert asked == [("system", "Be brief."), ("user", "What is 0?")]
