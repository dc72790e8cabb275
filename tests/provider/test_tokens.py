"""Tokens of the provider against `model.generate` and transformers' own logits processors, on a tiny random model."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from inspect_ai.model import (
    ChatMessageUser,
    Model,
)
from provider_rows import QUESTIONS, ask, chat_ids, generate_alone, rows_of, run

from medbench.provider.decoding import GenerateDecoder
from medbench.provider.engine import Engine, Limits, Request, acquire, release
from medbench.provider.loading import Source
from medbench.provider.sampling import Decoding, Row, sample


def test_greedy_batches_equal_unbatched_generate(model: Model, reference: Any) -> None:
    outputs = ask(model, QUESTIONS, max_tokens=24)
    for question, output in zip(QUESTIONS, outputs, strict=True):
        ids = chat_ids(reference[1], question)
        expected = generate_alone(reference, ids, 24)
        assert output.completion == reference[1].decode(expected, skip_special_tokens=True)
        assert output.usage is not None
        assert (output.usage.input_tokens, output.usage.output_tokens) == (ids.shape[1], len(expected))
        assert output.stop_reason == ("stop" if expected[-1] == reference[1].eos_token_id else "max_tokens")


def test_rows_that_join_and_leave_change_no_token(directory: Path, reference: Any) -> None:
    engine = acquire(Source(str(directory), dtype="float32"), Limits(rows=3))
    try:
        assert engine.continuous
        prompts = [chat_ids(reference[1], question)[0].tolist() for question in QUESTIONS * 3]
        lengths = [5 + 7 * (index % 5) for index in range(len(prompts))]
        rows = run(engine, [Row(p, Decoding(max_tokens=n)) for p, n in zip(prompts, lengths, strict=True)])
        for row, prompt, length in zip(rows, prompts, lengths, strict=True):
            assert row.generated == generate_alone(reference, torch.tensor([prompt]), length)
    finally:
        release(Source(str(directory), dtype="float32"))


def test_shared_prefix_is_computed_once_and_changes_no_token(model: Model, reference: Any) -> None:
    preamble = "You answer medical exam questions. " * 12
    questions = [preamble + question for question in QUESTIONS]
    for question, output in zip(questions, ask(model, questions, max_tokens=12), strict=True):
        expected = generate_alone(reference, chat_ids(reference[1], question), 12)
        assert output.completion == reference[1].decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize("architecture", ["mistral", "mamba", "gpt2"])
def test_other_architectures(architecture: str, directory: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    size = len(tokenizer)
    torch.manual_seed(0)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    if architecture == "mistral":
        config = transformers.MistralConfig(
            vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, sliding_window=8, max_position_embeddings=512, **ends,
        )  # fmt: skip
        lone = transformers.MistralForCausalLM(config).eval()
    elif architecture == "mamba":
        config = transformers.MambaConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2, state_size=4, **ends)
        lone = transformers.MambaForCausalLM(config).eval()
    else:
        config = transformers.GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=512, **ends)
        lone = transformers.GPT2LMHeadModel(config).eval()
    engine = Engine(lone, tokenizer, Limits(rows=4))
    try:
        assert engine.continuous == (architecture == "gpt2")
        prompts = [tokenizer(question)["input_ids"] for question in QUESTIONS[:4]]
        rows = rows_of(engine, prompts, Decoding(max_tokens=10))
        for row, prompt in zip(rows, prompts, strict=True):
            assert row.generated == generate_alone((lone, tokenizer), torch.tensor([prompt]), 10)
        sampled = rows_of(engine, prompts, Decoding(max_tokens=10, temperature=1.0, seed=5))
        alone = rows_of(engine, prompts[2:3], Decoding(max_tokens=10, temperature=1.0, seed=5))
        assert sampled[2].generated == alone[0].generated
    finally:
        engine.close()


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_goes_in_under_the_name_that_the_model_has_for_it(name: str, directory: Path) -> None:
    """transformers 5.24 renamed the argument; under either name batches are continuous and no token differs."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    lone = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    prompts = [tokenizer(question)["input_ids"] for question in QUESTIONS[:4]]
    expected = [generate_alone((lone, tokenizer), torch.tensor([prompt]), 10) for prompt in prompts]
    forward = lone.forward
    (own,) = {"cache", "past_key_values"} & set(inspect.signature(forward).parameters)

    def renamed(**given: Any) -> Any:
        return forward(**{own if key == name else key: value for key, value in given.items()})

    known = inspect.signature(forward)
    parameters = [one.replace(name=name) if one.name == own else one for one in known.parameters.values()]
    renamed.__signature__ = known.replace(parameters=parameters)  # type: ignore[attr-defined]
    lone.forward = renamed
    engine = Engine(lone, tokenizer, Limits(rows=4))
    try:
        assert engine.continuous
        assert [row.generated for row in rows_of(engine, prompts, Decoding(max_tokens=10))] == expected
    finally:
        engine.close()


