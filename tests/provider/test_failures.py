"""What goes wrong is named, fails its own rows only, and leaves the engine at work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from inspect_ai.model import (
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
)
from provider_rows import QUESTIONS, ask, chat_ids, generate_alone, rows_of, run

from medbench.errors import MedbenchError
from medbench.provider import engine as engine_module
from medbench.provider.engine import Engine, Limits, Request
from medbench.provider.sampling import Decoding, Row


def test_non_finite_logits_name_the_problem(directory: Path, reference: Any) -> None:
    broken = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.no_grad():
        broken.lm_head.weight[3] = float("nan")
    engine = Engine(broken, reference[1], Limits(rows=4))
    try:
        row = rows_of(engine, [[5, 6, 7]], Decoding(max_tokens=4))[0]
        assert "not finite" in str(row.error)
        assert "float32" in str(row.error)
    finally:
        engine.close()


def test_a_failed_pass_fails_its_rows_and_the_engine_goes_on(directory: Path, reference: Any) -> None:
    fragile = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    engine = Engine(fragile, reference[1], Limits(rows=4))
    try:
        row = rows_of(engine, [[5, 10_000_000]], Decoding(max_tokens=4))[0]
        assert isinstance(row.error, IndexError)
        assert rows_of(engine, [[5, 6, 7]], Decoding(max_tokens=4))[0].stop_reason == "max_tokens"
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: None, "no config.json"),
        (lambda path: (path / "config.json").write_text("{}"), "no \\*.safetensors"),
        (
            lambda path: [(path / "config.json").write_text("{}"), (path / "pytorch_model.bin").write_bytes(b"")],
            "(?s)pickles.*save_pretrained",
        ),
        (lambda path: (path / "adapter_config.json").write_text("{}"), "medbench merge"),
        (
            lambda path: [
                (path / "config.json").write_text(json.dumps({"model_type": "nonesuch"})),
                (path / "model.safetensors").write_bytes(b""),
            ],
            "(?s)cannot load.*nonesuch",
        ),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, prepare: Any, words: str) -> None:
    prepare(tmp_path)
    with pytest.raises(MedbenchError, match=words):
        get_model(f"medbench/{tmp_path}", memoize=False)


def test_bad_arguments_are_named(directory: Path) -> None:
    with pytest.raises(MedbenchError, match=r"(?s)max_batchsize.*max_batch_size"):
        get_model(f"medbench/{directory}", max_batchsize=3, memoize=False)
    with pytest.raises(MedbenchError, match="bfloat16"):
        get_model(f"medbench/{directory}", dtype="bf16", memoize=False)
    with pytest.raises(MedbenchError, match="no model directory"):
        get_model("medbench//nowhere/at/all", memoize=False)


def test_bad_requests_are_named(model: Model) -> None:
    with pytest.raises(MedbenchError, match="top_p"):
        ask(model, ["Q"], temperature=1.0, top_p=0.0)
    with pytest.raises(MedbenchError, match="choices"):
        ask(model, ["Q"], extra_body={"medbench": {"choises": ["A"]}})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: (path / "model.safetensors").write_bytes(b"\0" * 40), "damaged or cut off"),
        (lambda path: change_config(path, num_hidden_layers=3, layer_types=["full_attention"] * 3), "lacks 11 of the"),
        (lambda path: change_config(path, intermediate_size=256), "(?s)other shapes.*128.*256"),
        (lambda path: [file.unlink() for file in path.glob("tokenizer*")], "no tokenizer"),
        (lambda path: (path / "tokenizer.json").write_text("{"), "cannot load"),
    ],
)
def test_a_damaged_model_is_refused(directory: Path, tmp_path: Path, damage: Any, words: str) -> None:
    copied = Path(shutil.copytree(directory, tmp_path / "copy"))
    damage(copied)
    with pytest.raises(MedbenchError, match=words):
        get_model(f"medbench/{copied}", memoize=False)
    assert not any(source.model == str(copied) for source in engine_module._engines)


def change_config(path: Path, **settings: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | settings))


def test_arguments_that_fail_late_give_the_model_back(directory: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(directory, tmp_path / "copy"))
    with pytest.raises(MedbenchError, match="chat_template"):
        get_model(f"medbench/{copied}", chat_template="nowhere.jinja", memoize=False)
    assert not any(source.model == str(copied) for source in engine_module._engines)


class Crowded:
    """A forward pass that runs out of memory with more than so many rows."""

    def __init__(self, model: Any, rows: int) -> None:
        self.model, self.rows, self.passes, self.failed = model, rows, model.forward, 0

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if settings["input_ids"].shape[0] > self.rows:
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.passes(*args, **settings)


def test_out_of_memory_starts_again_with_fewer_rows(directory: Path, reference: Any) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    engine = Engine(model, reference[1], Limits(rows=16))
    crowded = model.forward = Crowded(model, 3)
    try:
        prompts = [chat_ids(reference[1], question)[0].tolist() for question in QUESTIONS * 2]
        settings = [Decoding(max_tokens=12), Decoding(max_tokens=12, temperature=1.0, seed=4)]
        rows = run(engine, [Row(prompt, settings[number % 2]) for number, prompt in enumerate(prompts)])
        assert crowded.failed
        for row, prompt in list(zip(rows, prompts, strict=True))[::2]:
            assert row.generated == generate_alone(reference, torch.tensor([prompt]), 12)
        again = rows_of(engine, prompts[1:2], settings[1])[0]
        assert again.generated == rows[1].generated
        crowded.rows = 0
        alone = rows_of(engine, prompts[:1], settings[0])[0]
        assert "with a single completion" in str(alone.error)
        crowded.rows = 3
        assert rows_of(engine, prompts[:1], settings[0])[0].stop_reason == "max_tokens"
    finally:
        engine.close()


def test_a_failed_batch_of_generate_fails_its_rows(directory: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    config = transformers.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)
    engine = Engine(transformers.BloomForCausalLM(config).eval(), tokenizer)
    try:
        row = rows_of(engine, [[5, 10_000_000]], Decoding(max_tokens=4))[0]
        assert isinstance(row.error, IndexError)
        assert rows_of(engine, [[5, 6, 7]], Decoding(max_tokens=4))[0].stop_reason is not None
    finally:
        engine.close()


def test_closing_does_not_wait_for_a_long_batch_of_generate(directory: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    config = transformers.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)
    engine = Engine(transformers.BloomForCausalLM(config).eval(), tokenizer)
    engine.eos = engine._sampler.eos = frozenset()
    row, done = Row([5, 6, 7], Decoding(max_tokens=10**6)), threading.Event()
    engine.submit(Request([row], on_done=done.set))
    while not row.generated:
        assert not done.wait(timeout=0.01)
    engine.close()
    assert done.is_set()
    assert "closed" in str(row.error)


def test_a_defect_of_the_worker_leaves_nobody_waiting(directory: Path, reference: Any) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    engine = Engine(model, reference[1], Limits(rows=1))
    waits = [threading.Event(), threading.Event()]
    rows = [Row([5, 6, number], Decoding(max_tokens=4)) for number in (7, 8)]

    def broken() -> None:
        raise SystemError("a defect")

    engine._drop_cancelled = broken  # type: ignore[method-assign]
    for row, wait in zip(rows, waits, strict=True):
        with contextlib.suppress(MedbenchError):  # the second may find the engine closed
            engine.submit(Request([row], on_done=wait.set))
    assert waits[0].wait(timeout=30)
    assert "a defect" in str(rows[0].error)
    with pytest.raises(MedbenchError, match="closed"):
        engine.submit(Request([Row([5], Decoding(max_tokens=1))], on_done=lambda: None))


def test_rows_of_a_failed_batch_raise_errors_of_their_own(directory: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(directory, tmp_path / "copy"))
    with get_model(f"medbench/{copied}", memoize=False) as model:
        api: Any = model.api
        api.engine.model.forward = Crowded(api.engine.model, 0)
        api.engine.model.forward.rows = -1

        async def both() -> list[Any]:
            asked = [api.generate([ChatMessageUser(content=q)], [], "none", GenerateConfig(max_tokens=2)) for q in "AB"]
            return await asyncio.gather(*asked, return_exceptions=True)

        first, second = asyncio.run(both())
    assert first is not second
    assert all(isinstance(error, MedbenchError) and error.__cause__ is not None for error in (first, second))
