"""Tuning prompts: which wording each candidate gets, and that nothing it was picked on is tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi

from medbench.benchmark.prompt_set import Template, read_prompt_set
from medbench.errors import MedbenchError
from medbench.files.manifest import read_manifest
from medbench.trainers.study import read_study
from medbench.trainers.sweep import sweep
from medbench.trainers.tune_prompt import Source, command, pick, prepare, seeded, tune

ITEMS = 60
asked: list[str] = []


@modelapi("tuned")
class Tuned(ModelAPI):
    """Knows every key, but answers rightly only when asked in the way that it likes; always A otherwise."""

    async def generate(self, input: Any, **_: Any) -> ModelOutput:
        text = input[-1].text
        asked.append(text)
        right = "ABCD"[int(text.partition("Question ")[2].partition("?")[0]) % 4]
        likes = {"polite": text.startswith("Please"), "terse": text.startswith("Q:")}[self.model_name]
        output = ModelOutput.from_content(self.model_name, f"Answer: {right if likes else 'A'}")
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output


def items(folder: Path, numbers: range, name: str = "items.jsonl") -> str:
    rows = [
        {"question": f"Question {n}?", "options": {"A": "w", "B": "x", "C": "y", "D": "z"}, "answer_idx": "ABCD"[n % 4]}
        for n in numbers
    ]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def study(folder: Path, **task: Any) -> Path:
    items(folder, range(ITEMS))
    document = {
        "candidates": [{"model": "tuned/polite", "name": "polite"}, {"model": "tuned/terse", "name": "terse"}],
        "tasks": [{"task": "medbench/medqa", "args": {"source": "items.jsonl", **task}}],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def prompts(folder: Path) -> str:
    texts = {
        "please": "Please answer. {question}\n{options}",
        "q": "Q: {question}\n{options}",
        "a": "{question} {options}",
    }
    entries = [{"name": name, "mode": "generate", "form": "line_last", "en": text} for name, text in texts.items()]
    path = folder / "wordings.yaml"
    path.write_text(yaml.safe_dump({"prompts": entries}))
    return str(path)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    (path,) = tune(read_study(study(folder)), prompts(folder), [], Source(share=0.5, seed=3), folder / "tuned")
    assert path == folder / "tuned" / "medqa.yaml"
    return folder


def test_each_candidate_gets_the_wording_that_it_answers_best_to(tuned: Path) -> None:
    found = read_prompt_set(str(tuned / "tuned" / "medqa.yaml"))
    assert {name: template.of.rpartition("#")[2] for name, template in found.templates.items()} == {
        "polite": "please", "terse": "q",
    }  # fmt: skip
    assert found.templates["terse"].texts["en"] == "Q: {question}\n{options}"
    scores = found.tuning["scores"]["polite"]
    assert scores["please"] == "1" * 30
    assert 0 < scores["q"].count("1") < 20


def test_tuning_and_tested_items_are_apart_and_both_are_recorded(tuned: Path) -> None:
    found = read_prompt_set(str(tuned / "tuned" / "medqa.yaml"))
    assert len(found.without) == 30
    manifest = read_manifest(tuned / "tuned")
    (facts,) = manifest["tasks"]
    assert manifest["kind"] == "tune-prompt"
    assert (facts["items"], facts["left_to_test"], facts["shared_with_tested"]) == (30, 30, 0)
    assert facts["ids_sha256"] == found.tuning["ids_sha256"] != facts["tested_ids_sha256"]
    tried = {
        str(sample.id)
        for info in list_eval_logs(str(tuned / "tuned" / "logs"))
        for sample in read_eval_log(info).samples or []
    }
    assert tried == found.without


def test_a_sweep_asks_each_with_its_own_and_leaves_out_the_tuning_items(tuned: Path) -> None:
    asked.clear()
    path = study(tuned, prompt="tuned/medqa.yaml")
    success, logs = sweep(read_study(path), tuned / "tested", display="none")
    assert success
    without = read_prompt_set(str(tuned / "tuned" / "medqa.yaml")).without
    for header in logs:
        log = read_eval_log(header.location)
        facts = (log.eval.metadata or {})["benchmark"]
        candidate = (log.eval.metadata or {})["medbench"]["candidate"]
        assert not without & {str(sample.id) for sample in log.samples or []}
        assert facts["items"] == 30
        assert facts["prompt"]["name"] == candidate
        assert facts["prompt"]["tuned"]["tuning_items_tested"] == 0
        assert set(facts["prompt"]["tuned"]["scores"]) == {"please", "q", "a"}
        assert len(facts["left_out"]) == 30
    assert {text.partition(" ")[0] for text in asked} == {"Please", "Q:"}


def test_the_split_depends_on_content_and_seed_alone(tmp_path: Path) -> None:
    ids = [f"{n:016x}" for n in range(50)]
    assert seeded(ids, 1) == seeded(ids[::-1], 1) != seeded(ids, 2)
    found = read_prompt_set(prompts(tmp_path))
    source = Source(share=0.5, most=20)
    (first,) = prepare(read_study(study(tmp_path)), found, [], source)
    items(tmp_path, range(ITEMS - 1, -1, -1))
    (second,) = prepare(read_study(tmp_path / "study.yaml"), found, [], source)
    assert first.tuning == second.tuning
    assert len(first.tuning) == 20
    assert not set(first.tuning) & set(first.tested)


@pytest.mark.slow
def test_a_tuning_files_items_that_are_tested_are_left_out_and_counted(tmp_path: Path) -> None:
    path = study(tmp_path)
    other = str(tmp_path / items(tmp_path, range(ITEMS - 10, ITEMS + 30), "tuning.jsonl"))
    (found,) = prepare(read_study(path), read_prompt_set(prompts(tmp_path)), [], Source(file=other))
    assert (len(found.tuning), found.overlapping, len(found.tested)) == (30, 10, ITEMS)
    (written,) = tune(read_study(path), prompts(tmp_path), [], Source(file=other), tmp_path / "out")
    assert read_prompt_set(str(written)).tuning["left_out_because_tested"] == 10
    same = str(tmp_path / "items.jsonl")
    with pytest.raises(MedbenchError, match=r"0 tuning items and 60 to test; .*60 left out because they are tested"):
        prepare(read_study(path), read_prompt_set(prompts(tmp_path)), [], Source(file=same))


def test_ties_go_to_fewer_examples_and_then_to_the_first() -> None:
    wordings = [Template(name, "generate", {"en": ""}, fewshot=shots) for name, shots in (("a", 3), ("b", 0), ("c", 0))]
    equal = {"1": 1.0, "2": 0.0}
    assert pick(wordings, {"a": equal, "b": equal, "c": equal}).name == "b"
    assert pick(wordings, {"a": equal, "b": {"1": 0.0, "2": 0.0}, "c": equal}).name == "c"
    assert pick(wordings, {"a": {"1": 1.0, "2": 1.0}, "b": equal, "c": equal}).name == "a"


def test_numbers_of_examples_are_tried_with_every_wording(tmp_path: Path) -> None:
    items(tmp_path, range(100, 120), "examples.jsonl")
    path = study(tmp_path, fewshot_source=str(tmp_path / "examples.jsonl"))
    (found,) = prepare(read_study(path), read_prompt_set(prompts(tmp_path)), [2, 0], Source(share=0.5))
    assert [(one.name, one.fewshot) for one in found.wordings] == [
        (f"{name}, {count} examples", count) for count in (0, 2) for name in ("please", "q", "a")
    ]


def test_a_study_without_a_task_that_takes_a_prompt_is_refused(tmp_path: Path) -> None:
    rows = [{"instruction": f"Q{n}", "input": "", "output": "A"} for n in range(3)]
    (tmp_path / "f5.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "study.yaml").write_text(
        yaml.safe_dump({
            "candidates": [{"model": "tuned/terse"}],
            "tasks": [{"task": "medbench/f5", "args": {"source": "f5.jsonl"}}],
        })
    )  # fmt: skip
    with pytest.raises(MedbenchError, match=r"no task of .* takes a prompt \(medbench/f5 do not\)"):
        prepare(read_study(tmp_path / "study.yaml"), read_prompt_set("choice"), [], Source())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--share", "1.5"], "--share is 1.5; expected a share above 0 and below 1"),
        (["--prompts", "chioce"], "no prompt set chioce"),
        (["--most", "10"], "10 tuning items and 50 to test; expected 20 or more to tune on"),
    ],
)
def test_bad_requests_are_refused_before_any_generation(tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(command, [str(study(tmp_path)), "--out", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, MedbenchError)
    assert message in str(result.exception)
    assert not (tmp_path / "out" / "logs").exists()


@pytest.mark.slow
def test_the_command_tells_every_share_and_marks_the_chosen(tmp_path: Path) -> None:
    arguments = [str(study(tmp_path)), "--prompts", prompts(tmp_path), "--share", "0.4", "--out", str(tmp_path / "out")]
    planned = CliRunner().invoke(command, [*arguments, "--dry-run"])
    assert "6 runs, 144 generations" in planned.output
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert "3 wordings on 24 items, none of the 36 that stay for the test" in done.output
    assert "please 100.0%*" in done.output
    assert "q 100.0%*" in done.output


def test_the_report_compares_candidates_under_their_own_prompts(tuned: Path) -> None:
    from medbench.reports.estimates import Analysis, Options
    from medbench.reports.gap import prompts as own
    from medbench.reports.rows import load_study
    from medbench.reports.sources import Sources

    logs = tuned / "tested" / "logs"
    if not logs.is_dir():
        assert sweep(read_study(study(tuned, prompt="tuned/medqa.yaml")), tuned / "tested", display="none")[0]
    read = load_study(str(logs))
    assert read.tables["medqa"].candidates == ["polite", "terse"]
    assert not read.variants["medqa"]
    assert "each candidate's best of 3 on 30 other items" in read.tables["medqa"].setting_name
    found = own.section(Analysis(read, Options(resamples=100)), Sources())
    assert "picked on 30 other items; none of them is tested" in found.findings[0]
    assert [row[1] for row in found.tables[0].rows] == ["please", "q"]
