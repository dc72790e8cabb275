"""The audit from the command line to its files: resume, engines, bad input, real data."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medbench.errors import BadRow, MedbenchError
from medbench.files.manifest import read_manifest
from medbench.leakage import Findings, audit, corpus, engine, flagged_records, joined, read_findings
from medbench.leakage.against import load
from medbench.leakage.command import audit as command
from medbench.leakage.table import data_table, to_markdown
from medbench.sources.items import Item

QUESTION = "患者男性四十五岁，突发胸痛两小时，下一步最合适的处理是什么？"
ITEMS = [
    {
        "question": QUESTION,
        "options": {"A": "立即行冠状动脉造影检查", "B": "观察", "C": "胸片", "D": "抗酸药"},
        "answer_idx": "A",
    },
    {"question": "Which vitamin deficiency causes scurvy in sailors on long voyages at sea?", "answer": "Vitamin C"},
    {"question": "痛风？", "answer": "尿酸"},
]


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ITEMS), "utf-8")
    return path


@pytest.fixture
def training(tmp_path: Path) -> Path:
    rows = [{"text": f"unrelated document number {k} about nothing of the kind, 与此无关的文章"} for k in range(400)]
    rows[17] = {
        "text": "绪论" * 50 + QUESTION + "A. 观察 B. 立即行冠状动脉造影检查 C. 抗酸药 D. 胸片 答案：B" + "结语" * 50
    }
    rows[333] = {"text": ITEMS[1]["question"]}
    rows[5] = {"text": "too short"}
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


@pytest.fixture
def edited(training: Path) -> Path:
    """Three more records at different places: an item edited inside a long text, a short one as a whole, tags."""
    rows = training.read_text("utf-8").splitlines()
    scurvy = "Which vitamin shortage causes scurvy in sailors on long travels at sea?"
    for number, text in (
        (44, "绪论" * 50 + QUESTION.replace("胸痛", "腹痛").replace("合适", "恰当") + "结语" * 50),
        (150, scurvy),
        (390, "<p>" + scurvy.replace("scurvy", "<b>scurvey</b>") + "</p>"),
    ):
        rows[number] = json.dumps({"text": text}, ensure_ascii=False)
    training.write_text("\n".join(rows), "utf-8")
    return training


def test_audit_finds_records_writes_its_files_and_joins(items: Path, training: Path, tmp_path: Path) -> None:
    found = audit(training, items, out=tmp_path / "out")
    rows = list(found)
    assert (
        rows
        == list(read_findings(tmp_path / "out"))
        == sorted(rows, key=lambda r: (r["corpus_file"], r["record"], r["item_id"], r["field"], r["signal"]))
    )
    assert {(r["record"], r["field"], r["signal"]) for r in rows} == {
        (17, "question", "containment"),
        (17, "question+options", "containment"),
        (17, "question+options", "option_set"),
        (17, "question+answer", "answer_nearby"),
        (333, "question", "exact"),
        (333, "question", "jaccard"),
        (333, "question", "containment"),
    }
    for row in rows:
        text = json.loads(training.read_text("utf-8").splitlines()[row["record"]])[row["corpus_field"]]
        begin, end = row["corpus_span"]
        assert text[begin:end] == row["corpus_text"]
    assert flagged_records(found) == {(str(training), 17), (str(training), 333)}
    assert found.summary["leaking"] == {"items": 2, "records": 2}
    unchecked = [json.loads(line) for line in (tmp_path / "out" / "unchecked.jsonl").read_text("utf-8").splitlines()]
    assert [row for row in unchecked if "record" in row] == [
        {"corpus_file": str(training), "record": 5, "reason": "no 5 units in a row"}
    ]
    assert {row["field"] for row in unchecked if "item_id" in row} == {"question", "answer", "question+answer"}
    assert read_manifest(tmp_path / "out")["kind"] == "findings"
    leaked, clean = rows[-1]["item_id"], "0" * 16
    assert joined(found, [leaked, clean]) == {
        leaked: {"exact": 1.0, "jaccard": 1.0, "containment": 1.0, "any": 1.0},
        clean: {},
    }


def test_a_finding_says_which_signals_would_have_missed_it(items: Path, edited: Path, tmp_path: Path) -> None:
    found = audit(edited, items, out=tmp_path / "out")
    by_record = {row["record"]: row for row in found}
    assert by_record[333]["missed_by"] == ["span"]  # 13 units: no long run
    assert by_record[333]["only"] is None
    assert by_record[44]["missed_by"] == ["exact", "jaccard", "containment", "span"]
    assert by_record[44]["only"] == "edited"
    pairs = {(row["record"], row["item_id"]): row for row in found}.values()
    assert found.summary["leaks"] == len(pairs)
    for signal in ("exact", "jaccard", "containment", "span", "edited"):
        assert found.summary["missed_by"][signal] == sum(signal in row["missed_by"] for row in pairs)
        assert found.summary["told_by_one_signal"][signal] == sum(row["only"] == signal for row in pairs)
    result = CliRunner().invoke(command, [str(edited), "--against", str(items), "--out", str(tmp_path / "again")])
    assert "each signal alone would have missed: exact " in result.output
    assert "Told by one signal alone: " in result.output
    assert "edited 3" in result.output


def test_a_context_alone_contaminates_nothing() -> None:
    row = {"corpus_file": "a", "record": 0, "item_id": "i", "field": "context", "signal": "exact", "score": 1.0}
    assert flagged_records([row]) == set()
    assert joined([row], ["i"]) == {"i": {}}
    assert joined([row], ["i"], ignore_fields=()) == {"i": {"exact": 1.0, "any": 1.0}}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SHARD", 4096)


@pytest.mark.usefixtures("small_shards")
def test_two_jobs_and_a_resumed_run_give_the_same_bytes(
    items: Path, edited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = audit(edited, items, out=tmp_path / "one")
    audit(edited, items, out=tmp_path / "two", jobs=2)
    assert {row["record"] for row in expected if row["signal"] == "edited"} == {44, 150, 390}

    done: list[corpus.Shard] = []
    scan_shard = engine.scan_shard

    def killed(worker: Any, shard: corpus.Shard) -> bytes:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(shard)
        return scan_shard(worker, shard)

    resumed = tmp_path / "resumed"
    monkeypatch.setattr(engine, "scan_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        audit(edited, items, out=resumed)
    assert not (resumed / "findings.jsonl").exists()

    def counted(worker: Any, shard: corpus.Shard) -> bytes:
        assert shard not in done
        return scan_shard(worker, shard)

    monkeypatch.setattr(engine, "scan_shard", counted)
    audit(edited, items, out=resumed)
    for name in ("findings.jsonl", "summary.json", "unchecked.jsonl"):
        contents = {(tmp_path / run / name).read_bytes() for run in ("one", "two", "resumed")}
        assert len(contents) == 1, name
    assert sorted(p.name for p in resumed.iterdir()) == sorted(p.name for p in expected.directory.iterdir())


@pytest.mark.usefixtures("small_shards")
def test_state_of_another_run_is_not_resumed(items: Path, training: Path, tmp_path: Path, monkeypatch: Any) -> None:
    scan_shard = engine.scan_shard

    def fails_late(worker: Any, shard: corpus.Shard) -> bytes:
        if shard.begin:
            raise KeyboardInterrupt
        return scan_shard(worker, shard)

    monkeypatch.setattr(engine, "scan_shard", fails_late)
    with pytest.raises(KeyboardInterrupt):
        audit(training, items, out=tmp_path / "out")
    monkeypatch.undo()
    strict = audit(training, items, threshold=1.0, containment=1.0, out=tmp_path / "out")
    assert list(strict) == list(audit(training, items, threshold=1.0, containment=1.0))


def test_earlier_output_survives_a_failure(items: Path, training: Path, tmp_path: Path) -> None:
    audit(training, items, out=tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    (tmp_path / "broken.jsonl").write_text("{\n")
    with pytest.raises(BadRow):
        audit(tmp_path / "broken.jsonl", items, out=tmp_path / "out")
    assert {n: (tmp_path / "out" / n).read_bytes() for n in before} == before


@pytest.mark.parametrize("written", range(5))
def test_a_full_disk_leaves_the_earlier_output(
    written: int, items: Path, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after so many files: the shard, what was unchecked, findings, summary, manifest."""
    audit(training, items, out=tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    synced: list[int] = []

    def fsync(handle: int) -> None:
        if len(synced) == written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced.append(handle)

    with monkeypatch.context() as patch:
        patch.setattr("medbench.files.manifest.os.fsync", fsync)
        with pytest.raises(MedbenchError, match=r"disk of .*/out is full .*No space left"):
            audit(training, items, span=40, out=tmp_path / "out")
    assert {n: (tmp_path / "out" / n).read_bytes() for n in before} == before
    again = audit(training, items, span=40, out=tmp_path / "out")
    assert list(again) == list(audit(training, items, span=40))
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(before)


def test_bad_records_are_named_by_file_and_record_or_skipped(items: Path, training: Path, tmp_path: Path) -> None:
    lines = training.read_text("utf-8").splitlines()
    lines[100] = "{broken"
    training.write_text("\n".join(lines), "utf-8")
    with pytest.raises(BadRow, match=r"train\.jsonl, record 100: not valid JSON"):
        audit(training, items)
    found = audit(training, items, on_bad_row="skip")
    assert found.summary["unchecked"]["records_unreadable"] == 1
    assert found.summary["unchecked"]["unreadable"][0].startswith(f"{training}, record 100: not valid JSON")
    assert {row["record"] for row in found} == {17, 333}


@pytest.mark.usefixtures("small_shards")
def test_bad_record_in_a_late_shard_is_counted_from_the_start_of_its_file(
    items: Path, training: Path, tmp_path: Path
) -> None:
    lines = training.read_text("utf-8").splitlines()
    lines[390] = "{broken"
    training.write_text("\n\n".join(lines), "utf-8")
    with pytest.raises(BadRow, match="record 390"):
        audit(training, items)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01])
