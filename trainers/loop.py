"""TRL's SFTTrainer with five changes.

Evaluation counts every token once; several processes take the steps of one; the progress bar stays one line; and where
TRL's choices only pay off with a GPU's kernels, packed rows stay apart and the loss is the model's own.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTTrainer

from medbench.errors import MedbenchError
from medbench.private.transformers import EvalLoopOutput, attention_of
from medbench.private.trl import DataCollatorForLanguageModeling
from medbench.trainers.data import IGNORED
from medbench.trainers.place import STATE
from medbench.trainers.rows import Order, Rows, Table

if TYPE_CHECKING:
    from datasets import Dataset


class StageTrainer(SFTTrainer):
    """Trains an adapter or a whole model on tokenized examples; `history` is the log, an entry a point of a curve."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 -- SFTTrainer's own
        super().__init__(**settings)
        base = self.accelerator.unwrap_model(self.model)
        base = base.get_base_model() if hasattr(base, "get_base_model") else base
        # SFTTrainer takes no other collator for packed rows, which FlashAttention needs as one; the others do not
        flattening = self.data_collator
        packed = isinstance(flattening, DataCollatorForLanguageModeling) and flattening.padding_free
        if packed and "flash" not in attention_of(base.config):
            self.data_collator = PackedRows(cast(Any, flattening).pad_token_id, padding_free=True)
        # Without its Triton kernels TRL's head scores prompts too, computes logits twice, and entropy, for its metrics
        self._plain_loss = (
            not torch.cuda.is_available() and "logits_to_keep" in inspect.signature(type(base).forward).parameters
        )
        self._sums: list[torch.Tensor] = []
        self.order: Order | None = None
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        if not self.args.disable_tqdm:
            self.add_callback(LossBar)
        self.add_callback(LastPoint)
        self.add_callback(EpochOrder(self))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The log entries of training and evaluation, in order."""
        return self.state.log_history

    def restore(self, checkpoint: Path) -> None:
        """Weights and history of a checkpoint of the last step: `train` would add a step to it."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As SFTTrainer's; for several processes in the order of one, filled with blank rows and not with seen ones."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        size, rows = self.args.per_device_train_batch_size, cast(Table, self.train_dataset)
        self.order = Order(len(rows), size * self.args.world_size, self.args.data_seed)
        return self._filled(rows, size, self.order)

    def get_eval_dataloader(self, eval_dataset: Dataset | str | None = None) -> DataLoader[Any]:
        """As SFTTrainer's; for several processes likewise."""
        if self.args.world_size == 1 or isinstance(eval_dataset, str):
            return super().get_eval_dataloader(eval_dataset)
        rows = cast(Table, self.eval_dataset if eval_dataset is None else eval_dataset)
        size = self.args.per_device_eval_batch_size
        return self._filled(rows, size, Order(len(rows), size * self.args.world_size, None))

    def _filled(self, rows: Table, size: int, order: Order) -> DataLoader[Any]:
        tokenizer = cast(Any, self.processing_class)
        loader: DataLoader[Any] = DataLoader(
            Rows(rows, tokenizer.eos_token_id),
            batch_size=size,
            sampler=order,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return cast(DataLoader[Any], self.accelerator.prepare(loader))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """As SFTTrainer's; without a GPU the model's own loss, over the positions of which a prediction is learned."""
        if not self._plain_loss:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        following = inputs["labels"][:, 1:]
        kept = (following != IGNORED).any(0).nonzero().flatten()
        kept = kept if len(kept) else kept.new_zeros(1)  # of a blank batch
        inputs = {**inputs, "logits_to_keep": kept, "shift_labels": following[:, kept], "use_cache": False}
        return super(SFTTrainer, self).compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As SFTTrainer's; ends a run whose loss is no longer a number.

        Raises:
            MedbenchError: NaN or Inf.
        """
        for key in ("loss", "eval_loss"):
            if not math.isfinite(logs.get(key, 0.0)):
                raise diverged(f"{key} is {logs[key]} at step {self.state.global_step}")
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """As SFTTrainer's; also keeps the batch's summed loss and its number of learned tokens."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        tokens = (inputs["labels"][..., 1:] != IGNORED).sum().to(loss.device)
        summed = torch.where(tokens > 0, loss.double() * tokens, 0.0)  # a blank batch has no mean
        self._sums.append(self.accelerator.gather(torch.stack([summed, tokens.double()])[None]))
        return loss, logits, labels

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As SFTTrainer's, but the loss is the mean over tokens, and not over batches of unlike size."""
        self._sums.clear()
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        loss, tokens = torch.cat(self._sums).sum(0).tolist()
        own = {
            f"{metric_key_prefix}_loss": loss / tokens,
            f"{metric_key_prefix}_perplexity": math.exp(min(loss / tokens, 700.0)),
        }
        return output._replace(metrics={**(output.metrics or {}), **own})


def diverged(what: str) -> MedbenchError:
    """The error of a run that does not learn any more."""
    return MedbenchError(
        f"training diverged: {what}. Is the base sound (medbench merge refuses NaN too)? Lower learning_rate, warm up, "
        "or clip harder (max_grad_norm); checkpoints in output_dir are from before."
    )


class PackedRows(DataCollatorForLanguageModeling):
    """Packed rows as rows of a batch, where TRL joins them to a single one.

    Attention without FlashAttention costs the square of a row's length. Position ids start anew with each example, from
    which transformers makes the mask; a padding token is an example of its own.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `position_ids`, each [rows, longest row]."""
        rows = [super(PackedRows, self).torch_call([example]) for example in examples]

        def padded(key: str, fill: int) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence([row[key][0] for row in rows], batch_first=True, padding_value=fill)

        return {
            "input_ids": padded("input_ids", self.pad_token_id),
            "labels": padded("labels", IGNORED),
            "position_ids": padded("position_ids", 0),
        }


class EpochOrder(TrainerCallback):
    """Several processes that resume in a later epoch take its order; accelerate does not pass the epoch on to them."""

    def __init__(self, trainer: StageTrainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Tell the order its epoch."""
        if self._trainer.order is not None:
            self._trainer.order.set_epoch(int(state.epoch or 0))


class LastPoint(TrainerCallback):
    """The last step is a point of the loss curve, whether or not `logging_steps` divides the number of steps."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> TrainerControl:
        """Ask for a log entry at the last step."""
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control


class LossBar(ProgressCallback):
    """The Trainer's progress bar with the last loss on it, where the original prints a line per log entry."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        """Show the losses of a log entry."""
        if self.training_bar is not None:
            shown = {key: f"{value:.4f}" for key, value in (logs or {}).items() if key in ("loss", "eval_loss")}
            if shown:
                self.training_bar.set_postfix(shown)
