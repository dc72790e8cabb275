"""From a seed to a lab directory: the world's data, the base, and its two adapters.

OUT/                 the base, in Hugging Face format (`--model medbench/OUT` answers with it)
OUT/pt/, OUT/sft/    the adapters, in PEFT format, both trained on that base
OUT/data/*.jsonl     what the three were trained on
OUT/manifest.json    seed, settings, hashes, losses; written last
"""

from __future__ import annotations

import importlib.resources
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from medbench.errors import MedbenchError, unknown
from medbench.manifest import hash_files, write_atomic, write_manifest
from medbench.trainers.microlab.tokenizer import CONTEXT, END_OF_TEXT, render, train_tokenizer
from medbench.trainers.microlab.world import World, base_documents, make_world, pt_documents, sft_documents

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3ForCausalLM

Recipe = dict[str, Any]
Example = dict[str, list[int]]  # input_ids and labels of one row

STAGES = ("base", "pt", "sft")
# The size of the trial this lab grew from: about 0.4 million parameters.
SHAPE: Recipe = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
}
_IGNORED = -100  # the label that the loss leaves out
_DATA_KEYS = {
    "base": ("conversations", "per_disease", "nothink_share"),
    "pt": ("per_disease", "replay_share"),
    "sft": ("conversations",),
}
# Recipe keys that are `transformers.TrainingArguments`' own.
_ARGUMENTS = (
    "per_device_train_batch_size",
    "learning_rate",
    "max_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "adam_beta2",
    "max_grad_norm",
)


def load_recipes(overrides: Mapping[str, Any] | None = None) -> dict[str, Recipe]:
    """The recipes of the three stages, with overrides such as ``{"base.max_steps": 20}``.

    Raises:
        MedbenchError: an override names no stage or no key of its recipe.
    """
    folder = importlib.resources.files("medbench.trainers.microlab") / "recipes"
    recipes: dict[str, Recipe] = {
        stage: yaml.safe_load((folder / f"{stage}.yaml").read_text("utf-8")) for stage in STAGES
    }
    for name, value in (overrides or {}).items():
        stage, _, key = name.partition(".")
        if stage not in recipes:
            raise unknown("micro-lab stage", stage, STAGES)
        if key not in recipes[stage]:
            raise unknown(f"key of the {stage} recipe", key, recipes[stage])
        recipes[stage][key] = value
    return recipes


