"""A shop week by week: what was known and what was listed when each week began, and who took what in it.

Read from files as the quality benchmark reads them, or from Online Retail as the demo does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.benchmark.item_table import ItemTable, read_items
from endcap.benchmark.splits import Cases, make_cases
from endcap.benchmark.tables import EventTable, read_events
from endcap.data.features import FAR_FUTURE, Interactions, choose_targets, interactions_from_events, to_microseconds
from endcap.data.item_text import one_line
from endcap.data.shops import open_online_retail
from endcap.errors import InputError
from endcap.models.history import Floats

Ints = npt.NDArray[np.int64]
WEEK = timedelta(days=7)
ONLINE_RETAIL = "online-retail"
NO_KEY = b"\0" * 32  # pseudonyms are not used here: the shop's own ids never leave the process


@dataclass(frozen=True, slots=True, eq=False)
class WeeklyShop:
    """All events of a shop, and since when each item was listed."""

    name: str
    events: Interactions  # of the whole vocabulary, I items
    texts: tuple[str, ...]  # (I,)
    listed_us: Ints  # (I,) microseconds since the epoch
    weeks: tuple[datetime, ...]  # starts of the judged weeks
    notes: tuple[str, ...] = ()

    def listed(self, moment: datetime) -> Ints:
        """(L,) codes of the items that were listed before `moment`, ascending."""
        return np.flatnonzero(self.listed_us < to_microseconds(moment))

    def known(self, moment: datetime) -> Interactions:
        """What was known at `moment`, over the vocabulary of what was listed then."""
        codes = self.listed(moment)
        known = self.events.known_at(moment)
        return replace(known, item_ids=known.item_ids[codes], items=np.searchsorted(codes, known.items))

    def cases(self, week: datetime) -> Cases:
        """The shoppers who took something in the week from `week` on; codes are of the whole vocabulary."""
        return make_cases(self.events, week, week + WEEK, targets_only=True)

    def catalog(self, moment: datetime) -> pd.DataFrame:
        """The item table that a fit wants, of what was listed."""
        codes = self.listed(moment)
        return pd.DataFrame({"item_id": self.events.item_ids[codes], "title": [one_line(self.texts[code]) for code in codes]})

    def text(self, text_IE: Floats | None, moment: datetime) -> Floats:
        """The text vectors of what was listed; nothing is known of texts: one column of zeros."""
        codes = self.listed(moment)
        return np.zeros((len(codes), 1), np.float32) if text_IE is None else text_IE[codes]

    def item_table(self) -> ItemTable:
        """The vocabulary as the text encoder's step wants it."""
        return ItemTable(tuple(map(str, self.events.item_ids)), self.texts, ("title",), (), ())


def from_files(interactions: Path, items: Path | None, start: datetime, weeks: int) -> WeeklyShop:
    """A shop of the quality benchmark's files. An item that the items file has a text of is listed from the beginning, any
    other from its first event on.

    Raises:
        InputError: a file cannot be used, there are no times, or no event lies before `start` or in the weeks.
    """
    events = read_events(interactions)
    if events.times_us is None:
        raise InputError("weeks need times", field=f"{interactions}: timestamp", value=None, action="Give that column.")
    table = read_items(items, events.items)
    shop = _interactions(events, events.times_us, table.item_ids)
    texts = np.array(table.texts, object)
    listed = first_seen(shop) if items is None else np.where(texts != "", np.iinfo(np.int64).min, first_seen(shop))
    notes = (*events.warnings, *table.warnings)
    return _checked(WeeklyShop(interactions.name, shop, tuple(texts), listed, week_starts(start, weeks), notes))


