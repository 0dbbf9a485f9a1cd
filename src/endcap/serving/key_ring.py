"""The keys in force: follows the table, keeps the last known keys while the database is away, and tells whose a key is."""

from __future__ import annotations

import hmac
import json
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from endcap.contracts import Role
from endcap.data.atomic_write import write_atomically
from endcap.errors import AccessRefused, ServiceUnavailable
from endcap.serving.api_keys import ApiKey, ApiKeys, digest, split
from endcap.serving.metrics import Metrics

log = logging.getLogger(__name__)
SNAPSHOT = "api_keys.json"
_NO_DIGEST = "0" * 64  # compared with when the id is unknown, so that both take the same time


class KeyRefused(AccessRefused):
    """A call shows no key, or one that does not count. `reason` is a word for the metric."""

    def __init__(self, reason: str, problem: str, action: str) -> None:
        super().__init__(problem, field="Authorization", action=action)
        self.reason = reason


_MAKE = "An operator makes one with `endcap keys create`; send it as `Authorization: Bearer endcap_…` (docs/security.md)."
_AWAY = "Try again in a moment; meanwhile only keys known before count. See docs/runbooks/event-log-away.md."


class KeyRing:
    """Reads the table every `reload_seconds` in a thread of its own, so that a revocation holds everywhere within them.

    `mode` is ENDCAP_API_KEYS. What was read last also lies in `snapshot`: a service that starts while the database is away
    knows those keys and no others.
    """

    def __init__(
        self,
        mode: str,
        keys: ApiKeys,
        secret: bytes,
        snapshot: Path,
        metrics: Metrics,
        reload_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.mode, self._keys, self._secret, self._snapshot = mode, keys, secret, snapshot
        self._metrics, self._reload_seconds, self._clock = metrics, reload_seconds, clock
        self._known: dict[str, ApiKey] | None = None  # None: nothing was ever read
        self._asked = False  # whether there ever was a key: a table that was lost must not open the door
        self.current, self._made = True, False  # current: whether the table could be read last time
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="key-ring", daemon=True)

    @property
    def demanded(self) -> bool:
        """Whether a call must show a key."""
        return self.mode == "required" or (self.mode == "auto" and self._asked)

    def start(self) -> None:
        """Take the keys of last time, then those of now, then follow the table."""
        self._restore()
        self.check()
        if self.mode == "off":
            log.warning("API keys are off: whoever reaches this service may use all of it")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        self._keys.close()

    def check(self) -> None:
        """Read the table once; while it cannot be read the known keys stay in force."""
        try:
            if not self._made:
                self._keys.make_table()
                self._made = True
            found = {key.id: key for key in self._keys.read()}
        except ServiceUnavailable as error:
            if self.current:
                log.error("API keys cannot be read, the known ones stay", extra={"reason": str(error)})
            self._current(False)
            return
        if found != self._known:
            self._take(found)
            if found:
                self._save(list(found.values()))
            log.info("API keys in force", extra={"valid": sum(k.state(self._clock()) == "valid" for k in found.values())})
        self._current(True)

    def identify(self, authorization: str) -> ApiKey:
        """The key that a call shows in its Authorization header.

        Raises:
            KeyRefused: it shows none, or one that does not count; never with a word of the key itself.
            ServiceUnavailable: no key could ever be read, so none can be checked.
        """
        scheme, _, text = authorization.strip().partition(" ")
        if not authorization.strip():
            raise KeyRefused("missing", "this service asks for an API key, and none was sent", _MAKE)
        key_id = split(text.strip()) if scheme.lower() == "bearer" else None
        if key_id is None:
            raise KeyRefused("malformed", "is not `Bearer` and a key as it was shown when it was made", _MAKE)
        if self._known is None:
            raise ServiceUnavailable(
                "API keys cannot be checked: the event log does not answer", field="API keys", action=_AWAY
            )
        key = self._known.get(key_id)
        right = hmac.compare_digest(digest(text.strip(), self._secret), key.digest if key else _NO_DIGEST)
        if key is None or not right:
            raise KeyRefused("unknown", "is not a key of this service", _MAKE)
        if (state := key.state(self._clock())) != "valid":
            raise KeyRefused(state, f"key {key.id} is {state}", _MAKE)
        return key

    def _follow(self) -> None:
        while not self._stop.wait(self._reload_seconds):
            try:
                self.check()
            except Exception:  # following never ends: the known keys stay in force, and the gauge tells
                log.exception("check of API keys failed")
                self._current(False)

    def _take(self, keys: dict[str, ApiKey]) -> None:
        self._known, self._asked = keys, self._asked or bool(keys)

    def _current(self, up: bool) -> None:
        self.current = up
        self._metrics.keys_current.set(up)

    def _save(self, keys: Sequence[ApiKey]) -> None:
        try:
            write_atomically(self._snapshot, json.dumps([_plain(key) for key in keys]), mode=0o600)
        except OSError as error:
            log.error("known API keys could not be written down", extra={"reason": str(error)})

    def _restore(self) -> None:
        if not self._snapshot.exists():
            return
        try:
            keys = [_read(plain) for plain in json.loads(self._snapshot.read_text(encoding="utf-8"))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("known API keys could not be read", extra={"file": str(self._snapshot), "reason": type(error).__name__})
            return
        self._take({key.id: key for key in keys})


def _plain(key: ApiKey) -> dict[str, str | None]:
    times = {name: time.isoformat() if (time := getattr(key, name)) else None for name in ("created", "expires", "revoked")}
    return {"id": key.id, "role": key.role.value, "label": key.label, "digest": key.digest, **times}


def _read(plain: dict[str, str]) -> ApiKey:
    expires, revoked = (datetime.fromisoformat(plain[name]) if plain[name] else None for name in ("expires", "revoked"))
    created = datetime.fromisoformat(plain["created"])
    return ApiKey(plain["id"], Role(plain["role"]), plain["label"], plain["digest"], created, expires, revoked)
