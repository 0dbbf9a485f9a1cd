"""Which days are compared: the newest interval and the reference it is held against, in blocks of equal length."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from endcap.errors import InputError

LOOKBACK = timedelta(days=182)


@dataclass(frozen=True, slots=True)
class Windows:
    """Half-open in UTC: current is [start, end), the reference is `blocks` whole intervals that end at `reference_end`.

    A block is as long as the current interval, so that the reference itself can tell how much intervals usually differ.
    """

    start: datetime
    end: datetime
    reference_end: datetime
    blocks: int
    lookback: timedelta  # what a shopper or an item did longer before an interval counts as nothing, for every interval alike

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    @property
    def reference_start(self) -> datetime:
        return self.reference_end - self.blocks * self.length

    @property
    def block_starts(self) -> list[datetime]:
        """Oldest first."""
        return [self.reference_start + block * self.length for block in range(self.blocks)]


def choose_windows(
    interval_end: datetime,
    trained_until: datetime,
    *,
    interval_days: int,
    reference_days: int,
    first_event: datetime,
) -> Windows:
    """The newest `interval_days` against the last `reference_days` that the champion has learnt from.

    The reference never reaches into the current interval, nor behind the first event. It keeps at least two blocks. No interval
    looks further back than its oldest block can, so that histories do not grow merely because the shop's records do.

    Raises:
        InputError: there is too little history to compare with.
    """
    length = timedelta(days=interval_days)
    start = interval_end - length
    reference_end = min(trained_until, start)
    wanted = max(reference_days // interval_days, 2)
    available = (reference_end - first_event) // length
    if available < 2:
        raise InputError(
            "too little history before the champion's training ended",
            field="monitoring.reference_days",
            value=f"{max(available, 0)} whole intervals of {interval_days} days",
            action=f"Drift is checked once there are at least two before {reference_end:%Y-%m-%d}.",
        )
    blocks = min(wanted, available)
    lookback = min(LOOKBACK, max(reference_end - blocks * length - first_event, length))
    return Windows(start, interval_end, reference_end, blocks, lookback)
