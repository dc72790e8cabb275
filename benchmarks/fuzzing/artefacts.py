"""What medbench and Inspect wrote, fuzzed as it is read again: eval logs, audits beside them, cards, manifests."""

from __future__ import annotations

import functools
import io
import json
import random
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from fuzzing import texts, values
from fuzzing.case import Case, Surface, require
from fuzzing.records import WORK
from fuzzing.rows import FINDINGS


def surfaces() -> list[Surface]:
    """The surfaces of this module."""
    return [
        Surface("logs", 2_000, _logs_case, _logs, seconds=120, least=20),
        Surface("cards", 2_500, _card_case, _cards, least=50),
        Surface("manifest", 4_000, _manifest_case, _manifest, least=50),
    ]


@functools.cache
def valid_logs() -> list[str]:
    """Small eval logs as JSON: three candidates on a choice task, a free-text task and a probe."""
    sys.path.insert(0, str(texts.ROOT / "benchmarks"))
    import simulated_logs

    return [
        _as_stored(simulated_logs.log(candidate, task, 5))
        for candidate in simulated_logs.STUDY[:3]
        for task in ("medqa", "f5", "refusal_probe")
    ]


def _as_stored(log: Any) -> str:
    """As Inspect writes a JSON log."""
    from inspect_ai.log import write_eval_log

    path = WORK / "stored.json"
    write_eval_log(log, str(path))
    return path.read_text("utf-8")


@functools.cache
def good_runs() -> list[Any]:
    """The valid logs as the report reads them."""
    from medbench.reports.logs import Run, read_run

    folder = WORK / "good"
    folder.mkdir(exist_ok=True)
    runs = []
    for number, text in enumerate(valid_logs()):
        path = folder / f"2026-05-01T10-00-00-00-00_{number}.json"
        path.write_text(text, "utf-8")
        run = read_run(str(path))
        assert isinstance(run, Run), run
        runs.append(run)
    return runs


def _logs_case(rng: random.Random) -> Case:
    """A log for the leaderboard, or one in twenty for the whole report, with an audit and a manifest beside it."""
    return _report_case(rng) | {"whole": True} if rng.random() < 0.05 else _log_case(rng) | {"whole": False}


def _log_case(rng: random.Random) -> Case:
    document = json.loads(rng.choice(valid_logs()))
    if rng.random() < 0.85:
        # Inspect's own fields are checked by Inspect; what tasks and scorers put into a log is checked by nobody
        for sample in document["samples"]:
            for part in rng.sample(("scores", "metadata", "output", "id", "epoch", "limit"), rng.choice((0, 0, 1, 2))):
                sample[part] = values.changed(rng, sample.get(part))
        for part in (
            "metadata",
            "task_args",
            "model_args",
            "model_generate_config",
            "config",
            "task",
            "model",
            "dataset",
        ):
            if rng.random() < 0.12:
                document["eval"][part] = values.changed(rng, document["eval"].get(part))
    else:
        document = values.changed(rng, document)
    data = values.as_json(rng, document).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        data = values.damaged(rng, data)
    if rng.random() < 0.2:
        return {"name": "2026-05-01T10-00-00-00-00_case.eval", "data": _as_archive(rng, document)}
    return {"name": "2026-05-01T10-00-00-00-00_case.json", "data": data}


def _as_archive(rng: random.Random, document: Any) -> bytes:
    """The log as Inspect's zip of JSON files, sometimes damaged."""
    document = document if isinstance(document, dict) else {"eval": document}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        header = {key: value for key, value in document.items() if key != "samples"}
        archive.writestr("header.json", values.as_json(rng, header).encode("utf-8", "surrogatepass"))
        samples = document.get("samples")
        for number, sample in enumerate(samples if isinstance(samples, list) else []):
            archive.writestr(
                f"samples/{number}_epoch_1.json", values.as_json(rng, sample).encode("utf-8", "surrogatepass")
            )
    data = written.getvalue()
    return values.damaged(rng, data) if rng.random() < 0.4 else data


def _logs(case: Case) -> None:
    if case["whole"]:
        _report(case)
        return
    from rich.console import Console

    from medbench.reports import leaderboard, terminal
    from medbench.reports.estimates import Analysis, Options
    from medbench.reports.logs import Notice, read_run
    from medbench.reports.rows import arrange
    from medbench.reports.sources import Sources

    path = WORK / case["name"]
    path.write_bytes(case["data"])
    try:
        found = read_run(str(path))
    finally:
        path.unlink()
    if isinstance(found, Notice):
        require(found.text.strip(), "a notice without a text")
        return
    study = arrange("fuzz", [*good_runs(), found])
    section = leaderboard.section(Analysis(study, Options(resamples=100)), Sources(cards=()))
    terminal.show_section(section, study.notices, Console(file=io.StringIO(), width=80))


