"""Time and memory of one million events: validation, and the whole way from a landed batch to a dataset version.

    python -m benchmarks.ingest [--events 1000000] [--out benchmarks/results/ingest.json]

Budgets: validation at most 2 s beyond reading; landing to version at most 60 s and 2 GiB. Exit code 1 beyond them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.record import record

BUDGET = {"validation_beyond_reading_seconds": 2.0, "ingest_to_version_seconds": 60.0, "peak_rss_mib": 2048.0}
START, DAYS, ITEMS, SHOPPERS = datetime(2024, 1, 1, tzinfo=UTC), 365, 4_000, 20_000


def make_shop(events: int) -> tuple[Any, Any]:
    """(events, catalogue) in contract columns: purchases spread over a year, popular items more often, 2 % of them returned."""
    import numpy as np
    import pyarrow as pa

    from endcap import contracts

    rng = np.random.default_rng(7)
    items = [f"{10_000 + number}" for number in range(ITEMS)]
    prices = np.round(rng.lognormal(1.0, 0.8, ITEMS) + 0.1, 2)
    picked = np.minimum(rng.zipf(1.3, events) - 1, ITEMS - 1)
    seconds = np.sort(rng.integers(0, DAYS * 86_400, events))
    quantity = np.where(rng.random(events) < 0.02, -1, rng.integers(1, 12, events)).astype(float)
    columns = {
        "event_id": [f"e-{number}" for number in range(events)],
        "type": pa.array(["purchase"]).take(pa.array(np.zeros(events, dtype=int))),
        "user_id": [f"{number:016x}" for number in rng.integers(0, SHOPPERS, events)],
        "item_id": pa.array(items).take(pa.array(picked)),
        "time": pa.array(np.datetime64(START.replace(tzinfo=None), "us") + seconds * np.timedelta64(1_000_000, "us")),
        "quantity": quantity,
        "price": prices[picked],
        "country": pa.array(["United Kingdom"]).take(pa.array(np.zeros(events, dtype=int))),
    }
    schema = contracts.event_schema()
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(events, field.type)
        for field in schema
    ]
    rows = [
        {"item_id": item, "title": f"Item {item}", "price": price, "available_from": START, "updated_at": START}
        for item, price in zip(items, prices.tolist(), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema), pa.Table.from_pylist(rows, schema=contracts.catalog_schema())


def measure(count: int) -> dict[str, Any]:
    """Raw figures of one run in a fresh home."""
    from endcap.pipeline import ingest, landing

    events, catalog = make_shop(count)
    begin, end = START.isoformat(), (START + timedelta(days=DAYS)).isoformat()
    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started, cpu_started = time.perf_counter(), time.process_time()
        answer = work()
        seconds[name] = round(time.perf_counter() - started, 3)
        cpu_seconds[name] = round(time.process_time() - cpu_started, 3)
        return answer

    _warm_up(ingest)
    batch = timed("land", lambda: landing.land_tables(events, catalog, source="benchmark"))["batch_id"]
    timed("collect", lambda: ingest.collect_batch(begin, end, batch))
    timed("read", lambda: _read(batch))
    judged = timed("validate", lambda: ingest.validate_batch(batch))
    if not judged["passed"]:
        raise SystemExit(f"the benchmark's own batch was rejected: {judged['reasons']}")
    cleaned = timed("clean", lambda: ingest.clean_batch(batch))
    version = timed("version", lambda: ingest.version_dataset(batch))
    return {
        "events": count,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,  # what a busy machine does not lengthen much
        "validation_beyond_reading_seconds": round(seconds["validate"] - seconds["read"], 3),
        "ingest_to_version_seconds": round(sum(seconds.values()) - seconds["read"], 3),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "cleaning": cleaned,
        "dataset_version": version,
        "budget": BUDGET,
    }


def _warm_up(ingest: Any) -> None:
    """Import what the steps import, so that import time is not taken for theirs."""
    import dvc.repo
    import great_expectations
    import pandas

    assert all((dvc.repo, great_expectations, pandas, ingest))


def _read(batch_id: str) -> Any:
    """The batch as the dataframe that validation works on."""
    from endcap.config import load_settings
    from endcap.pipeline.batches import find_batch

    return find_batch(load_settings().paths, batch_id).events().to_pandas()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ingest.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ENDCAP_HOME"] = str(Path(folder) / "home")
        figures = measure(options.events)
    figures["packages"] = {name: importlib.metadata.version(name) for name in ("great-expectations", "dvc")}
    print(json.dumps(record("ingest", figures, options.out), indent=2))
    beyond = {name: figures[name] for name, most in BUDGET.items() if figures[name] > most}
    if beyond:
        print(f"beyond the budget: {beyond}", file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
