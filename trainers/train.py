"""`medbench train pt|sft`: a LoRA adapter (or a whole model) from a base, with the record of how it was made.

The steps: settings, data (checked against a leakage audit if one is given), tokens, model, training with TRL's
SFTTrainer, loss curves, manifest. Several GPUs and nodes: `accelerate launch -m medbench.cli train sft --config ...`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np

from medbench.errors import DISK_FULL, MedbenchError
from medbench.files.manifest import NAME as MANIFEST
from medbench.files.manifest import hash_files, read_manifest, sha256_file, write_atomic, write_manifest
from medbench.sources import hub
from medbench.sources.records import BadRows, Record, convert
from medbench.trainers.curve import CURVE, final_losses, save_curve
from medbench.trainers.data import (
    IGNORED,
    Source,
    open_source,
    to_messages,
    to_text,
    tokenize_messages,
    tokenize_text,
)
from medbench.trainers.model import load_model, load_tokenizer, lora_config, training_arguments
from medbench.trainers.recipe import Recipe, Stage, load_recipe

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

RUN = "run.json"  # what the run is, so that resuming can tell


def train(
    stage: Stage,
    recipe: Recipe,
    origin: Mapping[str, str] | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Train one adapter, or with ``finetuning_type: full`` one model, into `recipe.output_dir`.

    Args:
        stage: ``pt`` (next token on plain text) or ``sft`` (answers of conversations).
        recipe: resolved settings.
        origin: setting -> where its value came from, for the manifest.
        say: called with a line about the data once it is tokenized.

    Returns:
        losses in nats per token: `train_loss`, the mean over all steps, and with evaluation data `eval_loss` and
        `eval_perplexity` at the end.

    Raises:
        MedbenchError: bad settings, bad data, flagged data, or a device that cannot do what is asked; before training.
    """
    try:
        import torch
        from transformers import set_seed

        from medbench.private.transformers import attention_of
        from medbench.trainers.loop import StageTrainer, diverged
    except ImportError as error:
        raise MedbenchError(f"training needs the package {error.name!r}: pip install 'medbench[train]'") from error

    out = Path(recipe.output_dir)
    unreadable = BadRows(recipe.on_bad_row)
    sources, eval_sources = (
        [open_source(name, max_samples=recipe.max_samples, bad_rows=unreadable) for name in recipe.listed(setting)]
        for setting in ("dataset", "eval_dataset")
    )
    inputs = {source.name: source.version for source in sources + eval_sources}
    checkpoint = _checkpoint(recipe)
    run = {"stage": stage, **dataclasses.asdict(recipe), "inputs": inputs}
    if _main_process():
        _check_output(out, run, checkpoint)
    audited = check_findings(recipe.findings, sources) if recipe.findings else None

    set_seed(recipe.seed)
    tokenizer = load_tokenizer(stage, recipe)
    systems: Counter[str] = Counter()
    train_rows = tokenized(stage, recipe, sources, tokenizer, unreadable, systems)
    if eval_sources:
        eval_rows = tokenized(stage, recipe, eval_sources, tokenizer, unreadable)
    else:
        train_rows, eval_rows = _split(train_rows, recipe)
    model = load_model(recipe, torch)
    trainer = StageTrainer(
        model=model,
        args=training_arguments(recipe, torch, evaluate=bool(eval_rows), resumed=checkpoint is not None),
        train_dataset=to_dataset(train_rows),
        eval_dataset=to_dataset(eval_rows) if eval_rows else None,
        processing_class=tokenizer,
        peft_config=lora_config(recipe, model) if recipe.finetuning_type == "lora" else None,
    )
    rows = len(cast(Sized, trainer.train_dataset))
    say(
        f"{len(train_rows)} examples in {rows} rows of at most {recipe.cutoff_len} tokens; "
        f"{len(eval_rows)} for evaluation; {len(unreadable.rows)} rows left out"
    )
    if _main_process():
        out.mkdir(parents=True, exist_ok=True)
        (out / MANIFEST).unlink(missing_ok=True)
        write_atomic(out / RUN, json.dumps(run, ensure_ascii=False, indent=2) + "\n")
    with full_disk_named(out):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        broken = [name for name, p in model.named_parameters() if p.requires_grad and not p.isfinite().all()]
        if broken:  # after the last point of the loss curve
            raise diverged(f"{broken[0]} holds NaN or Inf")
        if eval_rows and not any("eval_loss" in e and e["step"] == trainer.state.global_step for e in trainer.history):
            trainer.evaluate()
        trainer.save_model()
    losses = final_losses(trainer.history)
    if _main_process():
        # A pickle, and TRL's model card with its example of a time machine: the manifest holds the settings
        for name in ("training_args.bin", "README.md"):
            (out / name).unlink(missing_ok=True)
        save_curve(out, trainer.history, stage)
        write_manifest(
            out,
            "adapter" if recipe.finetuning_type == "lora" else "checkpoint",
            settings=dataclasses.asdict(recipe),
            inputs=inputs,
            stage=stage,
            origin=dict(origin or {}),
            base={
                "name": recipe.model_name_or_path,
                # the commit that a hub name resolved to, or what a local folder holds
                "revision": hub.model_commit(recipe.model_name_or_path, recipe.model_revision),
                "config": model.config.to_diff_dict(),
                "weights": hash_files(recipe.model_name_or_path, "*.safetensors"),
            },
            seed=recipe.seed,
            device=f"{trainer.accelerator.num_processes} x {trainer.args.device}",
            dtype=str(model.dtype).removeprefix("torch."),
            attention=attention_of(model.config),
            examples={"train": len(train_rows), "eval": len(eval_rows), "rows": rows},
            left_out=unreadable.listed(),
            # the data's own system prompt, where all conversations have the same one: evaluation must give it too
            system_prompt=next(iter(systems)) or None if len(systems) == 1 else None,
            system_prompts=len([prompt for prompt in systems if prompt]),
            leakage_audit=audited,
            resumed_from=checkpoint and checkpoint.name,
            losses=losses,
            log_history=trainer.history,
        )
    return losses


