"""What is known of a shopper at one moment: the event log's rows and this session as one list, returns taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

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
    return _history(_without_returned(known))


def _history(events: Events) -> History:
    """The same as History.from_events, quicker for long histories: every request pays for this."""
    seconds = np.fromiter((event["time"].timestamp() for event in events), np.float64, len(events))
    pieces, prices = ([event.get(name) for event in events] for name in ("quantity", "price"))
    return History(
        [event["item_id"] for event in events],
        np.round(seconds * 1e6).astype("datetime64[us]"),
        [str(event["type"]) for event in events],
        [np.nan if number is None else number for number in pieces],
        [np.nan if number is None else number for number in prices],
        [event.get("surface") or "" for event in events],
    )


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