def online_retail(data_dir: Path | None, cache: Path, start: datetime, weeks: int) -> WeeklyShop:
    """Online Retail, clean purchases: customer known, quantity and price above zero, not cancelled, a proper item code.

    An item is listed from the first week on that begins with it in the catalogue, under the name that it has then.

    Raises:
        ServiceUnavailable, InputError: as `data.shops.open_online_retail`; no event lies before `start` or in the weeks.
    """
    shop = open_online_retail(data_dir, cache, NO_KEY)
    lines = shop.lines
    proper = lines["item_id"].astype(str).str.fullmatch(shop.code_pattern)
    clean = lines["user_id"].notna() & (lines["quantity"] > 0) & (lines["price"] > 0) & proper
    clean &= ~lines["event_id"].str.startswith("C")
    events = interactions_from_events(lines[clean])
    titles: dict[str, str] = {}
    listed: dict[str, int] = {}
    starts = week_starts(start, weeks)
    for moment in (*starts, starts[-1] + WEEK):
        for item, title in shop.catalog(moment).select(["item_id", "title"]).to_pandas().itertuples(index=False):
            titles.setdefault(item, title)
            listed.setdefault(item, to_microseconds(moment) - 1)
    seen = first_seen(events)
    at = np.minimum([listed.get(item, FAR_FUTURE) for item in events.item_ids], seen)
    texts = tuple(titles.get(item, "") for item in events.item_ids)
    return _checked(WeeklyShop(ONLINE_RETAIL, events, texts, at, starts))


def week_starts(start: datetime, weeks: int) -> tuple[datetime, ...]:
    """Starts of so many weeks in a row, in UTC; a naive start is in UTC already."""
    try:
        aware = start.astimezone(UTC) if start.tzinfo else start.replace(tzinfo=UTC)
        return tuple(aware + week * WEEK for week in range(weeks + 1))[:weeks]
    except OverflowError as error:
        value = (start.date().isoformat(), weeks)
        raise InputError("weeks beyond the calendar", field="start, weeks", value=value, action="Give fewer.") from error


def first_seen(events: Interactions) -> Ints:
    """(I,) when each item's first event came; FAR_FUTURE without one."""
    first = np.full(len(events.item_ids), FAR_FUTURE)
    np.minimum.at(first, events.items, events.times_us)
    return first


def _interactions(events: EventTable, times: Ints, item_ids: tuple[str, ...]) -> Interactions:
    order = np.argsort(times, kind="stable") if events.positions is None else np.lexsort((events.positions, times))
    user_ids, users = np.unique(events.users[order], return_inverse=True)
    items = np.searchsorted(np.array(item_ids, object), events.items[order])
    kinds: Any = events.types[order]
    return Interactions(
        user_ids=user_ids,
        item_ids=np.array(item_ids, object),
        users=users.astype(np.int64),
        items=items.astype(np.int64),
        times_us=times[order],
        types=kinds,
        cancelled_us=np.full(len(order), FAR_FUTURE),
        target_types=choose_targets(kinds),
        quantities=events.quantities[order],
        prices=events.prices[order],
        surfaces=events.surfaces[order],
        countries=events.countries[order],
    )


def _checked(shop: WeeklyShop) -> WeeklyShop:
    times = shop.events.times_us
    first, last = to_microseconds(shop.weeks[0]), to_microseconds(shop.weeks[-1])
    if times.min() < first and times.max() >= last:
        if not any(len(shop.cases(week)) for week in shop.weeks):
            value = (shop.weeks[0].date().isoformat(), len(shop.weeks))
            raise InputError("nobody buys in these weeks", field="start, weeks", value=value, action="Give other weeks.")
        return shop
    if times.min() == times.max():
        action = "No week parts them: give a file with the times of the events."
        raise InputError(
            "all events are of one moment", field="timestamp", value=str(np.datetime64(int(times[0]), "us")), action=action
        )
    spans = [str(np.datetime64(int(moment), "us")) for moment in (times.min(), times.max())]
    raise InputError(
        "the weeks lie outside the events", field="start, weeks", value=(shop.weeks[0].date().isoformat(), len(shop.weeks)),
        action=f"The events span {spans[0]} to {spans[1]}: start after the first, and let the last week begin before the last.",
    )  # fmt: skip
