"""The event log: what shoppers did (events), what they were shown (exposures) and the catalogue as it is now.

Events are appended once (by event id) and claimed once (by a batch). SQLite by default, PostgreSQL by URL; the tables
are in `event_tables.py`. Not here: what a good event is (`validation.py`), and versions of data (`versions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from endcap import contracts
from endcap.data import database
from endcap.data import event_tables as tables
from endcap.data.event_tables import microseconds, moment
from endcap.data.features import POSITIVE_TYPES, TYPES

if TYPE_CHECKING:
    import pyarrow as pa

WANTING_TYPES = tuple(name for name, wants in zip(TYPES, POSITIVE_TYPES, strict=True) if wants)
HISTORY_TYPES = (*WANTING_TYPES, contracts.EventType.DISMISS.value)  # what is learnt from, and what hides an item
ACTING_TYPES = tuple(kind.value for kind in (contracts.EventType.CLICK, contracts.EventType.CART, contracts.EventType.PURCHASE))
IDS_A_STATEMENT = 10_000
_EVENT_COLUMNS = [column.name for column in tables.events.c if column.name != "seq"]
_EVENT_ID = _EVENT_COLUMNS.index("event_id")


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of appended events: `accepted` are new, `duplicates` were known by their event id."""

    accepted: int
    duplicates: int


