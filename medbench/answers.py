"""The fixed names of answer extraction; how an output is read is in `medbench.reading`."""

from medbench.reading.choice import extract_choice
from medbench.reading.decision import extract_decision
from medbench.reading.extraction import Extraction, Status
from medbench.reading.number import extract_number

__all__ = ["Extraction", "Status", "extract_choice", "extract_decision", "extract_number"]
