"""Sets of prompts that ship with medbench, as YAML (`medbench.benchmark.prompt_set`)."""
