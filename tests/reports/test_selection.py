"""What is left out, and what is said of it: each case is a log that once misled the report."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import simulated_logs as sim
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, EvalSampleLimit, read_eval_log
from inspect_ai.model import GenerateConfig, ModelConfig, ModelOutput, ModelUsage, get_model

from medbench.refusal.calibration import default_card
from medbench.reports.estimates import Analysis, Options
from medbench.reports.gap import contamination, safety
from medbench.reports.logs import Run, read_run
from medbench.reports.rows import load_study
from medbench.reports.sources import Sources, load_sources
from medbench.reports.text import visible, visible_name

A, B = sim.STUDY[0], sim.STUDY[3]


def texts(location: Path) -> list[str]:
    return [notice.text for notice in load_study(str(location)).notices]


def test_errors_in_two_of_three_epochs_leave_the_item_in(tmp_path: Path) -> None:
    samples = [sim.sample("medqa", i, A, epoch) for i in range(6) for epoch in (1, 2, 3)]
    for sample in samples:
        if sample.epoch > 1 and int(sim.item_id("medqa", 0) == sample.id):
            sample.scores = {}
    sim.write(sim.log(A, "medqa", 6, samples=samples), tmp_path)
    sim.write(sim.log(B, "medqa", 6), tmp_path)
    study = load_study(str(tmp_path))
    assert len(study.tables["medqa"].items) == 6
    said = next(n.text for n in study.notices if n.kind == "unscored")
    assert "2 outputs of 1 item ended in an error" in said
    assert "count by their other epochs" in said
    assert "left out" not in said


def test_limits_that_ended_an_output_are_said(tmp_path: Path) -> None:
    log = sim.log(A, "medqa", 40)
    for index, sample in enumerate(log.samples or []):
        if index < 5:
            sample.limit = EvalSampleLimit(type="token" if index < 3 else "time", limit=100)
        elif index < 15:
            sample.output.choices[0].stop_reason = "max_tokens"
    sim.write(log, tmp_path)
    sim.write(sim.log(B, "medqa", 40), tmp_path)
    (said,) = texts(tmp_path)
    assert "sft 10 by max_tokens, 2 by the time limit, 3 by the token limit (of 40)" in said


def test_a_smoke_run_does_not_replace_a_full_one(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", 40, created="2026-05-01T10:00:00+00:00"), tmp_path, "full")
    sim.write(sim.log(A, "medqa", 3, created="2026-05-02T10:00:00+00:00"), tmp_path, "smoke")
    study = load_study(str(tmp_path))
    assert len(study.tables["medqa"].items) == 40
    assert "full.eval, with 40 items, although a smaller one is newer, is used" in study.notices[0].text
    assert "smoke.eval (3 items)" in study.notices[0].text


def test_version_10_comes_after_9(tmp_path: Path) -> None:
    for version in (9, 10):
        sim.write(sim.log(A, "medqa", 5, version=version), tmp_path)
    study = load_study(str(tmp_path))
    assert study.tables["medqa"].version == "10"
    assert "versions 9, 10" in study.notices[0].text


def test_the_card_and_the_judge_that_a_log_names_are_read(tmp_path: Path) -> None:
    log = sim.log(A, "refusal_probe", 10)
    log.eval.metadata = {**(log.eval.metadata or {}), "refusal_card": {"overall": {"confusion": [[1, 2], [3, 4]]}}}
    log.eval.model_roles = {"judge": ModelConfig(model="openai/judge")}
    run = read_run(str(sim.write(log, tmp_path)))
    assert isinstance(run, Run)
    assert run.card == {"overall": {"confusion": [[1, 2], [3, 4]]}}
    assert run.judge == "openai/judge"


def test_each_card_that_a_log_names_is_used_and_shown(tmp_path: Path) -> None:
    own = json.loads(json.dumps(default_card()))
    own["developed_on"] = ["mine"]
    log = sim.log(A, "refusal_probe", 20)
    log.eval.metadata = {**(log.eval.metadata or {}), "refusal_card": own}
    sim.write(log, tmp_path, "one")
    sim.write(sim.log(B, "refusal_probe", 20), tmp_path, "two")
    section = safety.section(Analysis(load_study(str(tmp_path)), Options(resamples=200)), Sources())
    cards = [table for table in section.tables if table.title.startswith("Calibration card")]
    assert [table.title.rpartition(", for ")[2] for table in cards] == ["sft", "pt"]
    assert cards[0].note == "Developed on mine."


def test_an_audit_that_found_nothing_is_a_result(tmp_path: Path) -> None:
    for candidate in (A, B):
        sim.write(sim.log(candidate, "medqa", 10), tmp_path / "logs")
    (tmp_path / "findings.jsonl").write_text("")
    study = load_study(str(tmp_path / "logs"))
    sources = load_sources(str(tmp_path / "logs"), str(tmp_path), (), study.notices)
    section = contamination.section(Analysis(study, Options(resamples=200)), sources)
    assert section.missing is None
    assert "medqa: the audit found none of its 10 items in the corpus." in section.findings


@pytest.mark.slow
def test_a_flipped_bit_costs_one_log_at_most(tmp_path: Path) -> None:
    """At 400 places of a log, one bit: what is read is what was written, or the log is named and left out."""
    whole = sim.write(sim.log(A, "medqa", 4), tmp_path, "whole").read_bytes()
    clean = read_run(str(tmp_path / "whole.eval"))
    assert isinstance(clean, Run)
    rng = random.Random(5)
    file, kinds = tmp_path / "hit.eval", set()
    for _ in range(400):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        file.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
        found = read_run(str(file))
        kinds.add(type(found).__name__)
        if isinstance(found, Run):
            for key, values in found.values.items():
                assert len(values) < 4 or np.array_equal(values, clean.values[key])
        else:
            assert "hit.eval" in found.text
    assert kinds == {"Run", "Notice"}


def test_a_damaged_log_does_not_stop_the_report(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", 10), tmp_path)
    data = bytearray(sim.write(sim.log(B, "medqa", 10), tmp_path, "damaged").read_bytes())
    data[len(data) // 3] ^= 16
    (tmp_path / "damaged.eval").write_bytes(data)
    study = load_study(str(tmp_path))
    assert study.candidates == ["sft"]
    assert study.notices[0].text.startswith("damaged.eval is damaged")


def plain(model: str, items: int = 12, **config: object) -> EvalLog:
    """A log of `inspect eval` on its own, without a sweep's word on the decoding."""
    log = sim.log(A, "medqa", items, medbench=False)
    log.eval.model = model
    log.eval.model_generate_config = GenerateConfig()
    log.plan.config = GenerateConfig(**config)  # type: ignore[arg-type]
    return log


