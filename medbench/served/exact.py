"""What the candidates predict at given prompts, computed in this process from the base and its adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medbench.errors import MedbenchError
from medbench.merging.adapters import parse_adapter
from medbench.merging.live import LiveWeights
from medbench.merging.recipe import Recipe
from medbench.provider import chat
from medbench.provider.loading import Source, load, settled

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASKED, BASE, SQUARED, ROUNDED = "asked", "base", "squared weights", "rounded to bfloat16"


def alone(name: str) -> str:
    """The name of the candidate that is one adapter at full weight."""
    return f"{name} alone"


@dataclass(frozen=True)
class Candidate:
    """Weights of the adapters, and whether their sum is rounded to bfloat16, to nearest."""

    weights: Mapping[str, float]
    rounded: bool = False


def candidates(asked: Mapping[str, float]) -> dict[str, Candidate]:
    """What a server may serve instead of the asked weights; of candidates that are alike, the first.

    The base; each adapter alone, at full weight; the squares of the weights (both A and B scaled); and the asked sum
    rounded to nearest in bfloat16, which loses much of a small update.
    """
    listed = {
        ASKED: Candidate(asked),
        BASE: Candidate(dict.fromkeys(asked, 0.0)),
        **{alone(name): Candidate({other: float(other == name) for other in asked}) for name in asked},
        SQUARED: Candidate({name: weight * abs(weight) for name, weight in asked.items()}),
        ROUNDED: Candidate(asked, rounded=True),
    }
    found: dict[str, Candidate] = {}
    for name, candidate in listed.items():
        rounds_nothing = candidate.rounded and not any(candidate.weights.values())
        if candidate not in found.values() and not rounds_nothing:
            found[name] = candidate
    return found


class Exact:
    """A base in memory, its adapters, and rendered prompts.

    Args:
        base: a model directory, or a hub id.
        adapters: ``NAME=DIR:WEIGHT``, as `medbench merge` takes them.
        any_base: accept adapters that record another base's name, or other layers.
        chat_template: a Jinja file in place of the base's own template; ``none`` for plain text.

    Raises:
        MedbenchError: whatever `medbench merge` would refuse; no adapter, or one without a weight.
    """

    def __init__(
        self, base: str, adapters: Sequence[str], *, any_base: bool = False, chat_template: str | None = None
    ) -> None:
        if not adapters:
            raise MedbenchError(
                "nothing to tell apart: give at least one --adapter NAME=DIR:WEIGHT; with weight 0 for the base alone."
            )
        parsed = [parse_adapter(text) for text in adapters]
        for name, path, weight in parsed:
            if weight is None:
                raise MedbenchError(f"adapter {name} has no weight: give {name}={path}:WEIGHT, what should be served.")
        self.paths = {name: path for name, path, _ in parsed}
        self.asked = {name: float(weight) for name, _, weight in parsed if weight is not None}
        source = settled(Source(base, dtype="float32"))
        self._live = LiveWeights(source.model, torch.device(source.device))
        self._any_base = any_base
        self._recipe(self.asked)  # adapters that do not fit are refused before the model is loaded
        self._model, self.tokenizer = load(source)
        self._template = chat.template_source(self.tokenizer, chat_template)

    @property
    def context(self) -> int | None:
        """Tokens that the base takes, as its configuration says."""
        config = self._model.config.get_text_config(decoder=True)
        return getattr(config, "max_position_embeddings", None)

    def tokens(self, prompt: str) -> list[int]:
        """A user's prompt as the model gets it, in token ids."""
        from inspect_ai.model import ChatMessageUser

        rendered = chat.render([ChatMessageUser(content=prompt)], self.tokenizer, self._template)
        ids: Any = self.tokenizer(rendered.text, add_special_tokens=rendered.special_tokens)["input_ids"]
        return [int(token) for token in ids]

    def predict(self, candidate: Candidate, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities of every token after each prompt (token ids), prompts x vocabulary, float32."""
        apply = self._live.apply(self._recipe(candidate.weights))
        apply(self._model)
        if candidate.rounded:
            self._round()
        width = max(map(len, prompts))
        pad = self.tokenizer.pad_token_id or 0
        rows = []
        for start in range(0, len(prompts), 8):
            part = prompts[start : start + 8]
            ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in part], device=self._model.device)
            with torch.inference_mode():
                # Causal attention keeps the padding on the right out of what is read.
                states = self._model.base_model(input_ids=ids, use_cache=False)[0]
                last = torch.stack([states[i, len(row) - 1] for i, row in enumerate(part)])
                logits = self._model.get_output_embeddings()(last)
            rows.append(logits.float().log_softmax(dim=-1).cpu().numpy())
        return np.concatenate(rows)

    def _recipe(self, weights: Mapping[str, float]) -> Recipe:
        texts = [f"{name}={path}:{weights[name]!r}" for name, path in self.paths.items()]
        return self._live.recipe(texts, any_base=self._any_base)

    def _round(self) -> None:
        """Round the adapted weights to nearest in bfloat16; the next candidate starts from the base's again."""
        changed = set(self._recipe(self.asked).targets)
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                if name in changed:
                    parameter.copy_(parameter.bfloat16())


def token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[bytes, int]:
    """The bytes that a token writes -> its id; tokens that write the same bytes are left out but for the first."""
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    pieces = _Bytes(names)
    found: dict[bytes, int] = {}
    for token, name in enumerate(names):
        if name is None:
            continue
        text = name if token in tokenizer.all_special_ids else None
        written = text.encode() if text is not None else pieces.of(name)
        found.setdefault(written, token)
    return found


class _Bytes:
    """Bytes of a vocabulary entry: byte-level BPE writes each byte as a letter, SentencePiece a space as a bar."""

    def __init__(self, names: Sequence[str | None]) -> None:
        from medbench.private.transformers import bytes_to_unicode

        self._letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
        self._level = not any(name is not None and name.startswith("▁") for name in names)

    def of(self, name: str) -> bytes:
        if self._level and all(letter in self._letters for letter in name):
            return bytes(self._letters[letter] for letter in name)
        if len(name) == 6 and name.startswith("<0x"):
            return bytes([int(name[3:5], 16)])
        return name.replace("▁", " ").encode()
