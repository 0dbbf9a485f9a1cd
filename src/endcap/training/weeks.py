"""The weeks in which a fit looks at the days that it learns last: each is counted as of its start, as if it were served."""

from __future__ import annotations

from datetime import datetime, timedelta

PERIOD_DAYS = 7


def weeks(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Weeks that end at `end`; the first may be shorter.

    >>> [(a.day, b.day) for a, b in weeks(datetime(2011, 11, 1), datetime(2011, 11, 10))]
    [(1, 3), (3, 10)]
    """
    week = timedelta(days=PERIOD_DAYS)
    found = []
    while end > start:
        found.append((max(start, end - week), end))
        end -= week
    return found[::-1]
