"""From a stored generation to scores: Inspect scorers, other harnesses' extractors, and what a score's number is."""