def test_unlike_decoding_is_not_ranked_and_said(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sim.write(plain(f"medbench/{name}", temperature=0.0), tmp_path, name)
    sim.write(plain("openai-api/local/served"), tmp_path, "served")
    study = load_study(str(tmp_path))
    table = study.tables["medqa"]
    assert table.candidates == ["medbench/one", "medbench/two"]
    assert table.apart == {"openai-api/local/served": "temperature not set (default of openai-api)"}
    said = next(n.text for n in study.notices if n.kind == "settings")
    assert "openai-api/local/served under temperature not set" in said
    assert "the others under temperature 0" in said


def test_two_candidates_under_two_settings_are_both_named(tmp_path: Path) -> None:
    sim.write(plain("vllm/a"), tmp_path, "a")
    sim.write(plain("openai/b"), tmp_path, "b")
    study = load_study(str(tmp_path))
    assert len(study.tables["medqa"].candidates) == 1
    assert len(study.tables["medqa"].apart) == 1
    assert any(n.kind == "settings" for n in study.notices)


def test_settings_that_decode_alike_are_one(tmp_path: Path) -> None:
    """Greedy is greedy: written 0 or 0.0, with or without a top_p that changes nothing, asked for or the default."""
    sim.write(plain("medbench/a"), tmp_path, "a")
    sim.write(plain("medbench/b", temperature=0, top_p=0.9), tmp_path, "b")
    sim.write(plain("openai/c", temperature=0.0), tmp_path, "c")
    table = load_study(str(tmp_path)).tables["medqa"]
    assert table.setting == {"temperature": 0}
    assert len(table.candidates) == 3


@pytest.mark.parametrize(("flags", "expected"), [({}, 0.0), ({"temperature": 0.7, "top_p": 0.9}, 0.7)])
def test_tasks_are_greedy_unless_asked_otherwise(tmp_path: Path, flags: dict[str, float], expected: float) -> None:
    source = tmp_path / "items.jsonl"
    source.write_text('{"question": "Q?", "options": {"A": "a", "B": "b"}, "answer_idx": "A"}\n')
    from medbench.tasks.medqa import medqa

    output = ModelOutput.from_content("mockllm/model", "A")
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    model = get_model("mockllm/model", custom_outputs=[output])
    (log,) = inspect_eval(
        medqa(source=str(source)), model=model, log_dir=str(tmp_path / "logs"), display="none", **flags
    )
    run = read_run(log.location)
    assert isinstance(run, Run)
    assert run.setting["temperature"] == expected
    assert read_eval_log(log.location).plan.config.temperature == expected


def test_answers_are_read_with_their_letters(tmp_path: Path) -> None:
    sim.write(sim.log(A, "medqa", 20), tmp_path)
    table = load_study(str(tmp_path)).tables["medqa"]
    assert table.letters.shape == (1, 20, 1)
    right = [table.letters[0, k, 0] == table.facts[item]["gold"][0] for k, item in enumerate(table.items)]
    assert right == table.values["accuracy/answer"][0, :, 0].astype(bool).tolist()
    assert table.facts[table.items[0]]["options"] == 4


def test_hidden_characters_are_seen_and_names_stay_apart() -> None:
    assert visible("a\u202eb\x1b[1m\u2066\ufeff\U000e0041") == "a‹U+202E›b␛[1m‹U+2066›‹U+FEFF›‹U+E0041›"
    assert visible("tab\tline\nمدل\u200cها") == "tab\tline\nمدل\u200cها"
    assert visible_name("a\u200bb\nc`d") == "a‹U+200B›b␊cˋd"
    assert len({visible_name(f"m{c}") for c in "\u202a\u202b\u2066\u200b\x00\x01"}) == 6


def test_task_arguments_that_nobody_declared_are_withheld_and_still_told_apart(tmp_path: Path) -> None:
    for name, password in (("a", "sk-1"), ("b", "sk-2")):
        log = sim.log(sim.Candidate(name), "medqa", 10)
        log.eval.task_args = {"mode": "generate", "password": password}
        sim.write(log, tmp_path, name)
    study = load_study(str(tmp_path))
    shown = [run.setting_name for run in study.runs]
    assert all("mode generate" in text and "password (withheld, " in text for text in shown)
    assert len(set(shown)) == 2
    assert not any("sk-" in text for text in [*shown, *texts(tmp_path), str([run.provenance for run in study.runs])])
