"""A path or hub id -> a causal language model and its tokenizer, from safetensors only."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medbench
from medbench.errors import MedbenchError, unknown
from medbench.files import places
from medbench.provider.errors import ProviderError, need
from medbench.sources.hub import require_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# `medbench/microlab` is this directory of the installed package; trainers/microlab builds what lies in it.
MICROLAB = Path(medbench.__file__).parent / "data" / "microlab"
DTYPES = ("auto", "float32", "bfloat16", "float16")
# While a model is loaded: new container objects between two looks for garbage. Garbage in cycles is rare here, and so
# many objects are some 10 MB.
COLLECT_EVERY = 50_000
_schedule: list[int] = []  # Python's own, while COLLECT_EVERY is in force


@dataclass(frozen=True)
class Source:
    """What to load, and how. Equal sources share one engine.

    Attributes:
        model: a directory, a hub id, or ``microlab``.
        revision: branch, tag or commit of a hub id.
        device: ``auto`` (CUDA, else Apple's MPS, else CPU) or a torch device.
        dtype: ``auto`` (bfloat16 on CUDA, float32 elsewhere), ``float32``, ``bfloat16`` or ``float16``.
        attention: transformers' attention implementation.
        trust_remote_code: whether code that comes with the model may run.
    """

    model: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "sdpa"
    trust_remote_code: bool = False


def resolve(model: str) -> str:
    """The directory or hub id that a model name stands for.

    Raises:
        ProviderError: a directory that holds no model, or the embedded model is not in this installation.
    """
    if model == "microlab":
        if not (MICROLAB / "config.json").is_file():
            raise ProviderError(
                f"this installation holds no embedded model ({MICROLAB} is missing). "
                "Make one with: medbench microlab build --out DIR, then use --model medbench/DIR"
            )
        return str(MICROLAB)
    path = places.local(model).expanduser()
    if not path.exists():
        if model.startswith(("/", ".", "~")) or model.count("/") > 1:
            raise ProviderError(
                f"no model directory {model!r} (seen from {Path.cwd()}); a hub id has the form OWNER/NAME."
            )
        return model
    if not path.is_dir():
        raise ProviderError(f"{model} is a file; expected the directory that holds config.json and *.safetensors.")
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ProviderError(
            f"{model} is a LoRA adapter without its base. Merge it first: "
            "medbench merge --base BASE --adapter NAME=DIR:1.0 --out OUT"
        )
    if not (path / "config.json").is_file():
        raise ProviderError(f"{model} holds no config.json, so it is no transformers model.")
    if not any(path.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
        if pickles:
            raise ProviderError(
                f"{model} has its weights only as pickles ({', '.join(pickles[:3])}), which run code when loaded. "
                'Convert them once where you trust them: python -c "from transformers import AutoModelForCausalLM; '
                f"AutoModelForCausalLM.from_pretrained('{model}', use_safetensors=False).save_pretrained('OUT')\", "
                "then copy the tokenizer files beside them."
            )
        raise ProviderError(f"{model} holds a config.json but no *.safetensors weights.")
    return str(path.resolve())


def settled(source: Source) -> Source:
    """The source with its defaults decided, so that equal models are equal sources, however they were named.

    Raises:
        ProviderError: see `resolve`; no such device.
    """
    device = _device(source.device)
    dtype = str(_dtype(source.dtype, device)).removeprefix("torch.")
    return dataclasses.replace(source, model=resolve(source.model), device=str(device), dtype=dtype)


def load(source: Source) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in evaluation mode on its device, and its tokenizer.

    Raises:
        ProviderError: no such model, weights that are not safetensors, an architecture transformers does not know, code
            that would have to be trusted, or a missing package.
    """
    location = resolve(source.model)
    try:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise need("local", error) from error
    try:
        require_model(location, source.revision)
    except MedbenchError as error:
        raise ProviderError(str(error)) from error
    device = _device(source.device)
    dtype = _dtype(source.dtype, device)
    common: dict[str, Any] = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # Inspect's display owns the terminal
    try:
        config = AutoConfig.from_pretrained(location, **common)
        tokenizer = AutoTokenizer.from_pretrained(location, **common)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location,
            config=config,
            dtype=dtype,
            attn_implementation=source.attention,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # _check_complete refuses them by name
            # Straight to the accelerator; on the CPU `device_map` would only cost the import of accelerate.
            **({} if device.type == "cpu" else {"device_map": {"": device}}),
            **common,
        )
    except Exception as error:  # whatever the libraries below raise about files that are not theirs
        raise ProviderError(_explain(source, error)) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    model, report = loaded
    _check_complete(source, report, tokenizer)
    return model.eval(), tokenizer


def _check_complete(source: Source, report: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """transformers draws missing weights at random and makes an empty tokenizer of missing files, with a warning."""
    missing, mismatched = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    if missing:
        raise ProviderError(
            f"{source.model} lacks {len(missing)} of the weights that its config.json describes, e.g. {missing[0]}: "
            "is it a whole causal language model, with all its *.safetensors?"
        )
    if mismatched:
        name, found, expected = mismatched[0]
        raise ProviderError(
            f"{len(mismatched)} weights of {source.model} have other shapes than its config.json says, e.g. {name}: "
            f"{list(found)}, expected {list(expected)}. Do the files belong together?"
        )
    if not tokenizer("The answer is A.", add_special_tokens=False)["input_ids"]:
        raise ProviderError(f"{source.model} has no tokenizer; expected its files (tokenizer.json) beside config.json.")


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Import and load without garbage collection, then exempt from it what is there to stay.

    torch, transformers and Inspect are a million objects, all alive: going through them again and again took a sixth of
    the processor time of an evaluation of 500 questions with a tiny model (benchmarks/provider.py).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def collect_less_often() -> None:
    """Look for garbage every `COLLECT_EVERY` objects, until `collect_as_before`.

    The samples under way are thousands of objects each, and Python's own schedule goes through the youngest of them
    every 700 objects.
    """
    youngest, *older = gc.get_threshold()
    if 0 < youngest < COLLECT_EVERY:
        _schedule[:] = [youngest, *older]
        gc.set_threshold(COLLECT_EVERY, *older)


def collect_as_before() -> None:
    """Undo `collect_less_often`."""
    if _schedule:
        gc.set_threshold(*_schedule)
        _schedule.clear()


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ProviderError(f"-M device={name}: {error}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ProviderError(f"-M device={name}: this torch ({torch.__version__}) sees no CUDA device.")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    import torch

    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _explain(source: Source, error: Exception) -> str:
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":
        advice = "It does not fit this device. Choose another with -M device=, or half precision with -M dtype=bfloat16"
    elif "trust_remote_code" in text:
        advice = "It brings its own code. Read that code, then allow it with -M trust_remote_code=true"
    elif type(error).__name__ == "SafetensorError":
        advice = "A *.safetensors file is damaged or cut off: copy or download it again."
    elif "safetensors" in text:
        advice = "Only safetensors are loaded. Convert the weights, or pass -M revision= of a converted branch."
    elif "attn_implementation" in text or "scaled_dot_product" in text:
        advice = "Choose another attention with -M attention=eager"
    elif not Path(source.model).exists():
        advice = "Is the hub id right, the hub reachable, and are you logged in where the model is gated?"
    else:
        advice = "Is it a causal language model that this transformers knows?"
    return f"cannot load model {source.model!r}. {advice}\n{type(error).__name__}: {text}"
