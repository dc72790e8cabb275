"""The base model of a run, its tokenizer, the adapter's shape, and TRL's settings, from a recipe."""

from __future__ import annotations

from typing import Any

from medbench.errors import MedbenchError, unknown
from medbench.provider.loading import resolve
from medbench.trainers.recipe import Recipe, Stage


def load_tokenizer(stage: Stage, recipe: Recipe) -> Any:
    """The base's tokenizer.

    Raises:
        MedbenchError: the base is no model or holds pickles, or the tokenizer lacks what the stage's template needs.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            resolve(recipe.model_name_or_path),
            revision=recipe.model_revision,
            trust_remote_code=recipe.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise MedbenchError(f"the tokenizer of {recipe.model_name_or_path} cannot be loaded: {error}") from error
    _check_template(stage, recipe, tokenizer)
    return tokenizer


def _check_template(stage: Stage, recipe: Recipe, tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise MedbenchError(
            f"the tokenizer of {recipe.model_name_or_path} has no end-of-text token, which training needs."
        )
    if stage == "pt":
        return
    if recipe.template == "chat" and not tokenizer.chat_template:
        raise MedbenchError(f"{recipe.model_name_or_path} has no chat template; use template: qwen3 or qwen3_nothink.")
    if recipe.template != "chat" and len(tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]) != 1:
        raise MedbenchError(
            f"template {recipe.template} needs ChatML's <|im_start|> and <|im_end|> as single tokens, which "
            f"{recipe.model_name_or_path} does not have; use template: chat."
        )


def lora_config(recipe: Recipe, model: Any) -> Any:
    """PEFT's settings of the adapter.

    Raises:
        MedbenchError: `lora_target` names a module that the model does not have.
    """
    from peft import LoraConfig

    if recipe.lora_target == "all":
        target: str | list[str] = "all-linear"  # every linear layer but the output layer
    else:
        given = recipe.lora_target
        target = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
        present = {name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "weight")}
        for name in target:
            if name.rpartition(".")[2] not in present:
                raise unknown(f"lora_target of {recipe.model_name_or_path}", name, present)
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type]  # annotated as int, and only ever divided
        lora_dropout=recipe.lora_dropout,
        target_modules=target,
        use_rslora=recipe.use_rslora,
        task_type="CAUSAL_LM",
    )


def load_model(recipe: Recipe, torch: Any) -> Any:
    """The base model in the dtype and with the attention of this device; weights from safetensors only.

    Raises:
        MedbenchError: it cannot be loaded, or the device cannot do what the recipe asks for.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantization = None
    if recipe.quantization_bit:
        if not torch.cuda.is_available():
            raise MedbenchError(
                "quantization_bit: 4 needs a CUDA device and bitsandbytes; leave it out on this machine."
            )
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16, bnb_4bit_quant_type="nf4"
        )
    try:
        return AutoModelForCausalLM.from_pretrained(
            resolve(recipe.model_name_or_path),
            revision=recipe.model_revision,
            trust_remote_code=recipe.trust_remote_code,
            use_safetensors=True,
            attn_implementation=attention(recipe, torch),
            # weights that are trained stay in float32: steps of usual size would be lost in bfloat16
            dtype=torch.bfloat16 if bfloat16(recipe) and recipe.finetuning_type == "lora" else torch.float32,
            quantization_config=quantization,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise MedbenchError(f"base model {recipe.model_name_or_path} cannot be loaded: {error}") from error


def attention(recipe: Recipe, torch: Any) -> str:
    """FlashAttention-2 where it is installed and there is a CUDA device, PyTorch's SDPA otherwise."""
    from transformers.utils import is_flash_attn_2_available

    available = torch.cuda.is_available() and is_flash_attn_2_available()
    if recipe.flash_attn == "fa2" and not available:
        raise MedbenchError("flash_attn: fa2 needs a CUDA device and pip install 'medbench[flash]'; use auto or sdpa.")
    return "flash_attention_2" if available and recipe.flash_attn != "sdpa" else "sdpa"


def bfloat16(recipe: Recipe) -> bool:
    """Whether to train in bfloat16: as asked for, or where an accelerator has it."""
    from transformers.utils import is_torch_bf16_gpu_available

    return is_torch_bf16_gpu_available() if recipe.bf16 == "auto" else recipe.bf16


def training_arguments(recipe: Recipe, torch: Any, *, evaluate: bool) -> Any:
    """TRL's settings; evaluates along the way where there is data for it and `eval_steps` says when."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=recipe.output_dir,
        max_length=recipe.cutoff_len,
        packing=recipe.packing,
        # whole examples, best fit decreasing; the collator's position ids keep attention inside each example
        packing_strategy="bfd",
        eval_packing=recipe.packing,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        per_device_eval_batch_size=recipe.per_device_eval_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        num_train_epochs=recipe.num_train_epochs,
        max_steps=recipe.max_steps,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_ratio if recipe.warmup_steps is None else recipe.warmup_steps,  # below 1: a share
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=recipe.optim,
        logging_steps=recipe.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # which would show the loss of a diverged run as 0
        eval_strategy="steps" if evaluate and recipe.eval_steps else "no",
        eval_steps=recipe.eval_steps,
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=recipe.save_total_limit,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=bfloat16(recipe),
        gradient_checkpointing=recipe.gradient_checkpointing,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.accelerator.is_available(),
    )
