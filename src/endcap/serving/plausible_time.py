"""Which times a caller may give: neither older than online shops nor from the future."""

from __future__ import annotations

from datetime import datetime, timedelta

from endcap.contracts import FIRST_TIME
from endcap.errors import InputError


def require_plausible(time: datetime, now: datetime, clock_skew: timedelta, field: str) -> None:
    """Raises InputError unless FIRST_TIME <= time <= now + clock_skew. Any zone will do."""
    if not FIRST_TIME <= time <= now + clock_skew:
        minutes = clock_skew / timedelta(minutes=1)
        action = (
            f"Send times from {FIRST_TIME:%Y} on, at most {minutes:g} minutes ahead of this service ({now:%Y-%m-%dT%H:%M:%SZ})."
        )
        raise InputError("is not a plausible time", field=field, value=time.isoformat(), action=action)