@contextmanager
def full_disk_named(out: Path) -> Iterator[None]:
    """Say that the disk is full where it is, which torch and safetensors report as errors of their own formats.

    Raises:
        MedbenchError: something could not be written for want of space, or while the disk of `out` has less than 1 MB.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # safetensors tells the system's error number in its text alone
        number = re.search(r"os error (\d+)", str(error))
        refused = {int(number[1]) if number else 0, error.errno if isinstance(error, OSError) else 0} & DISK_FULL
        if not refused and shutil.disk_usage(out).free >= 1 << 20:
            raise
        raise MedbenchError(
            f"the disk of {out} is full ({error.__class__.__name__} while saving). Free some space, then go on from "
            "the last complete checkpoint with resume_from_checkpoint=true, or empty the directory and start anew."
        ) from error


def _main_process() -> bool:
    """Whether this process writes; `accelerate launch` and torchrun number the processes in RANK."""
    return int(os.environ.get("RANK", "0")) == 0


def _checkpoint(recipe: Recipe) -> Path | None:
    """The checkpoint to resume from: the one named, or the last complete one of `output_dir`."""
    if not recipe.resume_from_checkpoint:
        return None
    if recipe.resume_from_checkpoint is True:
        # The Trainer writes its state last: a checkpoint without it was cut short by a kill
        states = Path(recipe.output_dir).glob("checkpoint-*/trainer_state.json")
        found = max((path.parent for path in states), key=lambda path: int(path.name.split("-")[1]), default=None)
    else:
        found = Path(recipe.resume_from_checkpoint)
        found = found if (found / "trainer_state.json").is_file() else None
    if found is None:
        raise MedbenchError(
            f"resume_from_checkpoint={recipe.resume_from_checkpoint}: no complete checkpoint there "
            f"(output_dir is {recipe.output_dir}); leave it out to start anew."
        )
    return found


# What a resumed run may change without changing its loss curve.
_FREE = {"output_dir", "resume_from_checkpoint", "findings", "save_steps", "save_total_limit", "eval_steps"}


def _check_output(out: Path, run: Mapping[str, Any], checkpoint: Path | None) -> None:
    """A new run needs a new or empty directory; a resumed one must be the run that it resumes."""
    if checkpoint is None:
        if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {RUN}):
            raise MedbenchError(f"output_dir {out} is not empty; name a new one, or set resume_from_checkpoint=true.")
        return
    try:
        before = json.loads((checkpoint.parent / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        raise MedbenchError(f"{checkpoint.parent / RUN} is missing or unreadable; start anew.") from None
    fixed = [key for key in run if key not in _FREE]
    changed = [f"{key} was {before.get(key)!r}, is {run[key]!r}" for key in fixed if before.get(key) != run[key]]
    if changed:
        raise MedbenchError(f"{checkpoint} is of another run ({'; '.join(changed)}); start anew for these settings.")


def check_findings(findings: str, sources: Sequence[Source]) -> dict[str, Any]:
    """Refuse data that a leakage audit flagged, or never saw.

    Args:
        findings: the audit's directory, or the `findings.jsonl` in it.
        sources: training data; files are recognised by content, hub data sets by commit.

    Returns:
        what the manifest says of the check.

    Raises:
        MedbenchError: a source has a flagged record, or is not (in this version) among what was audited.
    """
    from medbench.leakage import flagged_records, read_findings

    directory = Path(findings) if Path(findings).is_dir() else Path(findings).parent
    flagged = flagged_records(read_findings(findings))
    audited = read_manifest(directory)["inputs"]
    corpus = json.loads((directory / "summary.json").read_text("utf-8"))["corpus"]
    for source in sources:
        names = {name for name in corpus if source.version == (f"sha256:{audited[name]}" if name in audited else name)}
        if not names:
            raise MedbenchError(
                f"{source.name}: the leakage audit in {findings} has not seen this file as it is now; it read "
                f"{', '.join(corpus)}. Run medbench audit {source.name} --against ITEMS --out DIR, and give that."
            )
        records = sorted({record for name, record in flagged if name in names})
        if records:
            shown = ", ".join(map(str, records[:5])) + (", ..." if len(records) > 5 else "")
            raise MedbenchError(
                f"{source.name}: the leakage audit in {findings} flags {len(records)} of its records (counted from 0: "
                f"{shown}). Train on a copy without them (medbench audit ... --write-clean DIR), audited anew."
            )
    return {"findings": findings, "sha256": sha256_file(directory / "findings.jsonl"), "flagged": 0}


@dataclass(frozen=True)
class Example:
    """Token ids of one sample and what is learned of them (-100: nothing), int32 of equal length."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]


