"""Prompts, and ways to run them through the provider or through `model.generate` alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import torch
from inspect_ai.model import (
    GenerateConfig,
    Model,
    ModelOutput,
)

from medbench.provider.engine import Request
from medbench.provider.sampling import Decoding, Row

QUESTIONS = [
    "A 45-year-old man presents with crushing chest pain radiating to the left arm. What is the next step?",
    "Which drug is first line?",
    "患者，女，30岁，发热三天。首选的检查是什么？",
    "Is aspirin safe in pregnancy? Answer yes, no or maybe.",
    "Name the nerve.",
    "A " + "very " * 60 + "long question about potassium.",
]


def ask(model: Model, prompts: Sequence[Any], **settings: Any) -> list[ModelOutput]:
    config = GenerateConfig(**settings)

    async def all_at_once() -> list[ModelOutput]:
        return list(await asyncio.gather(*(model.generate(prompt, config=config) for prompt in prompts)))

    return asyncio.run(all_at_once())


def chat_ids(tokenizer: Any, question: str) -> Any:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]


def generate_alone(reference: Any, ids: Any, tokens: int) -> list[int]:
    model, _ = reference
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, pad_token_id=0
    )
    return out[0, ids.shape[1] :].tolist()


def run(engine: Any, rows: Sequence[Row]) -> Sequence[Row]:
    """Run rows through an engine without Inspect, each as a request of its own."""
    waits = [threading.Event() for _ in rows]
    for row, wait in zip(rows, waits, strict=True):
        engine.submit(Request([row], on_done=wait.set))
    assert all(wait.wait(timeout=30) for wait in waits)
    return rows


def rows_of(engine: Any, prompts: Sequence[list[int]], decoding: Decoding) -> Sequence[Row]:
    return run(engine, [Row(prompt, decoding) for prompt in prompts])
