"""Training recipes: YAML files whose keys carry LLaMA-Factory's and TrainingArguments' names.

Each stage has a recipe that comes with the package (`trainers/recipes/`); a recipe file changes what it names, the
command line has the last word. Every setting knows where its value came from, and the manifest keeps both.
"""

from __future__ import annotations

import importlib.resources
import types
import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from medbench.errors import MedbenchError, unknown
from medbench.files import places
from medbench.files.yaml_files import parse_yaml, read_yaml
from medbench.sources.records import OnBadRow

Stage = Literal["pt", "sft"]
Template = Literal["chat", "qwen3", "qwen3_nothink"]
FinetuningType = Literal["lora", "full"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. The paper's choices are in the stages' recipes; the defaults here are common ones.

    Attributes:
        model_name_or_path: base model: a directory or hub id.
        model_revision: hub revision of the base.
        trust_remote_code: run code that comes with the model; off unless asked for.
        dataset: training data: files or hub ids (``owner/name@revision:split``), comma-separated or a list.
        eval_dataset: evaluation data, likewise; or see `val_size`.
        val_size: without `eval_dataset`, hold out this many examples (>= 1) or this share (< 1) of the training data.
        max_samples: use only the first so many examples of each data set.
        on_bad_row: ``error`` ends with the first row that cannot be used, ``skip`` leaves them out and lists them.
        template: ``chat`` (the tokenizer's own chat template, which evaluation uses too), or for a tokenizer that has
            none ``qwen3`` (ChatML; an answer without a trace is trained with the empty think block that Qwen3's own
            no-think turns have) or ``qwen3_nothink`` (ChatML without think blocks). A ``qwen3*`` template is refused
            where the tokenizer's own disagrees. PT learns plain text and uses none.
        cutoff_len: tokens per example (SFT: longer ones are cut, PT: split) and per packed row.
        packing: put several examples into one row; attention never crosses from one to the next.
        train_on_prompt: also learn the prompt's tokens.
        mask_history: learn only the last assistant turn of a conversation.
        finetuning_type: ``lora`` trains an adapter, ``full`` all weights of the base.
        lora_rank: rank r.
        lora_alpha: the update is scaled by alpha / r.
        lora_dropout: dropout on the adapter's input.
        lora_target: ``all`` linear layers, or module names, comma-separated.
        use_rslora: scale by alpha / sqrt(r).
        quantization_bit: 4 for QLoRA (CUDA only), or none.
        flash_attn: ``auto`` (FlashAttention-2 where installed on CUDA, else SDPA), ``fa2``, ``sdpa``.
        bf16: bfloat16 where the device has it: ``auto``, true or false.
        gradient_checkpointing: recompute activations to save memory.
        per_device_train_batch_size: rows per device and step of accumulation.
        per_device_eval_batch_size: rows per device in evaluation.
        gradient_accumulation_steps: batches per optimizer step.
        learning_rate: peak of the schedule.
        num_train_epochs: passes over the data, unless `max_steps` is set.
        max_steps: optimizer steps; -1 for epochs.
        lr_scheduler_type: as in TrainingArguments.
        warmup_ratio: share of steps with a rising learning rate.
        warmup_steps: such steps by number, instead of `warmup_ratio`.
        adam_beta1: AdamW's decay of the mean.
        adam_beta2: AdamW's decay of the variance.
        weight_decay: AdamW's.
        max_grad_norm: gradient clipping.
        optim: as in TrainingArguments.
        logging_steps: optimizer steps between points of the loss curve; each is the mean since the last.
        eval_steps: optimizer steps between evaluations; also evaluates at the end.
        save_steps: optimizer steps between checkpoints to resume from, a multiple of `logging_steps`.
        save_total_limit: checkpoints kept.
        seed: decides adapter initialisation, data order and dropout.
        output_dir: where the adapter goes; new or empty, or of this very run, which then goes on where it stopped.
        resume_from_checkpoint: a checkpoint directory to go on from; by itself a run takes the last of `output_dir`.
        findings: a leakage audit's output for the training data; flagged records are refused.
    """

    model_name_or_path: str
    output_dir: str
    dataset: str | list[str]
    model_revision: str | None = None
    trust_remote_code: bool = False
    eval_dataset: str | list[str] | None = None
    val_size: float = 0.0
    max_samples: int | None = None
    on_bad_row: OnBadRow = "error"
    template: Template = "chat"
    cutoff_len: int = 2048
    packing: bool = True
    train_on_prompt: bool = False
    mask_history: bool = True
    finetuning_type: FinetuningType = "lora"
    lora_rank: int = 16
    lora_alpha: float = 16
    lora_dropout: float = 0.0
    lora_target: str | list[str] = "all"
    use_rslora: bool = False
    quantization_bit: int | None = None
    flash_attn: Literal["auto", "fa2", "sdpa"] = "auto"
    bf16: bool | Literal["auto"] = "auto"
    gradient_checkpointing: bool = False
    per_device_train_batch_size: int = 1
    per_device_eval_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-4
    num_train_epochs: float = 3.0
    max_steps: int = -1
    lr_scheduler_type: str = "cosine"
    warmup_ratio: float = 0.0
    warmup_steps: int | None = None
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optim: str = "adamw_torch"
    logging_steps: int = 10
    eval_steps: int | None = None
    save_steps: int = 500
    save_total_limit: int | None = 2
    seed: int = 42
    resume_from_checkpoint: bool | str = False
    findings: str | None = None

    def listed(self, name: Literal["dataset", "eval_dataset"]) -> list[str]:
        """The data sets of a setting, one a string."""
        value = getattr(self, name)
        parts = value.split(",") if isinstance(value, str) else value or []
        return [part.strip() for part in parts if part.strip()]


SHIPPED = Path(str(importlib.resources.files("medbench.trainers"))) / "recipes"


def load_recipe(
    stage: Stage, config: str | Path | None, overrides: typing.Sequence[str]
) -> tuple[Recipe, dict[str, str]]:
    """Resolve a recipe: the stage's own, then the file's, then ``key=value`` overrides.

    Args:
        stage: ``pt`` or ``sft``.
        config: a YAML file, the name of a recipe that comes with the package, or none.
        overrides: ``key=value`` texts, the values read as YAML.

    Returns:
        the recipe, and for each setting where its value came from.

    Raises:
        MedbenchError: unreadable YAML, an unknown key, a value of the wrong type, or a missing setting.
    """
    values: dict[str, Any] = {}
    origin = dict.fromkeys((field.name for field in fields(Recipe)), "default")
    layers = [(f"recipe {stage}", _read_yaml(stage))]
    if config is not None:
        layers.append((str(config), _read_yaml(config)))
    for source, given in [*layers, ("command line", _parse(overrides))]:
        for key, value in given.items():
            if key not in origin:
                raise unknown(f"setting in {source}", key, origin)
            values[key] = _typed(key, value, source)
            origin[key] = source
    missing = [name for name in ("model_name_or_path", "dataset", "output_dir") if not values.get(name)]
    if missing:
        raise MedbenchError(
            f"the recipe does not set {', '.join(missing)}; add it to the file or as {missing[0]}=VALUE."
        )
    recipe = Recipe(**values)
    _check(recipe)
    return recipe, origin


def _read_yaml(config: str | Path) -> dict[str, Any]:
    config = places.local(config)
    shipped = SHIPPED / f"{config}.yaml"
    if not shipped.is_file() and not Path(config).exists():
        known = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
        raise MedbenchError(f"no recipe {config}: expected a YAML file, or the name of a shipped recipe ({known}).")
    return read_yaml(shipped if shipped.is_file() and not Path(config).is_file() else config, "recipe")


def _parse(overrides: typing.Sequence[str]) -> dict[str, Any]:
    parsed = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise MedbenchError(f"expected key=value on the command line, found {text!r}.")
        parsed[key.strip()] = parse_yaml(value, f"command line: {text!r:.200}")
    return parsed


def _typed(key: str, value: object, source: str) -> object:
    expected = typing.get_type_hints(Recipe)[key]
    union = typing.get_origin(expected) in (typing.Union, types.UnionType)
    kinds = typing.get_args(expected) if union else (expected,)
    for kind in kinds:
        if typing.get_origin(kind) is Literal and value in typing.get_args(kind):
            return value
        if typing.get_origin(kind) is list and isinstance(value, list) and all(isinstance(v, str) for v in value):
            return value
        if isinstance(kind, type) and isinstance(value, kind) and (kind is bool) == isinstance(value, bool):
            return value
        # YAML reads 1e-4 as text (it wants 1.0e-4), and 16 where a float is meant
        if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
            try:
                return float(value)
            except ValueError:
                continue
    names = " or ".join(
        " or ".join(map(repr, typing.get_args(kind)))
        if typing.get_origin(kind) is Literal
        else ("nothing" if kind is type(None) else getattr(kind, "__name__", str(kind)))
        for kind in kinds
    )
    raise MedbenchError(f"{source}: {key}: expected {names}, found {value!r}.")


_AT_LEAST_ONE = (
    "lora_rank",
    "cutoff_len",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "save_total_limit",
    "max_samples",
)


def _check(recipe: Recipe) -> None:
    for name in _AT_LEAST_ONE:
        value = getattr(recipe, name)
        if value is not None and value < 1:
            raise MedbenchError(f"{name} must be at least 1, not {value}.")
    if not 0 <= recipe.lora_dropout < 1:
        raise MedbenchError(f"lora_dropout must be in [0, 1), not {recipe.lora_dropout}.")
    if not 0 <= recipe.seed < 1 << 32:
        raise MedbenchError(f"seed must be 0 or more and below 2**32, not {recipe.seed}.")
    if not recipe.learning_rate > 0:
        raise MedbenchError(f"learning_rate must be above 0, not {recipe.learning_rate}.")
    if not recipe.num_train_epochs > 0 and recipe.max_steps < 1:
        raise MedbenchError(f"num_train_epochs must be above 0, not {recipe.num_train_epochs}.")
    if not recipe.val_size >= 0:
        raise MedbenchError(f"val_size must be 0 or more, not {recipe.val_size}.")
    if recipe.quantization_bit not in (None, 4):
        raise MedbenchError(f"quantization_bit must be 4 or left out, not {recipe.quantization_bit}.")
    if recipe.quantization_bit and recipe.finetuning_type == "full":
        raise MedbenchError("quantization_bit needs finetuning_type: lora; quantized weights cannot be trained.")
    # A point of the curve is a mean over steps; a checkpoint within its span would lose the steps before it
    if recipe.save_steps % recipe.logging_steps:
        raise MedbenchError(
            f"save_steps ({recipe.save_steps}) must be a multiple of logging_steps ({recipe.logging_steps}), so that a "
            "resumed run draws the same loss curve."
        )
