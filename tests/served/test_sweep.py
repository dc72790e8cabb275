"""Sweeps over servers: the same outputs as in this process, adapters loaded in turn, weights on every candidate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medbench.errors import MedbenchError

pytest.importorskip("torch")
pytest.importorskip("openai", reason="the extra api is not installed")

from medbench.trainers.study import read_study
from medbench.trainers.sweep import sweep

QUESTIONS = ("What helps against a headache?", "I cannot sleep.", "Is a fever dangerous?")


def study_file(folder: Path, world: Any, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": text, "input": "", "output": "Rest at home, and drink enough."} for text in QUESTIONS]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "base": str(world.base),
        "adapters": {"pt": str(world.pt), "sft": str(world.sft)},
        "candidates": [{"pt": [0, 0.3], "sft": "1 - pt"}, {"pt": 0, "sft": 0}],
        "controls": False,
        "tasks": [{"task": "medbench/f5", "args": {"source": "items.jsonl"}}],
        "decoding": [{"temperature": 0, "max_tokens": 12}],
        **more,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    return folder / "study.yaml"


def outputs(file: Path) -> dict[str, Any]:
    """Candidate -> its texts by sample, after a sweep; with the weights that its log carries."""
    from inspect_ai.log import read_eval_log

    success, logs = sweep(read_study(file), file.parent / "out", display="none")
    assert success
    found = {}
    for header in logs:
        log = read_eval_log(header.location)
        about = (log.eval.metadata or {})["medbench"]
        texts = {sample.id: sample.output.completion for sample in log.samples or []}
        found[about["candidate"]] = (texts, about["weights"], about["series"], sorted(about["hashes"]))
    return found


@pytest.fixture(scope="module")
def here(world, tmp_path_factory) -> dict[str, Any]:
    """The same study in this process."""
    return outputs(study_file(tmp_path_factory.mktemp("here"), world))


def test_llama_cpp_is_told_the_scales_of_each_candidate(world, here, tmp_path: Path) -> None:
    from medbench.served.llama_server import serving

    with serving(world.base_gguf, [f"{world.sft_gguf}:0", f"{world.pt_gguf}:1"]) as address:
        serve = {"kind": "llamacpp", "base_url": f"{address}/v1", "adapters": {"pt": "pt.gguf", "sft": "sft.gguf"}}
        there = outputs(study_file(tmp_path, world, serve=serve))
        wrong = {**serve, "adapters": {"pt": "pt.gguf", "sft": "other.gguf"}}
        with pytest.raises(MedbenchError, match=r"sft is 'other.gguf'; the server .* was started with 0: .*sft.gguf"):
            outputs(study_file(tmp_path / "wrong", world, serve=wrong))
    assert there == here
    assert len({tuple(texts.values()) for texts, *_ in there.values()}) == 3


def test_vllm_gets_combined_adapters_within_its_slots(world, here, tmp_path: Path) -> None:
    from served_vllm import serving

    with serving(world.base, max_lora_rank=8, max_loras=1) as server:
        file = study_file(
            tmp_path, world, serve={"kind": "vllm", "base_url": server.address, "model": "base", "max_rank": 8}
        )
        assert outputs(file) == here
        names = ["pt=0,sft=1", "pt=0.3,sft=0.7"]
        assert server.events == [(what, name) for name in names for what in ("load", "unload")]
        assert (server.most, server.loaded) == (1, [])
        written = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "out" / "adapters").iterdir())
        assert written == names


def test_a_rank_that_the_server_refuses(world, tmp_path: Path) -> None:
    from served_vllm import serving

    with serving(world.base, max_lora_rank=4) as server:
        said = {"kind": "vllm", "base_url": server.address, "model": "base", "max_rank": 4}
        with pytest.raises(MedbenchError, match=r"pt=0.3,sft=0.7 combines to rank 8, and serve: max_rank is 4"):
            outputs(study_file(tmp_path / "said", world, serve=said))
        assert server.events == []
        unsaid = {"kind": "vllm", "base_url": server.address, "model": "base"}
        with pytest.raises(MedbenchError, match=r"rank 8 is greater than max_lora_rank 4.*--max-lora-rank"):
            outputs(study_file(tmp_path / "unsaid", world, serve=unsaid))
        assert server.loaded == []


def test_another_context_and_no_server(world, tmp_path: Path) -> None:
    from served_vllm import serving

    with serving(world.base, context=512) as server:
        serve = {"kind": "vllm", "base_url": server.address, "model": "base"}
        with pytest.raises(MedbenchError, match=r"takes 512 tokens, the base 1024.*context: 512"):
            outputs(study_file(tmp_path, world, serve=serve))
    with pytest.raises(MedbenchError, match="no server answers"):
        outputs(study_file(tmp_path, world, serve=serve))


@pytest.mark.parametrize(
    ("serve", "match"),
    [
        ("http://x", "expected {kind: vllm"),
        ({"kind": "vlm", "base_url": "http://x"}, "Did you mean vllm"),
        ({"kind": "vllm", "url": "http://x"}, "unknown key of serve 'url'"),
        ({"kind": "vllm"}, "base_url must be"),
        ({"kind": "vllm", "base_url": "localhost"}, "expected an address"),
        ({"kind": "vllm", "base_url": "http://x", "slots": 0}, "slots is 0"),
        ({"kind": "vllm", "base_url": "http://x"}, "model must say what the server calls the base"),
        ({"kind": "openai", "base_url": "http://x", "adapters": {"mix": 0.3}}, "must map"),
        ({"kind": "openai", "base_url": "http://x", "adapters": {"m": {"pt": 1}}}, "nothing in serve: adapters serves"),
        (
            {"kind": "vllm", "base_url": "http://x", "model": "b", "api_key_var": "NO_SUCH_KEY"},
            "NO_SUCH_KEY is not set",
        ),
    ],
)
def test_what_serve_may_say(world, tmp_path: Path, serve: Any, match: str) -> None:
    with pytest.raises(MedbenchError, match=match):
        read_study(study_file(tmp_path, world, serve=serve))


def test_named_models_of_a_server_that_loads_nothing(world, tmp_path: Path) -> None:
    named = {"sft": {"sft": 1}, "mix": {"pt": 0.3, "sft": 0.7}, "plain": {}}
    serve = {"kind": "openai", "base_url": "http://x/v1", "adapters": named}
    study = read_study(study_file(tmp_path, world, serve=serve))
    assert [(c.model, c.series) for c in study.candidates] == [
        ("openai-api/served/sft", "mix"),
        ("openai-api/served/mix", "mix"),
        ("openai-api/served/plain", "sft_only"),
    ]
