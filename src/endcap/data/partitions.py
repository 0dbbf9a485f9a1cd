"""A dataset version's events on disk: one Parquet file a day, `events/date=YYYY-MM-DD/part.parquet`.

The same rows give the same bytes in whatever order they come, so that days a batch did not touch keep their DVC hash.
Not here: what a clean event is (cleaning.py), how versions are kept (versions.py).
"""

from __future__ import annotations

import uuid
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.contracts import dataset_event_schema
from endcap.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow as pa

_PREFIX = "date="
_MICROSECONDS_PER_DAY = 86_400_000_000


def write_partitions(events: pa.Table, directory: Path) -> list[Path]:
    """Write every day (UTC) that occurs in `events`; a day already there is replaced, other days stay untouched.

    `directory` is the dataset's folder (files go below its `events/`). Rows are in contracts.dataset_event_schema().
    Files are replaced, never edited, since the old ones may be links into DVC's cache. Returns the files, oldest day first.

    Raises:
        DatasetError: a column is missing or has the wrong type, or a required value is null.
    """
    import numpy as np
    import pyarrow as pa

    table = _conform(events)
    if table.num_rows == 0:
        return []
    table = table.sort_by([("time", "ascending"), ("event_id", "ascending")]).combine_chunks()
    days = table["time"].cast(pa.int64()).to_numpy() // _MICROSECONDS_PER_DAY
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    stops = np.append(starts[1:], len(days))
    root = _events_folder(directory)
    written = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        day = date.fromordinal(date(1970, 1, 1).toordinal() + int(days[start]))
        written.append(_write(table.slice(start, stop - start), root / f"{_PREFIX}{day.isoformat()}" / "part.parquet"))
    return written


def append_events(events: pa.Table, directory: Path) -> list[Path]:
    """Add events to whatever their days hold already; a row whose `event_id` that day has already replaces the old one.

    Raises:
        DatasetError: as write_partitions.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _conform(events)
    if table.num_rows == 0:
        return []
    touched = {value.as_py() for value in pc.unique(pc.cast(table["time"], pa.date32()))}
    old = _read([path for day, path in _partitions(directory) if day in touched])
    kept = old.filter(pc.invert(pc.is_in(old["event_id"], value_set=table["event_id"].combine_chunks())))
    return write_partitions(pa.concat_tables([kept, table]), directory)


def read_events(directory: Path, start: datetime | None = None, end: datetime | None = None) -> pa.Table:
    """Events with `start <= time < end` in order of time; only the files of those days are opened.

    `directory` is the dataset's folder or its `events/`; a folder without events gives an empty table of the right schema.

    Raises:
        DatasetError: a file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    first, last = start.date() if start else date.min, end.date() if end else date.max
    table = _read([path for day, path in _partitions(directory) if first <= day <= last])
    kind = pa.timestamp("us", tz="UTC")
    if start:
        table = table.filter(pc.greater_equal(table["time"], pa.scalar(start, kind)))
    if end:
        table = table.filter(pc.less(table["time"], pa.scalar(end, kind)))
    return table


def partition_days(directory: Path) -> list[date]:
    """The days that have a file, oldest first."""
    return [day for day, _ in _partitions(directory)]


def _conform(events: pa.Table) -> pa.Table:
    import pyarrow as pa

    schema = dataset_event_schema()
    missing = [name for name in schema.names if name not in events.column_names]
    if missing:
        raise DatasetError("column is missing", field=", ".join(missing), action="See data/cleaning.py.")
    try:
        return events.select(schema.names).cast(schema)  # refuses nulls where the schema does
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DatasetError(f"do not fit the schema ({error})", field="events", action="See data/cleaning.py.") from error


def _write(table: pa.Table, path: Path) -> Path:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _read(paths: list[Path]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.dataset as ds

    schema = dataset_event_schema()
    if not paths:
        return schema.empty_table()
    try:
        dataset: Any = ds.dataset([str(path) for path in paths], schema=schema, format="parquet")
        return dataset.to_table()
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"cannot be read ({error})", field="events", action="Check the version out again.") from error


def _partitions(directory: Path) -> list[tuple[date, Path]]:
    root = _events_folder(directory)
    folders = sorted(root.glob(f"{_PREFIX}*")) if root.is_dir() else []
    return [(date.fromisoformat(folder.name.removeprefix(_PREFIX)), folder / "part.parquet") for folder in folders]


def _events_folder(directory: Path) -> Path:
    return directory if directory.name == "events" else directory / "events"
