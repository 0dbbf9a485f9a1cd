"""One batch of events from its arrival to a dataset version: what the tasks of ingest_events call, in this order.

    collect_batch → validate_batch → clean_batch → version_dataset
                                   ↘ quarantine_batch (`quarantine.py`)

Each step reads and writes the batch's folder (`batches.py`), does nothing twice, and may be killed and run again. Where a batch
comes from is in `collection.py`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap import contracts
from endcap.config import Settings, load_params, load_settings, project_root
from endcap.errors import InputError
from endcap.pipeline import collection
from endcap.pipeline.batches import Batch, code_pattern, find_batch, remember_code_pattern
from endcap.pipeline.quarantine import quarantine_batch

if TYPE_CHECKING:
    import pyarrow as pa

    from endcap.data.events import EventLog
    from endcap.data.validation import Validation
    from endcap.data.versions import DatasetRepository

logger = logging.getLogger(__name__)
SHARES_SAY_NOTHING_BELOW = 100  # events of an interval: one odd event must not hold back everybody's


def collect_batch(interval_start: str, interval_end: str, source: str = "log") -> dict[str, Any]:
    """Make the batch of a closed interval: the log's unclaimed events before its end, or a landed file (`source`: its id).

    A file's own interval, if it landed with one, counts instead of the given one.
    Returns {batch_id, events, catalog_items, source}.

    Raises:
        InputError: the interval is none, or no such file has landed.
        BatchRejected: the batch was rejected before.
    """
    settings = load_settings()
    start, end = collection.parse_interval(interval_start, interval_end)
    batch = collection.from_log(settings, start, end) if source == "log" else collection.from_file(settings, start, end, source)
    card = batch.read_json("batch.json")
    logger.info("batch_collected batch_id=%s events=%d", batch.batch_id, card["rows"]["events"])
    return {
        "batch_id": batch.batch_id,
        "events": card["rows"]["events"],
        "catalog_items": card["rows"]["catalog"],
        "source": card["source"],
    }


def validate_batch(batch_id: str) -> dict[str, Any]:
    """Run the suites on the batch. Returns {batch_id, passed, reasons, warnings, report_url}."""
    from endcap.data import batch_checks
    from endcap.data.validation import ValidationContext, validate

    settings, limits = load_settings(), load_params().ingest
    batch = find_batch(settings.paths, batch_id)
    known = collection.open_log(settings).read_catalog()
    catalog, events = batch.read_table("catalog.parquet"), batch.events()
    start, end = batch.interval
    everything = known if catalog is None else batch_checks.merge_catalogs(known, _readable(catalog))
    listed, versions = batch_checks.is_listed(everything), _datasets(settings).versions()
    values = batch_checks.parameters(limits, start, end, versions, listed=listed)
    if batch_id.startswith("log-") and events is not None and events.num_rows < SHARES_SAY_NOTHING_BELOW:
        values |= {"min_known_items": 0.0, "min_kept_share": 0.0}  # cleaning drops and counts what is no item
    context = ValidationContext(
        project_root() / "expectations", settings.paths.reports / "validation" / batch_id, batch_id, values
    )
    done: list[Validation] = []
    if catalog is not None and catalog.num_rows:
        done.append(validate("catalog", batch_checks.catalog_frame(catalog, known), context))
    if events is not None and events.num_rows:
        pattern = code_pattern(settings.paths, batch, limits.catalog_code_pattern)
        done.append(validate("events", batch_checks.event_frame(events, everything, pattern), context))
    outcome = _outcome(settings, batch, done)
    if events is not None and not events.num_rows and batch_id.startswith("log-") and any(one.added_events for one in versions):
        outcome["warnings"].append("Not one event came in this interval. Is the shop's front end still sending?")
    batch.write_json("validation.json", outcome)
    logger.info("batch_validated batch_id=%s passed=%s", batch_id, outcome["passed"])
    return {key: outcome[key] for key in ("batch_id", "passed", "reasons", "warnings", "report_url")}


def clean_batch(batch_id: str) -> dict[str, Any]:
    """Clean the batch by the rules of `data/cleaning.py`, and let serving know a file's events and items.

    What the service has shown before the interval's end, and no accepted batch has yet, goes with this one.

    Returns {batch_id, events, …, one count a rule}.
    """
    from endcap.data.batch_checks import known_items, merge_catalogs
    from endcap.data.cleaning import clean

    settings, limits = load_settings(), load_params().ingest
    batch = find_batch(settings.paths, batch_id)
    if _version_of(settings, batch_id) is not None:  # its own purchases would now count as known
        return {"batch_id": batch_id, **batch.read_json("cleaning.json")}
    if not batch.has("validation.json") or not batch.read_json("validation.json")["passed"]:
        raise InputError("was not accepted by validation", field="batch_id", value=batch_id, action="Run validate_batch first.")
    log = collection.open_log(settings)
    catalog = batch.read_table("catalog.parquet")
    catalog = contracts.catalog_schema().empty_table() if catalog is None else catalog.cast(contracts.catalog_schema())
    rejected = [path.parent.name for path in settings.paths.quarantine.glob("log-*/reason.json")]
    events, known_before = _own_events(log, batch, rejected)
    cleaned = clean(
        events,
        known_items(merge_catalogs(log.read_catalog(), catalog), events),
        _known_purchases(settings, events),
        code_pattern=code_pattern(settings.paths, batch, limits.catalog_code_pattern),
    )
    remember_code_pattern(settings.paths, batch)
    log.upsert_catalog(cleaned.catalog)
    counts = {**cleaned.counts, "already_known": known_before}
    batch.write_table("clean_catalog.parquet", cleaned.catalog)
    batch.write_table("cancelled.parquet", cleaned.cancelled)
    if cleaned.events.num_rows:  # else no version is made, and what was shown waits for the next batch
        shown = log.claim_exposures(batch_id, batch.interval[1])
        if shown.num_rows:
            batch.write_table("exposures.parquet", shown)
    batch.write_table("clean.parquet", cleaned.events)
    batch.write_json("cleaning.json", {"events": cleaned.events.num_rows, **counts})
    return {"batch_id": batch_id, "events": cleaned.events.num_rows, **counts}


def version_dataset(batch_id: str, run_id: str = "") -> dict[str, Any]:
    """Add the cleaned batch to the newest dataset version. Returns {dataset_version, events, skipped}.

    A batch without a new event or item changes nothing: the newest version is returned and `skipped` is true. So it is, with
    the version that has the batch, when an earlier call made that version. But the run that made it (`run_id`), killed before
    it could announce the version, gets the first answer again.
    """
    from endcap.pipeline.dataset_writer import write_batch

    settings = load_settings()
    batch = find_batch(settings.paths, batch_id)
    datasets = _datasets(settings)
    rows = batch.read_json("batch.json")["rows"]
    file_items = rows["catalog"] if batch_id.startswith("file-") else 0
    added = batch.read_json("cleaning.json")["events"]
    versions = datasets.versions()
    if not added and not file_items:
        return {"dataset_version": versions[-1].version if versions else None, "events": 0, "skipped": True}
    if batch.has("version.json"):
        made_before = batch.read_json("version.json")
        maker = made_before.pop("run_id", "")
        return {**made_before, "skipped": not run_id or run_id != maker}
    made = datasets.commit(batch_id, lambda folder: write_batch(batch, folder))
    batch.write_json("version.json", {"dataset_version": made.version, "events": made.added_events, "run_id": run_id})
    logger.info("dataset_versioned dataset_version=%s batch_id=%s", made.version, batch_id)
    return {"dataset_version": made.version, "events": made.added_events, "skipped": False}


def accept_catalog(batch_id: str) -> dict[str, Any]:
    """Take a landed delivery of items alone into the service's catalogue; the next batch of events carries it into a version.

    Raises:
        BatchRejected: it broke the catalogue's contract and lies in quarantine.
    """
    settings = load_settings()
    now = datetime.now(UTC)
    collection.from_file(settings, now - timedelta(days=1), now, batch_id)
    if not validate_batch(batch_id)["passed"]:
        quarantine_batch(batch_id)
    return clean_batch(batch_id)


def _outcome(settings: Settings, batch: Batch, done: list[Validation]) -> dict[str, Any]:
    problems = batch.read_json("problems.json") if batch.has("problems.json") else []
    from endcap.data.validation_page import write_index

    passed = all(one.passed for one in done)
    page = done[0].report if done else None
    if page and len(done) > 1:
        page = write_index({one.report: one.checks for one in done}, page.with_name("index.html"), batch.batch_id)
    relative = page.relative_to(settings.paths.reports) if page else None
    return {
        "batch_id": batch.batch_id,
        "passed": passed,
        "reasons": [] if passed else problems + [reason for one in done for reason in one.reasons],
        "warnings": [warning for one in done for warning in one.warnings],
        "report": str(relative) if relative else "",
        "report_url": f"{settings.reports_url}/{relative}" if relative else "",
    }


def _readable(catalog: pa.Table) -> pa.Table:
    """The rows of a delivered catalogue that the contract's types can hold; validation says what is wrong with the others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = contracts.catalog_schema()
    for field in schema:
        if field.name not in catalog.column_names:
            return schema.empty_table()
        if not field.nullable:
            catalog = catalog.filter(pc.is_valid(catalog[field.name]))
    try:
        return catalog.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        # Not a verdict: the suite sees the delivery as it came and refuses it; what it let through fails loudly in clean_batch.
        logger.warning("catalogue_of_other_types error=%s", error)
        return schema.empty_table()


