"""What `benchmarks/fuzz.py` runs: inputs, surfaces, and the growth of time with length."""
