"""Adapters as PEFT and others really save them, merged into real model classes: PEFT's own logits are the oracle."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from medbench.errors import MedbenchError  # noqa: E402
from medbench.trainers import merge as room  # noqa: E402
from medbench.trainers import verify_merge as verifying  # noqa: E402

from .conftest import make_adapter, make_base  # noqa: E402

IDS = torch.tensor([[1, 5, 7, 2, 9, 3]])


def gpt2(path: Path, **config: Any) -> Path:
    torch.manual_seed(0)
    settings = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 60, "n_positions": 16}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings | config))
    model.save_pretrained(path)
    return path


def gemma(path: Path) -> Path:
    """A Gemma base whose config.json omits tie_word_embeddings, as the hub's do."""
    torch.manual_seed(0)
    config = transformers.GemmaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=48, vocab_size=60, pad_token_id=0,
    )  # fmt: skip
    transformers.GemmaForCausalLM(config).save_pretrained(path)
    stored = json.loads((path / "config.json").read_text())
    stored.pop("tie_word_embeddings", None)
    (path / "config.json").write_text(json.dumps(stored))
    return path


def medgemma(root: Path) -> tuple[Path, Path]:
    """A base of MedGemma's class, which stores language_model.model.…, and an adapter on model.language_model.…"""
    torch.manual_seed(0)
    kind = transformers.Gemma3ForConditionalGeneration
    text = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        "intermediate_size": 48, "vocab_size": 70, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
        "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=60, boi_token_index=61,
        eoi_token_index=62,
    )  # fmt: skip
    base, adapter = root / "base", root / "pt"
    kind(config).save_pretrained(base)
    assert any(name.startswith("language_model.model.") for name in load_file(base / "model.safetensors"))
    lora = peft.LoraConfig(r=4, target_modules=r".*language_model.*(q_proj|o_proj)")
    wrapped = peft.get_peft_model(kind.from_pretrained(base), lora)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    wrapped.save_pretrained(adapter)
    assert any("model.language_model.layers" in key for key in load_file(adapter / "adapter_model.safetensors"))
    return base, adapter


def logits_of(path: Path, kind: Any = transformers.AutoModelForCausalLM) -> Any:
    with torch.no_grad():
        return kind.from_pretrained(path, dtype=torch.float32)(input_ids=IDS).logits


def peft_logits(base: Path, adapter: Path, kind: Any = transformers.AutoModelForCausalLM) -> Any:
    model = peft.PeftModel.from_pretrained(kind.from_pretrained(base, dtype=torch.float32), adapter)
    with torch.no_grad():
        return model(input_ids=IDS).logits


def check(base: Path, adapter: Path, out: Path, kind: Any = transformers.AutoModelForCausalLM, **settings: Any) -> None:
    """The merge at weight 1 gives PEFT's logits, which are not the base's, and verify-merge approves of it."""
    room.merge(base, [f"pt={adapter}:1"], out, **settings)
    expected = peft_logits(base, adapter, kind)
    assert (expected - logits_of(base, kind)).abs().max() > 0.01
    torch.testing.assert_close(logits_of(out, kind), expected, rtol=1e-4, atol=1e-4)
    found, changed = verifying.recover(base, out, [f"pt={adapter}"], {"pt": 1.0})
    assert found.weights["pt"] == pytest.approx(1.0, abs=1e-6)
    assert not changed


def refused(base: Path, adapter: Path, tmp_path: Path, match: str) -> None:
    with pytest.raises(MedbenchError, match=match):
        room.merge(base, [f"pt={adapter}:0.3"], tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def edited(source: Path, target: Path, config: dict[str, Any] | None = None, weights: Any = None) -> Path:
    shutil.copytree(source, target)
    path = target / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    if weights:
        path = target / "adapter_model.safetensors"
        save_file(weights(load_file(path)), path)
    return target


# ---- orientation ----


@pytest.mark.parametrize("targets", [["c_attn", "c_proj", "c_fc"], ["attn.c_proj"], ["c_proj", "lm_head"]])
@pytest.mark.parametrize("flag", [True, False])
def test_conv1d_is_turned_by_the_layer_s_type(tmp_path: Path, targets: list[str], flag: bool) -> None:
    # Untied: lm_head is a Linear beside the Conv1D layers, and attn.c_proj is square.
    base = gpt2(tmp_path / "base", tie_word_embeddings=False)
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.2, target_modules=targets)
    # PEFT saves one flag, that of the layer that it wrapped last, and reads each layer's type: either is right.
    check(base, edited(adapter, tmp_path / "flagged", {"fan_in_fan_out": flag}), tmp_path / "out")


