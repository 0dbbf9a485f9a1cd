"""What is known of a shopper at one moment: the event log's rows and this session as one list, returns taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from endcap.contracts import EventType

Events = list[Mapping[str, Any]]


def what_is_known(past: Sequence[Mapping[str, Any]], session: Sequence[Mapping[str, Any]], now: datetime) -> Events:
    """Events up to `now`, oldest first, each once. A purchase that was returned in full is left out, with its return."""
    known = [event for event in past if event["time"] <= now]
    logged = {(event["item_id"], event["type"], event["time"]) for event in known}
    fresh = (e for e in session if e["time"] <= now and (e["item_id"], e["type"], e["time"]) not in logged)
    return _without_returned(sorted([*known, *fresh], key=lambda event: event["time"]))


def _without_returned(events: Events) -> Events:
    """Each return takes back the newest earlier purchase of the same item and quantity, as the cleaning of data sets does."""
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
    return [event for place, event in enumerate(events) if place not in gone] if gone else events
