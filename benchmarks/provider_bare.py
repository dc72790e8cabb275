"""The least a script can do: sort, batch, generate. `python provider_bare.py MODEL FILE OUT [NEW_TOKENS]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH, NEW_TOKENS = 64, 16


def main(directory: str, file: str, out: str, tokens: str = str(NEW_TOKENS)) -> None:
    rows = [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True
        )
        for row in rows
    ]
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    order = sorted(range(len(rows)), key=lambda index: len(encoded[index]), reverse=True)
    answers = {}
    for start in range(0, len(order), BATCH):
        members = order[start : start + BATCH]
        batch = tokenizer.pad({"input_ids": [encoded[i] for i in members]}, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(**batch, max_new_tokens=int(tokens), do_sample=False)
        for index, tokens in zip(members, output[:, batch["input_ids"].shape[1] :], strict=True):
            answers[rows[index]["id"]] = tokenizer.decode(tokens, skip_special_tokens=True)
    Path(out).write_text(json.dumps(answers, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