def test_square_linear_layers_are_not_turned(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", dtype=torch.float32)
    adapter = make_adapter(base, tmp_path / "pt", seed=1, target_modules=["q_proj", "o_proj"])
    check(base, edited(adapter, tmp_path / "flagged", {"fan_in_fan_out": True}), tmp_path / "out")


def test_a_transposed_merge_is_rejected_by_verify_merge(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.2, target_modules=["attn.c_proj"])
    room.merge(base, [f"pt={adapter}:1"], tmp_path / "out")
    before, after = (load_file(path / "model.safetensors") for path in (base, tmp_path / "out"))
    turned = {
        k: before[k] + (v - before[k]).T if v.ndim == 2 and v.shape[0] == v.shape[1] else v for k, v in after.items()
    }
    save_file({k: v.contiguous() for k, v in turned.items()}, tmp_path / "out" / "model.safetensors")
    found, _ = verifying.recover(base, tmp_path / "out", [f"pt={adapter}"], {"pt": 1.0})
    assert not found.has_form


# ---- names ----


def test_gpt2_without_its_prefix(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.2, target_modules=["c_attn", "c_proj"])
    weights = load_file(base / "model.safetensors")
    save_file({key.removeprefix("transformer."): value for key, value in weights.items()}, base / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    check(base, adapter, tmp_path / "out")
    room.merge(base, [f"pt={adapter}:1"], tmp_path / "adapter", format="adapter")
    torch.testing.assert_close(
        peft_logits(base, tmp_path / "adapter"), peft_logits(base, adapter), rtol=1e-4, atol=1e-5
    )


def test_a_vision_language_base_that_stores_other_names_than_peft_says(tmp_path: Path) -> None:
    base, adapter = medgemma(tmp_path)
    check(base, adapter, tmp_path / "out", transformers.Gemma3ForConditionalGeneration)


# ---- tied embeddings ----


@pytest.mark.parametrize("extra", [{"target_modules": ["embed_tokens"]},
                                   {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}])  # fmt: skip
def test_embeddings_tied_by_the_class_s_default(tmp_path: Path, extra: dict[str, Any]) -> None:
    base = gemma(tmp_path / "base")
    refused(
        base, make_adapter(base, tmp_path / "pt", seed=1, std=0.2, **extra), tmp_path, "ties to its other embedding"
    )


def test_a_class_that_ties_is_no_obstacle_to_other_layers(tmp_path: Path) -> None:
    base = gemma(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.5, target_modules=["o_proj", "v_proj", "down_proj"])
    check(base, adapter, tmp_path / "out")


def test_a_copy_of_the_base_s_own_embedding_changes_nothing(tmp_path: Path) -> None:
    base = gemma(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.5, target_modules=["o_proj", "v_proj", "down_proj"])
    own = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    key = "base_model.model.model.embed_tokens.weight"
    check(base, edited(adapter, tmp_path / "copy", weights=lambda w: w | {key: own}), tmp_path / "out")


# ---- what PEFT saves beside A and B ----


def test_modules_to_save_with_norms_and_biases(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base")
    adapter = make_adapter(
        base, tmp_path / "pt", seed=1, std=0.2, target_modules=["c_attn"], modules_to_save=["ln_f", "mlp"]
    )
    check(base, adapter, tmp_path / "out")


def test_copies_of_the_original_module_are_skipped(tmp_path: Path) -> None:
    base = gpt2(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.2, target_modules=["c_attn"], modules_to_save=["ln_f"])
    extra = {"base_model.model.transformer.ln_f.original_module.weight": torch.ones(32)}
    check(base, edited(adapter, tmp_path / "more", weights=lambda w: w | extra), tmp_path / "out")


def test_fully_qualified_targets_of_one_layer(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", dtype=torch.float32)
    name = "model.layers.0.self_attn.q_proj"
    adapter = make_adapter(base, tmp_path / "pt", seed=1, std=0.5, target_modules=[name])
    check(base, adapter, tmp_path / "out")
    more = edited(adapter, tmp_path / "more", {"target_modules": [name, "model.layers.1.self_attn.q_proj"]})
    refused(base, more, tmp_path, "unknown target module 'model.layers.1.self_attn.q_proj'.*saved incompletely")


# ---- refusals name the real cause ----


@pytest.mark.parametrize("extra", [{"target_modules": ["lm_head"]}, {"target_modules": ["embed_tokens"]},
                                   {"target_modules": ["q_proj"]}])  # fmt: skip
def test_a_vocabulary_that_the_adapter_grew(tmp_path: Path, extra: dict[str, Any]) -> None:
    base = make_base(tmp_path / "base", dtype=torch.float32)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(308)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, **extra))
    wrapped.save_pretrained(tmp_path / "pt")
    refused(base, tmp_path / "pt", tmp_path, r"vocabulary of 308 tokens.*300.*resize_token_embeddings")


def test_keys_that_carry_an_adapter_s_name(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, target_modules=["q_proj"])
    renamed = edited(
        adapter,
        tmp_path / "named",
        weights=lambda w: {k.replace(".weight", ".default.weight"): v for k, v in w.items()},
    )
    refused(base, renamed, tmp_path, "'default'.*state_dict")


def test_a_gptq_base(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "pt", seed=1, target_modules=["q_proj"])
    for shard in base.glob("*.safetensors"):
        weights = load_file(shard)
        packed = {k.replace(".weight", ".qweight") if "q_proj" in k else k: v for k, v in weights.items()}
        save_file(packed, shard, metadata={"format": "pt"})
    index = base / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("q_proj.weight", "q_proj.qweight"))
    config = base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "gptq"}}))
    refused(base, adapter, tmp_path, "quantized .GPTQ.*unquantized base")