def test_seeded_samples_do_not_depend_on_neighbours(model: Model) -> None:
    settings = {"temperature": 1.0, "seed": 11, "max_tokens": 20}
    alone = ask(model, QUESTIONS[1:2], **settings)[0]
    among = ask(model, QUESTIONS, **settings)[1]
    assert alone.completion == among.completion
    assert alone.metadata is not None
    assert alone.metadata["seed"] == 11
    other = ask(model, QUESTIONS[1:2], temperature=1.0, seed=12, max_tokens=20)[0]
    assert other.completion != alone.completion


def test_unseeded_samples_differ_and_record_their_seed(model: Model) -> None:
    first, second = ask(model, ["Name the nerve."] * 2, temperature=1.0, max_tokens=20)
    assert first.completion != second.completion
    assert first.metadata is not None
    again = ask(model, ["Name the nerve."], temperature=1.0, max_tokens=20, seed=first.metadata["seed"])[0]
    assert again.completion == first.completion


def test_num_choices(model: Model) -> None:
    output = ask(model, ["Name the nerve."], temperature=1.0, seed=1, num_choices=3, max_tokens=8)[0]
    texts = [choice.message.text for choice in output.choices]
    assert len(set(texts)) == 3
    assert texts[0] == ask(model, ["Name the nerve."], temperature=1.0, seed=1, max_tokens=8)[0].completion
    assert output.usage is not None
    assert output.usage.output_tokens == 24


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, None, 1.0), (1.0, 5, 1.0), (1.3, None, 0.6), (0.9, 12, 0.8)]
)
def test_sampling_follows_the_distribution_of_transformers_warpers(
    temperature: float, top_k: int | None, top_p: float
) -> None:
    from scipy.stats import chisquare
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(1)) * 2
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    warped = TopKLogitsWarper(top_k)(None, warped) if top_k else warped
    warped = TopPLogitsWarper(top_p)(None, warped) if top_p < 1 else warped
    expected = warped.softmax(-1)[0].numpy()

    draws = 4000
    rows = [Row([0], Decoding(1, temperature, top_p, top_k, seed=seed)) for seed in range(draws)]
    counts = torch.bincount(torch.tensor(sample(logits.expand(draws, -1), rows)), minlength=50).numpy()
    assert (counts[expected == 0] == 0).all()
    frequent = expected * draws >= 5
    observed = [*counts[frequent], counts[~frequent].sum()]
    wanted = [*(expected[frequent] * draws), expected[~frequent].sum() * draws]
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    assert chisquare(observed, wanted, sum_check=False).pvalue > 0.001


def test_stop_sequences_end_and_are_cut_off(model: Model) -> None:
    whole = ask(model, QUESTIONS[:1], max_tokens=40)[0].completion
    stop = whole[9:12]
    output = ask(model, QUESTIONS[:1], max_tokens=40, stop_seqs=["never written", stop])[0]
    assert output.completion == whole[: whole.index(stop)]
    assert output.stop_reason == "stop"
    assert output.usage is not None
    assert output.usage.output_tokens < 40


