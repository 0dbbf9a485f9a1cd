"""Pseudonyms: stable under one key, useless without it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from endcap.data.privacy import pseudonym_key, pseudonymise, pseudonymise_all
from endcap.errors import ConfigError

KEY = b"k" * 32


def test_a_pseudonym_is_stable_and_keyed() -> None:
    assert pseudonymise("17850", KEY) == pseudonymise("17850", KEY) != pseudonymise("17850", b"j" * 32)
    assert len(pseudonymise("17850", KEY)) == 16
    assert pseudonymise_all(["17850", None, "17850"], KEY) == [pseudonymise("17850", KEY), None, pseudonymise("17850", KEY)]


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    key = pseudonym_key("", folder)
    assert pseudonym_key("", folder) == key
    assert stat.S_IMODE((folder / "pseudonym.key").stat().st_mode) == 0o600


def test_another_key_than_the_stored_pseudonyms_have_is_refused(tmp_path: Path) -> None:
    pseudonym_key("the first secret of this home", tmp_path)
    with pytest.raises(ConfigError, match="ENDCAP_PSEUDONYM_KEY: is not the key"):
        pseudonym_key("another secret of some length", tmp_path)


@pytest.mark.parametrize("secret", ["hush", "x" * 15])
def test_a_short_secret_is_refused_and_not_printed(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigError, match="too short") as caught:
        pseudonym_key(secret, tmp_path)
    assert secret not in str(caught.value)
