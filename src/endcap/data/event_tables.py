"""The tables of the event log, what goes into them, and the engine that opens them. Times are microseconds since 1970 in UTC:
the same number in SQLite, PostgreSQL and Parquet. What is done with the tables is in `events.py`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from endcap import contracts
from endcap.data.features import EPOCH, to_microseconds
from endcap.errors import InputError, ServiceUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

BUSY_MILLISECONDS = 60_000
ROWS_A_STATEMENT = 50_000

metadata = sa.MetaData()
_Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", _Sequence, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("quantity", sa.Double),
    sa.Column("price", sa.Double),
    sa.Column("request_id", sa.Text),
    sa.Column("surface", sa.Text),
    sa.Column("country", sa.Text),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("batch_id", sa.Text),
    sa.Index("events_of_user", "user_id", "time"),
    sa.Index("events_by_time", "time"),
    sa.Index("events_of_batch", "batch_id"),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("claimed_at", sa.BigInteger, nullable=False),
)

exposures = sa.Table(
    "exposures",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("user_id", sa.Text),
    sa.Column("surface", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("propensity", sa.Double, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("fallback", sa.Boolean, nullable=False),
    sa.Column("batch_id", sa.Text),
    sa.Index("exposures_by_time", "time"),
    sa.Index("exposures_of_batch", "batch_id"),
)

catalog = sa.Table(
    "catalog",
    metadata,
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("brand", sa.Text),
    sa.Column("category", sa.Text),
    sa.Column("price", sa.Double),
    sa.Column("available_from", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("shows", sa.BigInteger, nullable=False),
)

canary_requests = sa.Table(
    "canary_requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("canary_id", sa.Text, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("arm", sa.Text, nullable=False),
    sa.Column("shopper", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("answered_at", sa.BigInteger, nullable=False),
    sa.Column("latency_ms", sa.Double, nullable=False),
    sa.Column("error", sa.Boolean, nullable=False),
    sa.Column("fallback", sa.Boolean, nullable=False),
    sa.Index("canary_requests_of_step", "canary_id", "step"),
)

shadow_requests = sa.Table(
    "shadow_requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("canary_id", sa.Text, nullable=False),
    sa.Column("shopper", sa.Text, nullable=False),
    sa.Column("answered_at", sa.BigInteger, nullable=False),
    sa.Column("overlap", sa.Double),
    sa.Column("rank_correlation", sa.Double),
    sa.Column("candidate_ms", sa.Double, nullable=False),
    sa.Column("champion_ms", sa.Double, nullable=False),
    sa.Column("error", sa.Boolean, nullable=False),
    sa.Index("shadow_requests_of_canary", "canary_id"),
)


@contextlib.contextmanager
def answering(address: str) -> Iterator[None]:
    """Turns what a database says into errors of ours: ServiceUnavailable when it does not answer, InputError on a bad row."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise InputError("breaks the event log's rules", value=str(error.orig), action="Give every required column.") from error
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.DatabaseError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        action = "Check ENDCAP_EVENT_LOG_URL, that the database runs and that its disk has room; nothing was half written."
        raise ServiceUnavailable(f"the event log does not answer ({cause})", field=address, action=action) from error


def microseconds(time: datetime) -> int:
    """As features.to_microseconds. Raises ValueError on a time without a zone: guessing one would shift events by hours."""
    if time.tzinfo is None:
        raise ValueError(f"time {time.isoformat()} has no zone")
    return to_microseconds(time)


def whole_times(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its times as microseconds."""
    return {name: microseconds(value) if isinstance(value, datetime) else value for name, value in row.items()}


def moment(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows, as many at a time as one statement takes."""
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS_A_STATEMENT:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def event_columns(events: Sequence[Mapping[str, Any]] | pa.Table) -> Iterator[list[list[Any]]]:
    """The contract's columns as lists, times as integers; a chunk at a time, so that memory stays flat."""
    import pyarrow as pa

    schema = contracts.event_schema()
    if isinstance(events, Sequence):
        columns = [[event.get(name) for event in events] for name in schema.names]
        index = schema.get_field_index("time")
        columns[index] = [microseconds(time) for time in columns[index]]
        yield columns
        return
    plain = schema.set(schema.get_field_index("time"), pa.field("time", pa.int64()))
    for batch in events.select(schema.names).cast(schema).cast(plain).to_batches(max_chunksize=ROWS_A_STATEMENT):
        yield [column.to_pylist() for column in batch.columns]


def plain_rows(table: pa.Table, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """Rows as dicts with times as integers; a chunk at a time, so that memory stays flat."""
    import pyarrow as pa

    times = [(i, f) for i, f in enumerate(schema) if pa.types.is_timestamp(f.type)]
    plain = schema
    for i, field in times:
        plain = plain.set(i, field.with_type(pa.int64()))
    for batch in table.select(schema.names).cast(schema).cast(plain).to_batches(max_chunksize=ROWS_A_STATEMENT):
        yield from batch.to_pylist()


def open_engine(url: str) -> sa.Engine:
    """An engine for SQLite (WAL; a commit is on disk when it returns) or PostgreSQL. Connects at first use."""
    address = sa.make_url(url)
    if address.get_backend_name() != "sqlite":
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        return sa.create_engine(address, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    engine = sa.create_engine(address, connect_args={"timeout": BUSY_MILLISECONDS / 1000})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        _switch_to_wal(connection)
        for pragma in ("synchronous=FULL", f"busy_timeout={BUSY_MILLISECONDS}", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """On a new file. SQLite itself does not wait here for another process that does the same: it answers `locked` at once."""
    end = time.monotonic() + BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def create_tables(engine: sa.Engine) -> None:
    """Make what is missing; several processes may do so at once."""
    if engine.url.get_backend_name() == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # IF NOT EXISTS alone can still collide there
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7215301)")
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
        _add_claims(connection)
        for table in metadata.sorted_tables:
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))


def _add_claims(connection: sa.Connection) -> None:
    """The column `batch_id` of exposures, which an older log lacks."""

    def lacking() -> bool:
        return "batch_id" not in {column["name"] for column in sa.inspect(connection).get_columns(exposures.name)}

    if not lacking():
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # another process may be about to do the same
    if lacking():
        connection.exec_driver_sql("ALTER TABLE exposures ADD COLUMN batch_id TEXT")
