"""The audit log: who changed what shoppers get or who may ask. Each entry carries the digest of the one before it.

Here is the chain. Not here: what an action does (promotion.py, the service's keys and rules), which calls `append` first.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from endcap.data import database
from endcap.data import event_tables as tables
from endcap.errors import InputError, RecordInvalid
from endcap.release.records import now
from endcap.release.signing import canonical

if TYPE_CHECKING:
    from endcap.release.signing import Keys

FIRST = "0" * 64  # what the first entry has for the digest of the one before
LOCK = 7215302
_SEE = "See docs/runbooks/audit-log-broken.md."


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `digest` is the sha256 of all of it, so it speaks for every entry up to here."""

    seq: int
    digest: str
    body: dict[str, Any]  # seq, time, action, subject, by, host, details, before; key_id and signature where a key is at hand


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verified chain amounts to. Write `head` down elsewhere: it proves later that nothing up to it was lost."""

    entries: int
    signed: int
    head: str


class AuditLog:
    """The chain in the event log's database at `url`. Every method raises ServiceUnavailable when that does not answer."""

    def __init__(self, url: str, keys: Keys) -> None:
        self._engine, self._keys = database.open_engine(url), keys
        self.address = self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self._engine.dispose()

    def append(self, action: str, subject: str, by: str, *, once: bool = False, **details: Any) -> Entry:
        """Add an entry; on disk when it returns. Call it before what it tells of takes effect: then nothing happens untold.

        `action` is a thing and what happened to it (`key.revoked`), `details` are plain JSON values. `once`: when the newest
        entry of this action and subject says the same, that one is returned, so that several processes tell one change once.

        Raises:
            InputError: nobody is named.
        """
        with database.answering(self.address):
            tables.create_tables(self._engine)
            with database.alone(self._engine, LOCK) as connection:
                if once and (known := _newest(connection, action, subject)) and known.body["details"] == details:
                    return known
                return self.append_in(connection, action, subject, by, **details)

    def append_in(self, connection: sa.Connection, action: str, subject: str, by: str, **details: Any) -> Entry:
        """As `append`, within a transaction that holds LOCK (`database.alone`): the entry and its change come together."""
        if not by.strip():
            raise InputError("names nobody", field="by", value=by, action="Say who does this, e.g. --by ada.")
        last = connection.execute(_rows().order_by(tables.audit.c.seq.desc()).limit(1)).first()
        seq = last.seq + 1 if last else 1
        body = {
            "record": "audit",
            "seq": seq,
            "time": now(),
            "action": action,
            "subject": subject,
            "by": by,
            "host": socket.gethostname(),
            "details": details,
            "before": last.digest if last else FIRST,
        }
        if self._keys.private is not None:
            body = self._keys.sign(body)
        entry = Entry(seq, _digest(body), body)
        row = {"seq": seq, "entry": canonical(body).decode(), "digest": entry.digest}
        connection.execute(sa.insert(tables.audit).values(row))
        return entry

    def entries(self, last: int | None = None) -> list[Entry]:
        """All entries, oldest first, or the `last` so many."""
        query = _rows().order_by(tables.audit.c.seq.desc()).limit(last)
        with database.answering(self.address):
            tables.create_tables(self._engine)
            with self._engine.connect() as connection:
                return [_entry(row) for row in connection.execute(query)][::-1]

    def verify(self, head: str | None = None) -> Proof:
        """Prove the chain: numbers without a gap, digests that fit, signatures of trusted keys, and `head` among them.

        Raises:
            RecordInvalid: an entry was changed, left out or put in, or the entries up to `head` are not those of then.
        """
        before, seen, signed, seq = FIRST, head is None, 0, 0
        for seq, entry in enumerate(self.entries(), 1):
            _require(entry.seq == seq and entry.body.get("seq") == seq, seq, "is missing, or another stands in its place")
            _require(entry.body.get("before") == before, seq, "does not follow the one before it")
            _require(_digest(entry.body) == entry.digest, seq, "was changed after it was written")
            if "signature" in entry.body:
                self._keys.verify(entry.body)
                signed += 1
            before = entry.digest
            seen = seen or before == head
        if not seen:
            raise RecordInvalid("is no entry's digest: entries were lost or rewritten", field="head", value=head, action=_SEE)
        return Proof(seq, signed, before)


def _rows() -> sa.Select[tuple[int, str, str]]:
    return sa.select(tables.audit.c.seq, tables.audit.c.entry, tables.audit.c.digest)


def _newest(connection: sa.Connection, action: str, subject: str) -> Entry | None:
    found: Iterator[Entry] = (_entry(row) for row in connection.execute(_rows().order_by(tables.audit.c.seq.desc())))
    return next((entry for entry in found if (entry.body.get("action"), entry.body.get("subject")) == (action, subject)), None)


def _entry(row: sa.Row[tuple[int, str, str]]) -> Entry:
    try:
        body = json.loads(row.entry)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RecordInvalid("is no JSON object", field=f"audit entry {row.seq}", value=row.entry, action=_SEE)
    return Entry(row.seq, row.digest, body)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()


def _require(holds: bool, seq: int, problem: str) -> None:
    if not holds:
        raise RecordInvalid(problem, field=f"audit entry {seq}", action=_SEE)
