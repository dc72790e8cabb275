"""A server with vLLM's endpoints over transformers and PEFT on loopback: chat completions, LoRA adapters at run time.

It answers as vLLM's documentation says: --max-lora-rank and --max-loras are enforced, an adapter's name is a model.
PEFT, not medbench, adds the adapters.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import loopback
from loopback import Reply


@dataclass
class State:
    """What the server holds and was asked."""

    address: str = ""
    loaded: list[str] = field(default_factory=list)
    most: int = 0
    events: list[tuple[str, str]] = field(default_factory=list)


class Refused(Exception):
    """An answer with an HTTP error."""


@contextmanager
def serving(base: Path, *, max_lora_rank: int = 16, max_loras: int = 1, context: int | None = None) -> Iterator[State]:
    """A running server, while the context lasts."""
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    state, lock = State(), threading.Lock()
    tokenizer = AutoTokenizer.from_pretrained(base)
    holder: dict[str, Any] = {"model": AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()}

    def load(name: str, path: str) -> str:
        rank = PeftConfig.from_pretrained(path).r
        if rank > max_lora_rank:
            raise Refused(f"LoRA rank {rank} is greater than max_lora_rank {max_lora_rank}.")
        if name in state.loaded:
            raise Refused(f"The lora adapter '{name}' has already been loaded.")
        if len(state.loaded) >= max_loras:
            raise Refused(f"no free slot: max_loras is {max_loras}")
        if isinstance(holder["model"], PeftModel):
            holder["model"].load_adapter(path, adapter_name=name.replace(".", "_"))
        else:
            holder["model"] = PeftModel.from_pretrained(
                holder["model"], path, adapter_name=name.replace(".", "_")
            ).eval()
        state.loaded.append(name)
        state.most = max(state.most, len(state.loaded))
        state.events.append(("load", name))
        return "Success"

    def unload(name: str) -> str:
        if name not in state.loaded:
            raise Refused(f"The lora adapter '{name}' cannot be found.")
        state.loaded.remove(name)
        state.events.append(("unload", name))
        return "Success"

    def complete(body: dict[str, Any]) -> dict[str, Any]:
        model, name = holder["model"], body["model"]
        if name not in (*state.loaded, "base"):
            raise Refused(f"The model `{name}` does not exist.")
        text = tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        settings = {"max_new_tokens": body["max_tokens"], "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            if name == "base" and isinstance(model, PeftModel):
                with model.disable_adapter():
                    out = model.generate(input_ids=ids, **settings)
            else:
                if name != "base":
                    model.set_adapter(name.replace(".", "_"))
                out = model.generate(input_ids=ids, **settings)
        new = out[0, ids.shape[1] :]
        message = {"role": "assistant", "content": tokenizer.decode(new, skip_special_tokens=True)}
        usage = {"prompt_tokens": ids.shape[1], "completion_tokens": len(new), "total_tokens": out.shape[1]}
        choice = {"index": 0, "message": message, "finish_reason": "length", "logprobs": None}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": name,
            "choices": [choice],
            "usage": usage,
        }

    def answer(path: str, asked: bytes) -> Reply:
        with lock:
            try:
                return Reply(result(path, json.loads(asked or b"null")))
            except Refused as error:
                return Reply({"error": {"message": str(error)}}, 400)

    def result(path: str, body: Any) -> Any:
        if path == "/v1/models":
            listed = [{"id": name, "object": "model", "owned_by": "vllm"} for name in ("base", *state.loaded)]
            return {"object": "list", "data": [{**entry, "max_model_len": context} for entry in listed]}
        if path == "/v1/load_lora_adapter":
            return load(body["lora_name"], body["lora_path"])
        if path == "/v1/unload_lora_adapter":
            return unload(body["lora_name"])
        return complete(body)

    with loopback.serving(answer) as address:
        state.address = f"{address}/v1"
        yield state
