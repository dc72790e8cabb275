"""Models behind an OpenAI-compatible server: what it serves, and how adapters get there.

- `server`: a server's own answers: its models, its context, its LoRA endpoints;
- `endpoint`: next-token log-probabilities at fixed prompts, asked several times;
- `exact`: the same of every candidate, computed in this process;
- `distance`: which candidate the endpoint is nearest to, and whether that can be told, as pure functions of arrays;
- `command`: `medbench verify-served`;
- `gguf`: checkpoints and adapters as llama.cpp reads them.

Importing this package imports neither torch nor Inspect.
"""
