"""When and where a slate is asked for: weekday and hour of day (UTC), surface. One number an occasion, as of event kinds."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from endcap.data.features import SURFACE_CODES, Ints
from endcap.models.event_kinds import silent_table

MICROSECONDS_PER_HOUR = 3_600_000_000
SIZES = (7, 24, len(SURFACE_CODES))


def occasions_of(times_us_N: Ints, surfaces_N: Ints) -> Ints:
    """(N,) the occasion of each question, by its moment (microseconds since the epoch, UTC) and its surface code.

    >>> monday = np.datetime64("2026-01-05T13:59", "us").astype(np.int64)
    >>> [int(place[0]) for place in np.unravel_index(occasions_of(np.array([monday]), np.array([3])), SIZES)]
    [0, 13, 3]
    """
    hours = times_us_N // MICROSECONDS_PER_HOUR
    weekdays = (hours // 24 + 3) % 7  # Monday is 0; the epoch was a Thursday
    return np.asarray(np.ravel_multi_index((weekdays, hours % 24, surfaces_N), SIZES))


class Occasions(nn.Module):
    """The vector of an occasion: the sum of one of its weekday, one of its hour, one of its surface."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weekdays = silent_table(SIZES[0], dim)
        self.hours = silent_table(SIZES[1], dim)
        self.surfaces = silent_table(SIZES[2], dim, unknown=SURFACE_CODES[""])

    def forward(self, occasions: Tensor) -> Tensor:
        """(…, D) of occasions (…)."""
        rest, surface = occasions // SIZES[2], occasions % SIZES[2]
        whole: Tensor = self.weekdays(rest // SIZES[1]) + self.hours(rest % SIZES[1]) + self.surfaces(surface)
        return whole
