"""Splits by time, never at random: what is learnt lies before what is judged.

…train… | validation_days | holdout_days | end of the dataset
        ^ validation_start ^ holdout_start
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from endcap.errors import DatasetError


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """The moments that cut a dataset version. Training sees events before `holdout_start`; gates alone look behind it."""

    first_event: datetime
    validation_start: datetime
    holdout_start: datetime
    end: datetime

    def to_json(self) -> dict[str, str]:
        """ISO 8601 texts by name."""
        return {name: getattr(self, name).isoformat() for name in self.__dataclass_fields__}


def split_by_time(first_event: datetime, end: datetime, validation_days: float, holdout_days: float) -> TimeSplit:
    """Cut [first_event, end). A short history is cut in proportion: hold-out and validation take at most a quarter each.

    >>> from datetime import UTC
    >>> split_by_time(datetime(2011, 1, 1, tzinfo=UTC), datetime(2011, 3, 1, tzinfo=UTC), 7, 7).holdout_start.date().isoformat()
    '2011-02-22'

    Raises:
        DatasetError: the history is empty or ends before it starts.
    """
    span = end - first_event
    if span <= timedelta(0):
        raise DatasetError(
            "the history has no duration",
            field="interval_end",
            value=end.isoformat(),
            action="Ingest events before that moment.",
        )
    holdout_start = end - min(timedelta(days=holdout_days), span / 4)  # as gates find it again, whatever validation_days
    validation_start = holdout_start - min(timedelta(days=validation_days), span / 4)
    return TimeSplit(first_event, validation_start, holdout_start, end)