def build(
    seed: int,
    out: str | Path,
    *,
    recipes: Mapping[str, Recipe] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Build a lab from nothing.

    Args:
        seed: decides the world, the initial weights and the order of training.
        out: a directory that does not exist or is empty.
        recipes: by stage, as from `load_recipes`, which is the default.
        say: called with a line of progress per stage.

    Returns:
        the manifest's facts: final losses and seconds per stage.

    Raises:
        MedbenchError: `out` holds something already.
    """
    root = Path(out)
    if root.exists() and any(root.iterdir()):
        raise MedbenchError(f"{root} is not empty; name a new directory for the lab.")
    recipes = recipes or load_recipes()
    world = make_world(seed)
    data = data_of(world, recipes)
    (root / "data").mkdir(parents=True, exist_ok=True)
    for stage, text in data.items():
        write_atomic(root / "data" / f"{stage}.jsonl", text)
    rows = {stage: [json.loads(line) for line in text.splitlines()] for stage, text in data.items()}

    facts: dict[str, Any] = {}
    tokenizer = train_tokenizer(_all_text(row) for row in rows["base"])
    model = new_base(tokenizer, seed)
    facts["base"] = _stage(model, packed(tokenizer, rows["base"], recipes["base"]["cutoff_len"]), recipes["base"], seed)
    save_base(model, tokenizer, root, name=f"microlab-{seed}")
    say(f"base: loss {facts['base']['loss']:.3f} in {facts['base']['seconds']:.0f} s")
    for stage in ("pt", "sft"):
        recipe = recipes[stage]
        examples = (
            packed(tokenizer, rows["pt"], recipe["cutoff_len"])
            if stage == "pt"
            else [last_turn(tokenizer, row, recipe["cutoff_len"]) for row in rows["sft"]]
        )
        facts[stage] = train_adapter(root, root / stage, examples, recipe, seed)
        say(f"{stage}: loss {facts[stage]['loss']:.3f} in {facts[stage]['seconds']:.0f} s")
    write_manifest(
        root,
        "microlab",
        settings={"seed": seed, "shape": SHAPE, "recipes": dict(recipes)},
        inputs={f"data/{stage}.jsonl": hash_files(root / "data")[f"{stage}.jsonl"] for stage in STAGES},
        files=hash_files(root),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        stages=facts,
    )
    return facts


def data_of(world: World, recipes: Mapping[str, Recipe]) -> dict[str, str]:
    """What each stage trains on, as JSON lines: ``{"text": ...}`` or ``{"messages": [...]}``."""
    return {
        stage: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _documents(world, stage, recipes[stage]))
        for stage in STAGES
    }


def _documents(world: World, stage: str, recipe: Recipe) -> list[dict[str, Any]]:
    make: dict[str, Callable[..., list[dict[str, Any]]]] = {
        "base": base_documents,
        "pt": pt_documents,
        "sft": sft_documents,
    }
    return make[stage](world, **{key: recipe[key] for key in _DATA_KEYS[stage]})


def _all_text(row: Mapping[str, Any]) -> str:
    turns = row.get("messages", [])
    return "\n".join([row.get("text", "")] + [text for turn in turns for key, text in turn.items() if key != "role"])


def new_base(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A Qwen3 of the lab's size with random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            **SHAPE,
            vocab_size=len(tokenizer),
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def save_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, root: Path, *, name: str) -> None:
    """Write model and tokenizer, and `name` into the config: adapters record it as their base."""
    model.config.use_cache = True  # training turns it off
    model.save_pretrained(root)
    tokenizer.save_pretrained(root)
    config = json.loads((root / "config.json").read_text("utf-8"))
    write_atomic(root / "config.json", json.dumps(config | {"_name_or_path": name}, indent=2) + "\n")


def packed(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Mapping[str, Any]], length: int) -> list[Example]:
    """Whole documents, each ended, packed in order into rows of `length` tokens; padding carries no loss.

    Attention crosses the documents of a row: they are drawn at random, so there is nothing to learn from it.
    """
    end = cast(int, tokenizer.convert_tokens_to_ids(END_OF_TEXT))
    examples: list[Example] = []
    current: list[int] = []
    for document in tokenizer([render(tokenizer, dict(row)) for row in rows], add_special_tokens=False)["input_ids"]:
        ids = [*document[: length - 1], end]
        if len(current) + len(ids) > length:
            examples.append(_padded(current, length, end))
            current = []
        current = current + ids
    return [*examples, _padded(current, length, end)]


def _padded(ids: list[int], length: int, pad: int) -> Example:
    missing = length - len(ids)
    return {"input_ids": ids + [pad] * missing, "labels": ids + [_IGNORED] * missing}


def last_turn(tokenizer: PreTrainedTokenizerFast, row: Mapping[str, Any], length: int) -> Example:
    """A conversation of which only the last assistant turn is learned, its empty think block included.

    Raises:
        MedbenchError: the conversation has more than `length` tokens.
    """
    prompt = tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
    assert isinstance(prompt, str)
    reply = render(tokenizer, dict(row)).removeprefix(prompt).removesuffix("\n")
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    learned = tokenizer(reply, add_special_tokens=False)["input_ids"]
    if len(before) + len(learned) > length:
        raise MedbenchError(f"a conversation of {len(before) + len(learned)} tokens; cutoff_len is {length}.")
    return {"input_ids": before + learned, "labels": [_IGNORED] * len(before) + learned}


def train_adapter(base: Path, out: Path, examples: Sequence[Example], recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a LoRA adapter on the base at `base`, write it to `out`, and return its loss and seconds."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(
        r=recipe["lora_rank"],
        lora_alpha=recipe["lora_alpha"],
        lora_dropout=recipe["lora_dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    facts = _stage(adapted, examples, recipe, seed)
    # A name, not this machine's path: it stays right when the lab moves.
    adapted.peft_config["default"].base_model_name_or_path = json.loads((base / "config.json").read_text())[
        "_name_or_path"
    ]
    adapted.save_pretrained(str(out), save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)
    write_manifest(out, "adapter", settings=recipe | {"seed": seed}, inputs=hash_files(base, "*.safetensors"), **facts)
    return facts


def _stage(model: torch.nn.Module, examples: Sequence[Example], recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train in place; the mean loss of the last tenth of the steps, the loss curve, and CPU seconds."""
    import tempfile

    from transformers import Trainer, TrainingArguments
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    started = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            **{key: recipe[key] for key in _ARGUMENTS if key in recipe},
            seed=seed,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_steps=max(1, recipe["max_steps"] // 30),
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=list(examples), data_collator=_collate)
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    curve = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    tail = [loss for _, loss in curve[-max(1, len(curve) // 10) :]]
    return {
        "loss": sum(tail) / len(tail),
        "loss_curve": curve,
        "examples": len(examples),
        "seconds": round(time.process_time() - started, 1),
    }


def _collate(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    import torch

    width = max(len(example["input_ids"]) for example in examples)

    def stacked(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([example[key] + [fill] * (width - len(example[key])) for example in examples])

    batch = {"input_ids": stacked("input_ids", 0), "labels": stacked("labels", _IGNORED)}
    lengths = torch.tensor([[len(example["input_ids"])] for example in examples])
    if int(lengths.min()) < width:
        batch["attention_mask"] = (torch.arange(width)[None] < lengths).long()
    return batch
