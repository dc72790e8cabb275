"""What an OpenAI-compatible server says of itself, and its LoRA endpoints: plain HTTP, every failure named."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medbench.errors import MedbenchError, unknown

# Seconds to wait for an answer that takes no generation; loading an adapter reads it from disk.
TIMEOUT = 60.0


class ServerRefused(MedbenchError):
    """A server answered a request with an error.

    Attributes:
        status: HTTP's.
        reason: the server's own words.
    """

    def __init__(self, address: str, status: int, reason: str) -> None:
        super().__init__(f"{address} answered {status}: {reason}")
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Listed:
    """A model as /v1/models lists it; `context` in tokens, None where the server does not say."""

    name: str
    context: int | None
    owner: str = ""


class Server:
    """An OpenAI-compatible server.

    Args:
        base_url: its address, with ``/v1``.
        api_key: sent as a bearer token.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, base_url: str, api_key: str | None = None, timeout: float = TIMEOUT) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise MedbenchError(f"base_url {base_url!r}: expected an address such as http://localhost:8000/v1.")
        self.base_url = base_url.rstrip("/")
        self.root = self.base_url.removesuffix("/v1")
        self._key, self._timeout = api_key, timeout

    def ask(self, address: str, body: Mapping[str, str] | None = None) -> object:
        """What an address answers: JSON, or its text. POST where there is a body.

        Raises:
            ServerRefused: an HTTP error.
            MedbenchError: nothing there, or no answer in time.
        """
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                text = answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            raise ServerRefused(address, error.code, _reason(error)) from None
        except TimeoutError:
            raise MedbenchError(self._slow(address)) from None
        except (urllib.error.URLError, OSError) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, TimeoutError):
                raise MedbenchError(self._slow(address)) from None
            raise MedbenchError(
                f"no server answers at {address} ({cause}). Is it started, and are host, port and /v1 right?"
            ) from None
        try:
            found: object = json.loads(text)
        except ValueError:
            return text
        return found

    def _slow(self, address: str) -> str:
        return (
            f"{address} did not answer within {self._timeout:g} s: the server is busy or hangs. "
            "Wait until it has loaded its model, or allow more time."
        )

    def models(self) -> list[Listed]:
        """What /v1/models lists.

        Raises:
            MedbenchError: see `ask`; or the answer is no such list.
        """
        address = f"{self.base_url}/models"
        answer: Any = self.ask(address)
        try:
            return [Listed(entry["id"], _context(entry), entry.get("owned_by") or "") for entry in answer["data"]]
        except (TypeError, KeyError):
            raise MedbenchError(
                f"{address} answers with no list of models ({str(answer)[:80]!r}): is it an OpenAI-compatible server?"
            ) from None

    def listed(self, name: str) -> Listed:
        """One model of the list.

        Raises:
            MedbenchError: the server lists no model of that name.
        """
        models = self.models()
        for model in models:
            if model.name == name:
                return model
        raise unknown(f"model on {self.base_url}", name, [model.name for model in models])

    def load_adapter(self, name: str, path: str) -> None:
        """Load a LoRA adapter by vLLM's endpoint; one of that name is replaced.

        Raises:
            MedbenchError: the server is not started for that, or refuses the adapter, e.g. for its rank.
        """
        address = f"{self.base_url}/load_lora_adapter"
        try:
            self.ask(address, {"lora_name": name, "lora_path": path})
        except ServerRefused as refused:
            if "already" in refused.reason:
                self.unload_adapter(name)
                self.ask(address, {"lora_name": name, "lora_path": path})
                return
            raise MedbenchError(f"{refused}{_advice(refused)}") from None

    def unload_adapter(self, name: str) -> None:
        """Unload a LoRA adapter by vLLM's endpoint; one that is not there counts as unloaded."""
        address = f"{self.base_url}/unload_lora_adapter"
        try:
            self.ask(address, {"lora_name": name})
        except ServerRefused as refused:
            if refused.status != 404 and "not found" not in refused.reason.lower():
                raise

    def scales(self) -> dict[str, int]:
        """llama.cpp's loaded adapters: path -> id.

        Raises:
            MedbenchError: the server has no such endpoint.
        """
        address = f"{self.root}/lora-adapters"
        try:
            answer: Any = self.ask(address)
            return {str(entry["path"]): int(entry["id"]) for entry in answer}
        except (ServerRefused, TypeError, KeyError):
            raise MedbenchError(
                f"{address} lists no adapters: is it a llama.cpp server, started with --lora FILE.gguf for each?"
            ) from None


def _context(entry: Mapping[str, Any]) -> int | None:
    """vLLM says max_model_len, llama.cpp meta.n_ctx."""
    said = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx")
    return int(said) if said else None


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read().decode("utf-8", "replace").strip()
    try:
        answer = json.loads(text)
    except ValueError:
        return text or str(error.reason)
    for key in ("error", "message", "detail"):
        if isinstance(answer, dict) and key in answer:
            answer = answer[key]
    return answer if isinstance(answer, str) else json.dumps(answer)


def _advice(refused: ServerRefused) -> str:
    if "rank" in refused.reason.lower():
        return (
            ". A combined adapter has the sum of its adapters' ranks: start the server with a higher --max-lora-rank, "
            "and say so in the study (serve: {max_rank: …})."
        )
    if refused.status in (404, 405):
        return ". Start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
    return ". Does the server see that path, and is the adapter of its base?"
