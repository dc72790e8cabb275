"""From a seed to a lab directory: the world's data, the base, and its two adapters, trained by `medbench train`.

OUT/                 the base, in Hugging Face format (`--model medbench/OUT` answers with it)
OUT/pt/, OUT/sft/    the adapters, in PEFT format, both trained on that base
OUT/data/*.jsonl     what the three were trained on
OUT/manifest.json    seed, settings, hashes, losses; written last
"""

from __future__ import annotations

import importlib.resources
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from medbench.errors import MedbenchError, unknown
from medbench.files.manifest import NAME as MANIFEST
from medbench.files.manifest import hash_files, read_manifest, write_atomic, write_manifest
from medbench.trainers.microlab.tokenizer import CONTEXT, render, train_tokenizer
from medbench.trainers.microlab.world import World, base_documents, make_world, pt_documents, sft_documents
from medbench.trainers.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

Amounts = dict[str, dict[str, Any]]  # by stage

STAGES: Final = ("base", "pt", "sft")
# The size of the trial this lab grew from: about 0.4 million parameters.
SHAPE: Final[dict[str, Any]] = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
}
_PATHS = ("model_name_or_path", "dataset", "output_dir")


def build(
    seed: int, out: str | Path, *, overrides: Sequence[str] = (), say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Build a lab from nothing, on one thread: a seed gives the same bytes on the same machine.

    Args:
        seed: decides the world, the initial weights and the order of training.
        out: a directory that does not exist or is empty.
        overrides: ``STAGE.KEY=VALUE``, a setting of a stage's recipe or of data.yaml, e.g. ``base.max_steps=20``.
        say: called with a line of progress per stage.

    Returns:
        per stage its final losses, loss curve, counts and seconds, as the manifest keeps them.

    Raises:
        MedbenchError: `out` holds something already, or an override names no stage or no setting.
    """
    from medbench.merging.recipe import one_thread_each

    root = Path(out)
    if root.exists() and any(root.iterdir()):
        raise MedbenchError(f"{root} is not empty; name a new directory for the lab.")
    amounts, changed = sort_overrides(overrides)
    recipes = {stage: _recipe(stage, root, seed, changed[stage]) for stage in STAGES}
    world = make_world(seed)
    (root / "data").mkdir(parents=True, exist_ok=True)
    for stage, text in data_of(world, amounts).items():
        write_atomic(root / "data" / f"{stage}.jsonl", text)

    facts: dict[str, Any] = {}
    start = untrained(world, amounts["base"], seed)
    with one_thread_each():
        for stage, (recipe, origin) in recipes.items():
            started = time.process_time()
            if stage == "base":
                manifest = train_base(recipe, origin, root, start)
            else:
                manifest = train_adapter(stage, recipe, origin, root)
            facts[stage] = {
                "losses": manifest["losses"],
                "loss_curve": [(e["step"], e["loss"]) for e in manifest["log_history"] if "loss" in e],
                "examples": manifest["examples"],
                "seconds": round(time.process_time() - started, 1),
            }
            say(f"{stage}: loss {facts[stage]['losses']['train_loss']:.3f} in {facts[stage]['seconds']:.0f} s")
    settled = {s: {k: v for k, v in asdict(recipe).items() if k not in _PATHS} for s, (recipe, _) in recipes.items()}
    write_manifest(
        root,
        "microlab",
        settings={"seed": seed, "shape": SHAPE, "data": amounts, "recipes": settled},
        inputs={f"data/{stage}.jsonl": hash_files(root / "data")[f"{stage}.jsonl"] for stage in STAGES},
        files=hash_files(root),
        parameters=start[0].num_parameters(),
        stages=facts,
    )
    return facts


def load_amounts() -> Amounts:
    """How much of the world each stage reads, unless told otherwise."""
    amounts: Amounts = yaml.safe_load(
        (importlib.resources.files("medbench.trainers.microlab") / "data.yaml").read_text("utf-8")
    )
    return amounts


def sort_overrides(overrides: Sequence[str]) -> tuple[Amounts, dict[str, list[str]]]:
    """``STAGE.KEY=VALUE`` texts: the amounts of data with them, and by stage what they change of its recipe.

    Raises:
        MedbenchError: an override of another form, or one that names no stage or no setting of it.
    """
    amounts, changed = load_amounts(), {stage: [] for stage in STAGES}  # type: tuple[Amounts, dict[str, list[str]]]
    for override in overrides:
        name, equals, value = override.partition("=")
        stage, _, key = name.partition(".")
        if not equals:
            raise MedbenchError(f"{override!r}: expected STAGE.KEY=VALUE, e.g. base.max_steps=20.")
        if stage not in STAGES:
            raise unknown("micro-lab stage", stage, STAGES)
        if key in amounts[stage]:
            amounts[stage][key] = _amount(name, value, amounts[stage][key])
        elif key in (settings := [field.name for field in fields(Recipe)]):
            changed[stage].append(f"{key}={value}")
        else:
            raise unknown(f"setting of the {stage} stage", key, [*amounts[stage], *settings])
    return amounts, changed


def _amount(name: str, text: str, default: float) -> float:
    """A count of at least 1 where the default is a count, else a share of 0 to 1."""
    whole = isinstance(default, int)
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if (whole and value < 1) or not (whole or 0 <= value <= 1):
        raise MedbenchError(f"{name}={text}: expected {'a whole number above 0' if whole else 'a share from 0 to 1'}.")
    return value


def _recipe(stage: str, root: Path, seed: int, changed: Sequence[str]) -> tuple[Recipe, dict[str, str]]:
    given = {"model_name_or_path": root, "dataset": root / "data" / f"{stage}.jsonl", "output_dir": root / stage}
    # JSON's quotes keep a path one string in YAML, whatever it holds
    named = [f"{key}={json.dumps(str(value))}" for key, value in given.items()]
    return load_recipe("sft" if stage == "sft" else "pt", f"microlab/{stage}", [*named, f"seed={seed}", *changed])


def data_of(world: World, amounts: Amounts) -> dict[str, str]:
    """What each stage trains on, as JSON lines: ``{"text": ...}``, and for SFT ``{"messages": [...]}``."""
    rows = {
        "base": [{"text": document(row)} for row in base_documents(world, **amounts["base"])],
        "pt": pt_documents(world, **amounts["pt"]),
        "sft": sft_documents(world, **amounts["sft"]),
    }
    return {
        stage: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found) for stage, found in rows.items()
    }


def document(row: Mapping[str, Any]) -> str:
    """The text of a row with ``text`` or ``messages``; PT ends every document with the token that also ends a turn."""
    return str(row["text"]) if "text" in row else render(row["messages"]).removesuffix("<|im_end|>\n")


def _all_text(row: Mapping[str, Any]) -> str:
    turns = row.get("messages", [])
    return "\n".join([row.get("text", "")] + [text for turn in turns for key, text in turn.items() if key != "role"])


def untrained(world: World, amounts: Mapping[str, Any], seed: int) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """A Qwen3 of the lab's size with random weights, and a tokenizer made from the base's texts."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = train_tokenizer(_all_text(row) for row in base_documents(world, **amounts))
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
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
    return model, tokenizer


def train_base(
    recipe: Recipe, origin: Mapping[str, str], root: Path, start: tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]
) -> dict[str, Any]:
    """Train all weights of `start` as `medbench train pt` does, write the base to `root`, and return its manifest."""
    from dataclasses import replace

    from transformers import AutoModelForCausalLM

    from medbench.trainers.train import train

    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "untrained", Path(scratch) / "trained"
        for part in start:
            part.save_pretrained(before)
        train("pt", replace(recipe, model_name_or_path=str(before), output_dir=str(after)), origin)
        model = AutoModelForCausalLM.from_pretrained(after)
        manifest = read_manifest(after)
    model.config.use_cache = True  # training turns it off
    model.save_pretrained(root)
    start[1].save_pretrained(root)
    # A name, not a path: adapters record it as their base, and it stays right when the lab moves
    config = json.loads((root / "config.json").read_text("utf-8"))
    name = f"microlab-{recipe.seed}"
    write_atomic(root / "config.json", json.dumps(config | {"_name_or_path": name}, indent=2) + "\n")
    return manifest


def train_adapter(stage: str, recipe: Recipe, origin: Mapping[str, str], root: Path) -> dict[str, Any]:
    """Train an adapter of the base at `root` as `medbench train` does, into `root/stage`; returns its manifest."""
    from medbench.trainers.curve import CURVE
    from medbench.trainers.train import RUN, train

    out = root / stage
    train("sft" if stage == "sft" else "pt", recipe, origin)
    for path in out.iterdir():  # the base has the tokenizer, and the manifest the loss curve
        if path.name.startswith(("checkpoint-", "tokenizer", "chat_template", "README", RUN, CURVE)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    config = json.loads((out / "adapter_config.json").read_text("utf-8"))
    name = json.loads((root / "config.json").read_text("utf-8"))["_name_or_path"]
    write_atomic(
        out / "adapter_config.json", json.dumps(config | {"base_model_name_or_path": name}, indent=2, sort_keys=True)
    )
    # Paths as seen from the lab, for the same reason
    manifest = (out / MANIFEST).read_text("utf-8").replace(f"{root}/", "").replace(json.dumps(str(root)), '"."')
    write_atomic(out / MANIFEST, manifest)
    return read_manifest(out)
