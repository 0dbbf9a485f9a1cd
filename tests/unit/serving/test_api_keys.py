"""API keys in the table: shown once, stored as a keyed hash, ended and rotated by transactions that the audit log tells of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from endcap.config import Settings
from endcap.contracts import Role
from endcap.data.database import open_engine
from endcap.errors import InputError
from endcap.release.audit import AuditLog
from endcap.release.signing import Keys
from endcap.serving.api_keys import ApiKeys, digest, split

SECRET = b"s" * 32


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, settings: Settings) -> str:
    return settings.event_log_url if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def audit(url: str, settings: Settings) -> AuditLog:
    return AuditLog(url, Keys.load(settings.paths.secrets))


@pytest.fixture
def table(url: str, audit: AuditLog) -> Iterator[ApiKeys]:
    table = ApiKeys(url, SECRET, audit)
    yield table
    table.close()


def test_a_key_is_random_and_only_its_keyed_hash_is_stored(table: ApiKeys, url: str, audit: AuditLog) -> None:
    key, text = table.create(Role.SHOP, "web-shop", "ada")
    other, other_text = table.create(Role.SHOP, "web-shop", "ada")
    assert text != other_text
    assert re.fullmatch(r"endcap_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", text)
    assert split(text) == key.id != other.id
    assert key.digest == digest(text, SECRET) != digest(text, b"another secret of the same length")
    engine = open_engine(url)
    with engine.connect() as connection:
        stored = str(
            [*connection.execute(sa.text("SELECT * FROM api_keys")), *connection.execute(sa.text("SELECT * FROM audit"))]
        )
    engine.dispose()
    assert text.split("_", 2)[2] not in stored
    assert key.digest not in str([entry.body for entry in audit.entries()])
    assert key.digest not in repr(key)
    assert table.read() == [key, other]


def test_a_revoked_key_stays_in_the_table_and_revoking_again_changes_nothing(table: ApiKeys, audit: AuditLog) -> None:
    key, _ = table.create(Role.READER, "grafana", "ada")
    ended = table.revoke(key.id, "bob")
    assert ended.state(datetime.now(UTC)) == "revoked"
    assert table.revoke(key.id, "bob") == ended
    assert table.read() == [ended]
    assert [(e.body["action"], e.body["subject"], e.body["by"]) for e in audit.entries()] == [
        ("key.created", f"key {key.id}", "ada"),
        ("key.revoked", f"key {key.id}", "bob"),
    ]


def test_a_rotated_key_and_its_successor_count_side_by_side_for_a_while(table: ApiKeys, audit: AuditLog) -> None:
    old, _ = table.create(Role.SHOP, "web-shop", "ada", days=10)
    new, text = table.rotate(old.id, "ada", timedelta(hours=2))
    now = datetime.now(UTC)
    left = {key.id: key for key in table.read()}
    assert (new.role, new.label, split(text)) == (Role.SHOP, "web-shop", new.id)
    assert [left[key.id].state(now) for key in (old, new)] == ["valid", "valid"]
    assert [left[key.id].state(now + timedelta(hours=3)) for key in (old, new)] == ["expired", "valid"]
    assert left[new.id].state(now + timedelta(days=11)) == "expired"  # it lives as long as its predecessor was meant to
    assert audit.entries(1)[0].body["details"]["instead_of"] == old.id


def test_a_rotation_never_lengthens_the_life_of_the_old_key(table: ApiKeys) -> None:
    old, _ = table.create(Role.SHOP, "web-shop", "ada", days=1)
    table.rotate(old.id, "ada", timedelta(days=9))
    assert next(key for key in table.read() if key.id == old.id).expires == old.expires


def test_what_cannot_be_done_names_field_and_way_out(table: ApiKeys) -> None:
    key, _ = table.create(Role.SHOP, "web-shop", "ada")
    table.revoke(key.id, "ada")
    with pytest.raises(InputError, match=r"key: is revoked.*endcap keys create"):
        table.rotate(key.id, "ada", timedelta(hours=1))
    with pytest.raises(InputError, match=r"there is no such key; got 'nope'.*endcap keys list"):
        table.revoke("nope", "ada")
    with pytest.raises(InputError, match="label"):
        table.create(Role.SHOP, " ", "ada")
    with pytest.raises(InputError, match="days"):
        table.create(Role.SHOP, "web-shop", "ada", days=0)


def test_a_key_is_not_made_when_nobody_is_named(table: ApiKeys) -> None:
    table.make_table()
    with pytest.raises(InputError, match="by: names nobody"):
        table.create(Role.SHOP, "web-shop", "")
    assert table.read() == []
