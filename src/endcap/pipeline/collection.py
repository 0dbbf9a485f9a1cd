"""Where a batch comes from: the log's unclaimed events of an interval, or a file that landed.

Either way it ends as a complete folder (`batches.py`); collecting it again gives the same one. Not here: how a file lands
(`landing.py`), and what becomes of a batch (`ingest.py`).
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.config import Settings, load_params
from endcap.errors import InputError
from endcap.pipeline.batches import Batch, quarantined, rejection
from endcap.pipeline.landing import state_of

if TYPE_CHECKING:
    from endcap.data.events import EventLog


def parse_interval(start: str, end: str) -> tuple[datetime, datetime]:
    """Two ISO 8601 moments with their zones. Raises InputError where they are none, or not in order."""
    moments = []
    for name, text in (("interval_start", start), ("interval_end", end)):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise InputError("is no time", field=name, value=text, action="Write e.g. 2011-11-07T00:00:00+00:00.") from error
        if moment.tzinfo is None:
            raise InputError("has no time zone", field=name, value=text, action="Add +00:00 for UTC.")
        moments.append(moment)
    if moments[0] >= moments[1]:
        raise InputError("is not before interval_end", field="interval_start", value=start, action="Swap or widen them.")
    return moments[0], moments[1]


def from_log(settings: Settings, start: datetime, end: datetime) -> Batch:
    """The batch of the log's events before `end` that no other batch has. Raises BatchRejected where it was rejected before."""
    home = settings.paths
    batch_id = f"log-{_stamp(start)}-{_stamp(end)}"
    if quarantined(home, batch_id):
        raise rejection(home, batch_id)
    batch = Batch(home.batches / batch_id)
    if batch.complete:
        return batch
    log = open_log(settings)
    log.claim(batch_id, end, timedelta(minutes=load_params().ingest.clock_skew_minutes))
    events, catalog = log.read_batch(batch_id), log.read_catalog()
    batch.write_table("events.parquet", events)
    batch.write_table("catalog.parquet", catalog)
    card = {"batch_id": batch_id, "source": "log", "rows": {"events": events.num_rows, "catalog": catalog.num_rows}}
    batch.write_json("batch.json", card | {"interval_start": start.isoformat(), "interval_end": end.isoformat()})
    return batch


def from_file(settings: Settings, start: datetime, end: datetime, source: str) -> Batch:
    """The batch of a landed file, moved out of landing; [start, end) where it landed without an interval of its own.

    Raises:
        InputError: no such file has landed.
        BatchRejected: it was rejected before.
    """
    home, batch_id = settings.paths, Path(source).name
    state = state_of(home, batch_id)
    if state == "quarantined":
        raise rejection(home, batch_id)
    if state == "unknown":
        waiting = ", ".join(sorted(path.name for path in home.landing.glob("file-*"))) or "none"
        action = f"Land it with `endcap ingest FILE --mapping M`. Waiting: {waiting}."
        raise InputError("no such file batch has landed", field="source", value=source, action=action)
    if state == "waiting":
        home.batches.mkdir(parents=True, exist_ok=True)
        (home.landing / batch_id).rename(home.batches / batch_id)
    batch = Batch(home.batches / batch_id)
    shutil.rmtree(home.landing / batch_id, ignore_errors=True)  # delivered again while it was taken
    card = batch.read_json("batch.json")
    if card["interval_start"] is None or card["interval_end"] is None:
        whole = {"interval_start": start.isoformat(), "interval_end": end.isoformat()}
        batch.write_json("batch.json", card | {key: card[key] or value for key, value in whole.items()})
    return batch


def open_log(settings: Settings) -> EventLog:
    """The event log, with its tables made."""
    from endcap.data.events import EventLog

    log = EventLog(settings.event_log_url)
    log.create()
    return log


def _stamp(moment: datetime) -> str:
    """A moment as a part of a batch id: the same for the same instant, however its zone was written."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}" + (f".{utc.microsecond:06d}" if utc.microsecond else "")