def test_end_of_text_token_stops(directory: Path, reference: Any) -> None:
    engine = Engine(reference[0], reference[1], Limits(rows=4))
    try:
        prompt = chat_ids(reference[1], QUESTIONS[0])[0].tolist()
        free = rows_of(engine, [prompt], Decoding(max_tokens=12))[0].generated
        end = next(index for index, token in enumerate(free) if token not in free[:index] and index > 1)
        engine._sampler.eos = frozenset([free[end]])
        row = rows_of(engine, [prompt], Decoding(max_tokens=12))[0]
        assert (row.generated, row.stop_reason) == (free[: end + 1], "stop")
    finally:
        engine.close()


def test_prompt_longer_than_the_context(model: Model) -> None:
    output = ask(model, ["word " * 1000], max_tokens=8)[0]
    assert (output.stop_reason, output.completion) == ("model_length", "")
    assert "512" in (output.error or "")


def test_generation_stops_at_the_context(model: Model) -> None:
    used = asyncio.run(model.count_tokens([ChatMessageUser(content="")]))
    output = ask(model, ["x" * (512 - used - 5)], max_tokens=100)[0]
    assert output.usage is not None
    assert output.usage.total_tokens == 512 or output.stop_reason == "stop"
    assert output.stop_reason in ("model_length", "stop")


def test_prompts_cost_no_more_than_their_keys_and_values(reference: Any) -> None:
    """The last layer is gone through for tokens that are written, not for the prompts'."""
    rows = [Row([7, 8, 9, 10, *tail], Decoding(max_tokens=3)) for tail in ([11], [12, 13, 14])]
    widths: list[int] = []
    model = reference[0]
    handle = model.model.layers[-1].mlp.register_forward_hook(lambda _, given, __: widths.append(given[0].shape[1]))
    engine = Engine(model, reference[1])
    done = threading.Event()
    try:
        engine.submit(Request(rows, done.set))
        assert done.wait(60)
    finally:
        engine.close()
        handle.remove()
    assert [row.error for row in rows] == [None, None]
    assert widths == [1, 1, 1]
    for row in rows:
        prompt = torch.tensor([row.prompt])
        written = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=3, do_sample=False)
        assert row.generated == written[0, prompt.shape[1] :].tolist()


def test_prompts_of_one_token(directory: Path, reference: Any) -> None:
    engine = Engine(reference[0], reference[1], Limits(rows=4))
    try:
        prompts = [[7], [9], [7, 8, 9]]
        for chosen in (prompts[:1], prompts[:2], prompts):
            for row, prompt in zip(rows_of(engine, chosen, Decoding(max_tokens=8)), chosen, strict=True):
                assert row.generated == generate_alone(reference, torch.tensor([prompt]), 8)
    finally:
        engine.close()


def test_equal_prompts_are_computed_once(directory: Path, reference: Any) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    engine, widths, forward = Engine(model, reference[1], Limits(rows=8)), [], model.forward

    def watched(*args: Any, **settings: Any) -> Any:
        widths.append(tuple(settings["input_ids"].shape))
        return forward(*args, **settings)

    model.forward = watched
    try:
        prompt = chat_ids(reference[1], QUESTIONS[5])[0].tolist()
        row = Row(prompt, Decoding(max_tokens=3))
        same = [row, *(Row(prompt, Decoding(max_tokens=3)) for _ in range(7))]
        done = threading.Event()
        engine.submit(Request(same, on_done=done.set))
        assert done.wait(timeout=30)
        assert widths[0] == (1, len(prompt) - 1)
        assert set(widths[1:]) == {(8, 1)}
        assert all(one.generated == generate_alone(reference, torch.tensor([prompt]), 3) for one in same)
    finally:
        engine.close()


def test_unusual_caches_use_generate(directory: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    config = transformers.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)
    engine = Engine(transformers.BloomForCausalLM(config).eval(), tokenizer)
    try:
        assert isinstance(engine._decoder, GenerateDecoder)
    finally:
        engine.close()
