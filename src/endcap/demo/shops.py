"""The shop that the demo plays: its history as a delivery of files, its weeks as visits of shoppers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap.config import Params, Settings
from endcap.demo.narrator import Narrator
from endcap.demo.state import DemoState
from endcap.errors import InputError, ServiceUnavailable
from endcap.pipeline import landing

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

EVENT_FIELDS = ("event_id", "type", "item_id", "quantity", "price", "country")


@dataclass(frozen=True, slots=True)
class Visit:
    """A shopper on one day: asks at `time`, then does `events` (as the HTTP contract has them, with the shop's own user id)."""

    user_id: str
    time: datetime
    events: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class DemoShop:
    """Events with raw user ids, as the shop knows them, and the tables it delivers for a period."""

    name: str
    why: str
    lines: pd.DataFrame  # event columns with raw user ids, in order of time
    deliver: Callable[[datetime, datetime], tuple[pa.Table, pa.Table]]  # (events with pseudonyms, catalogue) of a period
    history_from: datetime
    history_until: datetime
    weeks: list[datetime]
    code_pattern: str | None = None  # what the shop's proper item codes look like; None: every code is an item

    def land_history(self, settings: Settings) -> str:
        """Deliver everything before `history_until` as one file batch; returns its id."""
        events, catalog = self.deliver(self.history_from, self.history_until)
        return self._land(settings, events, catalog, "history", self.history_from, self.history_until)

    def land_catalog(self, settings: Settings, start: datetime, end: datetime) -> str:
        """Deliver the catalogue of the items that are sold in [start, end); returns the batch's id."""
        _, catalog = self.deliver(start, end)
        return self._land(settings, None, catalog, f"catalogue {start:%Y-%m-%d}", start, end)

    def visits(self, start: datetime, end: datetime) -> Iterator[Visit]:
        """Who came in [start, end), in order of time: one visit a shopper and day."""
        known = self.lines[self.lines["user_id"].notna() & (self.lines["time"] >= start) & (self.lines["time"] < end)]
        days = known.groupby([known["time"].dt.floor("D"), "user_id"], sort=False)
        for (_, user), rows in sorted(days, key=lambda day: day[1]["time"].iloc[0]):
            yield Visit(str(user), rows["time"].iloc[0].to_pydatetime(), [_event(row) for row in rows.to_dict("records")])

    def _land(
        self, settings: Settings, events: pa.Table | None, catalog: pa.Table | None, source: str, start: datetime, end: datetime
    ) -> str:
        landed = landing.land_tables(
            events, catalog, source=source, start=start, end=end, settings=settings, code_pattern=self.code_pattern
        )
        return str(landed["batch_id"])


def choose_shop(settings: Settings, params: Params, state: DemoState, tell: Narrator) -> DemoShop:
    """The shop of params.yaml; the simulated one, said aloud, when the real data cannot be had. The choice lasts for a home."""
    known = state.done.get("shop")
    chosen = known or {
        "name": params.shop.name,
        "wanted": params.shop.name,
        "why": "shop.name asks for it (params.yaml or --shop)",
    }
    if chosen["wanted"] != params.shop.name:
        action = "Run `make clean` to forget it, or set ENDCAP_HOME to another folder."
        raise InputError(
            f"this home already plays {chosen['wanted']}", field="shop.name", value=params.shop.name, action=action
        )
    if chosen["name"] == "online-retail":
        try:
            shop = _online_retail(settings, params, chosen["why"])
        except ServiceUnavailable as error:
            if known:
                raise
            chosen |= {"name": "simulated", "why": f"online-retail cannot be had: {error}"}
    if chosen["name"] == "simulated":
        shop = _simulated(params, settings, chosen["why"])
    state.once("shop", lambda: chosen)
    tell.say(f"Shop: [bold]{shop.name}[/], because {shop.why}.")
    return shop


def _online_retail(settings: Settings, params: Params, why: str) -> DemoShop:
    from endcap.data.privacy import pseudonym_key
    from endcap.data.shops import open_online_retail

    key = pseudonym_key(settings.pseudonym_key, settings.paths.secrets)
    shop = open_online_retail(settings.data_dir, settings.home / "downloads", key)
    until = datetime.combine(params.shop.history_until, datetime.min.time(), UTC)
    if not shop.start < until < shop.end:
        action = f"Choose a day between {shop.start:%Y-%m-%d} and {shop.end:%Y-%m-%d}."
        raise InputError(
            "lies outside the shop's data", field="shop.history_until", value=str(params.shop.history_until), action=action
        )
    weeks = _weeks(until, params.shop.weeks, shop.end)
    return DemoShop("online-retail", why, shop.lines, shop.period, shop.start, until, weeks, shop.code_pattern)


def _simulated(params: Params, settings: Settings, why: str) -> DemoShop:
    from endcap.data.privacy import pseudonym_key
    from endcap.policy.simulator import simulate

    key = pseudonym_key(settings.pseudonym_key, settings.paths.secrets)
    shop = simulate(params.shop.simulated, key)
    until = shop.end - timedelta(days=7 * params.shop.weeks)
    return DemoShop("simulated", why, shop.lines, shop.period, shop.start, until, _weeks(until, params.shop.weeks, shop.end))


def _weeks(start: datetime, number: int, end: datetime) -> list[datetime]:
    """Starts of at most `number` weeks from `start` that begin before the data ends."""
    return [week for n in range(number) if (week := start + timedelta(days=7 * n)) < end]


def _event(row: dict[Any, Any]) -> dict[str, Any]:
    event = {name: row[name] for name in EVENT_FIELDS if row.get(name) is not None}
    return event | {"user_id": str(row["user_id"]), "time": row["time"].isoformat(), "surface": "home"}
