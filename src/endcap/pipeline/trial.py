"""What touches no state: a file tried against the contracts, and a shop written as files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.config import load_params, load_settings, project_root
from endcap.contracts import FIRST_TIME
from endcap.errors import InputError

if TYPE_CHECKING:
    from endcap.data.validation import Validation


def try_file(path: Path, mapping_path: Path, report: Path) -> Validation:
    """Validate a shop's own file on its own (items are checked against the catalogue known here). Nothing is stored.

    Raises:
        InputError: the file or the mapping cannot be read, or the file has no rows.
    """
    from endcap.data import batch_checks
    from endcap.data.events import EventLog
    from endcap.data.mapping import apply_mapping
    from endcap.data.mapping_file import load_mapping
    from endcap.data.table_files import read_table
    from endcap.data.validation import ValidationContext, validate

    settings = load_settings()
    mapping = load_mapping(mapping_path)
    table = read_table(path, separator=mapping.csv.separator, encoding=mapping.csv.encoding)
    mapped = apply_mapping(table, mapping, b"a trial stores nothing", strict=False)
    log = EventLog(settings.event_log_url)
    log.create()
    known = log.read_catalog()
    limits = load_params().ingest
    pattern = mapping.code_pattern or limits.catalog_code_pattern
    if mapping.kind == "events":
        frame = batch_checks.event_frame(mapped.table, known, pattern)
    else:
        frame = batch_checks.catalog_frame(mapped.table, known)
    listed = batch_checks.is_listed(known)
    values = batch_checks.parameters(limits, FIRST_TIME, datetime.now(UTC), [], listed=listed)
    context = ValidationContext(project_root() / "expectations", report.resolve(), path.name, values)
    return validate(mapping.kind, frame, context)


def export_shop(name: str, out: Path) -> dict[Path, int]:
    """Write events.parquet and catalog.parquet of a shop. Returns path → rows."""
    import pyarrow.parquet as pq

    from endcap.data.privacy import pseudonym_key
    from endcap.data.shops import open_online_retail
    from endcap.policy.simulator import simulate

    settings = load_settings()
    key = pseudonym_key(settings.pseudonym_key, settings.paths.secrets)
    if name == "online-retail":
        shop = open_online_retail(settings.data_dir, settings.home / "downloads", key)
        events, catalog = shop.period(shop.start, shop.end)
    elif name == "simulated":
        made = simulate(load_params().shop.simulated, key)
        events, catalog = made.period(made.start, made.end)
    else:
        raise InputError("no such shop", field="NAME", value=name, action="Known: online-retail, simulated.")
    out.mkdir(parents=True, exist_ok=True)
    written = {out / "events.parquet": events, out / "catalog.parquet": catalog}
    for path, table in written.items():
        pq.write_table(table, path)
    return {path: table.num_rows for path, table in written.items()}
