"""A dataset version's tables on disk: one Parquet file a day, `events/date=YYYY-MM-DD/part.parquet`, `exposures/` likewise.

The same rows give the same bytes in whatever order they come, so that days a batch did not touch keep their DVC hash.
Not here: what a clean event is (cleaning.py), how versions are kept (versions.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.contracts import dataset_event_schema, exposure_schema
from endcap.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow as pa

_PREFIX = "date="
_MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table by days: its folder, its columns, what names a row (or rows that stay together), and their order on disk."""

    folder: str
    schema: Callable[[], pa.Schema]
    key: str
    order: tuple[str, ...]


_EVENTS = _Kind("events", dataset_event_schema, "event_id", ("time", "event_id"))
_EXPOSURES = _Kind("exposures", exposure_schema, "request_id", ("time", "request_id", "rank"))


def write_partitions(events: pa.Table, directory: Path) -> list[Path]:
    """Write every day (UTC) that occurs in `events`; a day already there is replaced, other days stay untouched.

    `directory` is the dataset's folder (files go below its `events/`). Rows are in contracts.dataset_event_schema().
    Files are replaced, never edited, since the old ones may be links into DVC's cache. Returns the files, oldest day first.

    Raises:
        DatasetError: a column is missing or has the wrong type, or a required value is null.
    """
    return _write_days(events, directory, _EVENTS)


def append_events(events: pa.Table, directory: Path) -> list[Path]:
    """Add events to whatever their days hold already; a row whose `event_id` that day has already replaces the old one.

    Raises:
        DatasetError: as write_partitions.
    """
    return _append(events, directory, _EVENTS)


def read_events(directory: Path, start: datetime | None = None, end: datetime | None = None) -> pa.Table:
    """Events with `start <= time < end` in order of time; only the files of those days are opened.

    `directory` is the dataset's folder or its `events/`; a folder without events gives an empty table of the right schema.

    Raises:
        DatasetError: a file cannot be read.
    """
    return _between(directory, start, end, _EVENTS)


def append_exposures(exposures: pa.Table, directory: Path) -> list[Path]:
    """Add shown items (contracts.exposure_schema()); a slate that its day has already is replaced whole.

    Raises:
        DatasetError: as write_partitions.
    """
    return _append(exposures, directory, _EXPOSURES)


def read_exposures(directory: Path, start: datetime | None = None, end: datetime | None = None) -> pa.Table:
    """Shown items with `start <= time < end` in order of time; a version without any gives an empty table.

    Raises:
        DatasetError: a file cannot be read.
    """
    return _between(directory, start, end, _EXPOSURES)


def partition_days(directory: Path) -> list[date]:
    """The days that have events, oldest first."""
    return [day for day, _ in _partitions(directory, _EVENTS)]


def _write_days(rows: pa.Table, directory: Path, kind: _Kind) -> list[Path]:
    import numpy as np
    import pyarrow as pa

    table = _conform(rows, kind)
    if table.num_rows == 0:
        return []
    table = table.sort_by([(name, "ascending") for name in kind.order]).combine_chunks()
    days = table["time"].cast(pa.int64()).to_numpy() // _MICROSECONDS_PER_DAY
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    stops = np.append(starts[1:], len(days))
    root = _folder(directory, kind)
    written = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        day = date.fromordinal(date(1970, 1, 1).toordinal() + int(days[start]))
        written.append(_write(table.slice(start, stop - start), root / f"{_PREFIX}{day.isoformat()}" / "part.parquet"))
    return written


def _append(rows: pa.Table, directory: Path, kind: _Kind) -> list[Path]:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _conform(rows, kind)
    if table.num_rows == 0:
        return []
    touched = {value.as_py() for value in pc.unique(pc.cast(table["time"], pa.date32()))}
    old = _read([path for day, path in _partitions(directory, kind) if day in touched], kind)
    kept = old.filter(pc.invert(pc.is_in(old[kind.key], value_set=table[kind.key].combine_chunks())))
    return _write_days(pa.concat_tables([kept, table]), directory, kind)


def _between(directory: Path, start: datetime | None, end: datetime | None, kind: _Kind) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    first, last = start.date() if start else date.min, end.date() if end else date.max
    table = _read([path for day, path in _partitions(directory, kind) if first <= day <= last], kind)
    moment = pa.timestamp("us", tz="UTC")
    if start:
        table = table.filter(pc.greater_equal(table["time"], pa.scalar(start, moment)))
    if end:
        table = table.filter(pc.less(table["time"], pa.scalar(end, moment)))
    return table


def _conform(rows: pa.Table, kind: _Kind) -> pa.Table:
    import pyarrow as pa

    schema = kind.schema()
    missing = [name for name in schema.names if name not in rows.column_names]
    if missing:
        raise DatasetError("column is missing", field=", ".join(missing), action="See data/cleaning.py.")
    try:
        return rows.select(schema.names).cast(schema)  # refuses nulls where the schema does
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DatasetError(f"do not fit the schema ({error})", field=kind.folder, action="See data/cleaning.py.") from error


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


def _read(paths: list[Path], kind: _Kind) -> pa.Table:
    import pyarrow as pa
    import pyarrow.dataset as ds

    schema = kind.schema()
    if not paths:
        return schema.empty_table()
    try:
        dataset: Any = ds.dataset([str(path) for path in paths], schema=schema, format="parquet")
        return dataset.to_table()
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"cannot be read ({error})", field=kind.folder, action="Check the version out again.") from error


def _partitions(directory: Path, kind: _Kind) -> list[tuple[date, Path]]:
    root = _folder(directory, kind)
    folders = sorted(root.glob(f"{_PREFIX}*")) if root.is_dir() else []
    return [(date.fromisoformat(folder.name.removeprefix(_PREFIX)), folder / "part.parquet") for folder in folders]


def _folder(directory: Path, kind: _Kind) -> Path:
    return directory if directory.name == kind.folder else directory / kind.folder
