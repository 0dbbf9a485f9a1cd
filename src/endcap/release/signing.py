"""Ed25519 signatures of gate and promotion records, over canonical JSON. Not here: what a record must say (promotion.py)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from endcap.errors import ConfigError, RecordInvalid

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_NAME = "gate_signing.pem"
PUBLIC_NAME = "gate_public.pem"
_PEM_END = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True)
class Keys:
    """The key that signs (None where only verifying is allowed) and every public key that is trusted, by key id."""

    private: Ed25519PrivateKey | None
    trusted: dict[str, Ed25519PublicKey]

    @classmethod
    def load(cls, secrets: Path) -> Keys:
        """Read the keys of `home.secrets`; make them at first use (private key readable by its owner only).

        A host that only verifies holds `gate_public.pem` alone. To change keys, append the new public key to that file.

        Raises:
            ConfigError: a key file cannot be read as Ed25519 PEM.
        """
        private_path, public_path = secrets / PRIVATE_NAME, secrets / PUBLIC_NAME
        if not private_path.exists() and not public_path.exists():
            _create_private(private_path)
        private = _read_private(private_path) if private_path.exists() else None
        trusted = _read_public(public_path) if public_path.exists() else {}
        if private is not None and not public_path.exists():
            _write_new(public_path, _public_pem(private), mode=0o644)
            trusted = _read_public(public_path)
        return cls(private, trusted)

    def sign(self, record: dict[str, Any]) -> dict[str, Any]:
        """`record` with `key_id` and `signature` added.

        Raises:
            ConfigError: this host holds no private key.
        """
        if self.private is None:
            raise ConfigError(
                "no key to sign with", field=PRIVATE_NAME, action="Sign where the private key lies; this host can only verify."
            )
        body = {key: value for key, value in record.items() if key != "signature"}
        body["key_id"] = key_id(self.private.public_key())
        signature = base64.b64encode(self.private.sign(canonical(body))).decode()
        return {**body, "signature": signature}

    def verify(self, record: object) -> dict[str, Any]:
        """The record, once its signature is proved to be of a trusted key over exactly these values.

        Raises:
            RecordInvalid: not a record, unsigned, by an unknown key, or altered.
        """
        again = "Run `endcap gates MODEL` again; see docs/runbooks/record-does-not-verify.md."
        if not isinstance(record, dict):
            raise RecordInvalid("is missing or no JSON object", field="record", value=record, action=again)
        if not isinstance(record.get("signature"), str):
            raise RecordInvalid("is not signed", field=_name(record), action=again)
        public = self.trusted.get(str(record.get("key_id")))
        if public is None:
            raise RecordInvalid(
                "is signed by a key that is not trusted here", field=_name(record), value=record.get("key_id"), action=again
            )
        body = {key: value for key, value in record.items() if key != "signature"}
        try:
            public.verify(base64.b64decode(record["signature"], validate=True), canonical(body))
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise RecordInvalid("was altered after it was signed", field=_name(record), action=again) from error
        return record


def canonical(record: dict[str, Any]) -> bytes:
    """One byte string for one record: sorted keys, no spaces, no NaN.

    >>> canonical({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def key_id(public: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the sha256 of the raw public key."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _name(record: dict[str, Any]) -> str:
    return f"{record.get('record', 'unnamed')} record of model {record.get('model_version', '?')}"


def _create_private(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(path, pem, mode=0o600)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write whole or not at all; when another process was first, its file stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # the other process's key is the one to use
    finally:
        temporary.unlink()


def _public_pem(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read_private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"cannot be read ({error})", field=str(path), action="Restore it from your secret store.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("is no Ed25519 key", field=str(path), action="Restore it from your secret store.")
    return key


def _read_public(path: Path) -> dict[str, Ed25519PublicKey]:
    trusted = {}
    try:
        blocks = [part + _PEM_END for part in path.read_bytes().split(_PEM_END) if part.strip()]
        for block in blocks:
            key = load_pem_public_key(block.strip())
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError("a key in it is no Ed25519 key")
            trusted[key_id(key)] = key
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read ({error})", field=str(path), action="Restore it from your secret store.") from error
    return trusted
