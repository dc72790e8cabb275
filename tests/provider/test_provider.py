"""The provider against `model.generate`, torch and transformers' own logits processors, on a tiny random model."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelInfo,
    ModelOutput,
    get_model,
    get_model_info,
    set_model_info,
)
from inspect_ai.solver import generate

from medbench.errors import MedbenchError
from medbench.private.inspect import active_controller, forget_model_infos
from medbench.provider import engine as engine_module
from medbench.provider import tiny
from medbench.provider.api import MedbenchAPI, _open_connections
from medbench.provider.decoding import GenerateDecoder
from medbench.provider.engine import Candidate, Engine, Limits, Request, acquire, release
from medbench.provider.errors import ProviderError
from medbench.provider.loading import Source
from medbench.provider.sampling import Decoding, Row, sample

QUESTIONS = [
    "A 45-year-old man presents with crushing chest pain radiating to the left arm. What is the next step?",
    "Which drug is first line?",
    "患者，女，30岁，发热三天。首选的检查是什么？",
    "Is aspirin safe in pregnancy? Answer yes, no or maybe.",
    "Name the nerve.",
    "A " + "very " * 60 + "long question about potassium.",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("tiny"), text=QUESTIONS * 3, vocab_size=400, hidden=64, context=512)


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    with get_model(f"medbench/{directory}", memoize=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def reference(directory: Path) -> Any:
    return (
        transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval(),
        transformers.AutoTokenizer.from_pretrained(directory),
    )


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


def test_logprobs_are_those_of_a_plain_forward_pass(model: Model, reference: Any) -> None:
    output = ask(model, QUESTIONS, max_tokens=6, logprobs=True, top_logprobs=4, temperature=0.5, seed=1)[1]
    bare, tokenizer = reference
    ids = chat_ids(tokenizer, QUESTIONS[1])[0].tolist()
    content = output.choices[0].logprobs.content  # type: ignore[union-attr]
    assert len(content) == 6
    for entry in content:
        with torch.no_grad():
            expected = bare(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        values, tokens = expected.topk(4)
        assert [top.logprob for top in entry.top_logprobs or []] == pytest.approx(values.tolist(), abs=1e-4)
        assert [top.token for top in entry.top_logprobs or []] == [tokenizer.decode([t]) for t in tokens.tolist()]
        matches = [t for t in range(len(expected)) if abs(expected[t].item() - entry.logprob) < 1e-5]
        chosen = next(t for t in matches if tokenizer.decode([t]) == entry.token)
        ids.append(chosen)


def test_prompt_logprobs_and_moments_are_those_of_a_plain_forward_pass(model: Model, reference: Any) -> None:
    outputs = ask(model, QUESTIONS, max_tokens=2, prompt_logprobs=3)
    bare, tokenizer = reference
    for question, output in zip(QUESTIONS, outputs, strict=True):
        ids = chat_ids(tokenizer, question)[0]
        with torch.no_grad():
            expected = bare(ids[None]).logits[0, :-1].log_softmax(-1)
        content = output.choices[0].prompt_logprobs.content  # type: ignore[union-attr]
        own = expected.gather(1, ids[1:, None])[:, 0]
        assert [entry.logprob for entry in content] == pytest.approx(own.tolist(), abs=1e-4)
        for place, entry in enumerate(content):
            best = [t for t in expected[place].topk(3).indices.tolist() if t != ids[place + 1]]
            assert [top.token for top in entry.top_logprobs or []] == [tokenizer.decode([t]) for t in best]
        # The formulas of mink-plus-plus: E[log p], and E[(log p)^2] - E[log p]^2
        mean = (expected.exp() * expected).sum(-1)
        variance = (expected.exp() * expected.square()).sum(-1) - mean.square()
        moments = (output.metadata or {})["prompt_moments"]
        assert moments["mean"] == pytest.approx(mean.tolist(), abs=1e-4)
        assert moments["deviation"] == pytest.approx(variance.sqrt().tolist(), abs=1e-3)
        assert output.usage is not None
        assert output.usage.output_tokens == 2


def test_prompts_of_token_ids_are_scored_without_generating(model: Model, reference: Any) -> None:
    bare, _ = reference
    ids = [[5, 9, 200, 31], [7, 7, 7], [100]]
    prompts = [[ChatMessageUser(content="", metadata={"prompt_token_ids": row})] for row in ids]
    only = {"medbench": {"prompt_only": True}}
    for row, output in zip(ids, ask(model, prompts, prompt_logprobs=1, extra_body=only), strict=True):
        with torch.no_grad():
            logits = bare(torch.tensor([row])).logits[0, :-1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(row)[1:, None])[:, 0].tolist()
        found = output.choices[0].prompt_logprobs
        assert [entry.logprob for entry in found.content] == pytest.approx(expected, abs=1e-4)  # type: ignore[union-attr]
        assert output.completion == ""
    for bad in ([2**20], ["1"], "12"):
        with pytest.raises(ProviderError, match="prompt_token_ids"):
            ask(model, [[ChatMessageUser(content="", metadata={"prompt_token_ids": bad})]])
    with pytest.raises(ProviderError, match="prompt_logprobs"):
        ask(model, QUESTIONS[:1], extra_body=only)


def test_choice_logprobs(model: Model, reference: Any) -> None:
    bare, tokenizer = reference
    names = ["A", "B", "chest pain", "不"]
    output = ask(model, QUESTIONS[:1], max_tokens=1, extra_body={"medbench": {"choices": names}})[0]
    assert output.metadata is not None
    prompt = chat_ids(tokenizer, QUESTIONS[0])[0].tolist()
    for name, value in output.metadata["choice_logprobs"].items():
        tokens, expected = tokenizer(name, add_special_tokens=False)["input_ids"], 0.0
        for place, token in enumerate(tokens):
            with torch.no_grad():
                logits = bare(torch.tensor([prompt + tokens[:place]])).logits[0, -1]
            expected += float(logits.log_softmax(-1)[token])
        assert value == pytest.approx(expected, abs=1e-4)
    single = ask(model, QUESTIONS[:1], max_tokens=1, extra_body={"medbench": {"choices": ["A", "B"]}})[0]
    assert single.metadata is not None
    assert single.metadata["choice_logprobs"]["B"] == pytest.approx(output.metadata["choice_logprobs"]["B"], abs=1e-4)


def test_counts_tokens_with_its_own_tokenizer(model: Model, reference: Any) -> None:
    assert asyncio.run(model.count_tokens(QUESTIONS[2])) == len(reference[1](QUESTIONS[2])["input_ids"])
    conversation = [ChatMessageUser(content=QUESTIONS[2])]
    assert asyncio.run(model.count_tokens(conversation)) == chat_ids(reference[1], QUESTIONS[2]).shape[1]


@pytest.mark.parametrize(
    ("setting", "messages", "expected"),
    [
        ("default", [ChatMessageUser(content="Q")], False),
        ("on", [ChatMessageUser(content="Q")], True),
        ("off", [ChatMessageUser(content="Q")], False),
        ("off", [ChatMessageUser(content="Write <think>")], False),
        ("default", [ChatMessageUser(content="Q"), ChatMessageAssistant(content="<think>\nFirst")], True),
        ("on", [ChatMessageUser(content="Q"), ChatMessageAssistant(content="done</think>\nThe answer")], False),
    ],
)
def test_prefilled_think_is_reported(directory: Path, setting: str, messages: list[Any], expected: bool) -> None:
    with get_model(f"medbench/{directory}", thinking=setting, memoize=False) as model:
        output = ask(model, [messages], max_tokens=2)[0]
    assert output.metadata is not None
    assert output.metadata["prefilled_think"] is expected


def test_the_chat_templates_hash_is_reported(directory: Path, model: Model) -> None:
    from medbench.provider.tiny import TEMPLATE

    found = ask(model, ["Q"], max_tokens=1)[0].metadata
    assert found is not None
    assert found["chat_template_sha256"] == hashlib.sha256(TEMPLATE.encode()).hexdigest()
    with get_model(f"medbench/{directory}", chat_template="none", memoize=False) as bare:
        found = ask(bare, ["Q"], max_tokens=1)[0].metadata
    assert found is not None
    assert found["chat_template_sha256"] == "none"


def test_thinking_can_be_set_per_request(model: Model) -> None:
    for settings in (
        {"extra_body": {"medbench": {"thinking": "on"}}},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}},
        {"reasoning_effort": "high"},
    ):
        output = ask(model, ["Q"], max_tokens=1, **settings)[0]
        assert output.metadata is not None
        assert output.metadata["prefilled_think"], settings


def test_assistant_prefill_is_continued(model: Model, reference: Any) -> None:
    output = ask(model, [[ChatMessageUser(content="Q"), ChatMessageAssistant(content="The answer is")]], max_tokens=8)[
        0
    ]
    ids = reference[1]("<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nThe answer is", return_tensors="pt")[
        "input_ids"
    ]
    expected = generate_alone(reference, ids, 8)
    assert output.completion == reference[1].decode(expected, skip_special_tokens=True)


def test_base_models_complete_text(directory: Path, reference: Any) -> None:
    with get_model(f"medbench/{directory}", chat_template="none", memoize=False) as model:
        output = ask(model, [[ChatMessageSystem(content="S"), ChatMessageUser(content="Q")]], max_tokens=8)[0]
    expected = generate_alone(reference, reference[1]("S\n\nQ", return_tensors="pt")["input_ids"], 8)
    assert output.completion == reference[1].decode(expected, skip_special_tokens=True)


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


def test_candidates_never_share_a_batch(directory: Path, reference: Any) -> None:
    base = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    other = tiny.build(directory / "other", vocab_size=len(reference[1]), text=QUESTIONS * 3, seed=9, context=512)
    second = transformers.AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32).eval()
    states = {"first": {k: v.clone() for k, v in base.state_dict().items()}, "second": second.state_dict()}
    engine = Engine(base, reference[1], Limits(rows=8))

    def switch(name: str) -> Candidate:
        return Candidate(name, lambda model: model.load_state_dict(states[name]) and None)

    try:
        prompt = chat_ids(reference[1], QUESTIONS[0])[0].tolist()
        names = ["first", "second"] * 3
        rows = [Row(prompt, Decoding(max_tokens=10)) for _ in names]
        waits = [threading.Event() for _ in names]
        for name, row, wait in zip(names, rows, waits, strict=True):
            engine.with_weights(switch(name)).submit(Request([row], on_done=wait.set))
        assert all(wait.wait(timeout=30) for wait in waits)
        expected = {
            "first": generate_alone(reference, torch.tensor([prompt]), 10),
            "second": generate_alone((second, reference[1]), torch.tensor([prompt]), 10),
        }
        assert expected["first"] != expected["second"]
        for name, row in zip(names, rows, strict=True):
            assert row.generated == expected[name]
    finally:
        engine.close()
        shutil.rmtree(other)


def test_models_on_one_base_share_an_engine(directory: Path) -> None:
    first = get_model(f"medbench/{directory}", memoize=False)
    second = get_model(f"medbench/{directory}", memoize=False, thinking="on")
    assert first.api.engine is second.api.engine  # type: ignore[attr-defined]
    first.api.close()
    assert ask(second, ["Q"], max_tokens=1)[0].usage is not None
    second.api.close()
    with pytest.raises(MedbenchError, match="closed"):
        ask(second, ["Q"], max_tokens=1)


def test_cancelled_requests_leave_and_others_go_on(model: Model) -> None:
    async def scenario() -> ModelOutput:
        long = asyncio.create_task(model.generate("Q", config=GenerateConfig(max_tokens=400)))
        kept = asyncio.create_task(model.generate("Name the nerve.", config=GenerateConfig(max_tokens=30)))
        await asyncio.sleep(0.05)
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        return await kept

    assert asyncio.run(scenario()).usage.output_tokens > 0  # type: ignore[union-attr]


def test_works_under_trio(model: Model) -> None:
    trio = pytest.importorskip("trio")
    api: Any = model.api
    output = trio.run(api.generate, [ChatMessageUser(content="Q")], [], "none", GenerateConfig(max_tokens=2))
    assert output.usage.output_tokens == 2


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


# What only some commands, scorers and models need; each costs a tenth of a second and more.
HEAVY = [
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "tokenizers",
    "datasets",
    "pandas",
    "pyarrow",
    "scipy.stats",
    "scipy.optimize",
    "numba",
    "sacrebleu",
    "rouge_score",
    "jieba",
    "opencc",
    "datasketch",
    "ray",
    "matplotlib",
    "sklearn",
]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("medbench", [*HEAVY, "numpy", "inspect_ai", "click"]),
        ("medbench.cli", [*HEAVY, "numpy", "inspect_ai"]),
        ("medbench._registry", HEAVY),
        ("medbench.provider.api", HEAVY),
    ],
)
def test_what_every_process_imports_is_light(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_registering_reads_no_rule_file() -> None:
    """Every Inspect process imports the registry, few read a text: rules are read when first needed."""
    code = (
        "import medbench.reading.rulefile as rulefile; calls = []; load = rulefile.load;"
        "rulefile.load = lambda *given, **named: (calls.append(given), load(*given, **named))[1];"
        "import medbench._registry; before = len(calls);"
        "from medbench.answers import extract_choice; extract_choice('A is right.'); print(before, len(calls) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "0 True"


def test_a_model_imports_what_inspect_needs_before_torch(directory: Path) -> None:
    code = (
        "import sys; from inspect_ai.model import get_model; get_model(sys.argv[1]);"
        "order = list(sys.modules); assert order.index('acp.schema') < order.index('torch')"
    )
    subprocess.run([sys.executable, "-c", code, f"medbench/{directory}"], check=True)


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


def test_one_model_by_several_names_is_loaded_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory.parent)
    names = [str(directory), f"./{directory.name}", f"{directory}/../{directory.name}"]
    models = [
        get_model(f"medbench/{name}", memoize=False, dtype=kind) for name in names for kind in ("auto", "float32")
    ]
    engines = {id(model.api.engine) for model in models}  # type: ignore[attr-defined]
    for model in models:
        model.api.close()
    assert len(engines) == 1


def test_the_last_close_frees_the_model(directory: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(directory, tmp_path / "copy"))
    model = get_model(f"medbench/{copied}", memoize=False)
    ask(model, ["Q"], max_tokens=1)
    weights = weakref.ref(model.api.engine.model.lm_head.weight)  # type: ignore[attr-defined]
    model.api.close()
    gc.collect()
    assert weights() is None
    with pytest.raises(MedbenchError, match="closed"):
        asyncio.run(model.count_tokens("Q"))


def test_the_collectors_schedule_is_put_back() -> None:
    code = (
        "import gc, sys; before = gc.get_threshold(); from inspect_ai.model import get_model\n"
        "model = get_model(sys.argv[1], memoize=False); during = gc.get_threshold(); model.api.close()\n"
        "assert during[0] > before[0], during; assert gc.get_threshold() == before; assert gc.get_freeze_count() == 0"
    )
    subprocess.run([sys.executable, "-c", code, "medbench/microlab"], check=True)


def test_inspect_learns_the_context_without_making_the_model_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with get_model(f"medbench/{directory}", memoize=False, dtype="bfloat16") as model:
        monkeypatch.setattr(MedbenchAPI, "__init__", lambda *args, **settings: pytest.fail("made again"))
        info = get_model_info(str(model))
        assert info is not None
        assert info.context_length == 512
        forget_model_infos()


def test_what_a_user_registered_about_a_model_stands(directory: Path) -> None:
    set_model_info(f"medbench/{directory}", ModelInfo(context_length=99))
    try:
        with get_model(f"medbench/{directory}", memoize=False) as model:
            info = get_model_info(str(model))
        assert info is not None
        assert info.context_length == 99
    finally:
        forget_model_infos()


def test_an_evaluation_opens_all_connections_at_once(directory: Path, tmp_path: Path) -> None:
    with get_model(f"medbench/{directory}", memoize=False) as model:
        api: Any = model.api
        flying, most = set(), 0
        submit = api._submit

        def counted(request: Request) -> None:
            nonlocal most
            flying.add(request)
            most = max(most, sum(not one.cancelled and one.left > 0 for one in flying))
            submit(request)

        api._submit = counted
        dataset = [Sample(input=f"{number} {QUESTIONS[4]}") for number in range(150)]
        (log,) = inspect_eval(
            Task(dataset=dataset, solver=generate()),
            model=model,
            log_dir=str(tmp_path),
            display="none",
            max_tokens=2,
            log_realtime=False,
        )
    assert log.status == "success"
    assert most > 100  # Inspect alone starts with 20 and never passes 100


def test_connections_that_a_user_sets_during_the_run_stand() -> None:
    with active_controller("medbench/x") as controller:
        _open_connections(GenerateConfig())
        assert controller.concurrency == controller.max > 100
        controller.set_max(30)  # inspect ctl
        _open_connections(GenerateConfig())
        assert (controller.concurrency, controller.max) == (30, 30)


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


@pytest.mark.parametrize(("below", "threads"), [(10_000_000, 1), (1, 3)])
def test_a_small_model_on_a_cpu_runs_on_one_thread(
    below: int, threads: int, reference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(engine_module, "ONE_THREAD_BELOW", below)
    monkeypatch.setattr(engine_module, "_THREADS", 3)
    seen: list[int] = []
    done = threading.Event()

    def on_done() -> None:
        seen.append(torch.get_num_threads())
        done.set()

    engine = Engine(reference[0], reference[1])
    try:
        engine.submit(Request([Row([5, 6], Decoding(max_tokens=1))], on_done))
        assert done.wait(60)
    finally:
        engine.close()
    assert seen == [threads]
    assert torch.get_num_threads() == before  # the caller's own work keeps its threads


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


def test_a_conversation_that_the_template_refuses(directory: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}Q"
    with get_model(f"medbench/{directory}", chat_template=template, memoize=False) as model:
        with pytest.raises(MedbenchError, match=r"(?s)system, user.*no system role"):
            ask(model, [[ChatMessageSystem(content="S"), ChatMessageUser(content="Q")]])
        assert ask(model, ["Q"], max_tokens=1)[0].usage is not None


def test_unusual_caches_use_generate(directory: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    config = transformers.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)
    engine = Engine(transformers.BloomForCausalLM(config).eval(), tokenizer)
    try:
        assert isinstance(engine._decoder, GenerateDecoder)
    finally:
        engine.close()
