"""Day partitions: same rows, same bytes; only the days that a batch touches change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endcap.contracts import dataset_event_schema, exposure_schema
from endcap.data.partitions import (
    append_events,
    append_exposures,
    partition_days,
    read_events,
    read_exposures,
    write_partitions,
)
from endcap.errors import DatasetError

NOON = datetime(2011, 12, 1, 12, tzinfo=UTC)


def events(*rows: tuple[str, datetime], **same: Any) -> pa.Table:
    blank = dict.fromkeys(dataset_event_schema().names)
    return pa.Table.from_pylist(
        [
            {**blank, "event_id": name, "type": "purchase", "user_id": "u", "item_id": "i", "time": time, **same}
            for name, time in rows
        ],
        schema=dataset_event_schema(),
    )


def ids(table: pa.Table) -> list[str]:
    return table["event_id"].to_pylist()


def test_one_file_a_day_in_utc(tmp_path: Path) -> None:
    midnight = datetime(2011, 12, 2, tzinfo=UTC)
    write_partitions(events(("c", midnight), ("b", midnight - timedelta(microseconds=1)), ("a", NOON)), tmp_path)
    assert partition_days(tmp_path) == [date(2011, 12, 1), date(2011, 12, 2)]
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "events/date=2011-12-01/part.parquet",
        "events/date=2011-12-02/part.parquet",
    ]
    assert ids(read_events(tmp_path)) == ["a", "b", "c"]
    assert read_events(tmp_path).schema == dataset_event_schema()
    assert ids(read_events(tmp_path / "events")) == ["a", "b", "c"]


def test_an_interval_is_closed_at_its_start_and_open_at_its_end(tmp_path: Path) -> None:
    write_partitions(events(*[(str(day), NOON + timedelta(days=day)) for day in range(5)]), tmp_path)
    assert ids(read_events(tmp_path, NOON + timedelta(days=1), NOON + timedelta(days=3))) == ["1", "2"]
    assert ids(read_events(tmp_path, start=NOON + timedelta(days=4))) == ["4"]
    assert ids(read_events(tmp_path, end=NOON)) == []


def test_nothing_is_an_empty_table(tmp_path: Path) -> None:
    assert write_partitions(events(), tmp_path) == []
    assert append_events(events(), tmp_path) == []
    assert read_events(tmp_path / "absent").schema == dataset_event_schema()


def test_other_days_and_links_to_old_files_stay_as_they_are(tmp_path: Path) -> None:
    write_partitions(events(("a", NOON), ("b", NOON + timedelta(days=1))), tmp_path)
    first, second = sorted(tmp_path.rglob("part.parquet"))
    (tmp_path / "cached").hardlink_to(first)
    cached, untouched = (tmp_path / "cached").read_bytes(), second.stat().st_mtime_ns
    append_events(events(("c", NOON)), tmp_path)
    assert ids(read_events(tmp_path)) == ["a", "c", "b"]
    assert (tmp_path / "cached").read_bytes() == cached
    assert second.stat().st_mtime_ns == untouched
    assert [path.name for path in tmp_path.rglob("*.tmp")] == []


def test_an_appended_event_replaces_the_one_of_the_same_id(tmp_path: Path) -> None:
    write_partitions(events(("a", NOON), ("b", NOON)), tmp_path)
    append_events(events(("a", NOON), cancelled_at=NOON + timedelta(hours=1)), tmp_path)
    found = {row["event_id"]: row["cancelled_at"] for row in read_events(tmp_path).to_pylist()}
    assert found == {"a": NOON + timedelta(hours=1), "b": None}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(list(range(12))), st.integers(0, 12))
def test_the_order_of_arrival_leaves_no_trace(tmp_path: Path, order: list[int], cut: int) -> None:
    rows = [(f"e{number}", NOON + timedelta(hours=7 * (number // 2))) for number in range(12)]
    whole, parts = tmp_path / "whole", tmp_path / f"parts-{cut}-{'-'.join(map(str, order))}"
    write_partitions(events(*rows), whole)
    append_events(events(*[rows[n] for n in order[:cut]]), parts)
    append_events(events(*[rows[n] for n in order[cut:]]), parts)
    assert [p.read_bytes() for p in sorted(parts.rglob("*.parquet"))] == [
        p.read_bytes() for p in sorted(whole.rglob("*.parquet"))
    ]


def test_what_is_no_clean_event_is_refused(tmp_path: Path) -> None:
    table = events(("a", NOON))
    with pytest.raises(DatasetError, match="cancelled_at"):
        write_partitions(table.drop_columns(["cancelled_at"]), tmp_path)
    with pytest.raises(DatasetError, match=r"user_id.*null"):
        write_partitions(table.set_column(2, "user_id", pa.array([None], pa.string())), tmp_path)
    with pytest.raises(DatasetError, match="schema"):
        write_partitions(table.set_column(6, "price", pa.array(["cheap"])), tmp_path)
    (tmp_path / "events" / "date=2011-12-01").mkdir(parents=True)
    (tmp_path / "events" / "date=2011-12-01" / "part.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_events(tmp_path)


def slate(request_id: str, time: datetime, items: str = "ab", user_id: str | None = "u") -> pa.Table:
    about = {"request_id": request_id, "user_id": user_id, "surface": "home", "time": time, "score": 0.5, "propensity": 1.0}
    about |= {"policy": "greedy", "model_version": "3", "fallback": False}
    rows = [about | {"item_id": item, "rank": rank} for rank, item in enumerate(items, start=1)]
    return pa.Table.from_pylist(rows, schema=exposure_schema())


def test_exposures_lie_by_day_beside_the_events(tmp_path: Path) -> None:
    assert read_exposures(tmp_path).schema == exposure_schema()
    assert append_exposures(exposure_schema().empty_table(), tmp_path) == []
    write_partitions(events(("a", NOON)), tmp_path)
    append_exposures(slate("r2", NOON + timedelta(days=1), user_id=None), tmp_path)
    append_exposures(pa.concat_tables([slate("r3", NOON, "b"), slate("r1", NOON, "cab")]), tmp_path)
    append_exposures(slate("r1", NOON, "cab"), tmp_path)
    table = read_exposures(tmp_path)
    assert list(zip(*(table[name].to_pylist() for name in ("request_id", "item_id")), strict=True)) == [
        ("r1", "c"), ("r1", "a"), ("r1", "b"), ("r3", "b"), ("r2", "a"), ("r2", "b"),
    ]  # fmt: skip
    assert read_exposures(tmp_path, end=NOON + timedelta(days=1)).num_rows == 4
    assert ids(read_events(tmp_path)) == ["a"]
    assert partition_days(tmp_path) == [NOON.date()]
