"""Files at the door: read, mapped to the contract, pseudonymised and laid into `home.landing` for ingest_events to take.

Not here: whether the content is any good. A batch with unreadable values lands too; validation rejects it with its reasons.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap import contracts
from endcap.config import Home, Settings, load_settings
from endcap.errors import InputError
from endcap.pipeline.batches import Batch, quarantined

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def land_file(
    path: Path, mapping_path: Path, *, start: datetime | None = None, end: datetime | None = None, strict: bool = True
) -> dict[str, Any]:
    """Land a shop's own file. Returns {batch_id, state, events, catalog_items, problems}.

    `state` is landed, or, when this very delivery is known: waiting, taken or quarantined; then nothing is written.
    [start, end) bounds the events' times; without it the interval is the days that occur. With `strict` a column that the
    mapping names and the file lacks is an error here; without, the batch lands and is rejected by validation.

    Raises:
        InputError: the file or the mapping cannot be read, the file has no rows, or the interval ends before it starts.
    """
    from endcap.data.mapping import apply_mapping
    from endcap.data.mapping_file import load_mapping
    from endcap.data.privacy import pseudonym_key
    from endcap.data.table_files import read_table

    settings = load_settings()
    mapping = load_mapping(mapping_path)
    table = read_table(path, separator=mapping.csv.separator, encoding=mapping.csv.encoding)
    if not table.num_rows:
        raise InputError("has no rows", field=str(path), action="Deliver it again; was its writing cut short?")
    key = pseudonym_key(settings.pseudonym_key, settings.paths.secrets)
    mapped = apply_mapping(table, mapping, key, strict=strict)
    digest = hashlib.sha256(_file_digest(path) + mapping.model_dump_json().encode())
    tables: dict[str, pa.Table] = {mapping.kind: mapped.table}
    pattern = mapping.code_pattern
    return _land(settings.paths, digest, tables, mapped.problems, path.name, (start, end), pattern)


def land_tables(
    events: pa.Table | pd.DataFrame | None,
    catalog: pa.Table | None = None,
    *,
    source: str,
    start: datetime | None = None,
    end: datetime | None = None,
    settings: Settings | None = None,
    code_pattern: str | None = None,
) -> dict[str, Any]:
    """Land tables that are in contract columns already, with pseudonyms. Returns as `land_file`.

    `code_pattern` is what the shop's proper item codes look like (a regular expression); other codes are junk to cleaning.

    A frame whose values do not fit the contract's types lands too: what cannot be read is named, and validation rejects it.
    """
    import pyarrow as pa

    home = (settings or load_settings()).paths
    tables: dict[str, pa.Table] = {} if catalog is None else {"catalog": catalog}
    problems: list[str] = []
    if events is not None:
        if not isinstance(events, pa.Table):
            events, problems = _as_events(events)
        tables["events"] = events
    digest = hashlib.sha256(source.encode())
    for name, table in sorted(tables.items()):
        digest.update(name.encode() + _table_digest(table))
    digest.update((code_pattern or "").encode())
    return _land(home, digest, tables, problems, source, (start, end), code_pattern)


def _as_events(frame: pd.DataFrame) -> tuple[pa.Table, list[str]]:
    import pyarrow as pa

    from endcap.data.mapping import apply_mapping
    from endcap.data.mapping_file import Mapping as ColumnMapping

    columns: dict[str, Any] = {name: name for name in contracts.event_schema().names}
    arrays = {}
    for name in frame.columns:
        try:
            arrays[str(name)] = pa.array(frame[name], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            arrays[str(name)] = pa.array([None if value is None else str(value) for value in frame[name]], pa.string())
    mapped = apply_mapping(pa.table(arrays), ColumnMapping(columns=columns, user_ids="pseudonyms"), b"", strict=False)
    return mapped.table, mapped.problems


def _land(
    home: Home,
    digest: Any,
    tables: Mapping[str, pa.Table],
    problems: list[str],
    source: str,
    interval: tuple[datetime | None, datetime | None],
    code_pattern: str | None,
) -> dict[str, Any]:
    start, end = interval
    digest.update(json.dumps([str(start), str(end)]).encode())
    batch_id = f"file-{digest.hexdigest()[:12]}"
    rows = {"events": 0, "catalog": 0} | {name: table.num_rows for name, table in tables.items()}
    state = state_of(home, batch_id)
    if state == "unknown":
        start, end = _interval(tables.get("events"), start, end)
        with _arriving(home.landing / batch_id) as batch:
            for name, table in tables.items():
                whole = name == "catalog" or _meets_contract(table)
                batch.write_table(f"{name}.parquet" if whole else "raw.parquet", table)
            if problems:
                batch.write_json("problems.json", problems)
            card = {"batch_id": batch_id, "source": source, "sha256": digest.hexdigest(), "rows": rows}
            card |= {"code_pattern": code_pattern}
            batch.write_json("batch.json", card | {"interval_start": _iso(start), "interval_end": _iso(end)})
        state = "landed"
    return {
        "batch_id": batch_id,
        "state": state,
        "events": rows["events"],
        "catalog_items": rows["catalog"],
        "problems": problems,
    }


def state_of(home: Home, batch_id: str) -> str:
    """Where a batch is: waiting (landed), taken, quarantined or unknown."""
    if quarantined(home, batch_id):
        return "quarantined"
    if Batch(home.batches / batch_id).complete:
        return "taken"
    return "waiting" if Batch(home.landing / batch_id).complete else "unknown"


@contextmanager
def _arriving(folder: Path) -> Iterator[Batch]:
    """A folder that appears at its place whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        yield Batch(draft)
        if not folder.exists():
            draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _interval(events: pa.Table | None, start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """The days that occur, as far as they are not given; an end after now is cut to the end of today.

    Raises:
        InputError: start is not before end.
    """
    import pyarrow.compute as pc

    for name, value in (("start", start), ("end", end)):
        if value is not None and value.tzinfo is None:
            raise InputError("has no time zone", field=name, value=value.isoformat(), action="Add +00:00 for UTC.")
    today = _midnight(datetime.now(UTC))
    first = last = None
    if events is not None and "time" in events.column_names and events.num_rows:
        first, last = pc.min(events["time"]).as_py(), pc.max(events["time"]).as_py()
    day = timedelta(days=1)
    given = start or end
    end = end or (min(_midnight(last), today) + day if last else None)
    start = start or (_midnight(first) if first else None)
    if start and end and start >= end:
        if given:
            action = f"The interval ends at {end.isoformat()}: give a start before it, or neither for the days that occur."
            raise InputError("is not before the end", field="start", value=start.isoformat(), action=action)
        start = end - day  # all is after today, which is for validation to reject
    return start, end


def _midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def _meets_contract(events: pa.Table) -> bool:
    schema = contracts.event_schema()
    return set(schema.names) == set(events.column_names) and not any(
        events[field.name].null_count for field in schema if not field.nullable
    )


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _table_digest(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).digest()
