"""What a canary's requests were like, and what shoppers did with what they were shown. Beside the event log, in its database.

A row of `canary_requests` tells the arm that a request was meant for, whatever answered in the end: counting by what answered
would leave a failing candidate only the requests that it could answer. Not here: what the figures say (`release/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from endcap.contracts import EventType
from endcap.data import database
from endcap.data import event_tables as tables
from endcap.data.event_tables import microseconds

if TYPE_CHECKING:
    import pandas as pd

CANDIDATE_ARM, CHAMPION_ARM = "candidate", "champion"
ACTS = (EventType.CLICK.value, EventType.CART.value, EventType.PURCHASE.value)
_ACT_COLUMNS = ("type", "user_id", "item_id", "time", "request_id", "quantity")
_SHOWN_COLUMNS = ("request_id", "user_id", "item_id", "time", "rank", "surface")


class ArmRow(TypedDict):
    """A request during a canary. `shopper` is a pseudonym, or the request's own id; `time` is the moment it speaks of."""

    request_id: str
    canary_id: str
    step: int
    arm: str
    shopper: str
    time: datetime
    answered_at: datetime
    latency_ms: float
    error: bool
    fallback: bool


@dataclass(frozen=True, slots=True)
class Acted:
    """Slates that somebody may have acted on, and the acts, as `training.outcomes.settle` takes them."""

    exposures: pd.DataFrame
    events: pd.DataFrame


class CanaryLog:
    """The event log's database at `url`. Every method raises ServiceUnavailable when it does not answer."""

    def __init__(self, url: str) -> None:
        self._engine = database.open_engine(url)
        self.address = self._engine.url.render_as_string(hide_password=True)

    def create(self) -> None:
        """Make the tables that are missing."""
        with database.answering(self.address):
            tables.create_tables(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def requests(self, canary_id: str, step: int) -> pd.DataFrame:
        """The requests of one step: request_id, arm, shopper, time, answered_at, latency_ms, error, fallback."""
        t = tables.canary_requests.c
        query = sa.select(t.request_id, t.arm, t.shopper, t.time, t.answered_at, t.latency_ms, t.error, t.fallback)
        return self._frame(query.where(t.canary_id == canary_id, t.step == step), ("time", "answered_at"))

    def acted(self, canary_id: str, step: int, attribution: timedelta, until: datetime) -> Acted:
        """All that decides which of a step's slates led to a click or a purchase, and little more.

        Of the exposures only those whose item somebody took, but of any step and model: an act counts for the last of them.
        """
        t = tables.canary_requests.c
        first = sa.select(sa.func.min(t.time)).where(t.canary_id == canary_id, t.step == step)
        with database.answering(self.address), self._engine.connect() as connection:
            since = connection.scalar(first)
        since = microseconds(until) if since is None else since
        e, x = tables.events.c, tables.exposures.c
        act = sa.and_(e.type.in_(ACTS), e.time >= since, e.time < microseconds(until))
        span = attribution // timedelta(microseconds=1)
        same = sa.and_(e.item_id == x.item_id, x.time >= since, x.time <= e.time, e.time - x.time <= span)
        named = sa.and_(act, same, e.request_id == x.request_id)
        nearest = sa.and_(act, same, e.request_id.is_(None), e.user_id == x.user_id)
        shown = sa.union(
            *(
                sa.select(*(x[name] for name in _SHOWN_COLUMNS)).join(tables.events, on)
                for on in (named, nearest)
            )
        )  # fmt: skip
        events = sa.select(*(e[name] for name in _ACT_COLUMNS)).where(act)
        return Acted(self._frame(shown, ("time",)), self._frame(events, ("time",)))

    def append_shadows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store comparisons of a candidate in the shadow; a known request is left as it is."""
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement = insert(tables.shadow_requests).on_conflict_do_nothing(index_elements=["request_id"])
        with database.answering(self.address), self._engine.begin() as connection:
            connection.execute(statement, [tables.whole_times(row) for row in rows])

    def shadows(self, canary_id: str) -> pd.DataFrame:
        """The comparisons of a canary: shopper, overlap, rank_correlation, candidate_ms, champion_ms, error."""
        t = tables.shadow_requests.c
        query = sa.select(t.shopper, t.overlap, t.rank_correlation, t.candidate_ms, t.champion_ms, t.error)
        return self._frame(query.where(t.canary_id == canary_id), ())

    def arm_of(self, request_id: str) -> dict[str, Any] | None:
        """Which canary, step and arm a request belonged to; None: to no canary."""
        t = tables.canary_requests.c
        query = sa.select(t.canary_id, t.step, t.arm, t.error, t.fallback).where(t.request_id == request_id)
        with database.answering(self.address), self._engine.connect() as connection:
            found = connection.execute(query).mappings().first()
        return dict(found) if found else None

    def _frame(self, query: Any, times: Sequence[str]) -> pd.DataFrame:
        import pandas as pd

        with database.answering(self.address), self._engine.connect() as connection:
            result = connection.execute(query)
            frame = pd.DataFrame(result.fetchall(), columns=list(result.keys()))
        for name in times:
            frame[name] = pd.to_datetime(frame[name].astype("int64"), unit="us", utc=True).astype("datetime64[us, UTC]")
        return frame
