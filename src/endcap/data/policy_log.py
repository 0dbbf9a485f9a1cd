"""The event log as policies learn from it: what was shown and is due, what was known of it, and what shoppers then did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from endcap import contracts
from endcap.data import event_tables as tables
from endcap.data.event_tables import microseconds
from endcap.data.events import EventLog

if TYPE_CHECKING:
    import pyarrow as pa

DAY = timedelta(days=1)
_DAY_US = DAY // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """Rows that were not due by `since` (None: none were), and are by `until`.

    A row is due once its `span` is over and events may not arrive any more (`late`), the latter also since it was logged: one
    that speaks of a moment long ago is learnt too, once.
    """

    until: datetime
    since: datetime | None
    span: timedelta
    late: timedelta

    def clause(self) -> sa.ColumnElement[bool]:
        now = self._over(self.until)
        return now if self.since is None else sa.and_(now, sa.not_(self._over(self.since)))

    def waiting(self) -> sa.ColumnElement[bool]:
        """Rows that are not due yet."""
        return sa.not_(self._over(self.until))

    def _over(self, moment: datetime) -> sa.ColumnElement[bool]:
        t, logged = tables.exposures.c, microseconds(moment - self.late)
        return sa.and_(t.time <= microseconds(moment - self.late - self.span), t.logged_at <= logged)


class PolicyLog(EventLog):
    """Every method raises ServiceUnavailable when the database does not answer."""

    def due(self, due: Due) -> tuple[list[int], int]:
        """Days (since 1970, UTC) with rows that are due and can be learnt from, and how many rows are not due yet."""
        t = tables.exposures.c
        noted = t.features.is_not(None)
        with self._answering(), self._engine.connect() as connection:
            days = connection.scalars(sa.select((t.time // _DAY_US).label("day")).where(noted, due.clause()).distinct())
            found = sorted(int(day) for day in days)
            waiting = sa.select(sa.func.count()).select_from(tables.exposures).where(noted, due.waiting())
            return found, connection.scalar(waiting) or 0

    def shown(self, start: datetime, end: datetime, due: Due) -> pa.Table:
        """Shown items with start <= time < end by time, request and rank: request_id, user_id, item_id, time, rank, surface,
        feature_set, features; `due` (bool): which of them are."""
        import pyarrow as pa

        t, schema = tables.exposures.c, contracts.exposure_schema()
        fields = [schema.field(name) for name in ("request_id", "user_id", "item_id", "time", "rank", "surface")]
        more = [pa.field("feature_set", pa.string()), pa.field("features", pa.binary()), pa.field("due", pa.bool_())]
        is_due = sa.case((sa.and_(t.features.is_not(None), due.clause()), True), else_=False)
        query = sa.select(*(t[field.name] for field in [*fields, *more[:2]]), is_due.label("due"))
        query = query.where(t.time >= microseconds(start), t.time < microseconds(end))
        return self._table(query.order_by(t.time, t.request_id, t.rank), pa.schema([*fields, *more]))

    def acts(self, start: datetime, end: datetime, types: Sequence[str]) -> pa.Table:
        """Events (event_schema) of these types with start <= time < end, by time and event id."""
        t, schema = tables.events.c, contracts.event_schema()
        query = sa.select(*(t[name] for name in schema.names))
        query = query.where(t.time >= microseconds(start), t.time < microseconds(end), t.type.in_(types))
        return self._table(query.order_by(t.time, t.event_id), schema)
