"""From the bytes of a call to events that may be stored, each checked on its own. Not here: storing them (event log)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from endcap.contracts import MAX_QUANTITY, EventType
from endcap.data.privacy import pseudonymise
from endcap.errors import InputError
from endcap.serving import problems
from endcap.serving.plausible_time import require_plausible
from endcap.serving.schemas import Event, RejectedEvent

MAX_EVENTS = 1000
_MALFORMED = "is not JSON"
_SPACE = re.compile(r"\s*")
_ONE_CALL = f"Send a JSON array, or one JSON object a line (application/x-ndjson), at most {MAX_EVENTS:,} events a call."


@dataclass(slots=True)
class Intake:
    """What of a call may be stored, and what not and why."""

    events: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[RejectedEvent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Door:
    """What an event must satisfy here, beyond its schema."""

    key: bytes  # turns user ids into pseudonyms
    max_price: float  # shop currency
    clock_skew: timedelta  # how far ahead of this clock an event may be

    def check(self, body: bytes, media_type: str, now: datetime) -> Intake:
        """Every event of a call, accepted or rejected with its index.

        Raises:
            InputError: the body as a whole cannot be read (not JSON, no array, too many events).
        """
        intake = Intake()
        found = list(_lines(body) if "ndjson" in media_type else _array(body))
        if len(found) > MAX_EVENTS:
            raise InputError("too many events in one call", field="body", value=len(found), action=_ONE_CALL)
        for index, raw in enumerate(found):
            try:
                intake.events.append(self._event(raw, now))
            except InputError as error:
                intake.rejected.append(RejectedEvent(index=index, reason=str(error)))
        return intake

    def _event(self, raw: object, now: datetime) -> dict[str, Any]:
        if not isinstance(raw, Mapping):
            raise InputError(_MALFORMED if raw is _BROKEN else "is no JSON object", field="event", value=None, action=_ONE_CALL)
        try:
            event = Event.model_validate(raw)
        except ValidationError as error:
            where, what, value, action = problems.explain(error.errors()[0], tuple(Event.model_fields))
            raise InputError(what, field=where or "event", value=value, action=action) from error
        self._plausible(event, now)
        row = event.model_dump(mode="python")
        row["type"], row["surface"] = event.type.value, event.surface.value if event.surface else None
        row["time"] = event.time.astimezone(UTC)
        if event.type is EventType.PURCHASE and event.quantity is None:
            row["quantity"] = 1.0
        if event.user_id is not None:
            row["user_id"] = pseudonymise(event.user_id, self.key)
        return row

    def _plausible(self, event: Event, now: datetime) -> None:
        require_plausible(event.time, now, self.clock_skew, "time")
        if event.price is not None and event.price > self.max_price:
            action = f"Send prices in shop currency, at most {self.max_price:g} (params.yaml: ingest.max_price)."
            raise InputError("is too high for a price", field="price", value=event.price, action=action)
        if event.quantity is not None and abs(event.quantity) > MAX_QUANTITY:
            action = f"Send pieces: between {-MAX_QUANTITY:,.0f} (a return) and {MAX_QUANTITY:,.0f}."
            raise InputError("is not a quantity of a human size", field="quantity", value=event.quantity, action=action)
        if event.type is EventType.PURCHASE:
            self._complete(event)

    @staticmethod
    def _complete(event: Event) -> None:
        """What the contract asks of purchases and returns; a small batch is rejected for a single one without."""
        if event.quantity == 0:
            raise InputError("a purchase of nothing", field="quantity", value=0, action="Send a quantity other than 0.")
        if event.price is None:
            action = "Send what one piece cost, in shop currency; 0 for a gift."
            raise InputError("is required of a purchase", field="price", action=action)


_BROKEN = object()


def _array(body: bytes) -> list[Any]:
    """The elements of a JSON array. NaN and Infinity are read, so that the event that has them can be named."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as first:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _unreadable(body, error, first) from error
    if not isinstance(found, list):
        raise InputError("must be an array of events", field="body", value=type(found).__name__, action=_ONE_CALL)
    return found


def _unreadable(body: bytes, error: Exception, first: Exception) -> InputError:
    """Say where it breaks: in which event, at which character."""
    position = error.pos if isinstance(error, json.JSONDecodeError) else getattr(first, "pos", 0)
    text = body.decode("utf-8", errors="replace")
    index = _complete_elements(text)
    near = text[max(0, position - 20) : position + 20]
    what = f"is not JSON: {str(error) or type(error).__name__}, in event {index}; nothing of this call was stored"
    return InputError(what, field="body", value=near, action=_ONE_CALL)


def _complete_elements(text: str) -> int:
    """How many elements of an array can be read before it breaks."""
    decoder, position, count = json.JSONDecoder(), text.find("[") + 1, 0
    try:
        while position and (space := _SPACE.match(text, position)):
            _, position = decoder.raw_decode(text, space.end())
            count += 1
            position = text.find(",", position) + 1
    except (ValueError, RecursionError):
        pass
    return count


def _lines(body: bytes) -> Iterator[Any]:
    """One event a line; a line that is no JSON breaks alone. Empty lines are no events."""
    for line in body.split(b"\n"):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield _BROKEN