def _own_events(log: EventLog, batch: Batch, rejected: list[str]) -> tuple[pa.Table, int]:
    """(the batch's events that no other batch has, how many another has). A file's events go into the log here.

    There they take the place of those of the same id that came by HTTP in a batch that now lies in quarantine: a file is how a
    rejected batch of the log is mended.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    events = batch.events()
    if events is None:
        return contracts.event_schema().empty_table(), 0
    events = events.select(contracts.event_schema().names).cast(contracts.event_schema())
    if not batch.batch_id.startswith("log-"):
        log.append(events, batch.batch_id, replacing=rejected)
    own = pc.is_in(events["event_id"], value_set=pa.array(log.batch_event_ids(batch.batch_id), pa.string()))
    return events.filter(own), events.num_rows - (pc.sum(own).as_py() or 0)


def _known_purchases(settings: Settings, events: pa.Table) -> pa.Table:
    """Earlier purchases that this batch's returns may undo."""
    import pyarrow.compute as pc

    from endcap.data.locks import scratch
    from endcap.data.partitions import read_events

    datasets = _datasets(settings)
    has_returns = events.num_rows and (pc.min(events["quantity"]).as_py() or 0) < 0
    if not has_returns or not datasets.versions():
        return contracts.dataset_event_schema().empty_table()
    with scratch(settings.paths.root / "scratch") as folder:
        datasets.checkout("latest", folder / "dataset")
        return read_events(folder / "dataset")


def _version_of(settings: Settings, batch_id: str) -> str | None:
    return next((one.version for one in _datasets(settings).versions() if one.batch_id == batch_id), None)


def _datasets(settings: Settings) -> DatasetRepository:
    from endcap.data.versions import DatasetRepository
    from endcap.pipeline import code

    return DatasetRepository(settings.paths, settings.dvc_remote_url, code.snapshot(home=settings.paths).commit)
