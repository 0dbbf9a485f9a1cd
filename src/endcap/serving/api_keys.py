"""API keys: what one looks like, and the table that knows them. A key is shown once; what is stored does not give it back.

Not here: the keys in force in a running service (key_ring.py), and what a role may ask for (access.py).
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from endcap.contracts import Role
from endcap.data import database
from endcap.data import event_tables as tables
from endcap.data.event_tables import microseconds, moment
from endcap.errors import InputError
from endcap.release.audit import LOCK

if TYPE_CHECKING:
    from endcap.release.audit import AuditLog

MAX_LABEL = 80
_SHAPE = re.compile(r"endcap_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")  # scanners of leaked secrets can look for it


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored. Times in UTC; None: never."""

    id: str
    role: Role
    label: str
    digest: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def __repr__(self) -> str:  # the digest stays out of logs
        return f"ApiKey({self.id!r}, {self.role.value!r})"

    def state(self, now: datetime) -> str:
        """valid, expired or revoked"""
        if self.revoked is not None and self.revoked <= now:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"


def split(text: str) -> str | None:
    """The id in a key's text; None when it has not the shape of a key."""
    found = _SHAPE.fullmatch(text)
    return found[1] if found else None


def digest(text: str, secret: bytes) -> str:
    """HMAC-SHA256 of the key's text. Fast on purpose: 256 random bits cannot be guessed, and every request computes it."""
    return hmac.digest(secret, b"endcap api key\0" + text.encode(), "sha256").hex()


class ApiKeys:
    """The table in the event log's database at `url`: every service process reads it, so a revocation reaches all of them.

    `secret` is the home's pseudonym key: a table that leaks is of no use without it. Each change is written to the audit log
    in the same transaction. Every method raises ServiceUnavailable when the database does not answer.
    """

    def __init__(self, url: str, secret: bytes, audit: AuditLog) -> None:
        self._engine, self._secret, self._audit = database.open_engine(url), secret, audit
        self.address = self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self._engine.dispose()
        self._audit.close()

    def read(self) -> list[ApiKey]:
        """All keys, revoked ones too, by their age."""
        t = tables.api_keys.c
        with database.answering(self.address), self._engine.connect() as connection:
            return [_key(row) for row in connection.execute(sa.select(tables.api_keys).order_by(t.created, t.id))]

    def make_table(self) -> None:
        """Make the tables that are missing."""
        with database.answering(self.address):
            tables.create_tables(self._engine)

    def create(self, role: Role, label: str, by: str, days: float | None = None) -> tuple[ApiKey, str]:
        """A new key and its text, which nobody can show again. `days`: until it expires.

        Raises:
            InputError: the label is empty or long, or the days are none.
        """
        if not label.strip() or len(label) > MAX_LABEL:
            action = f"Say who uses it, in at most {MAX_LABEL} characters: web-shop, grafana."
            raise InputError("is empty or too long", field="label", value=label, action=action)
        if days is not None and not 0 < days <= 36_500:
            raise InputError("must be above 0 and at most 36500", field="days", value=days, action="Leave it out: no end.")
        now = datetime.now(UTC)
        expires = None if days is None else now + timedelta(days=days)
        key, text = self._made(role, label.strip(), now, expires)
        with self._changing() as connection:
            self._insert(connection, key)
            self._tell(connection, "key.created", key, by)
        return key, text

    def revoke(self, key_id: str, by: str) -> ApiKey:
        """End a key now. Ending it again changes nothing.

        Raises:
            InputError: there is no such key.
        """
        with self._changing() as connection:
            key = _known(connection, key_id)
            if key.revoked is not None:
                return key
            key = replace(key, revoked=datetime.now(UTC))
            self._tell(connection, "key.revoked", key, by)
            _set(connection, key_id, revoked=_stored(key.revoked))
        return key

    def rotate(self, key_id: str, by: str, overlap: timedelta) -> tuple[ApiKey, str]:
        """A new key of the same role and label; the old one goes on for `overlap`, so that callers can change over.

        Raises:
            InputError: there is no such key, or it is no longer valid.
        """
        if overlap < timedelta(0):
            raise InputError("must not be negative", field="overlap", value=str(overlap), action="Give hours from 0 on.")
        now = datetime.now(UTC)
        with self._changing() as connection:
            old = _known(connection, key_id)
            if (state := old.state(now)) != "valid":
                raise InputError(f"is {state}", field="key", value=key_id, action="Make a new one: `endcap keys create`.")
            lifetime = None if old.expires is None else now + (old.expires - old.created)
            key, text = self._made(old.role, old.label, now, lifetime)
            end = now + overlap if old.expires is None else min(now + overlap, old.expires)
            self._insert(connection, key)
            self._tell(connection, "key.rotated", key, by, instead_of=old.id, old_until=end.isoformat())
            _set(connection, key_id, expires=microseconds(end))
        return key, text

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sa.Connection]:
        with database.answering(self.address):
            tables.create_tables(self._engine)
            with database.alone(self._engine, LOCK) as connection:
                yield connection

    def _made(self, role: Role, label: str, now: datetime, expires: datetime | None) -> tuple[ApiKey, str]:
        key_id = secrets.token_hex(6)
        text = f"endcap_{key_id}_{secrets.token_urlsafe(32)}"
        return ApiKey(key_id, role, label, digest(text, self._secret), now, expires), text

    def _tell(self, connection: sa.Connection, action: str, key: ApiKey, by: str, **more: str) -> None:
        expires = key.expires.isoformat() if key.expires else None
        self._audit.append_in(
            connection, action, f"key {key.id}", by, role=key.role.value, label=key.label, expires=expires, **more
        )

    @staticmethod
    def _insert(connection: sa.Connection, key: ApiKey) -> None:
        row = {"id": key.id, "role": key.role.value, "label": key.label, "digest": key.digest}
        times = {"created": microseconds(key.created), "expires": _stored(key.expires), "revoked": None}
        connection.execute(sa.insert(tables.api_keys).values({**row, **times}))


def _known(connection: sa.Connection, key_id: str) -> ApiKey:
    row = connection.execute(sa.select(tables.api_keys).where(tables.api_keys.c.id == key_id)).first()
    if row is None:
        raise InputError("there is no such key", field="key", value=key_id, action="`endcap keys list` shows their ids.")
    return _key(row)


def _set(connection: sa.Connection, key_id: str, **values: Any) -> None:
    connection.execute(sa.update(tables.api_keys).where(tables.api_keys.c.id == key_id).values(values))


def _key(row: sa.Row[Any]) -> ApiKey:
    expires, revoked = (None if time is None else moment(time) for time in (row.expires, row.revoked))
    return ApiKey(row.id, Role(row.role), row.label, row.digest, moment(row.created), expires, revoked)


def _stored(time: datetime | None) -> int | None:
    return None if time is None else microseconds(time)
