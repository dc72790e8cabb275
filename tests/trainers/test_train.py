"""Trainers: settings, data, labels, packing, resuming and refusals, on a tiny random model."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medbench.cli import cli
from medbench.errors import BadRow, MedbenchError
from medbench.files.directories import held
from medbench.files.manifest import read_manifest
from medbench.merging.adapters import read_adapter
from medbench.sources.records import Record
from medbench.trainers.data import Message, open_source, to_messages, to_text, tokenize_messages, tokenize_text
from medbench.trainers.recipe import load_recipe

NAMES = {"model_name_or_path": "base", "dataset": "data.jsonl", "output_dir": "out"}
REQUIRED = [f"{key}={value}" for key, value in NAMES.items()]


# Settings


def test_each_setting_knows_where_it_came_from(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("lora_rank: 8\nlearning_rate: 1e-4\nweight_decay: 0\n")
    recipe, origin = load_recipe("sft", config, [*REQUIRED, "lora_rank=4", "bf16=true"])
    assert (recipe.lora_rank, origin["lora_rank"]) == (4, "command line")
    assert (recipe.learning_rate, origin["learning_rate"]) == (1e-4, str(config))
    assert recipe.weight_decay == 0
    assert (recipe.bf16, recipe.seed, origin["seed"]) == (True, 42, "default")
    # what the paper's section 3.4 fixes
    assert (recipe.lora_dropout, recipe.gradient_accumulation_steps, recipe.cutoff_len) == (0.07, 64, 2048)
    assert (recipe.train_on_prompt, recipe.mask_history, recipe.packing) == (False, True, True)
    assert origin["lora_dropout"] == "recipe sft"
    assert load_recipe("sft", "sft", REQUIRED)[0].weight_decay == 0.03


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("lora_rnk=4", "Did you mean lora_rank"),
        ("lora_rank=four", "lora_rank: expected int, found 'four'"),
        ("packing=1", "packing: expected bool"),
        ("template=llama", "'chat' or 'qwen3' or 'qwen3_nothink'"),
        ("learning_rate=0", "above 0"),
        ("lora_dropout=1", r"\[0, 1\)"),
        ("save_steps=15", "multiple of logging_steps"),
        ("finetuning_type=freeze", "'lora' or 'full'"),
        ("lora_rank", "key=value"),
        ("dataset=[a", "not valid YAML"),
        ("dataset=", "dataset: expected str or list"),
    ],
)
def test_bad_settings_are_named(override: str, problem: str) -> None:
    with pytest.raises(MedbenchError, match=problem):
        load_recipe("sft", None, [*REQUIRED, override])


def test_missing_settings_and_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(MedbenchError, match="does not set model_name_or_path, output_dir"):
        load_recipe("pt", None, ["dataset=a.txt"])
    with pytest.raises(MedbenchError, match=r"no recipe .*none\.yaml.*shipped recipe \(pt, sft\)"):
        load_recipe("pt", tmp_path / "none.yaml", REQUIRED)


# Data

ALPACA = {
    "instruction": "Is it",
    "input": "measles?",
    "output": "Yes.",
    "system": "Be brief.",
    "history": [["Hi", "Hello"]],
}
SHAREGPT = {
    "system": "Be brief.",
    "conversations": [
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
        {"from": "human", "value": "Is it\nmeasles?"},
        {"from": "gpt", "value": "Yes."},
    ],
}
MESSAGES = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Is it\nmeasles?"},
        {"role": "assistant", "content": "Yes."},
    ]
}
CONVERSATION = [Message(**turn) for turn in MESSAGES["messages"]]


PARTS = {
    "messages": [
        {**turn, "content": [{"type": "text", "text": piece} for piece in (turn["content"][:2], turn["content"][2:])]}
        for turn in MESSAGES["messages"]
    ]
}


@pytest.mark.parametrize("row", [ALPACA, SHAREGPT, MESSAGES, PARTS], ids=["alpaca", "sharegpt", "messages", "parts"])
@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_formats_give_the_same_conversation(tmp_path: Path, row: dict[str, Any], ending: str) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / f"data.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps([row] if ending == "json" else row))
    assert [to_messages(record) for record in open_source(str(path)).records] == [CONVERSATION]


def test_plain_text_is_one_document_a_line_as_in_the_audit(tmp_path: Path) -> None:
    from medbench.leakage import corpus

    path = tmp_path / "book.txt"
    path.write_text("First document.\n\n  \nSecond one.\nThird, 第三。", "utf-8")
    texts = [to_text(record) for record in open_source(str(path)).records]
    audited = [text for batch in corpus.read(corpus.shards([str(path)])[0], []) for text in batch.objects]
    assert texts == audited == ["First document.", "Second one.", "Third, 第三。"]


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({"question": "a", "answer": "b"}, None, "found the fields 'question', 'answer'"),
        ({"instruction": "a", "output": " "}, "output", "empty"),
        ({"messages": []}, "messages", "list of turns"),
        ({"messages": [{"from": "human"}]}, "messages", "'role' and 'content'"),
        ({"messages": [{"role": "doctor", "content": "x"}]}, "messages", "unknown role 'doctor'"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages", "ending with assistant"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "content part is no text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "messages", "user is empty"),
        ({"instruction": "a", "output": "b", "history": ["x"]}, "history", "pairs"),
    ],
)
def test_bad_rows_are_named(row: dict[str, Any], field: str | None, problem: str) -> None:
    with pytest.raises(BadRow, match=problem) as caught:
        to_messages(Record("data.jsonl", "line 7", row))
    assert (caught.value.file, caught.value.row, caught.value.field) == ("data.jsonl", "line 7", field)


# Tokens and labels, worked out by hand: the tiny tokenizer has a token per byte, written Ċ for a line break


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("trl", reason="training needs medbench[train]")
    from medbench.provider.tiny import build

    return build(tmp_path_factory.mktemp("base"), context=512)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


TWO_TURNS = [
    Message("user", "a"),
    Message("assistant", "<think>t</think>\n\nb"),
    Message("user", "c"),
    Message("assistant", "d"),
]
USER, ASSISTANT, STOP = ["<|im_start|>", *"userĊ"], ["<|im_start|>", *"assistantĊ"], "<|im_end|>"
BLOCK = [*"<think>ĊĊ</think>ĊĊ"]
TRACE = [*"<think>t</think>ĊĊ"]


def learned(tokenizer: Any, **settings: Any) -> tuple[list[str], list[str]]:
    """All tokens, and those learned."""
    settings = {"template": "qwen3", "train_on_prompt": False, "mask_history": True} | settings
    tokens, labels = tokenize_messages(TWO_TURNS, tokenizer, **settings)
    assert all(label in (-100, token) for token, label in zip(tokens, labels, strict=True))
    kept = [label for label in labels if label != -100]
    return tokenizer.convert_ids_to_tokens(tokens), tokenizer.convert_ids_to_tokens(kept)


def test_qwen3_drops_earlier_traces_and_learns_the_empty_block(tokenizer: Any) -> None:
    first = [*USER, "a", STOP, "Ċ", *ASSISTANT, "b", STOP, "Ċ"]
    last = [*USER, "c", STOP, "Ċ", *ASSISTANT, *BLOCK, "d", STOP, "Ċ"]
    assert learned(tokenizer) == (first + last, [*BLOCK, "d", STOP])
    assert learned(tokenizer, mask_history=False)[1] == ["b", STOP, *BLOCK, "d", STOP]
    assert learned(tokenizer, train_on_prompt=True) == (first + last, first + last)


def test_qwen3_nothink_takes_answers_as_they_are(tokenizer: Any) -> None:
    tokens, kept = learned(tokenizer, template="qwen3_nothink", mask_history=False)
    first = [*USER, "a", STOP, "Ċ", *ASSISTANT, *TRACE, "b", STOP, "Ċ"]
    assert tokens == [*first, *USER, "c", STOP, "Ċ", *ASSISTANT, "d", STOP, "Ċ"]
    assert kept == [*TRACE, "b", STOP, "d", STOP]


def test_chat_renders_with_the_tokenizers_own_template(tokenizer: Any) -> None:
    tokens, kept = learned(tokenizer, template="chat")
    turns = [dataclasses.asdict(message) for message in TWO_TURNS]
    assert tokens == tokenizer.convert_ids_to_tokens(tokenizer.apply_chat_template(turns)["input_ids"])
    assert kept == ["d", STOP, "Ċ"]
    assert learned(tokenizer, template="chat", mask_history=False)[1] == [*TRACE, "b", STOP, "Ċ", "d", STOP, "Ċ"]


def test_plain_text_is_learned_whole_and_ends(tokenizer: Any) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenize_text("ab", tokenizer)) == ["a", "b", STOP]


# Training

ANSWERS = [
    "Rest and drink.",
    "See a doctor today, please.",
    "No.",
    "Take it after meals.",
    "It heals by itself in a week.",
]
COMMON = ["max_steps=6", "logging_steps=1", "save_steps=3", "learning_rate=0.01", "gradient_accumulation_steps=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen conversations and, beside them, as many documents, of unlike lengths."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"instruction": f"Question {'?' * n}", "output": ANSWERS[n % 5] * (1 + n % 3)} for n in range(14)]
    (folder / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pt.txt").write_text("".join(row["output"] + "\n" for row in rows))
    return folder


def train(stage: str, base: Path, source: Path, out: Path, *overrides: str) -> dict[str, float]:
    from medbench.trainers.train import train as run

    required = [f"model_name_or_path={base}", f"dataset={source}", f"output_dir={out}", "cutoff_len=200"]
    recipe, origin = load_recipe(stage, None, [*required, *COMMON, *overrides])  # type: ignore[arg-type]
    return run(stage, recipe, origin)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each stage, evaluated on the data it was trained on."""
    out = tmp_path_factory.mktemp("runs")
    for stage, source in (("sft", data / "sft.jsonl"), ("pt", data / "pt.txt")):
        train(stage, base, source, out / stage, f"eval_dataset={source}")
    return {stage: out / stage for stage in ("sft", "pt")}


