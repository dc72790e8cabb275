"""Sets of prompts that ship with medbench, as YAML (`medbench.prompt_set`)."""
