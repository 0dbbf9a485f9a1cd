"""Maps from a raw probability to a calibrated one. They are learnt in training/behaviour/calibration.py.

A map is a kind and a few numbers, so that it travels in a safetensors file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kind = Literal["identity", "temperature", "platt", "isotonic"]
TINY = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationMap:
    """Monotone: a higher raw probability never becomes a lower one.

    numbers: identity (); temperature (slope,); platt (slope, offset), both on log-odds (Platt 1999, Guo et al. 2017);
    isotonic (x_1 … x_n, y_1 … y_n), straight lines between knots (Zadrozny & Elkan 2002).
    """

    kind: Kind = "identity"
    numbers: Floats = field(default_factory=lambda: np.zeros(0))

    def __call__(self, raw_N: npt.NDArray[Any]) -> Floats:
        """(N,) calibrated probabilities.

        >>> CalibrationMap("temperature", np.array([0.0]))(np.array([0.9]))
        array([0.5])
        """
        raw = np.asarray(raw_N, np.float64)
        if self.kind == "identity":
            return raw
        if self.kind == "isotonic":
            knots, values = np.split(self.numbers, 2)
            return np.asarray(np.interp(raw, knots, values))
        slope, offset = (*self.numbers, 0.0)[:2]
        return sigmoid(slope * log_odds(raw) + offset)


def log_odds(chances: npt.NDArray[Any]) -> Floats:
    """log(p / (1 - p)), finite."""
    p = np.clip(np.asarray(chances, np.float64), TINY, 1 - TINY)
    return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(values: npt.NDArray[Any]) -> Floats:
    """1 / (1 + exp(-v)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64))))
