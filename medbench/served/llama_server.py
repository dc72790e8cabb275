"""A llama.cpp server in a process of its own, from the package xllamacpp: for tests and benchmarks, or by hand.

    python -m medbench.served.llama_server --model FILE.gguf [--lora FILE.gguf:SCALE ...]

It prints its address and serves until its standard input is closed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click


@contextmanager
def serving(
    model: str | Path, loras: Sequence[str] = (), *, context: int = 0, slots: int = 4, threads: int = 1
) -> Iterator[str]:
    """The address of a server, without ``/v1``, while the context lasts.

    Args:
        model: a GGUF file.
        loras: adapters as GGUF files, each ``FILE:SCALE``.
        context: tokens of all slots together; 0 for the model's own.
        slots: requests at a time.
        threads: of the server.

    Raises:
        RuntimeError: it did not start; with the end of what it wrote.
    """
    command = [sys.executable, "-m", "medbench.served.llama_server", "--model", str(model)]
    command += [word for lora in loras for word in ("--lora", str(lora))]
    command += ["--context", str(context), "--slots", str(slots), "--threads", str(threads)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = next((line.strip() for line in process.stdout if line.startswith("http")), None)
        if address is None:
            raise RuntimeError(f"the llama.cpp server did not start (exit {process.wait()}): {' '.join(command)}")
        yield address
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@click.command()
@click.option("--model", required=True, type=click.Path(exists=True, dir_okay=False), help="A GGUF file.")
@click.option("--lora", "loras", multiple=True, help="An adapter as FILE.gguf:SCALE.")
@click.option("--context", default=0, show_default=True, help="Tokens of all slots together; 0: the model's own.")
@click.option("--slots", default=4, show_default=True, help="Requests at a time.")
@click.option("--threads", default=1, show_default=True)
def main(model: str, loras: tuple[str, ...], context: int, slots: int, threads: int) -> None:
    """Serve a GGUF file on a free port of this machine until standard input is closed."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx, parameters.n_parallel = context, slots
    # Keys and values in float32, as this process keeps them; 16 bits would move log-probabilities by a thousandth.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.verbosity = 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(file, float(scale))
        for file, _, scale in (text.rpartition(":") for text in loras)
    ]
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
