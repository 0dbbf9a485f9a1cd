"""How the shelf does just now: click and purchase rates by model version and by policy over the last hour, day or week.

Here is the reading and the counting, apart from requests: bounded, and kept for a while. Not here: the page (operator_page.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap.data.events import EventLog
from endcap.evaluation.significance import Interval, clustered_rate
from endcap.serving.log_watch import LogWatch

if TYPE_CHECKING:
    import pandas as pd

WINDOWS = {
    "hour": (timedelta(hours=1), timedelta(minutes=5)),
    "day": (timedelta(days=1), timedelta(hours=1)),
    "week": (timedelta(days=7), timedelta(hours=12)),
}  # name → its length and the length of a bar of its chart
MOST_EXPOSURES = 20_000  # shown items that are read at most, and acts: the newest
_IDS = ("request_id", "user_id", "item_id")
_KEEP_SECONDS = 5.0
_KEEP_RATIO = 20.0  # kept for this many times what counting took: it never costs more than a twentieth of a core


@dataclass(frozen=True, slots=True)
class Rates:
    """One model version or policy. `clicks` and `purchases` are shares of slates, up to now."""

    name: str
    slates: int
    shoppers: int
    fallbacks: int
    clicks: Interval
    purchases: Interval


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time in the chart."""

    start: datetime
    slates: int
    fallbacks: int
    clicked: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A window's figures; `since` is later than the window's begin when there is more than is read at most."""

    window: str
    since: datetime
    until: datetime
    cut: bool
    slates: int
    fallbacks: int
    events: int
    models: tuple[Rates, ...]
    policies: tuple[Rates, ...]
    bars: tuple[Bar, ...]
    newest: datetime | None  # the newest slate of all times


class OnlineFigures:
    """Figures of the event log. What an event counts for is the rule of training/outcomes.py, `attribution` after the slate."""

    def __init__(
        self,
        event_log: EventLog,
        watch: LogWatch,
        attribution: timedelta,
        most: int = MOST_EXPOSURES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._watch, self._attribution, self._most, self._clock = event_log, watch, attribution, most, clock
        self._kept: dict[tuple[str, bool], tuple[float, Figures]] = {}
        self._counting = threading.Lock()

    def of(self, window: str, *, newest: bool = False) -> Figures:
        """Of a window (a key of WINDOWS) that ends now, or with `newest` at the newest slate, as after a replay of history.

        Raises:
            ServiceUnavailable: the event log does not answer.
        """
        with self._counting:  # one at a time, however many people look
            kept = self._kept.get((window, newest))
            if kept and self._clock() < kept[0]:
                return kept[1]
            self._watch.require()
            started = self._clock()
            figures = self._count(window, newest)
            took = self._clock() - started
            self._kept[window, newest] = (self._clock() + max(_KEEP_SECONDS, _KEEP_RATIO * took), figures)
            return figures

    def _count(self, window: str, newest: bool) -> Figures:
        last = self._log.newest_exposure_time()
        until = last + timedelta(microseconds=1) if newest and last else datetime.now(UTC)
        length, bar = WINDOWS[window]
        since = until - length
        shown = self._log.newest_exposures(since, until, self._most)
        cut = shown.num_rows == self._most
        if cut:  # the oldest slate may lack places
            since = shown["time"][0].as_py() + timedelta(microseconds=1)
        acted_until = min(until + self._attribution, datetime.now(UTC)) if newest else until
        acts = self._log.newest_acts(since, acted_until, self._most)
        if acts.num_rows == self._most:  # what was shown before the oldest of them may have led to more
            since, cut = acts["time"][0].as_py(), True
        slates = self._slates(shown, acts, since, until)
        about = (window, since, until, cut)
        if slates.empty:
            return Figures(*about, 0, 0, acts.num_rows, (), (), (), last)
        whole = _merge(slates, ["request_id"])
        return Figures(
            *about,
            slates=len(whole),
            fallbacks=int(whole["fallback"].sum()),
            events=acts.num_rows,
            models=_by(_merge(slates, ["model_version", "request_id"]), "model_version"),
            policies=_by(slates, "policy"),
            bars=_bars(whole, until, length, bar),
            newest=last,
        )

    def _slates(self, shown: Any, acts: Any, since: datetime, until: datetime) -> pd.DataFrame:
        """One row a slate and policy: what became of the places that the policy filled. All count, their time up or not."""
        from endcap.training.outcomes import settle

        frame, acts = _coded(shown, acts)
        frame = frame[frame["time"] >= since]
        settled = settle(frame, acts, self._attribution, until + self._attribution)
        shopper = settled["user_id"].fillna(-1 - settled["request_id"])  # a stranger's slate is alone
        return _merge(settled.assign(shopper=shopper), ["policy", "request_id"])


def _coded(shown: Any, acts: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables with numbers in the place of ids, NaN for none: joins of text would hold up the threads that answer."""
    import pyarrow as pa

    frames = [shown.drop_columns(list(_IDS)).to_pandas(), acts.drop_columns(list(_IDS)).to_pandas()]
    for name in _IDS:
        both = pa.chunked_array([*shown[name].chunks, *acts[name].chunks], pa.string())
        codes = both.combine_chunks().dictionary_encode().indices.cast(pa.float64()).to_numpy(zero_copy_only=False)
        frames[0][name], frames[1][name] = codes[: shown.num_rows], codes[shown.num_rows :]
    return frames[0], frames[1]


def _merge(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row for each of the keys; something happened where it did in any of its rows."""
    first = {name: (name, "first") for name in ("time", "shopper", "model_version") if name not in keys}
    any_of = {name: (name, "any") for name in ("fallback", "clicked", "purchased")}
    return rows.groupby(keys, sort=True).agg(**first, **any_of).reset_index()


def _by(slates: pd.DataFrame, key: str) -> tuple[Rates, ...]:
    found = []
    for name, some in slates.groupby(key, sort=True):
        shoppers = some["shopper"].to_numpy()
        rates = [clustered_rate(some[column].to_numpy(bool), shoppers) for column in ("clicked", "purchased")]
        found.append(Rates(str(name), len(some), int(some["shopper"].nunique()), int(some["fallback"].sum()), *rates))
    return tuple(sorted(found, key=lambda rates: -rates.slates))


def _bars(slates: pd.DataFrame, until: datetime, length: timedelta, bar: timedelta) -> tuple[Bar, ...]:
    """The whole window in equal stretches, oldest first, those without a slate too."""
    count = length // bar
    ago = (until - slates["time"]).dt.total_seconds() // bar.total_seconds()
    place = (count - 1 - ago).clip(0, count - 1).astype(int)
    sums = slates.assign(slates=1).groupby(place)[["slates", "fallback", "clicked"]].sum().reindex(range(count), fill_value=0)
    return tuple(
        Bar(until - (count - number) * bar, *(int(value) for value in row)) for number, row in enumerate(sums.to_numpy(int))
    )
