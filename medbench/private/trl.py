"""The private parts of TRL that medbench uses. Importing it imports torch."""

from __future__ import annotations

# SFTTrainer's own collator, which it takes no other for where rows are packed; it is public only by its long name.
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

__all__ = ["DataCollatorForLanguageModeling"]
