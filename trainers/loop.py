"""TRL's SFTTrainer with two changes: evaluation counts every token once, and the progress bar stays one line."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer


class AdapterTrainer(SFTTrainer):
    """Trains an adapter on tokenized examples; `history` is the Trainer's log, an entry a point of a curve."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._sums: list[torch.Tensor] = []
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        if not self.args.disable_tqdm:
            self.add_callback(LossBar)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The log entries of training and evaluation, in order."""
        return self.state.log_history

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """As SFTTrainer's; also keeps the batch's summed loss and its number of learned tokens."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        tokens = (inputs["labels"][..., 1:] != -100).sum().to(loss.device)
        self._sums.append(self.accelerator.gather_for_metrics(torch.stack([loss.double() * tokens, tokens])[None]))
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


class LossBar(ProgressCallback):
    """The Trainer's progress bar with the last loss on it, where the original prints a line per log entry."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the losses of a log entry."""
        if self.training_bar is not None:
            shown = {key: f"{value:.4f}" for key, value in (logs or {}).items() if key in ("loss", "eval_loss")}
            if shown:
                self.training_bar.set_postfix(shown)
