"""What of a user's settings may be written down: keys and passwords never are.

Arguments of other people's providers reach manifests, logs, reports and messages, and any of them may be a secret:
`api_key`, `auth`, `openai_key`, a header. Guessing which names are secret fails at the next provider, so it is the
other way round: a value is written if its *name* is known to be harmless, or if it is true, false or nothing. The name
of an argument is always written, so that a reader sees that it was given.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from medbench.errors import without_secrets

WITHHELD = "(withheld)"

# Names of arguments that decide how a model answers or where it runs, and hold no secret.
# This package's provider.
_PROVIDER = """
    device dtype revision attention trust_remote_code thinking chat_template max_batch_size cache_gib adapters
    merge_method merge_settings merge_rounding any_base
"""
# Parameters of this package's tasks.
_TASKS = """
    source revision encoding on_bad_row mode shuffle_options fewshot fewshot_source fewshot_seed prompt_language
    control orders rephrased prompt answers
    prefilled subset subjects language judge verdicts tie views floor calibration ids facts mapping
    name kind question options answer context reference separator group
"""
# Settings of a merge.
_MERGES = """
    density seed epsilon gamma select_topk rank inner remove project
"""
# Models in a process, or in a server that Inspect starts (hf, vllm, sglang, llama-cpp).
_LOCAL = """
    model_path tokenizer tokenizer_path tokenizer_mode batch_size use_chat_template enable_thinking do_sample
    hidden_states auto_model_class attn_implementation device_map torch_dtype tensor_parallel_size
    data_parallel_size pipeline_parallel_size gpu_memory_utilization max_model_len max_num_seqs
    max_num_batched_tokens quantization load_format enforce_eager swap_space kv_cache_dtype enable_prefix_caching
    enable_lora max_loras max_lora_rank reasoning_parser enable_reasoning n_ctx n_gpu_layers timeout host port
"""
# APIs.
_APIS = """
    responses_api responses_store service_tier api_version emulate_tools stream streaming reasoning_effort
    reasoning_tokens reasoning_history prompt_logprobs temperature top_p top_k max_tokens
"""
HARMLESS = frozenset(" ".join((_PROVIDER, _TASKS, _MERGES, _LOCAL, _APIS)).split())

_NAMED = re.compile(r"(?P<name>[\w.-]+)=(?P<value>.*)", re.DOTALL)


def shown_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A provider's arguments as they may be written down.

    Args:
        arguments: names and values, as given with ``-M`` or in a study; nested mappings are read likewise.

    Returns:
        the same names; values of names that are not known to be harmless are `WITHHELD`.
    """
    return {str(name): _shown(str(name), value) for name, value in arguments.items()}


def _shown(name: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if name not in HARMLESS:
        return WITHHELD
    if isinstance(value, Mapping):
        return shown_arguments(value)
    return without_secrets(value) if isinstance(value, str) else value


def told_apart(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """As `shown_arguments`, but what is withheld keeps six digits of its hash, so that unlike settings stay unlike."""
    shown = shown_arguments(arguments)
    for name, value in arguments.items():
        if shown[str(name)] == WITHHELD:
            digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
            shown[str(name)] = f"{WITHHELD[:-1]}, {digest[:6]})"
    return shown


def shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of this package as they may be written down: provider's arguments in them (`args`, `model_args`) by the
    rule of `shown_arguments`, addresses without secrets, everything else as it is."""
    return {without_secrets(str(name)): _within(str(name), value) for name, value in settings.items()}


def _within(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        return shown_arguments(value) if name in ("args", "model_args") else shown_settings(value)
    if isinstance(value, list | tuple):
        return [_within(name, one) for one in value]
    return without_secrets(value) if isinstance(value, str) else value


def shown_command(words: Iterable[str]) -> list[str]:
    """A command line as it may be written down: ``-M NAME=VALUE`` as arguments, addresses without secrets."""
    shown: list[str] = []
    model_argument = False
    for word in words:
        attached = word.startswith("-M") and len(word) > 2 and not word.startswith("--")
        text = word[2:] if attached else word
        if model_argument or attached:
            named = _NAMED.fullmatch(text)
            text = f"{named['name']}={_shown(named['name'], named['value'])}" if named else WITHHELD
            shown.append(("-M" if attached else "") + text)
        else:
            shown.append(without_secrets(word))
        model_argument = word == "-M"
    return shown
