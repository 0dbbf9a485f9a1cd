"""What is known of a shopper at one moment: the event log's rows and this session as one list, cleaned like data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from endcap.contracts import EventType
from endcap.models.history import History

Events = list[Mapping[str, Any]]


def what_is_known(past: Sequence[Mapping[str, Any]], session: Sequence[Mapping[str, Any]], now: datetime) -> History:
    """Events up to `now`, oldest first, each once. A purchase that was returned in full is left out, with its return."""
    known: Events = [event for event in past if event["time"] <= now]
    if session:
        logged = {(event["item_id"], event["type"], event["time"]) for event in known}
        fresh = (e for e in session if e["time"] <= now and (e["item_id"], e["type"], e["time"]) not in logged)
        known = sorted([*known, *fresh], key=lambda event: event["time"])
    return History.from_events([event for event in _without_returned(known) if not _given_away(event)])


def _given_away(event: Mapping[str, Any]) -> bool:
    """A purchase for nothing is learnt from by nobody: the cleaning of data sets drops it."""
    price = event.get("price")
    return event["type"] == EventType.PURCHASE and price is not None and not price > 0


def _without_returned(events: Events) -> Events:
    """Each return takes back the newest earlier purchase of the same item and quantity, as the cleaning of data sets does."""
    if not any((event.get("quantity") or 0) < 0 for event in events):
        return events
    gone: set[int] = set()
    for place, event in enumerate(events):
        returned = -(event.get("quantity") or 0)
        if event["type"] != EventType.PURCHASE or returned <= 0:
            continue
        gone.add(place)
        for earlier in range(place - 1, -1, -1):
            other = events[earlier]
            if (
                earlier not in gone
                and other["item_id"] == event["item_id"]
                and other["type"] == EventType.PURCHASE
                and other.get("quantity") == returned
            ):
                gone.add(earlier)
                break
    return [event for place, event in enumerate(events) if place not in gone]
