"""A study's candidates behind a server: `serve:` in the study file, and adapters loaded as the sweep comes to them.

serve: {kind: vllm, base_url: "http://localhost:8000/v1", model: BASE, max_rank: 64, slots: 2}
serve: {kind: llamacpp, base_url: "http://localhost:8080/v1", adapters: {pt: pt.gguf, sft: sft.gguf}}
serve: {kind: openai, base_url: "https://…/v1", adapters: {my-mix: {pt: 0.3, sft: 0.7}}}

- ``vllm`` gets the combined adapter of each ratio, written below the sweep's directory, by /v1/load_lora_adapter; at
  most `slots` are loaded at a time, and each is unloaded when its runs are done.
- ``llamacpp`` has the adapters from its start (--lora), and is told their scales with every request.
- ``openai`` loads nothing: `adapters` says which of its models is which mixture.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medbench.errors import MedbenchError, unknown
from medbench.served.server import Server

if TYPE_CHECKING:
    from medbench.trainers.study import Candidate

KINDS = ("vllm", "llamacpp", "openai")
_KEYS = ("kind", "base_url", "model", "adapters", "slots", "max_rank", "context", "api_key_var")
SERVICE = "served"


@dataclass(frozen=True)
class Serve:
    """A checked `serve:` entry.

    Attributes:
        kind: one of `KINDS`.
        base_url: the server's address, with ``/v1``.
        model: the name of the base on the server; needed where a candidate is the base alone.
        adapters: llamacpp: adapter -> file or id as the server lists it; openai: model -> weights.
        slots: adapters loaded at a time.
        max_rank: the server's limit of a LoRA's rank, where known.
        context: the server's context in tokens, where it may differ from the base's.
        api_key_var: environment variable with the server's key; none is needed by default.
    """

    kind: str
    base_url: str
    model: str | None = None
    adapters: Mapping[str, Any] = field(default_factory=dict)
    slots: int = 1
    max_rank: int | None = None
    context: int | None = None
    api_key_var: str | None = None

    @property
    def key(self) -> str | None:
        """The server's key.

        Raises:
            MedbenchError: the variable is not set.
        """
        if self.api_key_var is None:
            return None
        if not os.environ.get(self.api_key_var):
            raise MedbenchError(f"serve: the environment variable {self.api_key_var} is not set; it holds no key.")
        return os.environ[self.api_key_var]

    @property
    def server(self) -> Server:
        """The server itself."""
        return Server(self.base_url, self.key)


def read_serve(entry: object) -> Serve | None:
    """A study's `serve:`, None where there is none.

    Raises:
        MedbenchError: unknown keys or values of another kind.
    """
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise MedbenchError(f"serve: {entry!r}; expected {{kind: vllm, base_url: http://localhost:8000/v1}}.")
    for key in entry:
        if key not in _KEYS:
            raise unknown("key of serve", str(key), _KEYS)
    if entry.get("kind") not in KINDS:
        raise unknown("kind of serve", str(entry.get("kind")), KINDS)
    if not isinstance(entry.get("base_url"), str):
        raise MedbenchError("serve: base_url must be the server's address, e.g. http://localhost:8000/v1.")
    for key in ("slots", "max_rank", "context"):
        value = entry.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MedbenchError(f"serve: {key} is {value!r}; expected a whole number above 0.")
    adapters = entry.get("adapters") or {}
    expected: dict[str, tuple[type, ...]] = {"llamacpp": (str, int), "openai": (dict,)}
    of = expected.get(entry["kind"])
    if not isinstance(adapters, dict) or (of and not all(isinstance(v, of) for v in adapters.values())):
        raise MedbenchError(
            "serve: adapters must map adapters to the files that llama.cpp was started with ({pt: pt.gguf}), "
            "or the names of served models to their weights ({my-mix: {pt: 0.3, sft: 0.7}})."
        )
    Server(entry["base_url"])  # which refuses what is no address
    return Serve(**{**entry, "adapters": adapters})


def model_name(serve: Serve, weights: Mapping[str, float], name: str) -> str:
    """What the server calls a mixture.

    Raises:
        MedbenchError: a server that loads nothing has no such mixture; nobody said what the base is called there.
    """
    if serve.kind == "openai":
        for served, stated in serve.adapters.items():
            if {n: float(w) for n, w in stated.items() if w} == {n: w for n, w in weights.items() if w}:
                return str(served)
        known = ", ".join(f"{served} {dict(stated)}" for served, stated in serve.adapters.items()) or "none"
        raise MedbenchError(
            f"candidates: nothing in serve: adapters serves {dict(weights)}; it names {known}. A server of kind openai "
            "loads nothing: list each mixture, or use kind vllm or llamacpp."
        )
    if serve.kind == "vllm" and not any(weights.values()):
        if serve.model is None:
            raise MedbenchError(
                f"candidates: {name} is the base alone; serve: model must say what the server calls the base."
            )
        return serve.model
    return name


def request_fields(serve: Serve, weights: Mapping[str, float], ids: Mapping[str, int]) -> dict[str, Any]:
    """Further fields of every request: for llama.cpp the scale of each adapter.

    Keys and values of other scales are not to be reused: llama.cpp compares prompts by their tokens.
    """
    if serve.kind != "llamacpp":
        return {}
    scales = [{"id": ids[name], "scale": weight} for name, weight in weights.items()]
    return {"lora": scales, "cache_prompt": False}


def adapter_ids(serve: Serve, names: Sequence[str]) -> dict[str, int]:
    """The ids of a study's adapters at a llama.cpp server, by the files that it lists.

    Raises:
        MedbenchError: the server has no such adapter.
    """
    if serve.kind != "llamacpp":
        return {}
    listed = serve.server.scales()
    ids = {}
    for name in names:
        told = serve.adapters.get(name)
        found = [
            number
            for path, number in listed.items()
            if told == number or (isinstance(told, str) and Path(path).name == Path(told).name)
        ]
        if len(found) != 1:
            raise MedbenchError(
                f"serve: adapters: {name} is {told!r}; the server at {serve.base_url} was started with "
                f"{', '.join(f'{number}: {path}' for path, number in listed.items()) or 'no --lora at all'}."
            )
        ids[name] = found[0]
    return ids


def check(serve: Serve, candidates: Sequence[Candidate], base: str) -> None:
    """What can be known to be wrong before the first generation.

    Raises:
        MedbenchError: no server, no such model there, another context than the base's, an adapter of too high a rank.
    """
    from medbench.merging.adapters import parse_adapter, read_adapter
    from medbench.merging.checkpoints import open_checkpoint
    from medbench.provider.loading import resolve

    server = serve.server
    listed = server.models()
    wanted = serve.adapters if serve.kind == "openai" else [serve.model] if serve.model else []
    for name in wanted:
        server.listed(str(name))
    config = open_checkpoint(resolve(base)).config
    context = serve.context or config.get("max_position_embeddings")
    there = next((entry.context for entry in listed if entry.name == (serve.model or listed[0].name)), None)
    if context and there and there != context:
        raise MedbenchError(
            f"the server at {serve.base_url} takes {there} tokens, the base {context}: prompts and answers would be "
            f"cut elsewhere than in this process. Start it with that context, or say serve: {{context: {there}}}."
        )
    if serve.max_rank is None:
        return
    ranks: dict[str, int] = {}
    for candidate in candidates:
        used = [(name, path) for name, path, weight in map(parse_adapter, candidate.adapters) if weight]
        for name, path in used:
            if path not in ranks:
                ranks[path] = max((update.rank for update in read_adapter(name, path).low_rank.values()), default=0)
        total = sum(ranks[path] for _, path in used)
        if total > serve.max_rank:
            raise MedbenchError(
                f"candidate {candidate.name} combines to rank {total}, and serve: max_rank is {serve.max_rank}. Start "
                f"the server with --max-lora-rank {total} or more, and say so; or train adapters of lower rank."
            )


@contextmanager
def loaded(
    serve: Serve | None, candidates: Sequence[Candidate], base: str, out: Path, hashes: Callable[[Any], dict[str, str]]
) -> Iterator[None]:
    """While the context lasts, a vLLM server holds the combined adapters of these candidates.

    `hashes` gives those of a candidate's adapters.

    Raises:
        MedbenchError: see `medbench.served.server.Server.load_adapter`, and `medbench merge`.
    """
    with contextlib.ExitStack() as stack:
        if serve is not None and serve.kind == "vllm":
            server = serve.server
            for candidate in candidates:
                if any(candidate.weights.values()):
                    name = candidate.model.removeprefix(f"openai-api/{SERVICE}/")
                    server.load_adapter(name, str(combined(candidate, base, out, hashes(candidate))))
                    # A server that is gone has unloaded it; that must not hide why.
                    stack.callback(_unload, server, name)
        yield


def _unload(server: Server, name: str) -> None:
    with contextlib.suppress(MedbenchError):
        server.unload_adapter(name)


def combined(candidate: Candidate, base: str, out: Path, hashes: Mapping[str, str]) -> Path:
    """The one adapter that is a candidate's sum; written once, also over several sweeps into one directory.

    `hashes`: those of its adapters' weights.
    """
    from medbench.files.manifest import NAME
    from medbench.merging.adapters import parse_adapter
    from medbench.trainers.merge import merge

    # The name holds what went in: an adapter that was trained again is another one.
    facts = [candidate.name, hashes, candidate.method, dict(candidate.settings)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    called = re.sub(r"[^\w=.,-]", "_", candidate.name)
    target = out / "adapters" / f"{called}-{digest}"
    if not (target / NAME).is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        used = [text for text in candidate.adapters if parse_adapter(text)[2]]
        settings = dict(candidate.settings)
        merge(base, used, target, method=candidate.method, settings=settings, format="adapter", any_base=True)
    return target.absolute()