def tokenized(
    stage: Stage,
    recipe: Recipe,
    sources: Sequence[Source],
    tokenizer: Any,
    bad_rows: BadRows,
    systems: Counter[str] | None = None,
) -> list[Example]:
    """The examples of data sets, none longer than `cutoff_len`; SFT cuts a conversation, PT splits a document.

    `systems` counts the conversations that begin with each system prompt of the data ("" for none).

    Raises:
        BadRow: a row that cannot be used, unless `bad_rows` skips it.
        MedbenchError: no row can be used.
    """

    def examples(record: Record) -> list[Example]:
        if stage == "pt":
            tokens = np.array(tokenize_text(to_text(record), tokenizer), np.int32)
            pieces = [tokens[start : start + recipe.cutoff_len] for start in range(0, len(tokens), recipe.cutoff_len)]
            return [Example(piece, piece) for piece in pieces if len(piece) > 1]  # the first token has no prediction
        messages = to_messages(record)
        if systems is not None:
            systems[messages[0].content if messages[0].role == "system" else ""] += 1
        ids, labels = tokenize_messages(
            messages,
            tokenizer,
            template=recipe.template,
            train_on_prompt=recipe.train_on_prompt,
            mask_history=recipe.mask_history,
        )
        ids, labels = ids[: recipe.cutoff_len], labels[: recipe.cutoff_len]
        if all(label == IGNORED for label in labels):
            raise record.error(
                None,
                f"the prompt alone fills cutoff_len ({recipe.cutoff_len} tokens), so nothing would be learned; raise "
                "cutoff_len, or leave such rows out with on_bad_row=skip",
            )
        return [Example(np.array(ids, np.int32), np.array(labels, np.int32))]

    found = [example for source in sources for row in convert(source.records, examples, bad_rows) for example in row]
    if sources and not found:
        raise MedbenchError(f"{', '.join(source.name for source in sources)}: no row can be learned from.")
    return found


def _split(rows: list[Example], recipe: Recipe) -> tuple[list[Example], list[Example]]:
    """Hold out the last `val_size` rows; deterministic, and independent of how long training runs."""
    held = math.ceil(recipe.val_size * len(rows)) if recipe.val_size < 1 else int(recipe.val_size)
    if held >= len(rows):
        raise MedbenchError(f"val_size={recipe.val_size} leaves nothing of {len(rows)} examples to train on.")
    return (rows[:-held], rows[-held:]) if held else (rows, [])


def to_dataset(examples: Sequence[Example]) -> Dataset:
    """The examples as TRL takes them."""
    from datasets import Dataset

    return Dataset.from_dict(
        {"input_ids": [example.input_ids for example in examples], "labels": [example.labels for example in examples]}
    )


def quieten() -> None:
    """Leave the terminal to what a user can act on, and to the bar of training itself."""
    import warnings

    import datasets
    from transformers.utils import logging

    # transformers, TRL and PEFT warn each other of renamed settings
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")
    datasets.disable_progress_bars()
    logging.disable_progress_bar()


@click.command("train")
@click.argument("stage", type=click.Choice(["pt", "sft"]))
@click.option("--config", help="Recipe: YAML with LLaMA-Factory's names. Left out, the stage's own.")
@click.option("--findings", help="Output of a leakage audit of the data; flagged data are refused.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(stage: Stage, config: str | None, findings: str | None, overrides: tuple[str, ...]) -> None:
    """Train a PT or SFT adapter on a base model, or with finetuning_type=full the model itself."""
    from rich.console import Console
    from rich.table import Column, Table

    if findings is not None:
        overrides = (*overrides, f"findings={findings}")
    recipe, origin = load_recipe(stage, config, overrides)
    console = Console(quiet=not _main_process())
    table = Table("setting", Column("value", overflow="fold"), "from", title=f"medbench train {stage}")
    for field in dataclasses.fields(recipe):
        source = origin[field.name]
        table.add_row(
            field.name, str(getattr(recipe, field.name)), source, style="dim" if source == "default" else None
        )
    console.print(table)
    quieten()
    losses = train(stage, recipe, origin, say=console.print)
    console.print(
        f"{'adapter' if recipe.finetuning_type == 'lora' else 'model'} in {recipe.output_dir}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        + f"; curves in {CURVE}.csv and {CURVE}.svg"
    )
