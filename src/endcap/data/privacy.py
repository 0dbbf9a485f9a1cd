"""Pseudonyms: the raw id of a shopper becomes a keyed hash at the door and is stored nowhere.

Here belong the key and the hash. Not here: who calls it (serving's door, the reading of a shop's files).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets as random_secrets
from collections.abc import Iterable
from pathlib import Path

from endcap.errors import ConfigError

MIN_KEY_CHARACTERS = 16


def pseudonymise(raw_id: str, key: bytes) -> str:
    """The first 16 hex digits of HMAC-SHA256(key, raw_id).

    >>> pseudonymise("17850", b"k" * 32)
    '437d716ac40e553b'
    """
    return hmac.digest(key, raw_id.encode(), "sha256").hex()[:16]


def pseudonymise_all(raw_ids: Iterable[str | None], key: bytes) -> list[str | None]:
    """`pseudonymise` for a column; each distinct id is hashed once, null stays null."""
    known: dict[str | None, str | None] = {None: None}
    result = []
    for raw_id in raw_ids:
        if raw_id not in known:
            known[raw_id] = pseudonymise(str(raw_id), key)
        result.append(known[raw_id])
    return result


def pseudonym_key(secret: str, folder: Path) -> bytes:
    """The key: `secret` (ENDCAP_PSEUDONYM_KEY) if set, else the file pseudonym.key in `folder`, made at first use (mode 0600).

    A fingerprint of the key lies beside it: under another key every known shopper would turn into a stranger.

    Raises:
        ConfigError: too short, unreadable, or another key than the one this home was filled with.
    """
    field = "ENDCAP_PSEUDONYM_KEY" if secret else str(folder / "pseudonym.key")
    text = secret or _once(folder / "pseudonym.key", random_secrets.token_hex(32))
    if len(text) < MIN_KEY_CHARACTERS:
        action = f"Use at least {MIN_KEY_CHARACTERS} random characters, e.g. from `openssl rand -hex 32`."
        raise ConfigError(f"has {len(text)} characters, which is too short for a secret", field=field, action=action)
    key = text.encode()
    fingerprint = hashlib.sha256(b"endcap pseudonym key" + key).hexdigest()[:16]
    if _once(folder / "pseudonym.fingerprint", fingerprint) != fingerprint:
        action = "Set the key that this home was filled with, or start with an empty ENDCAP_HOME."
        raise ConfigError("is not the key that the stored pseudonyms were made with", field=field, action=action)
    return key


def _once(path: Path, text: str) -> str:
    """The text of `path`; written first if it is not there. Of two writers at once one wins and both read its text."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_name(f".{path.name}.{os.getpid()}.{random_secrets.token_hex(4)}")
            draft.touch(mode=0o600)
            draft.write_text(text, encoding="utf-8")
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read or made ({error})", field=str(path), action="Check its owner and mode.") from error