class EventLog:
    """A database at `url` (SQLAlchemy). Every method raises ServiceUnavailable when it does not answer or cannot write."""

    def __init__(self, url: str) -> None:
        self._engine = database.open_engine(url)
        self.address = self._engine.url.render_as_string(hide_password=True)

    def create(self) -> None:
        """Make the tables that are missing."""
        with self._answering():
            tables.create_tables(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def append(
        self,
        events: Sequence[Mapping[str, Any]] | pa.Table,
        batch_id: str | None = None,
        *,
        replacing: Sequence[str] = (),
    ) -> Appended:
        """Store events (contract columns; `time` with a zone); durable when it returns. Known event ids are left as they are.

        `batch_id` marks the rows of a file batch, which are claimed from the start; they take the place of known ones of the
        batches in `replacing`. All rows are stored, or none.
        """
        received = (microseconds(datetime.now(UTC)), batch_id)
        accepted, count = 0, 0
        with self._answering(), self._engine.begin() as connection:
            for columns in tables.event_columns(events):
                if replacing:
                    self._remove(connection, columns[_EVENT_ID], replacing)
                rows = [(*row, *received) for row in zip(*columns, strict=True)]
                accepted += self._insert_events(connection, rows)
                count += len(rows)
        return Appended(accepted, count - accepted)

    def claim(self, batch_id: str, until: datetime, skew: timedelta = timedelta(0)) -> int:
        """Give all unclaimed events before `until` to a batch, in one transaction. Returns the batch's number of events.

        An event that arrives later goes to a later batch, never to two. An event further ahead of its own arrival than
        `skew` is claimed too, so that a wrong clock is found now and not in ten years. Claiming again changes nothing.
        """
        now = microseconds(datetime.now(UTC))
        t = tables.events.c
        with self._answering(), self._engine.begin() as connection:
            claim = {"batch_id": batch_id, "until": microseconds(until), "claimed_at": now}
            first = self._insert(tables.batches).values(claim).on_conflict_do_nothing(index_elements=["batch_id"])
            if connection.scalar(first.returning(tables.batches.c.batch_id)):
                ahead = t.time > t.received_at + skew // timedelta(microseconds=1)
                due = sa.and_(t.batch_id.is_(None), sa.or_(t.time < microseconds(until), ahead))
                connection.execute(sa.update(tables.events).where(due).values(batch_id=batch_id))
            return connection.scalar(sa.select(sa.func.count()).where(t.batch_id == batch_id)) or 0

    def read_batch(self, batch_id: str) -> pa.Table:
        """The events of a batch (event_schema) in the order of time, then event id."""
        t = tables.events.c
        query = sa.select(*_columns(tables.events, contracts.event_schema())).where(t.batch_id == batch_id)
        return self._table(query.order_by(t.time, t.event_id), contracts.event_schema())

    def batch_event_ids(self, batch_id: str) -> list[str]:
        """The ids of a batch's events."""
        with self._answering(), self._engine.connect() as connection:
            query = sa.select(tables.events.c.event_id).where(tables.events.c.batch_id == batch_id)
            return list(connection.scalars(query))

    def history(self, user_id: str, limit: int, as_of: datetime | None = None) -> list[dict[str, Any]]:
        """The newest `limit` events of HISTORY_TYPES, oldest first: dicts of event_id, item_id, type, time, quantity,
        price, surface, country.

        `as_of`: only events up to that moment, itself included. They are left out before the newest are taken, so that a
        moment long ago has as long a history as today.
        """
        t = tables.events.c
        whose: list[sa.ColumnElement[bool]] = [t.user_id == user_id, t.type.in_(HISTORY_TYPES)]
        if as_of is not None:
            whose.append(t.time <= microseconds(as_of))
        query = (
            sa.select(t.event_id, t.item_id, t.type, t.time, t.quantity, t.price, t.surface, t.country)
            .where(*whose)
            .order_by(t.time.desc(), t.event_id.desc())  # ties as in a dataset
            .limit(limit)
        )
        return self._dicts(query)[::-1]

    def append_exposures(self, rows: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]] = ()) -> None:
        """Store shown items (exposure_schema, and `features` with their `feature_set` if any), and which arm of a canary
        answered (`canary_log.py`), all or none.

        Durable when it returns. A known (request_id, rank) is left as it is.
        """
        shown = self._insert(tables.exposures).on_conflict_do_nothing(index_elements=["request_id", "rank"])
        asked = self._insert(tables.canary_requests).on_conflict_do_nothing(index_elements=["request_id"])
        about = {"features": None, "feature_set": None, "logged_at": microseconds(datetime.now(UTC))}
        values = [{**about, **tables.whole_times(row)} for row in rows]
        statements = ((shown, values), (asked, [tables.whole_times(row) for row in arms]))
        if not rows and not arms:
            return
        with self._answering(), self._engine.begin() as connection:
            for statement, values in statements:
                if values:
                    connection.execute(statement, values)

    def exposures(self, start: datetime, end: datetime) -> pa.Table:
        """Exposures (exposure_schema) with start <= time < end, by time, request and rank."""
        t = tables.exposures.c
        query = sa.select(*_columns(tables.exposures, contracts.exposure_schema()))
        query = query.where(t.time >= microseconds(start), t.time < microseconds(end))
        return self._table(query.order_by(t.time, t.request_id, t.rank), contracts.exposure_schema())

    def newest_exposures(self, start: datetime, end: datetime, limit: int) -> pa.Table:
        """At most `limit` exposures as `exposures` gives them, the newest; of the oldest slate perhaps only a part."""
        t = tables.exposures.c
        query = sa.select(*_columns(tables.exposures, contracts.exposure_schema()))
        query = query.where(t.time >= microseconds(start), t.time < microseconds(end)).order_by(t.time.desc()).limit(limit)
        newest = self._table(query, contracts.exposure_schema())
        return newest.sort_by([("time", "ascending"), ("request_id", "ascending"), ("rank", "ascending")])

    def newest_exposure_time(self) -> datetime | None:
        """When the log's newest slate was shown; None: never."""
        with self._answering(), self._engine.connect() as connection:
            found = connection.scalar(sa.select(sa.func.max(tables.exposures.c.time)))
        return None if found is None else moment(found)

    def newest_acts(self, start: datetime, end: datetime, limit: int) -> pa.Table:
        """At most `limit` events of ACTING_TYPES with start <= time < end (event_schema), the newest, oldest first."""
        t = tables.events.c
        query = sa.select(*_columns(tables.events, contracts.event_schema()))
        query = query.where(t.time >= microseconds(start), t.time < microseconds(end), t.type.in_(ACTING_TYPES))
        newest = self._table(query.order_by(t.time.desc()).limit(limit), contracts.event_schema())
        return newest.sort_by("time")

    def claim_exposures(self, batch_id: str, until: datetime) -> pa.Table:
        """Give all unclaimed exposures before `until` to a batch; all that it has (exposure_schema) by time, request, rank.

        Slates are claimed whole, since a slate has one time. Claiming again adds what came meanwhile.
        """
        t = tables.exposures.c
        with self._answering(), self._engine.begin() as connection:
            due = sa.and_(t.batch_id.is_(None), t.time < microseconds(until))
            connection.execute(sa.update(tables.exposures).where(due).values(batch_id=batch_id))
        query = sa.select(*_columns(tables.exposures, contracts.exposure_schema())).where(t.batch_id == batch_id)
        return self._table(query.order_by(t.time, t.request_id, t.rank), contracts.exposure_schema())

    def request(self, request_id: str) -> list[dict[str, Any]]:
        """The exposures of one request by rank; empty when unknown."""
        t = tables.exposures.c
        return self._dicts(
            sa.select(*_columns(tables.exposures, contracts.exposure_schema()))
            .where(t.request_id == request_id)
            .order_by(t.rank)
        )

    def upsert_catalog(self, items: pa.Table) -> None:
        """Insert or replace items (catalog_schema). An item keeps the earliest `available_from` that was ever given."""
        rows = tables.plain_rows(items, contracts.catalog_schema())
        insert = self._insert(tables.catalog)
        new = insert.excluded
        known = tables.catalog.c.available_from
        values: dict[str, Any] = {c.name: new[c.name] for c in tables.catalog.c if c.name != "item_id"}
        values["available_from"] = sa.case((known < new.available_from, known), else_=new.available_from)
        statement = insert.on_conflict_do_update(index_elements=["item_id"], set_=values)
        with self._answering(), self._engine.begin() as connection:
            for chunk in tables.chunks(rows):
                connection.execute(statement, chunk)

    def read_catalog(self) -> pa.Table:
        """The catalogue (catalog_schema) by item id."""
        query = sa.select(*_columns(tables.catalog, contracts.catalog_schema())).order_by(tables.catalog.c.item_id)
        return self._table(query, contracts.catalog_schema())

    def unlisted(self, item_ids: Sequence[str]) -> list[str]:
        """Those of these items that the catalogue does not list; none while it is empty."""
        t = tables.catalog.c.item_id
        with self._answering(), self._engine.connect() as connection:
            known = set(connection.scalars(sa.select(t).where(t.in_(item_ids))))
            empty = not known and connection.scalar(sa.select(t).limit(1)) is None
        return [] if empty else [item for item in item_ids if item not in known]

    def promotion_shows(self) -> dict[str, int]:
        """How many shows of each promotion are counted."""
        t = tables.promotions.c
        with self._answering(), self._engine.connect() as connection:
            return {row.name: row.shows for row in connection.execute(sa.select(t.name, t.shows))}

    def count_shows(self, promotion: str, shows: int, budget: int | None = None) -> bool:
        """Count more shows (fewer: below 0) if that keeps within the budget, and whether it did; durable when it returns."""
        t = tables.promotions.c
        known = self._insert(tables.promotions).values(name=promotion, shows=0).on_conflict_do_nothing(index_elements=["name"])
        more = sa.update(tables.promotions).where(t.name == promotion)
        if budget is not None:
            more = more.where(t.shows + shows <= budget)
        with self._answering(), self._engine.begin() as connection:
            connection.execute(known)
            return connection.execute(more.values(shows=t.shows + shows)).rowcount == 1

    def recent_popularity(self, since: datetime, until: datetime, limit: int) -> list[tuple[str, int]]:
        """(item_id, purchases) of the most bought items of the catalogue with since <= time < until, most first.

        In a shop that has no purchases at all, everything that says "I want this" counts (features.POSITIVE_TYPES).
        """
        t, count = tables.events.c, sa.func.count().label("wanted")
        period = (t.time >= microseconds(since), t.time < microseconds(until))
        listed = tables.events.join(tables.catalog, t.item_id == tables.catalog.c.item_id)
        bought = t.type == contracts.EventType.PURCHASE.value
        query = (
            sa.select(t.item_id, count)
            .select_from(listed)
            .where(*period, sa.or_(t.quantity > 0, sa.and_(t.quantity.is_(None), sa.not_(bought))))
            .group_by(t.item_id)
            .order_by(count.desc(), t.item_id)
            .limit(limit)
        )
        with self._answering(), self._engine.connect() as connection:
            sells = connection.scalar(sa.select(sa.literal(1)).select_from(tables.events).where(bought).limit(1))
            kinds = bought if sells else t.type.in_(WANTING_TYPES)
            return [(row[0], row[1]) for row in connection.execute(query.where(kinds))]

    def _insert_events(self, connection: sa.Connection, rows: list[tuple[Any, ...]]) -> int:
        """Insert rows of _EVENT_COLUMNS whose id is new, by the driver itself: the fastest way that both databases know."""
        mark = "%s" if self._engine.dialect.name == "postgresql" else "?"
        marks = ", ".join([mark] * len(_EVENT_COLUMNS))
        statement = f"INSERT INTO events ({', '.join(_EVENT_COLUMNS)}) VALUES ({marks}) ON CONFLICT (event_id) DO NOTHING"
        options = {"preserve_rowcount": True}
        return connection.exec_driver_sql(statement, rows, execution_options=options).rowcount if rows else 0

    @staticmethod
    def _remove(connection: sa.Connection, event_ids: Sequence[str], batches: Sequence[str]) -> None:
        """Delete the events of these ids, as far as they are of these batches."""
        t = tables.events.c
        theirs = set(connection.scalars(sa.select(t.event_id).where(t.batch_id.in_(batches))))
        found = [event_id for event_id in event_ids if event_id in theirs]
        for first in range(0, len(found), IDS_A_STATEMENT):
            some = found[first : first + IDS_A_STATEMENT]
            connection.execute(sa.delete(tables.events).where(t.event_id.in_(some), t.batch_id.in_(batches)))

    def _insert(self, table: sa.Table) -> Any:
        """An INSERT that knows ON CONFLICT, in the dialect of this database."""
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    def _dicts(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self._answering(), self._engine.connect() as connection:
            result = connection.execute(query)
            names, rows = list(result.keys()), result.fetchall()
        time = names.index("time")
        names.append("time")  # the last one counts
        return [dict(zip(names, (*row, moment(row[time])), strict=True)) for row in rows]

    def _table(self, query: sa.Select[Any], schema: pa.Schema) -> pa.Table:
        import pyarrow as pa

        with self._answering(), self._engine.connect() as connection:
            columns = list(zip(*connection.execute(query).fetchall(), strict=True)) or [()] * len(schema)
        return pa.table([pa.array(c, type=field.type) for c, field in zip(columns, schema, strict=True)], schema=schema)

    def _answering(self) -> AbstractContextManager[None]:
        return database.answering(self.address)


def _columns(table: sa.Table, schema: pa.Schema) -> list[sa.Column[Any]]:
    return [table.c[name] for name in schema.names]
