"""The tables of the event log and what goes into them. Times are microseconds since 1970 in UTC: the same number in SQLite,
PostgreSQL and Parquet. What is done with the tables is in `events.py`; how the database is opened in `database.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from endcap import contracts
from endcap.data.features import EPOCH, to_microseconds

if TYPE_CHECKING:
    import pyarrow as pa

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
    sa.Column("logged_at", sa.BigInteger),  # microseconds; null: by an older Endcap
    sa.Column("feature_set", sa.Text),  # names of the features; null: nobody learns from the row
    sa.Column("features", sa.LargeBinary),  # float32, little-endian
    sa.Index("exposures_by_time", "time"),
    sa.Index("exposures_by_logging", "logged_at"),
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

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("revoked", sa.BigInteger),
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


def create_tables(engine: sa.Engine) -> None:
    """Make what is missing; several processes may do so at once."""
    if engine.url.get_backend_name() == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # IF NOT EXISTS alone can still collide there
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7215301)")
        for table in metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
        _add_columns(connection)
        _keep_audit(connection)
        for table in metadata.sorted_tables:
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))


def _keep_audit(connection: sa.Connection) -> None:
    """The audit log is written once: the database itself refuses to change or delete its rows."""
    if connection.dialect.name == "postgresql":
        if connection.scalar(
            sa.text("SELECT 1 FROM pg_trigger WHERE tgname = 'audit_kept' AND tgrelid = 'audit'\\:\\:regclass")
        ):
            return
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION endcap_audit_kept() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE OR REPLACE TRIGGER audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION endcap_audit_kept()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        connection.exec_driver_sql(
            f"CREATE TRIGGER IF NOT EXISTS audit_kept_{change.lower()} BEFORE {change} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )


def _add_columns(connection: sa.Connection) -> None:
    """The columns of exposures that an older log lacks."""

    def lacking() -> list[sa.Column[Any]]:
        known = {column["name"] for column in sa.inspect(connection).get_columns(exposures.name)}
        return [column for column in exposures.c if column.name not in known]

    if not lacking():
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # another process may be about to do the same
    for column in lacking():
        kind = column.type.compile(connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE exposures ADD COLUMN {column.name} {kind}")
