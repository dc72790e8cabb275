"""`python -m medbench`, as `accelerate launch -m medbench` and torchrun start it."""

from __future__ import annotations

from medbench.cli import main

main()
