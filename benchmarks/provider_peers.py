"""Peers of the provider, a process each: `python benchmarks/provider_peers.py cb|llama MODEL FILE OUT TOKENS`.

FILE holds `id` and `prompt`, one a line; OUT becomes a mapping of ids to answers.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def continuous(directory: str, rows: Rows, tokens: int) -> dict[str, str]:
    """transformers' own continuous batching, float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa").eval()
    inputs = []
    for row in rows:
        messages = [{"role": "user", "content": row["prompt"]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    outputs = model.generate_batch(inputs=inputs, generation_config=config)
    # Requests are numbered as they were given.
    found = sorted(outputs.items(), key=lambda item: int(item[0].rpartition("_")[2]))
    texts = [tokenizer.decode(output.generated_tokens, skip_special_tokens=True) for _, output in found]
    return {row["id"]: text for row, text in zip(rows, texts, strict=True)}


def llama(file: str, rows: Rows, tokens: int) -> dict[str, str]:
    """llama.cpp on one thread, 16 slots."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.n_parallel = 16 * 1024, 16
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)

    def answer(row: dict[str, Any]) -> str:
        messages = [{"role": "user", "content": row["prompt"]}]
        done = server.handle_chat_completions({"messages": messages, "max_tokens": tokens, "temperature": 0})
        return str(done["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(answer, rows))
    return {row["id"]: text for row, text in zip(rows, texts, strict=True)}


def main(kind: str, model: str, file: str, out: str, tokens: str) -> None:
    """Answer every prompt and write the answers."""
    rows = [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]
    found = {"cb": continuous, "llama": llama}[kind](model, rows, int(tokens))
    Path(out).write_text(json.dumps(found, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
