"""How the event log's database is opened: the engine, its errors as ours, and transactions that exclude each other."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from endcap.errors import InputError, ServiceUnavailable

BUSY_MILLISECONDS = 60_000


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


@contextlib.contextmanager
def answering(address: str) -> Iterator[None]:
    """Turn what the database says into our errors; `address` is its URL without the password."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise InputError("breaks the event log's rules", value=str(error.orig), action="Give every required column.") from error
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.DatabaseError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        action = "Check ENDCAP_EVENT_LOG_URL, that the database runs and that its disk has room; nothing was half written."
        raise ServiceUnavailable(f"the event log does not answer ({cause})", field=address, action=action) from error


@contextlib.contextmanager
def alone(engine: sa.Engine, lock: int) -> Iterator[sa.Connection]:
    """One transaction at a time under this lock, over all processes: what it reads stays true until it has written."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
