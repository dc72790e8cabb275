"""Refusals: a detector by rules, the class of supportive answers, and the agreement of both with human labels.

The detector lives in the core because probes, the micro-lab and the report all need it; `medbench.probes.refusal`
offers it under the name that outside code calls. `rules.py` and `cues/*.yaml` hold what it looks for. Importable
without torch and without Inspect.
"""

from medbench.refusal.detector import CLASSES, Class, Reading, classify, read

__all__ = ["CLASSES", "Class", "Reading", "classify", "read"]