def test_a_hostile_pattern_is_stopped(lab: Any, tmp_path: Path) -> None:
    pattern = r"(?:[a-z._0-9]|[a-z]|q|r)+[A-Z]"
    start = time.process_time()
    bad = edited(lab.pt, tmp_path / "bad", {"rank_pattern": {pattern: 6, "q_proj": 6}})
    refused(lab.base, bad, tmp_path, "rank_pattern .*takes longer than 2.0 seconds")
    many = edited(lab.pt, tmp_path / "many", {"rank_pattern": {f"(x+)+{at}": 4 for at in range(20_000)}})
    refused(lab.base, many, tmp_path, "rank_pattern .*takes longer than 2.0 seconds")
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"base_model_name_or_path": 7}, "base_model_name_or_path in .* is 7; expected a name"),
        ({"base_model_name_or_path": "a\0b"}, "base_model_name_or_path in .* expected a name"),
        ({"target_modules": [1, None]}, "target_modules in .* expected names"),
        ({"target_modules": {"a": 1}}, "target_modules in .* expected names"),
        ({"lora_alpha": float("inf")}, "lora_alpha in .* is inf; expected a number above 0"),
        ({"lora_alpha": 10**400}, "lora_alpha in .* expected a number above 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha in .* is nan"),
        ({"alpha_pattern": {"q_proj": float("inf")}}, "alpha_pattern.* is inf"),
        ({"r": True}, "r in .* is True"),
        ({"rank_pattern": [1]}, "expected a mapping"),
        ({"rank_pattern": {"(" * 2000: 4}}, "rank_pattern"),
        ({"rank_pattern": {"(?R)": 6}}, "rank_pattern .*unknown extension"),
        ({"alpha_pattern": {"(?:x_proj){e<=1}": 3}}, "alpha_pattern .*not every engine"),  # fuzzy: all projections
    ],
)
def test_configs_that_are_not_what_they_should_be(lab: Any, tmp_path: Path, config: dict[str, Any], match: str) -> None:
    refused(lab.base, edited(lab.pt, tmp_path / "bad", config), tmp_path, match)
