"""The slices in which a fit looks at the days that it learns last: each is counted as of its start, as if it were served."""

from __future__ import annotations

from datetime import datetime, timedelta

WEEK_DAYS = 7.0


def weeks(start: datetime, end: datetime, days: float = WEEK_DAYS) -> list[tuple[datetime, datetime]]:
    """Slices of so many days that end at `end`; the first may be shorter.

    >>> [(a.day, b.day) for a, b in weeks(datetime(2011, 11, 1), datetime(2011, 11, 10))]
    [(1, 3), (3, 10)]
    """
    length = min(timedelta(days=days), end - start)
    found = []
    while end > start:
        found.append((max(start, end - length), end))
        end -= length
    return found[::-1]
