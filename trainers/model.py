"""The base model of a run, its tokenizer, the adapter's shape, and TRL's settings, from a recipe."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from medbench.advice import install
from medbench.errors import MedbenchError, unknown
from medbench.provider.chat import template_source
from medbench.provider.loading import resolve
from medbench.sources.hub import require_model
from medbench.trainers.data import IGNORED, Message, tokenize_messages
from medbench.trainers.recipe import Recipe, Stage

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig


def load_tokenizer(stage: Stage, recipe: Recipe) -> PreTrainedTokenizerBase:
    """The base's tokenizer.

    Raises:
        MedbenchError: the base is no model or holds pickles, or its tokenizer lacks what the template needs; or
            has a template that runs away.
    """
    from transformers import AutoTokenizer

    require_model(resolve(recipe.model_name_or_path), recipe.model_revision)
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


def _check_template(stage: Stage, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """The template is the one that evaluation will use, and its answers end where the model stops."""
    name = recipe.model_name_or_path
    if tokenizer.eos_token_id is None:
        raise MedbenchError(f"the tokenizer of {name} has no end-of-text token, which training needs.")
    if stage == "pt":
        return
    template_source(tokenizer, None)  # refuses one that runs away before anything renders it
    if recipe.template == "chat" and not tokenizer.chat_template:
        raise MedbenchError(f"{name} has no chat template; use template: qwen3 or qwen3_nothink.")
    if recipe.template != "chat":
        if len(tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]) != 1:
            raise MedbenchError(
                f"template {recipe.template} needs ChatML's <|im_start|> and <|im_end|> as single tokens, which "
                f"{name} does not have; use template: chat."
            )
        if tokenizer.chat_template:
            _check_agreement(recipe, tokenizer)
    _check_ending(recipe, tokenizer)


def _check_agreement(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """A ``qwen3*`` template against the tokenizer's own, by which the model is prompted when it is evaluated."""
    chatml = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    asked = [{"role": "user", "content": "x"}]
    own = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    if not own.startswith(chatml):  # what may follow is a think tag that the template opens for the model
        differs = f"its own template writes {own!r} where {recipe.template} writes {chatml!r}"
    elif recipe.template == "qwen3" and "<think>" not in str(tokenizer.chat_template):
        differs = "its own template knows no <think> blocks, which qwen3 would teach it"
    else:
        return
    raise MedbenchError(
        f"template {recipe.template} does not fit {recipe.model_name_or_path}: {differs}. The model would be evaluated "
        "with other prompts than it was trained on; use template: chat, the tokenizer's own."
    )


def _check_ending(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """What is learned of an answer must hold a token at which generation stops."""
    turns = [Message("user", "x"), Message("assistant", "y")]
    _, labels = tokenize_messages(
        turns, tokenizer, template=recipe.template, train_on_prompt=False, mask_history=recipe.mask_history
    )
    ends = _end_tokens(recipe, tokenizer)
    learned = [label for label in labels if label != IGNORED]
    if not ends & set(learned):
        raise MedbenchError(
            f"template {recipe.template} of {recipe.model_name_or_path} ends an answer with "
            f"{tokenizer.decode(learned[-3:])!r}, which holds none of the model's end tokens "
            f"({', '.join(repr(tokenizer.decode([end])) for end in sorted(ends))}): trained so, it would never stop. "
            "Let the chat template write one, or name the template's own end under eos_token_id in "
            "generation_config.json."
        )


def _end_tokens(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens at which generation stops: the tokenizer's, and those of the generation settings if there are any."""
    from transformers import GenerationConfig

    try:
        named = GenerationConfig.from_pretrained(
            resolve(recipe.model_name_or_path), revision=recipe.model_revision or "main"
        ).eos_token_id
    except OSError:  # a model need not have the file
        named = None
    listed = named if isinstance(named, list) else [] if named is None else [named]
    return {tokenizer.eos_token_id, *listed}


def lora_config(recipe: Recipe, model: PreTrainedModel) -> LoraConfig:
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


def load_model(recipe: Recipe, torch: ModuleType) -> PreTrainedModel:
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


def attention(recipe: Recipe, torch: ModuleType) -> str:
    """FlashAttention-2 where it is installed and there is a CUDA device, PyTorch's SDPA otherwise."""
    from transformers.utils import is_flash_attn_2_available

    available = torch.cuda.is_available() and is_flash_attn_2_available()
    if recipe.flash_attn == "fa2" and not available:
        raise MedbenchError(
            f"flash_attn: fa2 needs a CUDA device and FlashAttention; use auto or sdpa, or: {install('flash')}"
        )
    return "flash_attention_2" if available and recipe.flash_attn != "sdpa" else "sdpa"


def bfloat16(recipe: Recipe) -> bool:
    """Whether to train in bfloat16: as asked for, or where an accelerator has it."""
    from transformers.utils import is_torch_bf16_gpu_available

    return is_torch_bf16_gpu_available() if recipe.bf16 == "auto" else recipe.bf16


def training_arguments(recipe: Recipe, torch: ModuleType, *, evaluate: bool, resumed: bool) -> SFTConfig:
    """TRL's settings; with `evaluate` before the first step, and along the way where `eval_steps` says when."""
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
        eval_on_start=evaluate and not resumed,  # what training changed is seen from before its first step
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
        ddp_find_unused_parameters=False if recipe.finetuning_type == "lora" else None,  # as LLaMA-Factory
        average_tokens_across_devices=True,  # a step's mean is over all its tokens, whichever process had them
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.accelerator.is_available(),
    )
