"""The slots of an output: the places where its form says that an answer stands.

`declared` finds those named by a word or a field ("Answer: B", JSON, boxed), `leading` the answer that an output begins
with. What stands in one is read by `value`.
"""

from medbench.reading.slots.slot import Slot

__all__ = ["Slot"]
