"""`medbench train pt|sft`: a LoRA adapter (or a whole model) from a base, with the record of how it was made.

The steps: settings, data (checked against a leakage audit if one is given), tokens, model, training with TRL's
SFTTrainer, loss curves, manifest. Several GPUs and nodes: `--processes`, `--accelerate`, or
`accelerate launch -m medbench train sft --config ...`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np

from medbench.advice import install
from medbench.errors import MedbenchError, without_secrets
from medbench.files import copies, places
from medbench.files.directories import full_disk_named, held
from medbench.files.manifest import RUN, hash_files, read_manifest, sha256_file, write_atomic, write_manifest
from medbench.files.redact import shown_settings
from medbench.sources import hub
from medbench.sources.records import BadRows, Record, convert
from medbench.trainers import processes
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
from medbench.trainers.place import Start, at_the_end, clear, start_of
from medbench.trainers.recipe import Recipe, Stage, load_recipe

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from medbench.trainers.loop import StageTrainer


def train(
    stage: Stage,
    recipe: Recipe,
    origin: Mapping[str, str] | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
    quiet: bool = False,
) -> dict[str, float]:
    """Train one adapter, or with ``finetuning_type: full`` one model, into `recipe.output_dir`.

    A run that was interrupted goes on where it stopped; one that is finished there is left as it is.

    Args:
        stage: ``pt`` (next token on plain text) or ``sft`` (answers of conversations).
        recipe: resolved settings.
        origin: setting -> where its value came from, for the manifest.
        say: called with a line about the data once it is tokenized, and where the run begins.
        quiet: leave out bars and warnings of the libraries.

    Returns:
        losses in nats per token: `train_loss`, the mean over all steps, and with evaluation data `eval_loss` and
        `eval_perplexity` at the end.

    Raises:
        MedbenchError: bad settings, bad data, flagged data, or a device that cannot do what is asked; before training.
    """
    out = Path(recipe.output_dir)
    with contextlib.ExitStack() as guards:
        if processes.rank() == 0:
            guards.enter_context(held(out))
            guards.enter_context(full_disk_named(out, "Its complete checkpoints are kept."))
        data = _read(stage, recipe)
        step = processes.step_of(recipe)
        run = shown_settings(
            {"stage": stage, **dataclasses.asdict(recipe), "rows_per_step": step["rows"], "inputs": data.inputs}
        )
        start = start_of(recipe, run)
        if start.finished:
            say(f"{copies.origin(str(out))} holds this very run, finished: nothing to do")
            found: dict[str, float] = read_manifest(out)["losses"]
            return found
        _require_packages()  # which take seconds to import: bad data, and a finished run, are told before
        if quiet:
            quieten()
        return _fit(stage, recipe, data, run, start, origin or {}, say)


def _require_packages() -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401

        import medbench.trainers.loop  # noqa: F401
    except ImportError as error:
        raise MedbenchError(f"training needs the package {error.name!r}: {install('train')}") from error


@dataclass
class _Data:
    """What a run reads: its sources by version, what an audit says of them, and the rows that could not be used."""

    sources: list[Source]
    eval_sources: list[Source]
    unreadable: BadRows
    audited: dict[str, Any] | None = None
    systems: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def inputs(self) -> dict[str, str]:
        return {source.name: source.version for source in self.sources + self.eval_sources}


def _read(stage: Stage, recipe: Recipe) -> _Data:
    unreadable = BadRows(recipe.on_bad_row)
    sources, eval_sources = (
        [open_source(name, max_samples=recipe.max_samples, bad_rows=unreadable) for name in recipe.listed(setting)]
        for setting in ("dataset", "eval_dataset")
    )
    return _Data(
        sources, eval_sources, unreadable, check_findings(recipe.findings, sources) if recipe.findings else None
    )


def _fit(
    stage: Stage,
    recipe: Recipe,
    data: _Data,
    run: Mapping[str, Any],
    start: Start,
    origin: Mapping[str, str],
    say: Callable[[str], None],
) -> dict[str, float]:
    """The training itself, from where it begins to its manifest; returns the losses."""
    import torch
    from transformers import set_seed

    from medbench.trainers.loop import StageTrainer, diverged

    out, checkpoint = Path(recipe.output_dir), start.checkpoint
    processes.join()
    set_seed(recipe.seed)
    tokenizer = load_tokenizer(stage, recipe)
    train_rows = tokenized(stage, recipe, data.sources, tokenizer, data.unreadable, data.systems)
    if data.eval_sources:
        eval_rows = tokenized(stage, recipe, data.eval_sources, tokenizer, data.unreadable)
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
    examples = {"train": len(train_rows), "eval": len(eval_rows), "rows": len(cast(Sized, trainer.train_dataset))}
    say(
        f"{examples['train']} examples in {examples['rows']} rows of at most {recipe.cutoff_len} tokens; "
        f"{examples['eval']} for evaluation; {len(data.unreadable.rows)} rows left out"
    )
    if processes.rank() == 0:
        clear(out, start)
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / RUN, json.dumps(run, ensure_ascii=False, indent=2) + "\n")
    if checkpoint:
        say(f"going on from {checkpoint}")
    if processes.world_size() > 1:
        torch.manual_seed(recipe.seed + processes.rank())  # each its own dropout
    if checkpoint and at_the_end(checkpoint):
        trainer.restore(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    broken = [name for name, p in model.named_parameters() if p.requires_grad and not p.isfinite().all()]
    if broken:  # after the last point of the loss curve
        raise diverged(f"{broken[0]} holds NaN or Inf")
    if eval_rows and not any("eval_loss" in e and e["step"] == trainer.state.global_step for e in trainer.history):
        trainer.evaluate()
    trainer.save_model()
    if processes.rank() == 0:
        _finish(stage, recipe, data, trainer, {"examples": examples, "origin": dict(origin), "checkpoint": checkpoint})
    return final_losses(trainer.history)


def _finish(stage: Stage, recipe: Recipe, data: _Data, trainer: StageTrainer, made: Mapping[str, Any]) -> None:
    """The loss curve and the manifest, which is the sign that the run is complete."""
    from medbench.private.transformers import attention_of

    out, model, checkpoint = Path(recipe.output_dir), trainer.model, made["checkpoint"]
    assert model is not None  # which Trainer allows until it starts
    config = trainer.accelerator.unwrap_model(model).config
    # A pickle, and TRL's model card with its example of a time machine: the manifest holds the settings
    for name in ("training_args.bin", "README.md"):
        (out / name).unlink(missing_ok=True)
    save_curve(out, trainer.history, stage)
    systems = data.systems
    write_manifest(
        out,
        "adapter" if recipe.finetuning_type == "lora" else "checkpoint",
        settings=dataclasses.asdict(recipe),
        inputs=data.inputs,
        stage=stage,
        origin=made["origin"],
        base={
            "name": recipe.model_name_or_path,
            # the commit that a hub name resolved to, or what a local folder holds
            "revision": hub.model_commit(recipe.model_name_or_path, recipe.model_revision),
            "config": config.to_diff_dict(),
            "weights": hash_files(places.local(recipe.model_name_or_path), "*.safetensors"),
        },
        seed=recipe.seed,
        device=f"{trainer.accelerator.num_processes} x {trainer.args.device}",
        distributed=trainer.accelerator.distributed_type.value,  # accelerate's word: NO, MULTI_GPU, FSDP, ...
        optimizer_step=processes.step_of(recipe),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=attention_of(config),
        examples=made["examples"],
        left_out=data.unreadable.listed(),
        # the data's own system prompt, where all conversations have the same one: evaluation must give it too
        system_prompt=next(iter(systems)) or None if len(systems) == 1 else None,
        system_prompts=len([prompt for prompt in systems if prompt]),
        leakage_audit=data.audited,
        resumed_from=checkpoint and checkpoint.name,
        losses=final_losses(trainer.history),
        log_history=trainer.history,
    )


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

    given = places.local(findings)
    directory = given if given.is_dir() else given.parent
    flagged = flagged_records(read_findings(given))
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
    tokenizer: PreTrainedTokenizerBase,
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
@click.option("--processes", "number", type=click.IntRange(min=1), help="Train with so many processes, one per GPU.")
@click.option("--accelerate", metavar="NAME|FILE", help="How they share it: ddp, fsdp2, zero2, zero3, or a file.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(
    stage: Stage,
    config: str | None,
    findings: str | None,
    number: int | None,
    accelerate: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Train a PT or SFT adapter on a base model, or with finetuning_type=full the model itself."""
    if findings is not None:
        overrides = (*overrides, f"findings={findings}")
    if accelerate or (number or 1) > 1:
        chosen = [] if config is None else ["--config", config]
        load_recipe(stage, config, overrides)  # what is wrong there is said before anything starts
        processes.launch(["train", stage, *chosen, *overrides], accelerate, number)
        return
    with processes.one_error():
        recipe, origin = load_recipe(stage, config, overrides)
        known_by = None if isinstance(recipe.resume_from_checkpoint, str) else (RUN,)
        with places.staged(recipe.output_dir, publishes=processes.rank() == 0, known_by=known_by) as out:
            _train_and_tell(stage, dataclasses.replace(recipe, output_dir=str(out)), origin)


def _train_and_tell(stage: Stage, recipe: Recipe, origin: Mapping[str, str]) -> None:
    """Train, and print the settings before and the losses after; of several processes only the first prints."""
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(quiet=processes.rank() != 0, markup=False)
    table = Table("setting", Column("value", overflow="fold"), "from", title=f"medbench train {stage}")
    for field in dataclasses.fields(recipe):
        source = origin[field.name]
        value = without_secrets(str(getattr(recipe, field.name)))
        table.add_row(field.name, value, source, style="dim" if source == "default" else None)
    console.print(table)
    losses = train(stage, recipe, origin, say=console.print, quiet=True)
    console.print(
        f"{'adapter' if recipe.finetuning_type == 'lora' else 'model'} in {copies.origin(recipe.output_dir)}: "
        + ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        + f"; curves in {CURVE}.csv and {CURVE}.svg"
    )