def test_threshold_outside_its_range(threshold: float, items: Path, training: Path) -> None:
    with pytest.raises(MedbenchError, match=r"must lie in \(0, 1\]"):
        audit(training, items, threshold=threshold)


def test_empty_corpus_and_unknown_sources(items: Path, training: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(MedbenchError, match="corpus is empty"):
        audit(tmp_path / "empty.jsonl", items)
    with pytest.raises(MedbenchError, match="neither an existing file nor the name of a task"):
        audit(training, str(tmp_path / "nothing.jsonl"))
    with pytest.raises(MedbenchError, match="unknown engine 'spark'"):
        audit(training, items, engine="spark")


def test_items_can_be_given_directly(training: Path) -> None:
    item = Item(
        question=QUESTION, language="zh", options=("立即行冠状动脉造影检查", "观察", "胸片", "抗酸药"), answer=("A",)
    )
    assert {row["record"] for row in audit(training, [item])} == {17}


def test_command_prints_counts(items: Path, training: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(command, [str(training), "--against", str(items), "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert "2 of 3 items leak, in 2 of 400 records" in run.output


def test_real_sources_of_f6_overlap(shared_data: Path) -> None:
    found: Findings = audit(shared_data / "medical_qa/zh_train.jsonl", shared_data / "medical_qa/zh_valid.jsonl")
    near = [row for row in found if row["signal"] == "jaccard"]
    assert near
    corpus_rows = (shared_data / "medical_qa/zh_train.jsonl").read_text("utf-8").splitlines()
    for row in found:
        begin, end = row["corpus_span"]
        text = json.loads(corpus_rows[row["record"]])[row["corpus_field"]]
        assert text[begin:end].startswith(row["corpus_text"])


def test_minhash_reports_what_it_proposes_and_misses(items: Path, training: Path) -> None:
    found = audit(training, items, method="minhash")
    assert list(found) == list(audit(training, items))
    assert found.summary["minhash"]["right"] + len(found.summary["minhash"]["missed"]) == 1


def test_sources_on_both_sides_are_named(items: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(items.read_bytes())
    found = audit([items, copy], items)
    assert [(row["corpus_file"], row["how"]) for row in found.summary["shared_sources"]] == [
        (str(copy), "same content"),
        (str(items), "same name"),
    ]


def test_duplicates_within_the_corpus_are_left_out_of_the_clean_copy(items: Path, tmp_path: Path) -> None:
    texts = [" ".join(f"w{(k * 7919 + j * 104729) % 1000}" for j in range(60)) for k in range(5)]
    rows = [texts[0], texts[1], texts[0].upper() + "!", texts[1] + " one more", texts[2], texts[2][::-1]]
    path = tmp_path / "in" / "corpus.txt"
    path.parent.mkdir()
    path.write_text("\n".join(rows) + "\n")
    audit(path, items, within=True, write_clean=tmp_path / "clean", out=tmp_path / "out")
    found = [json.loads(line) for line in (tmp_path / "out/duplicates.jsonl").read_text("utf-8").splitlines()]
    assert [(row["record"], row["kind"], row["of"][1]) for row in found] == [(2, "exact", 0), (3, "near", 1)]
    assert found[1]["score"] == 56 / 58
    assert (tmp_path / "clean/corpus.txt").read_text().splitlines() == [rows[k] for k in (0, 1, 4, 5)]


def test_table_one_from_a_list_of_data_sets(items: Path, training: Path, tmp_path: Path) -> None:
    audit(training, items, out=tmp_path / "out")
    data_sets = tmp_path / "data.yaml"
    data_sets.write_text(
        "- {name: MedCorpus, size: 2GB, type: PT (Text), split: Train, cleaning: Hash Dedup, findings: out}\n"
        "- {name: MedQA, size: 1.2k, type: Eval (MCQ), split: Test, cleaning: Source Split}\n"
    )
    assert to_markdown(data_table(data_sets)).splitlines() == [
        "| Name | Size | Type | Split | Cleaning | Findings |",
        "| --- | --- | --- | --- | --- | --- |",
        "| MedCorpus | 2GB | PT (Text) | Train | Hash Dedup | 2 items in 2 records |",
        "| MedQA | 1.2k | Eval (MCQ) | Test | Source Split | not audited |",
    ]
    data_sets.write_text("- {name: MedQA, size: 1.2k}\n")
    with pytest.raises(BadRow, match="entry 1, field 'type': missing"):
        data_table(data_sets)


def test_what_cannot_be_written_is_said_before_the_scan(items: Path, training: Path, tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match="is where the corpus lies"):
        audit(training, items, write_clean=training.parent, out=tmp_path / "out")
    with pytest.raises(MedbenchError, match="each needs a directory of its own"):
        audit(training, items, write_clean=tmp_path / "out", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["B", 1, "Femur"])
def test_the_key_of_a_row_may_be_a_letter_a_number_or_the_text(key: str | int) -> None:
    row = {"question": "Which bone is longest?", "choices": ["Tibia", "Femur", "Ulna"], "answer": key}
    ((_, (item,)),) = load([row])
    assert item.answer == ("B",)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_ray_gives_the_same_bytes(items: Path, edited: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert any(row["signal"] == "edited" for row in audit(edited, items, out=tmp_path / "local"))
    audit(edited, items, out=tmp_path / "ray", engine="ray", jobs=1)
    for name in ("findings.jsonl", "summary.json", "unchecked.jsonl"):
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()
