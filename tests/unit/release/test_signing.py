"""Only an unaltered record by a trusted key verifies."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import ConfigError, RecordInvalid
from endcap.release.signing import PRIVATE_NAME, PUBLIC_NAME, Keys

RECORD = {"record": "gate", "model_version": "3", "passed": True, "checks": {"size": True}}


def test_a_signed_record_verifies_and_carries_its_key(keys: Keys) -> None:
    signed = keys.sign(RECORD)

    assert keys.verify(signed) == signed
    assert signed["key_id"] in keys.trusted


def test_signing_twice_gives_the_same(keys: Keys) -> None:
    assert keys.sign(RECORD) == keys.sign(keys.sign(RECORD))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"passed": False}, "was altered"),
        ({"checks": {"size": False}}, "was altered"),
        ({"extra": 1}, "was altered"),
        ({"signature": None}, "is not signed"),
        ({"signature": "no base64!"}, "was altered"),
        ({"key_id": "0123456789abcdef"}, "not trusted"),
    ],
)
def test_a_record_that_was_touched_is_refused(keys: Keys, change: dict[str, object], problem: str) -> None:
    with pytest.raises(RecordInvalid, match=problem):
        keys.verify({**keys.sign(RECORD), **change})


@pytest.mark.parametrize("thing", [None, [], "text", 3])
def test_what_is_no_record_is_refused(keys: Keys, thing: object) -> None:
    with pytest.raises(RecordInvalid, match="no JSON object"):
        keys.verify(thing)


def test_another_homes_signature_is_refused(keys: Keys, tmp_path: Path) -> None:
    stranger = Keys.load(tmp_path / "stranger")

    with pytest.raises(RecordInvalid, match="not trusted"):
        keys.verify(stranger.sign(RECORD))


def test_keys_are_made_once_and_only_their_owner_reads_the_private_one(tmp_path: Path) -> None:
    first = Keys.load(tmp_path).sign(RECORD)

    assert Keys.load(tmp_path).sign(RECORD) == first
    assert (tmp_path / PRIVATE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_host_with_the_public_key_alone_verifies_but_cannot_sign(keys: Keys, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / PUBLIC_NAME).write_bytes((tmp_path / "secrets" / PUBLIC_NAME).read_bytes())

    host = Keys.load(other)

    assert host.verify(keys.sign(RECORD))["passed"] is True
    assert not (other / PRIVATE_NAME).exists()
    with pytest.raises(ConfigError, match="no key to sign with"):
        host.sign(RECORD)


def test_an_old_key_stays_trusted_when_its_public_half_is_kept(keys: Keys, tmp_path: Path) -> None:
    old = keys.sign(RECORD)
    new = tmp_path / "new"
    Keys.load(new)
    with (new / PUBLIC_NAME).open("ab") as file:
        file.write((tmp_path / "secrets" / PUBLIC_NAME).read_bytes())

    assert Keys.load(new).verify(old) == old


@pytest.mark.parametrize("name", [PRIVATE_NAME, PUBLIC_NAME])
def test_a_broken_key_file_is_named(keys: Keys, tmp_path: Path, name: str) -> None:
    (tmp_path / "secrets" / name).write_text("-----BEGIN NONSENSE-----")

    with pytest.raises(ConfigError, match=name):
        Keys.load(tmp_path / "secrets")
