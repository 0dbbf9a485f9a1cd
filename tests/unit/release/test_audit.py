"""The audit log on real databases: entries are only added, and whatever is changed afterwards is found."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from endcap.config import Settings
from endcap.data.database import open_engine
from endcap.errors import InputError, RecordInvalid, ServiceUnavailable
from endcap.release.audit import AuditLog
from endcap.release.signing import Keys, canonical


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, settings: Settings) -> str:
    """The event log's database, empty."""
    return settings.event_log_url if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def audit(url: str, settings: Settings) -> Iterator[AuditLog]:
    log = AuditLog(url, Keys.load(settings.paths.secrets))
    yield log
    log.close()


def tamper(url: str, *statements: str) -> None:
    """What somebody with the database's password and time could do: the triggers go first."""
    engine = open_engine(url)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("DROP TRIGGER audit_kept ON audit")
        else:
            for name in ("audit_kept_update", "audit_kept_delete"):
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(sa.text(statement.replace(":", r"\:")))
    engine.dispose()


def fill(audit: AuditLog) -> None:
    for number in range(1, 4):
        audit.append("model.promoted", f"model {number}", "ada", dataset=f"dataset-{number}")


def test_entries_follow_one_another_and_are_proved(audit: AuditLog) -> None:
    fill(audit)
    first, second, third = audit.entries()
    assert [entry.body["subject"] for entry in (first, second, third)] == ["model 1", "model 2", "model 3"]
    assert (second.body["before"], third.body["before"]) == (first.digest, second.digest)
    assert audit.entries(1) == [third]
    proof = audit.verify(head=second.digest)
    assert (proof.entries, proof.signed, proof.head) == (3, 3, third.digest)


def test_an_empty_log_is_whole(audit: AuditLog) -> None:
    assert audit.verify().entries == 0


@pytest.mark.parametrize("change", ["UPDATE audit SET entry = '{}'", "DELETE FROM audit"])
def test_the_database_itself_refuses_to_change_entries(audit: AuditLog, url: str, change: str) -> None:
    fill(audit)
    engine = open_engine(url)
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(change)
    engine.dispose()
    assert audit.verify().entries == 3


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit SET entry = replace(entry, 'model 2', 'model 9') WHERE seq = 2", r"entry 2: was changed"),
        ("DELETE FROM audit WHERE seq = 2", r"entry 2: is missing"),
        ("DELETE FROM audit WHERE seq = 1", r"entry 1: is missing"),
        ("UPDATE audit SET entry = 'gone' WHERE seq = 3", r"entry 3: is no JSON"),
        ("UPDATE audit SET digest = 'f00' WHERE seq = 1", r"entry 1: was changed"),
    ],
)
def test_what_was_changed_afterwards_is_found(audit: AuditLog, url: str, statement: str, said: str) -> None:
    fill(audit)
    tamper(url, statement)
    with pytest.raises(RecordInvalid, match=said):
        audit.verify()


def test_entries_cut_off_at_the_end_are_found_by_a_noted_head(audit: AuditLog, url: str) -> None:
    fill(audit)
    head = audit.verify().head
    tamper(url, "DELETE FROM audit WHERE seq = 3")
    assert audit.verify().entries == 2
    with pytest.raises(RecordInvalid, match="lost or rewritten"):
        audit.verify(head)


def test_a_chain_computed_anew_lacks_its_signatures(audit: AuditLog, url: str) -> None:
    import hashlib

    audit.append("model.promoted", "model 1", "ada")
    body = {**audit.entries()[0].body, "by": "bob"}
    text = canonical(body).decode()
    tamper(url, f"UPDATE audit SET entry = '{text}', digest = '{hashlib.sha256(text.encode()).hexdigest()}'")
    with pytest.raises(RecordInvalid, match="was altered after it was signed"):
        audit.verify()


def test_writers_at_the_same_time_make_one_chain(url: str, settings: Settings) -> None:
    keys = Keys.load(settings.paths.secrets)
    logs = [AuditLog(url, keys) for _ in range(4)]

    def write(log: AuditLog) -> None:
        for number in range(5):
            log.append("rules.changed", f"rules {number}", "ada")

    threads = [threading.Thread(target=write, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs[0].verify().entries == 20
    for log in logs:
        log.close()


def test_one_change_seen_by_many_is_told_once(audit: AuditLog) -> None:
    for digest in ("a", "a", "b", "b", "a"):
        audit.append("rules.changed", "rules", "ada", once=True, digest=digest)
    assert [entry.body["details"]["digest"] for entry in audit.entries()] == ["a", "b", "a"]


def test_somebody_must_be_named(audit: AuditLog) -> None:
    with pytest.raises(InputError, match="by: names nobody"):
        audit.append("model.promoted", "model 1", " ")
    assert audit.entries() == []


def test_a_host_without_the_private_key_adds_unsigned_entries(settings: Settings) -> None:
    both = Keys.load(settings.paths.secrets)
    log = AuditLog(settings.event_log_url, Keys(None, both.trusted))
    log.append("rules.changed", "rules", "ada")
    proof = log.verify()
    assert (proof.entries, proof.signed) == (1, 0)
    assert json.dumps(log.entries()[0].body)
    log.close()


def test_a_database_that_is_away_is_named(settings: Settings) -> None:
    log = AuditLog("postgresql://nobody@127.0.0.1:9/nothing", Keys.load(settings.paths.secrets))
    with pytest.raises(ServiceUnavailable, match="ENDCAP_EVENT_LOG_URL"):
        log.append("model.promoted", "model 1", "ada")
    log.close()
