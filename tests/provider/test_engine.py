"""One engine a base: who shares it, who closes it, what it imports and what Inspect learns of it."""

from __future__ import annotations

import asyncio
import gc
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
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
from provider_rows import QUESTIONS, ask, chat_ids, generate_alone

from medbench.errors import MedbenchError
from medbench.private.inspect import active_controller, forget_model_infos
from medbench.provider import engine as engine_module
from medbench.provider import tiny
from medbench.provider.api import MedbenchAPI, _open_connections
from medbench.provider.engine import Candidate, Engine, Limits, Request
from medbench.provider.sampling import Decoding, Row


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


def test_a_model_imports_inspect_s_needs_before_torch_and_puts_the_collectors_schedule_back(directory: Path) -> None:
    code = (
        "import gc, sys; before = gc.get_threshold(); from inspect_ai.model import get_model\n"
        "model = get_model(sys.argv[1], memoize=False); during = gc.get_threshold(); model.api.close()\n"
        "order = list(sys.modules); assert order.index('acp.schema') < order.index('torch')\n"
        "assert during[0] > before[0], during; assert gc.get_threshold() == before; assert gc.get_freeze_count() == 0"
    )
    subprocess.run([sys.executable, "-c", code, f"medbench/{directory}"], check=True)


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
