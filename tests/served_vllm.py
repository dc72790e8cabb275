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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


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

    def answer(path: str, body: Any) -> Any:
        if path == "/v1/models":
            listed = [{"id": name, "object": "model", "owned_by": "vllm"} for name in ("base", *state.loaded)]
            return {"object": "list", "data": [{**entry, "max_model_len": context} for entry in listed]}
        if path == "/v1/load_lora_adapter":
            return load(body["lora_name"], body["lora_path"])
        if path == "/v1/unload_lora_adapter":
            return unload(body["lora_name"])
        return complete(body)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            with lock:
                try:
                    status, value = 200, answer(self.path, body)
                except Refused as error:
                    status, value = 400, {"error": {"message": str(error)}}
            data = (value if isinstance(value, str) else json.dumps(value)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
