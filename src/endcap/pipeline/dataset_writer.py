"""How a cleaned batch changes the files of a dataset version, and what the card says of it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap import contracts
from endcap.pipeline.batches import Batch

if TYPE_CHECKING:
    import pyarrow as pa


def write_batch(batch: Batch, folder: Path) -> dict[str, Any]:
    """Add the batch to the files of `folder` (the newest version). Returns the card's own fields.

    Days that the batch does not touch keep their files. Purchases of earlier days that it undid get their `cancelled_at`.
    What the service has shown meanwhile comes with it; a shop that shows nothing has no folder `exposures`.
    """
    import pyarrow.compute as pc

    from endcap.data.partitions import append_events, append_exposures, read_events, read_exposures

    clean = batch.read_table("clean.parquet")
    assert clean is not None  # cleaning.json is written after it
    append_events(clean, folder)
    append_events(_undone(batch, folder), folder)
    shown = batch.read_table("exposures.parquet")
    if shown is not None:
        append_exposures(shown, folder)
    catalog = _write_catalog(batch, folder)
    everything = read_events(folder)
    start, end = batch.interval
    last = pc.max(everything["time"]).as_py()
    if last:
        after = last + timedelta(microseconds=1)
        start, end = (start, max(end, after)) if clean.num_rows else (after, after)  # a catalogue alone moves no clock
    cleaning, validation = batch.read_json("cleaning.json"), batch.read_json("validation.json")
    return {
        "interval_start": start,
        "interval_end": end,
        "events": everything.num_rows,
        "users": pc.count_distinct(everything["user_id"]).as_py(),
        "items": catalog.num_rows,
        "added_events": clean.num_rows,
        "exposures": read_exposures(folder).num_rows,
        "cleaning": {rule: count for rule, count in cleaning.items() if rule != "events"},
        "validation": {key: validation[key] for key in ("passed", "warnings", "report")},
    }


def _undone(batch: Batch, folder: Path) -> pa.Table:
    """The earlier purchases that the batch cancelled, with `cancelled_at` set."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from endcap.data.partitions import read_events

    cancelled = batch.read_table("cancelled.parquet")
    if cancelled is None or not cancelled.num_rows:
        return contracts.dataset_event_schema().empty_table()
    known = read_events(folder)
    rows = known.filter(pc.is_in(known["event_id"], value_set=cancelled["event_id"].combine_chunks()))
    when = dict(zip(cancelled["event_id"].to_pylist(), cancelled["cancelled_at"].to_pylist(), strict=True))
    index = rows.schema.get_field_index("cancelled_at")
    times = pa.array([when[event_id] for event_id in rows["event_id"].to_pylist()], rows.schema.field(index).type)
    return rows.set_column(index, rows.schema.field(index), times)


def _write_catalog(batch: Batch, folder: Path) -> pa.Table:
    import pyarrow.parquet as pq

    from endcap.data.batch_checks import merge_catalogs

    path = folder / "catalog.parquet"
    catalog = batch.read_table("clean_catalog.parquet")
    assert catalog is not None  # cleaning.json is written after it
    if path.exists():
        catalog = merge_catalogs(pq.read_table(path, partitioning=None), catalog)
    draft = path.with_name(f".{uuid.uuid4().hex}")
    pq.write_table(catalog, draft, compression="zstd")
    draft.replace(path)
    return catalog