@pytest.mark.parametrize("stage", ["sft", "pt"])
def test_packed_rows_side_by_side_train_as_one_after_the_other(
    stage: str, runs: dict[str, Path], base: Path, data: Path, tmp_path: Path
) -> None:
    source = data / ("sft.jsonl" if stage == "sft" else "pt.txt")
    batches = ["per_device_train_batch_size=2", "gradient_accumulation_steps=1", "per_device_eval_batch_size=3"]
    final = train(stage, base, source, tmp_path / "out", f"eval_dataset={source}", "lora_dropout=0", *batches)
    apart = train(stage, base, source, tmp_path / "apart", f"eval_dataset={source}", "lora_dropout=0")
    assert final["eval_loss"] == pytest.approx(apart["eval_loss"], rel=1e-5)
    assert losses(tmp_path / "out") == pytest.approx(losses(tmp_path / "apart"), rel=1e-5)


def test_full_fine_tuning_writes_a_model(base: Path, data: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    final = train("pt", base, data / "pt.txt", tmp_path / "out", "finetuning_type=full", "learning_rate=0.003")
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["kind"], manifest["settings"]["finetuning_type"]) == ("checkpoint", "full")
    assert final["train_loss"] < losses(tmp_path / "out")[0] - 0.3
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (base, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert not [name for name in before if torch.equal(before[name], after[name])]


def losses(out: Path) -> list[float]:
    return [entry["loss"] for entry in read_manifest(out)["log_history"] if "loss" in entry]


def test_training_learns_and_says_how(runs: dict[str, Path], base: Path, data: Path) -> None:
    manifest = read_manifest(runs["sft"])
    curve = losses(runs["sft"])
    assert len(curve) == 6
    assert curve[-1] < curve[0] - 0.3
    assert manifest["losses"]["train_loss"] == pytest.approx(sum(curve) / len(curve))
    assert manifest["losses"]["eval_perplexity"] == pytest.approx(math.exp(manifest["losses"]["eval_loss"]))
    assert (manifest["kind"], manifest["stage"], manifest["seed"]) == ("adapter", "sft", 42)
    assert manifest["settings"]["weight_decay"] == 0.03
    assert manifest["origin"]["weight_decay"] == "recipe sft"
    assert manifest["inputs"][str(data / "sft.jsonl")].startswith("sha256:")
    assert manifest["examples"] == {"train": 14, "eval": 14, "rows": manifest["examples"]["rows"]}
    assert manifest["examples"]["rows"] < 14  # packed
    assert list(manifest["base"]["weights"]) == ["model.safetensors"]
    rows = (runs["sft"] / "loss_curve.csv").read_text().splitlines()
    assert rows[0] == "step,epoch,split,loss"
    evaluated = [entry for entry in manifest["log_history"] if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluated] == [0, 6]
    assert evaluated[0]["eval_loss"] > evaluated[1]["eval_loss"] + 0.3 == manifest["losses"]["eval_loss"] + 0.3
    assert len(rows) == 1 + 6 + 2
    assert (runs["sft"] / "loss_curve.svg").read_text().startswith("<?xml")


def test_the_manifest_keeps_a_system_prompt_that_all_conversations_share(base: Path, tmp_path: Path) -> None:
    asked = ["You are a doctor."] * 4
    for name, systems in (("one", asked), ("two", [*asked, "You are a nurse."]), ("some", [*asked, ""])):
        rows = [{"instruction": f"Why {n}?", "output": "Rest.", "system": text} for n, text in enumerate(systems)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        train("sft", base, tmp_path / f"{name}.jsonl", tmp_path / name, "max_steps=1", "val_size=0")
    kept = [read_manifest(tmp_path / name) for name in ("one", "two", "some")]
    assert [made["system_prompt"] for made in kept] == ["You are a doctor.", None, None]
    assert [made["system_prompts"] for made in kept] == [1, 2, 1]


def test_the_mean_loss_weighs_points_by_their_steps(base: Path, data: Path, tmp_path: Path) -> None:
    """Seven steps in points of 1, 3 and 3; the last step is a point although four does not divide it."""
    train("sft", base, data / "sft.jsonl", tmp_path / "out", "logging_steps=4", "save_steps=4", "max_steps=7")
    train("sft", base, data / "sft.jsonl", tmp_path / "each", "logging_steps=1", "max_steps=7")
    each = losses(tmp_path / "each")
    assert losses(tmp_path / "out") == pytest.approx([each[0], sum(each[1:4]) / 3, sum(each[4:]) / 3], rel=1e-5)
    assert read_manifest(tmp_path / "out")["losses"]["train_loss"] == pytest.approx(sum(each) / 7, rel=1e-5)


@pytest.mark.parametrize("stage", ["sft", "pt"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_loss_equals_the_samples_own(
    stage: str, attention: str, runs: dict[str, Path], base: Path, data: Path, tokenizer: Any
) -> None:
    """Against plain transformers and PEFT, a sample at a time; and a set-up that lets attention cross is noticed."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from trl.data_utils import pack_dataset

    from medbench.private.trl import DataCollatorForLanguageModeling
    from medbench.sources.records import BadRows
    from medbench.trainers.train import to_dataset, tokenized

    plain = AutoModelForCausalLM.from_pretrained(base, attn_implementation=attention)
    model = PeftModel.from_pretrained(plain, runs[stage]).eval()
    source = data / ("sft.jsonl" if stage == "sft" else "pt.txt")
    recipe, _ = load_recipe(stage, None, [*REQUIRED, "cutoff_len=200"])  # type: ignore[arg-type]
    examples = tokenized(stage, recipe, [open_source(str(source))], tokenizer, BadRows())  # type: ignore[arg-type]

    def summed(ids: Any, labels: Any, **where: Any) -> tuple[float, int]:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False, **where).logits
        loss = torch.nn.functional.cross_entropy(
            logits[0, :-1].double(), labels[0, 1:], ignore_index=-100, reduction="sum"
        )
        return float(loss), int((labels[0, 1:] != -100).sum())

    alone = [summed(torch.tensor(e.input_ids.tolist())[None], torch.tensor(e.labels.tolist())[None]) for e in examples]
    own = sum(loss for loss, _ in alone) / sum(count for _, count in alone)
    # what `medbench train` reported for the packed rows
    assert read_manifest(runs[stage])["losses"]["eval_loss"] == pytest.approx(own, rel=2e-5)

    packed = pack_dataset(to_dataset(examples), 200, "bfd")
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batches = [collate([row]) for row in packed]
    assert any((batch["position_ids"] == 0).sum() > 1 for batch in batches)
    right = [summed(b["input_ids"], b["labels"], position_ids=b["position_ids"]) for b in batches]
    # a mask of ones, as padding collators give it, silently lets every sample see those before it in the row
    wrong = [
        summed(
            b["input_ids"], b["labels"], position_ids=b["position_ids"], attention_mask=torch.ones_like(b["input_ids"])
        )
        for b in batches
    ]
    count = sum(n for _, n in right)
    assert sum(loss for loss, _ in right) / count == pytest.approx(own, rel=1e-6)
    # a hundred times the tolerance above
    assert sum(loss for loss, _ in wrong) / count != pytest.approx(own, rel=1e-4)


def test_resuming_after_a_crash_draws_the_same_curve(
    runs: dict[str, Path], base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medbench.trainers.loop import StageTrainer

    source, out = data / "sft.jsonl", tmp_path / "out"
    evaluated = f"eval_dataset={source}"
    whole = StageTrainer.training_step

    def crash(self: Any, *given: Any, **named: Any) -> Any:
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return whole(self, *given, **named)

    monkeypatch.setattr(StageTrainer, "training_step", crash)
    with pytest.raises(KeyboardInterrupt):
        train("sft", base, source, out, evaluated)
    monkeypatch.setattr(StageTrainer, "training_step", whole)
    with pytest.raises(MedbenchError, match="did not finish"):
        read_manifest(out)
    with pytest.raises(MedbenchError, match="seed was 42, is 7"):
        train("sft", base, source, out, evaluated, "seed=7")
    (out / "checkpoint-4").mkdir()  # as a kill leaves it: begun, but without the state, which is written last
    (out / "checkpoint-4" / "trainer_state.json").write_text('{"global_')
    shutil.copytree(out / "checkpoint-3", out / "checkpoint-2")  # and one whose removal was begun
    (out / "checkpoint-2" / "adapter_model.safetensors").unlink()
    with pytest.raises(MedbenchError, match="did not finish"):
        read_adapter("sft", out)
    train("sft", base, source, out, evaluated, "save_total_limit=2")
    assert read_manifest(out)["resumed_from"] == "checkpoint-3"
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    assert losses(out) == losses(runs["sft"])
    assert read_manifest(out)["losses"] == read_manifest(runs["sft"])["losses"]
    made = (out / "manifest.json").read_bytes()
    train("sft", base, source, out, evaluated)  # finished: left as it is
    assert (out / "manifest.json").read_bytes() == made
    with pytest.raises(MedbenchError, match="seed was 42, is 7"):
        train("sft", base, source, out, evaluated, "seed=7")


@pytest.mark.parametrize("given", ["resume_from_checkpoint=false", "resume_from_checkpoint=true"])
def test_a_run_killed_before_its_first_checkpoint_starts_anew(
    runs: dict[str, Path], base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    from medbench.trainers.loop import StageTrainer

    source, out = data / "sft.jsonl", tmp_path / "out"
    whole = StageTrainer._save_checkpoint

    def crash(self: Any, *arguments: Any, **named: Any) -> Any:
        (out / "checkpoint-3").mkdir()
        (out / "checkpoint-3" / "adapter_model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(StageTrainer, "_save_checkpoint", crash)
    with pytest.raises(KeyboardInterrupt):
        train("sft", base, source, out, f"eval_dataset={source}", given if "false" in given else "seed=42")
    monkeypatch.setattr(StageTrainer, "_save_checkpoint", whole)
    train("sft", base, source, out, f"eval_dataset={source}", given)
    assert read_manifest(out)["resumed_from"] is None
    assert losses(out) == losses(runs["sft"])


def test_two_trainings_into_one_directory_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    with held(tmp_path / "out"), pytest.raises(MedbenchError, match=rf"another process .*process {os.getpid()} on "):
        train("sft", base, data / "sft.jsonl", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(MedbenchError, match="is not empty"):
        train("sft", base, data / "sft.jsonl", tmp_path / "mine")


def test_flagged_data_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    from medbench.leakage import audit

    leaked = (
        "A 23-year-old pregnant woman at 22 weeks gestation presents with burning upon urination. "
        "Which of the following is the best treatment for this patient?"
    )
    item = {"question": leaked, "options": {"A": "Ampicillin", "B": "Nitrofurantoin"}, "answer_idx": "B", "answer": "x"}
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n")
    clean = tmp_path / "clean.jsonl"
    clean.write_text((data / "sft.jsonl").read_text())
    dirty = tmp_path / "dirty.jsonl"
    dirty.write_text(clean.read_text() + "\n" + json.dumps({"instruction": leaked, "output": "Nitrofurantoin"}) + "\n")
    found = tmp_path / "findings"
    audit([str(clean), str(dirty)], f"medqa={tmp_path / 'items.jsonl'}", out=found)

    given = f"findings={found}"
    with pytest.raises(MedbenchError, match=r"dirty.jsonl: .* flags 1 of its records \(counted from 0: 14\)"):
        train("sft", base, dirty, tmp_path / "out", given)
    dirty.write_text(clean.read_text() + "\n")
    with pytest.raises(MedbenchError, match="has not seen this file as it is now"):
        train(
            "sft", base, dirty, tmp_path / "out", given, "resume_from_checkpoint=false", f"output_dir={tmp_path / 'b'}"
        )
    train("sft", base, clean, tmp_path / "c", given, "max_steps=1")
    assert read_manifest(tmp_path / "c")["leakage_audit"]["flagged"] == 0


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("quantization_bit=4", "needs a CUDA device"),
        ("flash_attn=fa2", "needs a CUDA device"),
        ("lora_target=q_proj,gate", "Did you mean"),
        ("val_size=14", "leaves nothing"),
        ("cutoff_len=20", "line 1: the prompt alone fills cutoff_len"),
        ("dataset=nowhere.jsonl", "does not exist"),
        ("model_name_or_path=/nowhere", "no model directory"),
        ("resume_from_checkpoint=true", "no complete checkpoint"),
    ],
)
def test_bad_requests_end_before_training(base: Path, data: Path, tmp_path: Path, override: str, problem: str) -> None:
    import torch

    if torch.cuda.is_available() and "CUDA" in problem:
        pytest.skip("this machine has what the test expects to be absent")
    with pytest.raises(MedbenchError, match=problem):
        train("sft", base, data / "sft.jsonl", tmp_path / "out", override)
    assert not (tmp_path / "out" / "manifest.json").exists()


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPENS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
ENDLESS = (
    "{% for m in messages %}\n{{ m.role }}: {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}\nassistant: {% endif %}"
)
RUNAWAY = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("chat_template", "template", "problem"),
    [
        (CHATML + OPENS, "qwen3", "knows no <think> blocks"),
        (CHATML + OPENS, "qwen3_nothink", None),
        (SYSTEM + CHATML + OPENS, "qwen3_nothink", "You help.*use template: chat"),
        (SYSTEM + CHATML + OPENS, "chat", None),
        (ENDLESS, "chat", "it would never stop"),
        (RUNAWAY, "chat", "chat template did not end within"),
        (CHATML + OPENS + RUNAWAY, "qwen3", "chat template did not end within"),
        (None, "chat", "no chat template"),
        (None, "qwen3", None),
    ],
)
def test_a_template_must_be_the_models_own_and_end(
    base: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chat_template: str | None,
    template: str,
    problem: str | None,
) -> None:
    import shutil

    from transformers import AutoTokenizer

    from medbench.provider import template_bound

    monkeypatch.setattr(template_bound, "SECONDS", 1)
    folder = shutil.copytree(base, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    given = (f"template={template}", "max_steps=1")
    if problem is None:
        train("sft", folder, data / "sft.jsonl", tmp_path / "out", *given)
    else:
        with pytest.raises(MedbenchError, match=problem):
            train("sft", folder, data / "sft.jsonl", tmp_path / "out", *given)


def test_an_end_named_by_the_generation_settings_counts(base: Path, data: Path, tmp_path: Path) -> None:
    """As with Qwen2.5's bases: the tokenizer ends texts with one token, the chat template turns with another."""
    import shutil

    from transformers import AutoTokenizer, GenerationConfig

    folder = shutil.copytree(base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turn_end, tokenizer.eos_token = tokenizer.eos_token_id, tokenizer.pad_token
    tokenizer.save_pretrained(folder)
    GenerationConfig(eos_token_id=[tokenizer.pad_token_id]).save_pretrained(folder)
    with pytest.raises(MedbenchError, match=r"ends an answer with .*im_end.*never stop"):
        train("sft", folder, data / "sft.jsonl", tmp_path / "out", "max_steps=1")
    GenerationConfig(eos_token_id=[tokenizer.pad_token_id, turn_end]).save_pretrained(folder)
    train("sft", folder, data / "sft.jsonl", tmp_path / "out", "max_steps=1")


def test_broken_bases_are_refused(base: Path, data: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    def copy(name: str) -> Path:
        return Path(shutil.copytree(base, tmp_path / name))

    cut, pickled, nan = copy("cut"), copy("pickled"), copy("nan")
    weights = (base / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    tensors = load_file(base / "model.safetensors")
    next(value for key, value in tensors.items() if "up_proj" in key)[0, 0] = torch.nan
    save_file(tensors, nan / "model.safetensors", metadata={"format": "pt"})
    for folder, problem in ((cut, "cannot be loaded.*header"), (pickled, "pickles"), (nan, "diverged: loss is nan at")):
        with pytest.raises(MedbenchError, match=problem):
            train("sft", folder, data / "sft.jsonl", tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.json").exists()
        assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_a_full_disk_is_named(base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    from safetensors import SafetensorError

    from medbench.trainers.loop import StageTrainer

    def full(*given: Any, **named: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 610880 vs 610772")

    def limited(*given: Any, **named: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: File too large (os error 27)")

    monkeypatch.setattr(StageTrainer, "_save_checkpoint", limited)
    with pytest.raises(MedbenchError, match=r"limited is full \(SafetensorError"):
        train("sft", base, data / "sft.jsonl", tmp_path / "limited")
    monkeypatch.setattr(StageTrainer, "_save_checkpoint", full)
    with pytest.raises(RuntimeError, match="unexpected pos"):  # there is room: a defect, not to be hidden
        train("sft", base, data / "sft.jsonl", tmp_path / "a")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(9, 9, 0))
    with pytest.raises(MedbenchError, match=r"/b is full .*checkpoints are kept. Make room"):
        train("sft", base, data / "sft.jsonl", tmp_path / "b")
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_rows_that_cannot_be_learned_are_left_out_on_request(base: Path, data: Path, tmp_path: Path) -> None:
    source = tmp_path / "data.jsonl"
    source.write_text((data / "sft.jsonl").read_text() + '{"instruction": "a"}\nnot json\n')
    train("sft", base, source, tmp_path / "out", "on_bad_row=skip", "max_steps=1", "packing=false", "val_size=2")
    manifest = read_manifest(tmp_path / "out")
    assert [text.split(":")[0].split(", ")[1] for text in manifest["left_out"]] == ["line 15", "line 16"]
    assert manifest["examples"] == {"train": 12, "eval": 2, "rows": 12}


def test_the_command_prints_settings_and_losses(base: Path, data: Path, tmp_path: Path) -> None:
    given = [
        f"model_name_or_path={base}",
        f"dataset={data / 'pt.txt'}",
        f"output_dir={tmp_path / 'out'}",
        "max_steps=1",
    ]
    result = CliRunner().invoke(cli, ["train", "pt", *given], catch_exceptions=False)
    assert result.exit_code == 0
    assert "recipe pt" in result.output
    assert "command line" in result.output
    assert "train_loss" in result.output


def test_a_run_killed_after_its_last_checkpoint_adds_no_step(
    runs: dict[str, Path], base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Trainer, resumed at the last step, would train one more."""
    from medbench.trainers.loop import StageTrainer

    source, out, whole = data / "sft.jsonl", tmp_path / "out", StageTrainer.save_model

    def crash(self: Any, folder: str | None = None, _internal_call: bool = False) -> None:
        if not _internal_call:
            raise KeyboardInterrupt
        whole(self, folder, _internal_call)

    monkeypatch.setattr(StageTrainer, "save_model", crash)
    with pytest.raises(KeyboardInterrupt):
        train("sft", base, source, out, f"eval_dataset={source}")
    monkeypatch.setattr(StageTrainer, "save_model", whole)
    assert not (out / "adapter_model.safetensors").exists()
    train("sft", base, source, out, f"eval_dataset={source}")
    assert read_manifest(out)["resumed_from"] == "checkpoint-6"
    assert losses(out) == losses(runs["sft"])
    assert read_manifest(out)["losses"] == read_manifest(runs["sft"])["losses"]
    assert (out / "adapter_model.safetensors").read_bytes() == (runs["sft"] / "adapter_model.safetensors").read_bytes()
