"""Predictions files of other tools, one output a row, before they are joined to a benchmark's items.

`formats.FORMATS` names the layouts, one module each; `read_predictions` reads any of them.
"""

from __future__ import annotations

from medbench.predictions.prediction import Prediction, user_turn

__all__ = ["Prediction", "user_turn"]