def _report_case(rng: random.Random) -> Case:
    case = _log_case(rng)
    if rng.random() < 0.6:
        rows = values.changed(rng, FINDINGS, rng.choice((0, 1, 2, 4)))
        ids = [sample["id"] for sample in json.loads(valid_logs()[0])["samples"]]
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and rng.random() < 0.8:
                row["item_id"] = rng.choice(ids)
        case["findings"] = values.as_json_lines(rng, rows).encode("utf-8", "surrogatepass")
        case["summary"] = values.as_json(rng, values.changed(rng, {"findings": 3, "corpus": ["c.jsonl"]})).encode(
            "utf-8", "surrogatepass"
        )
    if rng.random() < 0.5:
        case["manifest"] = values.as_json(rng, values.changed(rng, MANIFEST)).encode("utf-8", "surrogatepass")
    return case


def _report(case: Case) -> None:
    """The whole report: computed, rendered in all forms, and what it says of other tools' formats."""
    from medbench.reports import html, markdown
    from medbench.reports.estimates import Options
    from medbench.reports.report import as_json, build

    folder = WORK / "report"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    good_runs()
    for number in (0, 1, 3, 4):
        name = f"2026-05-01T10-00-00-00-00_{number}.json"
        shutil.copy(WORK / "good" / name, folder / name)
    (folder / case["name"]).write_bytes(case["data"])
    audit = None
    if "findings" in case:
        audit = str(_written(folder / "audit", {"findings.jsonl": case["findings"], "summary.json": case["summary"]}))
    if "manifest" in case:
        _written(folder / "adapter", {"manifest.json": case["manifest"]})
    built = build(str(folder), audit=audit, options=Options(resamples=100))
    page = html.render(built, "fuzz")
    require("<script>alert" not in page, "markup of a log in the page")
    markdown.render(built)
    json.dumps(as_json(built))


def _written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def _json_case(rng: random.Random, valid: Any) -> Case:
    if rng.random() < 0.01:
        return {
            "data": rng.choice(
                ("[" * 100_000, '{"a":' * 100_000, "", "null", "1", '"x"', "NaN", "[" + "9" * 5000 + "]", "\x00")
            ).encode()
        }
    data = values.as_json(rng, values.changed(rng, valid)).encode("utf-8", "surrogatepass")
    return {"data": values.damaged(rng, data) if rng.random() < 0.25 else data}


@functools.cache
def _valid_cards() -> list[Any]:
    from medbench.claims.card import lexical_card
    from medbench.meta.card import shipped
    from medbench.refusal.calibration import default_card

    return [default_card(), lexical_card(), shipped()[0]]


def _card_case(rng: random.Random) -> Case:
    which = rng.randrange(3)
    case = _json_case(rng, None if rng.random() < 0.02 else _pruned(rng, _valid_cards()[which]))
    return {**case, "which": which if rng.random() < 0.9 else rng.randrange(3)}


def _pruned(rng: random.Random, card: Any) -> Any:
    """A card without the bulk that most of it is."""
    return {key: value for key, value in card.items() if len(str(value)) < 3000 or rng.random() < 0.3}


def _cards(case: Case) -> None:
    from medbench.claims import card as claims
    from medbench.meta.card import figures_of, load_cards
    from medbench.refusal.calibration import corrected_rate, load_card
    from medbench.refusal.scorer import card_facts

    path = WORK / "card.json"
    path.write_bytes(case["data"])
    if case["which"] == 0:
        card = load_card(path)
        card_facts(card)
        corrected_rate(3, 20, card)
    elif case["which"] == 1:
        claims.line(claims.load(path))
    else:
        (card,) = load_cards([path])
        figures_of(card, "bleu4", "standard")


MANIFEST: dict[str, Any] = {
    "kind": "adapter", "created": "2026-01-01T00:00:00+00:00", "command": "medbench train",
    "settings": {"lora_rank": 8}, "inputs": {"a": "b"},
    "stage": "sft", "base": "b", "losses": [{"step": 10, "loss": 2.5}], "curve": {"train": [[10, 2.5]], "eval": []},
    "versions": {"medbench": "0.1.0"},
}  # fmt: skip


def _manifest_case(rng: random.Random) -> Case:
    return _json_case(rng, MANIFEST)


def _manifest(case: Case) -> None:
    from medbench.files.manifest import read_manifest

    folder = WORK / "manifest"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(case["data"])
    document = read_manifest(folder)
    require(isinstance(document, dict) and isinstance(document["kind"], str), "a manifest that says no kind")
