"""The Inspect model provider `medbench/`: any local or hub causal language model, generated in this process.

`inspect eval tasks/medqa.py --model medbench/PATH_OR_HUB_ID`. See docs/provider.md for its arguments.

    known     what each of Inspect's providers can do (this is a table, and needs neither)
    errors    what can go wrong, as a user reads it
    chat      messages -> prompt text
    loading   a path or hub id -> model and tokenizer
    sampling  logits -> tokens, log-probabilities and stop reasons, one row at a time
    prompt_scores  prompts -> log-probabilities of their own tokens
    logprobs  those, and a completion's, in Inspect's types
    decoding  rows -> forward passes (continuous batching, or `model.generate` for caches it cannot cut)
    engine    the worker thread that owns a model, shared by every Inspect model on the same base
    api       the Inspect `ModelAPI`
    tiny      a small random model with its own tokenizer, for tests and benchmarks

Importing this package imports neither torch nor Inspect.
"""
